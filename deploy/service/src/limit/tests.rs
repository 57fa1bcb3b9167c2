use super::*;
use std::net::{Ipv4Addr, Ipv6Addr};

const RATE: Rate = Rate {
    burst: 3,
    interval: Duration::from_millis(100),
};

fn v4(number: u32) -> IpAddr {
    Ipv4Addr::from_bits(0x0A00_0000 | number).into()
}

fn limiter() -> SourceLimiter {
    SourceLimiter::new(RATE, 1024)
}

#[test]
fn a_burst_then_the_rate() {
    let start = Instant::now();
    let at = |millis| start + Duration::from_millis(millis);
    let mut limiter = limiter();
    for _ in 0..3 {
        assert_eq!(limiter.allow(v4(1), at(0)), Ok(()));
    }
    let refused = Err(Refused {
        retry_after: Duration::from_millis(100),
    });
    assert_eq!(limiter.allow(v4(1), at(0)), refused);
    // Asking in vain costs nothing, and the answer counts down.
    let refused = Err(Refused {
        retry_after: Duration::from_millis(1),
    });
    assert_eq!(limiter.allow(v4(1), at(99)), refused);
    let mut allowed = 0;
    for millis in 100..10_100 {
        allowed += u32::from(limiter.allow(v4(1), at(millis)).is_ok());
    }
    assert_eq!(allowed, 100);
    // Who has been quiet may do a burst again, and not more.
    let later = at(20_000);
    let burst = (0..10).filter(|_| limiter.allow(v4(1), later).is_ok());
    assert_eq!(burst.count(), 3);
}

#[test]
fn a_check_counts_nothing() {
    let now = Instant::now();
    let mut limiter = limiter();
    for _ in 0..100 {
        assert_eq!(limiter.check(v4(1), now), Ok(()));
    }
    for _ in 0..3 {
        assert_eq!(limiter.allow(v4(1), now), Ok(()));
    }
    assert!(limiter.check(v4(1), now).is_err());
    assert_eq!(limiter.check(v4(2), now), Ok(()));
}

#[test]
fn an_ipv6_customer_is_one_source() {
    let now = Instant::now();
    let mut limiter = limiter();
    let host = |prefix: u64, host: u64| {
        let bits = u128::from(prefix) << 64 | u128::from(host);
        IpAddr::from(Ipv6Addr::from_bits(bits))
    };
    let own = 0x2001_0db8_0000_0001;
    for number in 0..3 {
        assert_eq!(limiter.allow(host(own, number), now), Ok(()));
    }
    assert!(limiter.allow(host(own, 77), now).is_err());
    assert_eq!(limiter.allow(host(own + 1, 0), now), Ok(()));
    // An IPv4 client of a dual-stack socket is itself, and nobody else's /64.
    let mapped = |number| match v4(number) {
        IpAddr::V4(address) => IpAddr::from(address.to_ipv6_mapped()),
        v6 => v6,
    };
    for _ in 0..3 {
        assert_eq!(limiter.allow(mapped(1), now), Ok(()));
    }
    assert!(limiter.allow(v4(1), now).is_err());
    assert_eq!(limiter.allow(mapped(2), now), Ok(()));
}

#[test]
fn a_flood_of_addresses_neither_grows_the_table_nor_refuses_others() {
    let start = Instant::now();
    let mut limiter = SourceLimiter::new(RATE, 64);
    let slots = limiter.slots.len();
    // Somebody who asks all the time stays limited, whoever comes and goes beside them once.
    let mut allowed = 0;
    for round in 0..100_000u32 {
        let now = start + Duration::from_micros(u64::from(round) * 10);
        allowed += u32::from(limiter.allow(v4(0), now).is_ok());
        assert_eq!(limiter.allow(v4(1 + round), now), Ok(()), "{round}");
    }
    assert_eq!(limiter.slots.len(), slots);
    // A second of asking: the burst, and nine more. Those who come once never displace who is in debt.
    assert_eq!(allowed, 12);
}

#[test]
fn rates_are_read_as_they_are_said() {
    let rate = |burst, interval| Some(Rate { burst, interval });
    assert_eq!(Rate::per_second(0, 10), None);
    assert_eq!(
        Rate::per_second(50, 20),
        rate(1000, Duration::from_millis(20))
    );
    assert_eq!(Rate::per_second(1, 0), rate(1, Duration::from_secs(1)));
}
