//! An RTP packet as it arrives: its header, extensions and padding.

use pipemesh_node_core::rtp::{Header, HeaderWriter, OutgoingHeader, SequenceUnwrapper};

pub fn run(packet: &[u8]) {
    let Some(header) = Header::parse(packet) else {
        return;
    };
    assert!(header.header_len() <= packet.len());
    if let Some(payload) = header.payload(packet) {
        assert!(header.header_len() + payload.len() <= packet.len());
    }
    let mut out = [0; 2048];
    let outgoing = OutgoingHeader {
        padding: false,
        marker: header.marker,
        payload_type: header.payload_type,
        sequence: header.sequence,
        timestamp: header.timestamp,
        ssrc: header.ssrc,
    };
    // What was read can be written again, and says the same.
    let mut writer = HeaderWriter::new(&mut out, outgoing).expect("there is room");
    let mut written = Vec::new();
    for (id, value) in header.extensions(packet).take(16) {
        assert!(header.extension(packet, id).is_some());
        if id != 0 && value.len() <= 64 {
            writer.extension(id, value, true);
            written.push((id, value));
        }
    }
    let len = writer.finish().expect("there is room");
    let again = Header::parse(&out[..len]).expect("what we write is RTP");
    assert_eq!(
        (again.sequence, again.timestamp, again.ssrc, again.marker),
        (
            header.sequence,
            header.timestamp,
            header.ssrc,
            header.marker
        )
    );
    let read: Vec<_> = again.extensions(&out[..len]).collect();
    assert_eq!(read, written);

    let mut unwrapper = SequenceUnwrapper::default();
    for pair in packet.chunks_exact(2) {
        let sequence = u16::from_be_bytes([pair[0], pair[1]]);
        let extended = unwrapper.unwrap(sequence);
        assert_eq!(extended as u16, sequence);
    }
}
