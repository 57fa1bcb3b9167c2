//! A sample as outputs show it.

use super::*;

#[test]
fn a_rate_shows_its_share() {
    let (metric, tags) = (MetricId(0), TagSetId::EMPTY);
    assert_eq!(
        Sample::part(metric, tags, 0.0, 3.0, 12.0).shown(Kind::Rate),
        0.25
    );
    assert_eq!(
        Sample::part(metric, tags, 0.0, 0.0, 0.0).shown(Kind::Rate),
        0.0
    );
    assert_eq!(Sample::flag(metric, tags, 0.0, true).shown(Kind::Rate), 1.0);
    assert_eq!(Sample::new(metric, tags, 0.0, 7.5).shown(Kind::Trend), 7.5);
}
