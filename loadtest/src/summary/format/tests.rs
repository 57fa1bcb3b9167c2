//! Each number as it is printed.

use super::*;

#[test]
fn times() {
    for (milliseconds, expected) in [
        (0.0, "0s"),
        (0.000_12, "120ns"),
        (0.123_456, "123.45µs"),
        (0.5, "500µs"),
        (1.0, "1ms"),
        (388.9, "388.9ms"),
        (212.499, "212.49ms"),
        (1890.0, "1.89s"),
        (59_999.0, "59.99s"),
        (60_000.0, "1m0s"),
        (65_900.0, "1m5s"),
        (3_661_000.0, "1h1m1s"),
        (-12.5, "-12.5ms"),
    ] {
        assert_eq!(time(milliseconds, None), expected);
    }
    assert_eq!(time(1234.567, Some(TimeUnit::Seconds)), "1.23s");
    assert_eq!(time(1234.567, Some(TimeUnit::Milliseconds)), "1234.57ms");
    assert_eq!(time(1.5, Some(TimeUnit::Microseconds)), "1500.00µs");
}

#[test]
fn amounts() {
    for (amount, expected) in [
        (0.0, "0 B"),
        (999.0, "999 B"),
        (1000.0, "1.0 kB"),
        (9_960.0, "10 kB"),
        (201_000.0, "201 kB"),
        (999_600.0, "1.0 MB"),
        (2_000_000.0, "2.0 MB"),
        (124e6, "124 MB"),
        (1.5e9, "1.5 GB"),
        (1e21, "1000 EB"),
    ] {
        assert_eq!(bytes(amount), expected);
    }
}

#[test]
fn shares_and_numbers() {
    for (share, expected) in [
        (0.996, "99.60%"),
        (0.999_999, "99.99%"),
        (1.0, "100.00%"),
        (0.0012, "0.12%"),
        (0.29, "29.00%"),
    ] {
        assert_eq!(percent(share), expected);
    }
    for (value, expected) in [
        (4.1, "4.1"),
        (500.0, "500"),
        (0.123_456_789, "0.123457"),
        (-0.0, "0"),
        (1234.5678, "1234.57"),
        (541_666_666.67, "541666667"),
        (1e15, "1000000000000000"),
    ] {
        assert_eq!(number(value), expected);
    }
}
