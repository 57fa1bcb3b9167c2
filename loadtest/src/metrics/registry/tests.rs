//! Names, twice and wrong.

use super::*;

fn tags(pairs: &[(&str, &str)]) -> TagSet {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

#[test]
fn built_in_metrics_are_there() {
    let registry = Registry::new();
    let loss = registry.describe(registry.metric("rtc_packet_loss").unwrap());
    assert_eq!((loss.kind, loss.section), (Kind::Rate, Section::Webrtc));
    assert!(registry.metric("nothing").is_none());
}

#[test]
fn the_same_definition_is_the_same_metric_and_another_is_refused() {
    let registry = Registry::new();
    let first = registry
        .define("mine", Kind::Trend, Contains::Time)
        .unwrap();
    assert_eq!(
        registry.define("mine", Kind::Trend, Contains::Time),
        Ok(first)
    );
    let error = registry
        .define("mine", Kind::Counter, Contains::Default)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "metric 'mine' exists already as a trend of time values: it cannot also be a counter of default values"
    );
    assert!(
        registry
            .define("vus", Kind::Trend, Contains::Default)
            .is_err()
    );
}

#[test]
fn names_are_checked() {
    let registry = Registry::new();
    for good in ["a", "_", "a_1", "A9"] {
        assert!(
            registry
                .define(good, Kind::Gauge, Contains::Default)
                .is_ok(),
            "{good}"
        );
    }
    for bad in ["", "1a", "a b", "a-b", "ä", &"a".repeat(129)] {
        assert_eq!(
            registry.define(bad, Kind::Gauge, Contains::Default),
            Err(MetricError::Name(bad.to_owned()))
        );
    }
}

#[test]
fn the_same_tags_are_the_same_number() {
    let registry = Registry::new();
    assert_eq!(registry.tag_set(&TagSet::new()), TagSetId::EMPTY);
    let first = registry.tag_set(&tags(&[("a", "1"), ("b", "2")]));
    assert_eq!(registry.tag_set(&tags(&[("b", "2"), ("a", "1")])), first);
    assert_ne!(registry.tag_set(&tags(&[("a", "1")])), first);
    assert_eq!(registry.tags(first)["b"], "2");
}

#[test]
fn too_many_sets_of_tags_lose_what_tells_them_apart() {
    let registry = Registry::new();
    for i in 0..MAX_TAG_SETS {
        let _ = registry.tag_set(&tags(&[("id", &i.to_string())]));
    }
    assert!(registry.overflowed());
    let late = registry.tag_set(&tags(&[("id", "late"), ("check", "joined")]));
    assert_eq!(*registry.tags(late), tags(&[("check", "joined")]));
    assert_eq!(registry.tag_set(&tags(&[("id", "later")])), TagSetId::EMPTY);
}
