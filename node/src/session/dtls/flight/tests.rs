//! When a flight is sent again, and when not any more.

use bytes::BytesMut;

use super::super::record;
use super::*;

fn datagram(message_kind: u8) -> Bytes {
    let mut datagram = BytesMut::new();
    record::write_plain(&mut datagram, record::HANDSHAKE, 0, &[&[message_kind; 12]]);
    datagram.freeze()
}

fn milliseconds(count: u64) -> Duration {
    Duration::from_millis(count)
}

#[test]
fn repeated_after_ever_longer_pauses() {
    let start = Instant::now();
    let mut flight = Flight::new(vec![datagram(2), datagram(11)], start);
    let mut pause = milliseconds(100);
    let mut now = start;
    for _ in 0..MAX_TIMEOUTS {
        assert_eq!(flight.poll_timeout(), Some(now + pause));
        assert!(
            flight
                .handle_timeout(now + pause - milliseconds(1))
                .is_empty()
        );
        now += pause;
        assert_eq!(flight.handle_timeout(now), [datagram(2), datagram(11)]);
        pause *= 2;
    }
    assert_eq!(flight.poll_timeout(), None);
    assert!(flight.handle_timeout(now + pause).is_empty());
}

#[test]
fn repeated_on_demand_but_not_at_once_and_not_for_ever() {
    let start = Instant::now();
    let mut flight = Flight::new(vec![datagram(2)], start);
    assert!(flight.handle_repeat(start + milliseconds(19)).is_empty());
    assert_eq!(
        flight.handle_repeat(start + milliseconds(20)),
        [datagram(2)]
    );
    assert!(flight.handle_repeat(start + milliseconds(30)).is_empty());
    let sent: usize = (1..1_000)
        .map(|n| flight.handle_repeat(start + milliseconds(n * 50)).len())
        .sum();
    assert_eq!(sent, MAX_REPEATS as usize - 1);
}
