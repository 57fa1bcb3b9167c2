//! A datagram of another node: what is understood is what would be written.

use pipemesh_node_core::pipe::frame::{self, Datagram, MAX_ASKED, MAX_PIECES};

pub fn run(datagram: &[u8]) {
    let Some(read) = frame::read(datagram) else {
        return;
    };
    let mut written = Vec::new();
    match read {
        Datagram::Media(head, packet) => {
            assert!(packet.len() < datagram.len());
            frame::write_media(&head, packet, &mut written);
        }
        Datagram::Piece(head, piece, part) => {
            assert!(piece.index < MAX_PIECES && !part.is_empty());
            frame::write_piece(&head, piece, part, &mut written);
        }
        Datagram::Nack(nack) => {
            let numbers: Vec<u32> = nack.numbers().collect();
            assert!(!numbers.is_empty() && numbers.len() <= MAX_ASKED);
            frame::write_nack(nack.stream, nack.restarts, &numbers, &mut written);
        }
        Datagram::KeyFrameRequest(stream) => frame::write_key_frame_request(stream, &mut written),
        Datagram::Probe(probe) => frame::write_probe(&probe, datagram.len(), &mut written),
        Datagram::Padding => frame::write_padding(datagram.len(), &mut written),
    }
    let again = frame::read(&written).expect("what was written can be read");
    let is_same = match (read, again) {
        // The same numbers can be asked for in several ways, and some of them twice.
        (Datagram::Nack(read), Datagram::Nack(again)) => {
            (read.stream, read.restarts) == (again.stream, again.restarts)
        }
        (read, again) => read == again,
    };
    assert!(is_same, "{read:?} {again:?}");
}
