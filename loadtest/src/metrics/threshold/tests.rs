//! The grammar: what is understood, and what is said about the rest.

use super::*;

#[test]
fn expressions_are_parsed() {
    use Aggregation as A;
    use Operator as O;
    for (text, aggregation, operator, limit) in [
        ("count==0", A::Count, O::Equal, 0.0),
        ("count === 0", A::Count, O::Equal, 0.0),
        ("  rate >= 0.99  ", A::Rate, O::GreaterOrEqual, 0.99),
        ("value!=-3", A::Value, O::NotEqual, -3.0),
        ("avg<1e3", A::Avg, O::Less, 1000.0),
        ("min>1", A::Min, O::Greater, 1.0),
        ("max<=.5", A::Max, O::LessOrEqual, 0.5),
        ("med<2", A::Med, O::Less, 2.0),
        ("p(95)<500", A::Percentile(95.0), O::Less, 500.0),
        ("p(99.9) < 500", A::Percentile(99.9), O::Less, 500.0),
    ] {
        let expression = Expression::parse(text).unwrap();
        let found = (
            expression.aggregation,
            expression.operator,
            expression.limit,
        );
        assert_eq!(found, (aggregation, operator, limit), "{text}");
        assert_eq!(expression.text(), text.trim());
    }
}

#[test]
fn what_is_wrong_with_an_expression_is_said() {
    for (text, expected) in [
        (
            "p(95)",
            "'p(95)' is not a threshold: expected an aggregation, one of > >= <= < == === !=, and a number, for example 'p(95)<500'",
        ),
        (
            "",
            "'' is not a threshold: expected an aggregation, one of > >= <= < == === !=, and a number, for example 'p(95)<500'",
        ),
        (
            "rate=1",
            "'rate=1' is not a threshold: expected an aggregation, one of > >= <= < == === !=, and a number, for example 'p(95)<500'",
        ),
        (
            "p(101)<5",
            "'p(101)<5' has no aggregation 'p(101)': expected count, rate, value, avg, min, max, med or p(0..100)",
        ),
        (
            "p(95<5",
            "'p(95<5' has no aggregation 'p(95': expected count, rate, value, avg, min, max, med or p(0..100)",
        ),
        (
            "mean<5",
            "'mean<5' has no aggregation 'mean': expected count, rate, value, avg, min, max, med or p(0..100)",
        ),
        (
            "<5",
            "'<5' has no aggregation '': expected count, rate, value, avg, min, max, med or p(0..100)",
        ),
        (
            "rate<fast",
            "'rate<fast' compares with 'fast': expected a number, for example 'p(95)<500'",
        ),
        (
            "rate<",
            "'rate<' compares with '': expected a number, for example 'p(95)<500'",
        ),
        (
            "rate<nan",
            "'rate<nan' compares with 'nan': expected a number, for example 'p(95)<500'",
        ),
        (
            "rate<=>1",
            "'rate<=>1' compares with '>1': expected a number, for example 'p(95)<500'",
        ),
    ] {
        assert_eq!(Expression::parse(text).unwrap_err().to_string(), expected);
    }
}

#[test]
fn each_kind_has_its_aggregations() {
    for (kind, good, bad) in [
        (
            Kind::Counter,
            vec!["count>1", "rate>1"],
            vec!["value>1", "avg>1", "p(5)>1"],
        ),
        (
            Kind::Gauge,
            vec!["value>1"],
            vec!["count>1", "rate>1", "max>1"],
        ),
        (
            Kind::Rate,
            vec!["rate>1"],
            vec!["count>1", "value>1", "med>1"],
        ),
        (
            Kind::Trend,
            vec!["avg>1", "min>1", "max>1", "med>1", "p(5)>1"],
            vec!["count>1", "rate>1", "value>1"],
        ),
    ] {
        for text in good {
            assert!(Expression::parse_for(text, kind).is_ok(), "{kind} {text}");
        }
        for text in bad {
            assert!(Expression::parse_for(text, kind).is_err(), "{kind} {text}");
        }
    }
    assert_eq!(
        Expression::parse_for("p(95)<5", Kind::Counter)
            .unwrap_err()
            .to_string(),
        "'p(95)<5' asks for 'p(95)', which a counter does not have: expected count and rate"
    );
}

