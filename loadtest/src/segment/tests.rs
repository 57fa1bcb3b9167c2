use proptest::prelude::*;

use super::*;

fn share(segment: &str, sequence: Option<&str>) -> Share {
    let sequence = sequence.map(|text| text.parse().unwrap());
    Share::new(Some(segment.parse().unwrap()), sequence.as_ref()).unwrap()
}

#[test]
fn fractions_are_read_exactly() {
    for (text, expected) in [
        ("1/3", "1/3"),
        ("2/6", "1/3"),
        ("0.25", "1/4"),
        ("25%", "1/4"),
        ("12.5%", "1/8"),
        ("1", "1"),
        ("1.0", "1"),
        ("100%", "1"),
        ("0", "0"),
        ("0/7", "0"),
    ] {
        assert_eq!(text.parse::<Fraction>().unwrap().to_string(), expected);
    }
    for text in [
        "", ".", "-1/3", "+1/3", "4/3", "1/0", "1/", "101%", "1.5", "a", "1/3/5",
    ] {
        let error = text.parse::<Fraction>().unwrap_err().to_string();
        assert!(error.contains(&format!("{text:?}")), "{error}");
    }
}

#[test]
fn segments_are_read() {
    for (text, expected) in [
        ("0:1/3", "0:1/3"),
        ("1/3:2/3", "1/3:2/3"),
        ("1/2", "0:1/2"),
        ("50%:1", "1/2:1"),
    ] {
        assert_eq!(text.parse::<Segment>().unwrap().to_string(), expected);
    }
    for text in ["", ":", "1/2:1/2", "2/3:1/3", "0:1:2", "0"] {
        assert!(text.parse::<Segment>().is_err(), "{text:?}");
    }
    let filled: Sequence = "1/3,2/3".parse().unwrap();
    assert_eq!(filled.to_string(), "0,1/3,2/3,1");
    assert!("0,1/2,1/3,1".parse::<Sequence>().is_err());
    assert!("0,1/2,1/2,1".parse::<Sequence>().is_err());
}

#[test]
fn what_cannot_be_shared_is_refused() {
    let sequence: Sequence = "0,1/3,2/3,1".parse().unwrap();
    let error = Share::new(Some("0:1/2".parse().unwrap()), Some(&sequence)).unwrap_err();
    assert_eq!(error.to_string(), "a segment of the sequence 0,1/3,2/3,1");
    assert_eq!(
        Share::new(None, Some(&sequence)),
        Err(ShareError::NoSegment)
    );
    let fine = Some("0:1/10007".parse().unwrap());
    assert_eq!(Share::new(fine, None), Err(ShareError::TooFine));
    assert_eq!(Share::new(None, None), Ok(Share::whole()));
}

#[test]
fn equal_parts_take_turns() {
    let thirds = ["0:1/3", "1/3:2/3", "2/3:1"].map(|segment| share(segment, None));
    for (total, expected) in [
        (0, [0, 0, 0]),
        (1, [1, 0, 0]),
        (2, [1, 1, 0]),
        (3, [1, 1, 1]),
        (100, [34, 33, 33]),
    ] {
        assert_eq!([0, 1, 2].map(|i| thirds[i].count(total)), expected);
    }
    assert_eq!(
        [0, 1, 2].map(|i| thirds[1].nth(i)),
        [Some(1), Some(4), Some(7)]
    );
    // Saying the sequence too changes nothing.
    assert_eq!(share("1/3:2/3", Some("0,1/3,2/3,1")), thirds[1]);
}

#[test]
fn unequal_parts_are_spread() {
    let sequence = Some("0,1/2,3/4,1");
    let numbers = |segment| {
        let share = share(segment, sequence);
        [0, 1, 2].map(|i| share.nth(i).unwrap())
    };
    assert_eq!(numbers("0:1/2"), [0, 2, 4]);
    assert_eq!(numbers("1/2:3/4"), [1, 5, 9]);
    assert_eq!(numbers("3/4:1"), [3, 7, 11]);
}

#[test]
fn what_vus_do_belongs_to_those_who_have_them() {
    let halves = ["0:1/2", "1/2:1"].map(|segment| share(segment, None));
    // One VU: the second instance has none and does nothing.
    assert_eq!([0, 1].map(|i| halves[i].among(1).count(10)), [10, 0]);
    assert_eq!(halves[1].among(1).nth(0), None);
    // Three VUs: two on the first, so two thirds of the iterations.
    assert_eq!([0, 1].map(|i| halves[i].among(3).count(9)), [6, 3]);
}

proptest! {
    #[test]
    fn instances_make_the_whole(
        mut cuts in prop::collection::btree_set(1_u64..60, 0..8),
        total in 0_u64..100_000,
        vus in 1_u64..200,
    ) {
        cuts.extend([0, 60]);
        let ends: Vec<u64> = cuts.into_iter().collect();
        let sequence: Sequence = ends
            .iter()
            .map(|end| format!("{end}/60"))
            .collect::<Vec<_>>()
            .join(",")
            .parse()
            .unwrap();
        let shares: Vec<Share> = sequence
            .segments()
            .map(|segment| Share::new(Some(segment), Some(&sequence)).unwrap())
            .collect();
        prop_assert_eq!(shares.iter().map(|share| share.count(total)).sum::<u64>(), total);
        let among = shares.iter().map(|share| share.among(vus).count(total));
        prop_assert_eq!(among.sum::<u64>(), total);

        let mut numbers: Vec<u64> = shares
            .iter()
            .flat_map(|share| (0..share.count(300)).map(|i| share.nth(i).unwrap()))
            .collect();
        numbers.sort_unstable();
        prop_assert_eq!(numbers, (0..300).collect::<Vec<u64>>());

        // Everybody has their part of any count, rounded up or down.
        for (share, ends) in shares.iter().zip(ends.windows(2)) {
            let sixtieths = total * (ends[1] - ends[0]);
            let count = share.count(total);
            prop_assert!(count == sixtieths / 60 || count == sixtieths.div_ceil(60));
        }
    }

    #[test]
    fn equal_parts_make_the_whole(parts in 1_u64..50, total in 0_u64..100_000) {
        let shares = (0..parts).map(|i| share(&format!("{i}/{parts}:{}/{parts}", i + 1), None));
        let counts: Vec<u64> = shares.map(|share| share.count(total)).collect();
        prop_assert_eq!(counts.iter().sum::<u64>(), total);
        prop_assert!(total < parts || counts.iter().all(|count| *count > 0), "one is idle");
    }
}
