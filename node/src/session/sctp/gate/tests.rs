//! What passes, packet by packet; and what the gate learns from what passes the other way.

use super::*;

const WINDOW: u32 = 10_000;
const STREAMS: u16 = 16;

/// Resets name data up to TSN 99 as the last of their streams.
fn gate(initial_tsn: u32) -> Gate {
    Gate::new(init(initial_tsn), WINDOW, STREAMS)
}

fn init(initial_tsn: u32) -> Init {
    Init {
        ports: [0x13, 0x88, 0x13, 0x89],
        tag: 1,
        window: 100_000,
        outgoing_streams: 1_024,
        incoming_streams: 1_024,
        initial_tsn,
        partial_reliability: true,
    }
}

fn chunk(kind: u8, value: &[u8]) -> Vec<u8> {
    let mut chunk = vec![kind, 3];
    chunk.extend((value.len() as u16 + 4).to_be_bytes());
    chunk.extend(value);
    chunk.resize(chunk.len().next_multiple_of(4), 0);
    chunk
}

fn packet(chunks: &[Vec<u8>]) -> Bytes {
    [vec![0; 12], chunks.concat()].concat().into()
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

fn data(tsn: u32, stream: u16, length: usize) -> Vec<u8> {
    let mut value = words(&[tsn, u32::from(stream) << 16, 51]);
    value.resize(12 + length, 0);
    chunk(packet::DATA, &value)
}

fn sack(acknowledged: u32, window: u32) -> Vec<u8> {
    chunk(packet::SACK, &words(&[acknowledged, window, 0]))
}

fn reset(number: u32) -> Vec<u8> {
    let mut value = words(&[
        (u32::from(packet::OUTGOING_RESET) << 16) + 18,
        number,
        0,
        99,
    ]);
    value.extend([0, 2]);
    chunk(packet::RECONFIG, &value)
}

fn response(number: u32, result: u32) -> Vec<u8> {
    let head = (u32::from(packet::RECONFIG_RESPONSE) << 16) + 12;
    chunk(packet::RECONFIG, &words(&[head, number, result]))
}

fn gaps(blocks: &[(u16, u16)]) -> Vec<u8> {
    let mut value = words(&[5, 1_000, (blocks.len() as u32) << 16]);
    value.extend(
        blocks
            .iter()
            .flat_map(|(start, end)| words(&[u32::from(*start) << 16 | u32::from(*end)])),
    );
    chunk(packet::SACK, &value)
}

#[test]
fn single_packets() {
    use Admission::{Abort, Pass, Refuse, Repeat, Violation};
    #[rustfmt::skip]
    let rows: &[(&str, Admission, Vec<Vec<u8>>)] = &[
        ("nothing",                    Refuse,    vec![]),
        ("data",                       Pass,      vec![data(100, 0, 1)]),
        ("data seen before",           Pass,      vec![data(99, 0, 1)]),
        ("data of last stream",        Pass,      vec![data(100, STREAMS - 1, 1)]),
        ("data beyond last stream",    Violation, vec![data(100, STREAMS, 1)]),
        ("data without data",          Refuse,    vec![data(100, 0, 0)]),
        ("data far ahead",             Refuse,    vec![data(99 + TSN_WINDOW as u32 + 1, 0, 1)]),
        ("data just within",           Pass,      vec![data(99 + TSN_WINDOW as u32, 0, 1)]),
        ("more than twice the window", Violation, vec![data(100, 0, 19_000), data(101, 0, 1_001)]),
        ("sack",                       Pass,      vec![sack(5, 0)]),
        ("sack with gaps",             Pass,      vec![gaps(&[(2, 2), (4, 9)])]),
        ("gap backwards",              Refuse,    vec![gaps(&[(4, 2)])]),
        ("gaps repeated",              Refuse,    vec![gaps(&[(2, 9), (2, 9)])]),
        ("gap at zero",                Refuse,    vec![gaps(&[(0, 9)])]),
        ("more gaps than bytes",       Refuse,    vec![chunk(packet::SACK, &words(&[5, 0, 7 << 16]))]),
        ("sack with duplicates",       Pass,      vec![chunk(packet::SACK, &words(&[5, 0, 2, 4, 5]))]),
        ("forward",                    Pass,      vec![chunk(packet::FORWARD_TSN, &words(&[150, 0]))]),
        ("forward far",                Violation, vec![chunk(packet::FORWARD_TSN, &words(&[99 + MAX_FORWARD as u32 + 1]))]),
        ("forward cut off",            Refuse,    vec![chunk(packet::FORWARD_TSN, &[0, 0, 0])]),
        ("forward, odd length",        Refuse,    vec![chunk(packet::FORWARD_TSN, &[0, 0, 0, 100, 1])]),
        ("first reset",                Pass,      vec![reset(100)]),
        ("a few resets lost",          Pass,      vec![reset(103)]),
        ("reset out of order",         Refuse,    vec![reset(200)]),
        ("reset of data far ahead",    Refuse,    vec![chunk(packet::RECONFIG, &words(&[(13 << 16) + 16, 100, 0, 1 << 20]))]),
        ("reset of before",            Repeat(98), vec![reset(98)]),
        ("reset of long ago",          Refuse,    vec![reset(99u32.wrapping_sub(MAX_RESET_AGE as u32 + 1))]),
        ("final response",             Pass,      vec![response(7, 1)]),
        ("response: in progress",      Refuse,    vec![response(7, 6)]),
        ("add streams",                Refuse,    vec![chunk(packet::RECONFIG, &words(&[(17 << 16) + 12, 1, 5]))]),
        ("abort with a broken cause",  Abort,     vec![chunk(packet::ABORT, &[0, 12, 0xff, 0xff])]),
        ("error",                      Refuse,    vec![chunk(9, &[0, 8, 0, 4])]),
        ("init ack",                   Refuse,    vec![chunk(packet::INIT_ACK, &words(&[1, 2, 3, 4]))]),
        ("init without parameters",    Refuse,    vec![chunk(packet::INIT, &words(&[1, 2]))]),
        ("heartbeat",                  Pass,      vec![chunk(packet::HEARTBEAT, &[0, 1, 0, 4])]),
        ("unknown",                    Refuse,    vec![data(100, 0, 1), chunk(77, &[])]),
        ("chunk cut off",              Refuse,    vec![data(100, 0, 1)[..12].to_vec()]),
        ("chunk shorter than itself",  Refuse,    vec![vec![0, 0, 0, 3]]),
    ];
    for (name, expected, chunks) in rows {
        assert_eq!(gate(100).admit(&packet(chunks)), *expected, "{name}");
    }
    assert_eq!(gate(100).admit(b"short"), Admission::Refuse);
}

#[test]
fn an_init_is_read_from_what_browsers_send_and_written_plainly() {
    let plain = init(42).write();
    assert_eq!(Init::read(&plain), Some(init(42)));
    let poorer = Init {
        partial_reliability: false,
        ..init(42)
    };
    assert_eq!(Init::read(&poorer.write()), Some(poorer));

    // With parameters of which rtc-sctp knows nothing, and none that it looks for.
    let seal = |mut packet: Vec<u8>| {
        let checksum = packet::checksum(&packet);
        packet[8..12].copy_from_slice(&checksum.to_le_bytes());
        packet
    };
    let mut rich = plain[..32].to_vec();
    rich.extend(words(&[
        0x8001_0008,
        1,
        0x0005_0008,
        0x7f00_0001,
        0xC000_0004,
    ]));
    rich[15] = (rich.len() - 12) as u8;
    let rich = seal(rich);
    assert_eq!(Init::read(&rich), Some(init(42)));

    let spoil = |at: usize, value: u8| {
        let mut packet = plain.to_vec();
        packet[at] = value;
        Init::read(&seal(packet))
    };
    assert_eq!(spoil(12, packet::INIT_ACK), None);
    assert_eq!(spoil(15, 200), None, "cut off");
    assert_eq!(spoil(15, 20), None, "something behind it");
    assert_eq!(spoil(19, 0), None, "tag zero");
    let mut unsealed = plain.to_vec();
    unsealed[9] ^= 1;
    assert_eq!(Init::read(&unsealed), None);
    for length in 0..plain.len() {
        assert_eq!(Init::read(&plain[..length]), None);
    }
}

#[test]
fn nothing_hides_behind_what_rtc_sctp_understands_of_a_chunk() {
    let hidden = chunk(packet::FORWARD_TSN, &words(&[0x7fff_ffff]));
    let heartbeat = [vec![0, 1, 0, 4], hidden.clone()].concat();
    let sack = [words(&[5, 1_000, 0]), hidden.clone()].concat();
    let response = [words(&[(16 << 16) + 20, 7, 1]), hidden.clone()].concat();
    let third = [
        words(&[(16 << 16) + 12, 7, 1]),
        words(&[(16 << 16) + 12, 7, 1]),
        words(&[(16 << 16) + 12, 7, 1]),
    ];
    for (kind, value) in [
        (packet::HEARTBEAT, heartbeat),
        (packet::SACK, sack),
        (packet::RECONFIG, response),
        (packet::RECONFIG, third.concat()),
        (packet::SHUTDOWN, [words(&[1]), hidden.clone()].concat()),
        (packet::SHUTDOWN_ACK, hidden.clone()),
        (packet::SHUTDOWN_COMPLETE, hidden.clone()),
        (packet::COOKIE_ACK, hidden.clone()),
        (
            packet::INIT,
            [words(&[1, 100_000, 0x0001_0001, 1]), hidden.clone()].concat(),
        ),
    ] {
        let admission = gate(100).admit(&packet(&[chunk(kind, &value)]));
        assert_eq!(admission, Admission::Refuse, "{kind}");
    }
}

#[test]
fn numbers_wrap_around() {
    let mut gate = gate(u32::MAX);
    for tsn in [u32::MAX, 0, 1] {
        assert_eq!(gate.admit(&packet(&[data(tsn, 0, 1)])), Admission::Pass);
    }
    gate.observe(&packet(&[sack(1, WINDOW)]));
    assert_eq!(
        gate.admit(&packet(&[data(u32::MAX, 0, 1)])),
        Admission::Pass
    );
    assert_eq!(gate.admit(&packet(&[reset(u32::MAX)])), Admission::Pass);
    assert_eq!(gate.admit(&packet(&[reset(0)])), Admission::Pass);
}

#[test]
fn queued_chunks_are_bounded_until_they_leave() {
    let mut gate = gate(1);
    // The first is missing, and all wait for it.
    let mut admitted = 0;
    for tsn in 2..2 + 2 * MAX_QUEUED_CHUNKS {
        if gate.admit(&packet(&[data(tsn, 0, 1)])) == Admission::Pass {
            admitted += 1;
        }
    }
    assert_eq!(admitted, MAX_QUEUED_CHUNKS);
    // What fills a gap still comes through.
    assert_eq!(gate.admit(&packet(&[data(1, 0, 1)])), Admission::Pass);
    for _ in 0..100 {
        gate.handle_delivery(1, 1);
    }
    assert_eq!(
        gate.admit(&packet(&[data(2 + MAX_QUEUED_CHUNKS, 0, 1)])),
        Admission::Pass
    );
    // A window that is all free says that nothing is left, whatever was counted.
    gate.observe(&packet(&[sack(3_000, WINDOW)]));
    assert_eq!((gate.queued_chunks, gate.queued_bytes), (0, 0));
}

#[test]
fn resets_that_wait_and_resets_that_are_answered() {
    use Admission::{Pass, Refuse, Repeat};
    let mut gate = gate(10);
    let in_progress = packet(&[response(10, IN_PROGRESS)]);
    assert_eq!(gate.admit(&packet(&[reset(10)])), Pass);
    assert_eq!(gate.observe(&in_progress), Emission::Send);
    // rtc-sctp repeats itself; the client hears it again only when it has asked again.
    assert_eq!(gate.observe(&in_progress), Emission::Suppress);
    assert_eq!(gate.admit(&packet(&[reset(10)])), Pass);
    assert_eq!(gate.observe(&in_progress), Emission::Send);
    assert_eq!(gate.observe(&in_progress), Emission::Suppress);

    for number in 11..10 + MAX_PENDING_RESETS as u32 {
        assert_eq!(gate.admit(&packet(&[reset(number)])), Pass);
        gate.observe(&packet(&[response(number, IN_PROGRESS)]));
    }
    let last = 10 + MAX_PENDING_RESETS as u32;
    assert_eq!(gate.admit(&packet(&[reset(last)])), Refuse);
    gate.observe(&packet(&[response(10, 1)]));
    assert_eq!(gate.admit(&packet(&[reset(last)])), Pass);

    assert_eq!(gate.observe(&packet(&[response(last, 1)])), Emission::Send);
    assert_eq!(gate.admit(&packet(&[reset(last)])), Repeat(last));
    assert_eq!(gate.admit(&packet(&[reset(10)])), Repeat(10));
    assert_eq!(gate.admit(&packet(&[reset(11)])), Pass, "it still waits");
    assert_eq!(gate.admit(&packet(&[reset(last + 1)])), Pass);
    assert_eq!(gate.admit(&packet(&[reset(last)])), Repeat(last));
    assert_eq!(gate.answer(last)[16..], response(last, 0)[4..]);
}

#[test]
fn own_resets_have_to_be_answered() {
    let mut gate = gate(10);
    for number in 0..MAX_UNANSWERED_RESETS as u32 {
        assert_eq!(gate.observe(&packet(&[reset(number)])), Emission::Send);
        assert_eq!(gate.observe(&packet(&[reset(number)])), Emission::Send);
    }
    gate.admit(&packet(&[response(0, 1)]));
    assert_eq!(gate.unanswered_resets().len(), MAX_UNANSWERED_RESETS - 1);
    assert_eq!(gate.observe(&packet(&[reset(500)])), Emission::Send);
    assert_eq!(gate.observe(&packet(&[reset(501)])), Emission::Violation);
}
