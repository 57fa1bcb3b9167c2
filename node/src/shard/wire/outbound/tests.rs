use super::*;

/// Packets of payloads of these lengths, each with a byte of padding behind it.
fn packets(lens: &[usize], first_byte: u8) -> Vec<Vec<u8>> {
    lens.iter()
        .map(|len| {
            let mut packet = vec![first_byte, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1];
            packet.resize(12 + len, 7);
            packet.push(1);
            packet
        })
        .collect()
}

fn outbound<'a>(codec: Codec, padded: &'a [u8]) -> Option<Outbound<'a>> {
    let packet = &padded[..padded.len() - 1];
    let header = Header::parse(packet).unwrap();
    let extensions = Extensions::default();
    Outbound::new(codec, &header, packet, Some(padded), None, &extensions)
}

/// `expected`: the lengths they are sent with.
fn check(codec: Codec, lens: &[usize], expected: &[usize]) {
    let packets = packets(lens, 0x80);
    let mut outbound: Vec<_> = packets.iter().map(|p| self::outbound(codec, p)).collect();
    level(&mut outbound);
    let sent: Vec<_> = outbound.iter().flatten().map(|p| p.payload.len()).collect();
    assert_eq!(sent, expected, "{lens:?}");
    for (packet, len) in outbound.iter().flatten().zip(lens) {
        assert_eq!(packet.padding, packet.payload.len() > *len);
        if packet.padding {
            assert_eq!(packet.payload.last(), Some(&1), "padding counts itself");
        }
        assert!(packet.payload[..*len].iter().all(|byte| *byte == 7));
    }
}

#[test]
fn packets_that_differ_by_a_byte_are_made_equal() {
    let vp8 = |lens: &[usize], expected: &[usize]| check(Codec::Vp8, lens, expected);
    vp8(&[], &[]);
    vp8(&[100], &[100]);
    vp8(&[100, 101], &[101, 101]);
    vp8(&[100, 100, 100, 101, 101], &[101, 101, 101, 101, 101]);
    vp8(&[101, 100, 101, 100], &[101, 101, 101, 100]); // the last may be shorter
    vp8(&[101, 101, 100], &[101, 101, 100]);
    // What is shorter ends a message, what is longer begins one.
    vp8(&[100, 101, 50, 100, 101], &[101, 101, 50, 101, 101]);
    vp8(&[50, 100, 101, 101], &[50, 101, 101, 101]);
    vp8(&[100, 102, 103], &[100, 103, 103]);
    vp8(&[100, 101, 102, 103], &[101, 101, 103, 103]);
    vp8(&[1, 0, 1], &[1, 1, 1]);
}

#[test]
fn audio_and_unlike_packets_are_left_alone() {
    check(Codec::Opus, &[100, 101], &[100, 101]);
    let packets = packets(&[100, 101], 0x80);
    let mut mixed = [
        outbound(Codec::Vp8, &packets[0]),
        outbound(Codec::H264, &packets[1]),
    ];
    level(&mut mixed);
    assert!(mixed.iter().flatten().all(|packet| !packet.padding));
    // The publisher's own padding stays where it is: away.
    let padded = self::packets(&[50, 60], 0xA0);
    let padded: Vec<_> = padded
        .into_iter()
        .map(|mut packet| {
            let last = packet.len() - 2;
            packet[last] = 9;
            packet
        })
        .collect();
    let mut outbound: Vec<_> = padded.iter().map(|p| outbound(Codec::Vp8, p)).collect();
    level(&mut outbound);
    let sent: Vec<_> = outbound.iter().flatten().map(|p| p.payload.len()).collect();
    assert_eq!(sent, [41, 51]);
}