#[test]
fn operators_compare() {
    for (text, below, equal, above) in [
        ("rate<1", true, false, false),
        ("rate<=1", true, true, false),
        ("rate==1", false, true, false),
        ("rate!=1", true, false, true),
        ("rate>=1", false, true, true),
        ("rate>1", false, false, true),
    ] {
        let expression = Expression::parse(text).unwrap();
        assert_eq!(
            [0.5, 1.0, 1.5].map(|value| expression.holds(value)),
            [below, equal, above],
            "{text}"
        );
    }
}

#[test]
fn selectors_are_parsed() {
    for (text, metric, tags) in [
        ("m", "m", vec![]),
        ("m{a:b}", "m", vec![("a", "b")]),
        (
            " m { a : b , c : \"d e\" } ",
            "m",
            vec![("a", "b"), ("c", "d e")],
        ),
        ("m{url:http://x/y}", "m", vec![("url", "http://x/y")]),
        ("m{a:}", "m", vec![("a", "")]),
    ] {
        let selector = Selector::parse(text).unwrap();
        let expected: TagSet = tags
            .iter()
            .map(|(tag, value)| (tag.to_string(), value.to_string()))
            .collect();
        assert_eq!(
            (selector.metric.as_str(), &selector.tags),
            (metric, &expected),
            "{text}"
        );
    }
}

#[test]
fn what_is_wrong_with_a_selector_is_said() {
    for (text, expected) in [
        (
            "m{a:b",
            "'m{a:b' misses its closing bracket: expected 'metric{tag:value,tag2:value2}'",
        ),
        (
            "m{a:b}c",
            "'m{a:b}c' misses its closing bracket: expected 'metric{tag:value,tag2:value2}'",
        ),
        (
            "ma:b}",
            "'ma:b}' has a closing bracket without an opening one: expected 'metric{tag:value,tag2:value2}'",
        ),
        (
            "m{}",
            "'m{}' has no tag in '': expected 'tag:value', several of them separated by commas",
        ),
        (
            "m{a:b,c}",
            "'m{a:b,c}' has no tag in 'c': expected 'tag:value', several of them separated by commas",
        ),
        (
            "m{a:b,a:c}",
            "'m{a:b,a:c}' names the tag 'a' twice: expected each tag once",
        ),
    ] {
        assert_eq!(Selector::parse(text).unwrap_err().to_string(), expected);
    }
}

#[test]
fn a_selector_matches_samples_with_at_least_its_tags() {
    let selector = Selector::parse("m{a:b,c:d}").unwrap();
    let tags = |pairs: &[(&str, &str)]| -> TagSet {
        pairs
            .iter()
            .map(|(k, v)| (k.to_string(), v.to_string()))
            .collect()
    };
    assert!(selector.matches(&tags(&[("a", "b"), ("c", "d"), ("e", "f")])));
    assert!(!selector.matches(&tags(&[("a", "b")])));
    assert!(!selector.matches(&tags(&[("a", "b"), ("c", "x")])));
}

#[test]
fn conditions_are_parsed() {
    let condition = Condition::parse("sfu_join_failed{region:eu west} rate > 0.01").unwrap();
    assert_eq!(condition.selector.tags["region"], "eu west");
    assert_eq!(condition.expression.limit, 0.01);
    assert!(Condition::parse("sfu_join_failed rate>0.01").is_ok());
    assert_eq!(
        Condition::parse("rate>0.01").unwrap_err(),
        "condition 'rate>0.01': expected a metric and what is expected of it, for example 'sfu_join_failed rate>0.01'"
    );
    assert!(
        Condition::parse("m rate")
            .unwrap_err()
            .starts_with("condition 'm rate': 'rate' is not a threshold")
    );
}
