use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

type Narrow = ReplayWindow<2>;
const WIDTH: u64 = 128;

/// What the window must do, said without a window.
struct Model {
    seen: BTreeSet<u64>,
}

impl Model {
    fn refuses(&self, index: u64) -> bool {
        let highest = *self.seen.last().unwrap();
        index + WIDTH <= highest || self.seen.contains(&index)
    }
}

proptest! {
    /// Steps back and forth, some wider than the window.
    #[test]
    fn window_agrees_with_the_model(
        first in 0..1_000_u64,
        steps in prop::collection::vec(-160..170_i64, 1..400),
    ) {
        let mut window = Narrow::starting_at(first);
        let mut model = Model { seen: BTreeSet::from([first]) };
        for step in steps {
            let index = window.highest().saturating_add_signed(step);
            prop_assert_eq!(window.refuses(index), model.refuses(index), "index {}", index);
            if !window.refuses(index) {
                window.record(index);
                model.seen.insert(index);
            }
            prop_assert_eq!(window.highest(), *model.seen.last().unwrap());
        }
    }

    /// Whatever the highest index, every true index closer than half the sequence space is found.
    #[test]
    fn near_indices_are_estimated(highest in 0..1_u64 << 48, step in -32_767..32_768_i64) {
        let index = highest.saturating_add_signed(step);
        prop_assume!(index < 1 << 48);
        prop_assert_eq!(estimate_index(highest, index as u16), index);
    }

    #[test]
    fn estimates_have_48_bits(highest in 0..1_u64 << 48, seq: u16) {
        let index = estimate_index(highest, seq);
        prop_assert!(index < 1 << 48);
        prop_assert_eq!(index as u16, seq);
    }
}

#[test]
fn window_edges() {
    let mut window = Narrow::starting_at(1000);
    assert!(window.refuses(1000));
    assert!(!window.refuses(1001));
    assert!(
        !window.refuses(1000 - WIDTH + 1),
        "the oldest that is known"
    );
    assert!(window.refuses(1000 - WIDTH));

    // A leap wider than the window leaves only its target.
    window.record(5000);
    assert!(window.refuses(5000));
    for index in 5000 - WIDTH + 1..5000 {
        assert!(!window.refuses(index), "{index}");
    }
    assert!(window.refuses(5000 - WIDTH));

    // A leap as wide as the window forgets exactly what fell out.
    let mut window = Narrow::starting_at(1000);
    window.record(1001);
    window.record(1000 + WIDTH);
    assert!(window.refuses(1001));
    assert!(!window.refuses(1002));
}

#[test]
fn closed_window_accepts_only_what_is_new() {
    let mut window = Narrow::closed_up_to(300);
    assert!((0..=300).all(|index| window.refuses(index)));
    window.record(302);
    assert!(window.refuses(300));
    assert!(!window.refuses(301));
}

/// RFC 3711 section 3.3.1 around every edge of the sequence space.
#[test]
fn estimation_edges() {
    fn check(highest: (u64, u16), seq: u16, expected_roc: u64) {
        let (roc, last) = highest;
        let index = estimate_index(roc << 16 | u64::from(last), seq);
        assert_eq!(
            index,
            expected_roc << 16 | u64::from(seq),
            "{highest:?}, then {seq}"
        );
    }
    check((5, 65_535), 0, 6);
    check((5, 0), 65_535, 4);
    check((5, 10), 32_778, 5); // exactly half ahead stays
    check((5, 10), 32_779, 4);
    check((5, 40_000), 7_232, 5); // exactly half behind stays
    check((5, 40_000), 7_231, 6);
    // Nothing is before the first packet's rollover counter.
    check((0, 10), 65_530, 0);
    check((0, 32_767), 65_535, 0);
    check((0, 40_000), 7_231, 1);
    // The last rollover counter is the last.
    check((u64::from(u32::MAX), 65_535), 0, u64::from(u32::MAX));
}

#[test]
fn sources_are_bounded_and_the_silent_ones_rest() {
    let mut sources = Sources::<1>::new(3);
    for ssrc in 1..=3 {
        assert!(matches!(sources.find(ssrc), Found::New));
        sources.insert(ssrc, ReplayWindow::starting_at(u64::from(ssrc)));
    }
    for ssrc in [2, 2, 1, 3, 1] {
        let found = sources.find(ssrc);
        assert!(matches!(&found, Found::Live(window) if window.highest() == u64::from(ssrc)));
    }
    // The hand passes those in use, and takes the first again; from then on the silent ones.
    sources.insert(4, ReplayWindow::starting_at(4));
    assert!(matches!(sources.find(1), Found::Resting(window) if window.highest() == 1));
    sources.find(2);
    sources.insert(5, ReplayWindow::starting_at(5));
    assert!(matches!(sources.find(3), Found::Resting(_)), "3 was silent");
    assert!(matches!(sources.find(2), Found::Live(_)));

    // One that comes back takes a place as a new one does.
    let Found::Resting(mut window) = sources.find(1) else {
        panic!("1 rests");
    };
    assert!(window.refuses(1) && window.refuses(0));
    window.record(9);
    sources.insert(1, window);
    assert!(matches!(sources.find(1), Found::Live(window) if window.highest() == 9));
    let all: BTreeSet<_> = sources.iter().collect();
    assert_eq!(all, [(1, 9), (2, 2), (3, 3), (4, 4), (5, 5)].into());
}

#[test]
fn so_many_rest_and_no_more() {
    let mut sources = Sources::<1>::new(2);
    for ssrc in 0..5_000 {
        sources.insert(ssrc, ReplayWindow::starting_at(7));
    }
    assert_eq!(sources.iter().count(), RESTING + 2);
    assert!(matches!(sources.find(4_000), Found::Resting(_)));
    assert!(matches!(sources.find(10), Found::New));
}
