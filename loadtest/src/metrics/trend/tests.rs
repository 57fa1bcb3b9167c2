//! Quantiles against sorted lists, exact and not, apart and merged.

use proptest::prelude::*;

use super::*;

fn trend(values: &[f64]) -> Trend {
    let mut trend = Trend::default();
    for value in values {
        trend.add(*value);
    }
    trend
}

/// What interpolation between sorted values says.
fn expected(values: &[f64], quantile: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = quantile * (sorted.len() - 1) as f64;
    let low = sorted[place.floor() as usize];
    low + (sorted[place.ceil() as usize] - low) * place.fract()
}

#[test]
fn few_values_are_interpolated() {
    let trend = trend(&[40.0, 10.0, 30.0, 20.0]);
    for (quantile, value) in [(0.0, 10.0), (0.5, 25.0), (0.9, 37.0), (1.0, 40.0)] {
        assert_eq!(trend.quantile(quantile), value, "{quantile}");
    }
    assert_eq!(
        (trend.avg(), trend.min(), trend.max(), trend.count()),
        (25.0, 10.0, 40.0, 4)
    );
}

#[test]
fn nothing_is_zero() {
    let trend = Trend::default();
    assert_eq!(
        (trend.avg(), trend.quantile(0.9), trend.max()),
        (0.0, 0.0, 0.0)
    );
}

#[test]
fn settling_changes_no_answer() {
    let mut trend = trend(&[3.0, 1.0, 2.0]);
    let before = trend.quantile(0.75);
    trend.settle();
    assert_eq!(trend.quantile(0.75), before);
}

#[test]
fn it_is_exact_below_the_limit_and_close_above() {
    let values: Vec<f64> = (1..EXACT).map(|i| i as f64 * 0.37).collect();
    let mut trend = trend(&values);
    assert!(matches!(trend.values, Values::Exact(_)));
    assert_eq!(trend.quantile(0.95), expected(&values, 0.95));
    trend.add(1e6);
    assert!(matches!(trend.values, Values::Histogram(_)));
    assert_eq!(
        (trend.count(), trend.min(), trend.max()),
        (EXACT as u64, 0.37, 1e6)
    );
    assert!((trend.quantile(0.95) / expected(&values, 0.95) - 1.0).abs() < 1e-3);
}

#[test]
fn values_of_every_size_and_sign_count() {
    let values = [
        f64::MAX,
        f64::MIN,
        1e-300,
        -1e-300,
        0.0,
        -0.0,
        5e-324,
        1e19,
        -3.5,
    ];
    let mut trend = trend(&values);
    trend.coarsen();
    assert_eq!(trend.count(), values.len() as u64);
    assert_eq!(
        (trend.quantile(0.0), trend.quantile(1.0)),
        (f64::MIN, f64::MAX)
    );
    assert_eq!(trend.quantile(0.5), 0.0);
    assert!((trend.quantile(0.125) / -3.5 - 1.0).abs() < 1e-3);
}

#[test]
fn it_survives_a_file() {
    for coarse in [false, true] {
        let mut trend = trend(&[-2.0, 0.0, 0.001, 17.25]);
        if coarse {
            trend.coarsen();
        }
        let text = serde_json::to_string(&trend).unwrap();
        assert_eq!(
            serde_json::from_str::<Trend>(&text).unwrap(),
            trend,
            "{text}"
        );
    }
    let broken = r#"{"count":1,"sum":1.0,"min":1.0,"max":1.0,"histogram":{"zero":0,"positive":[[99999999,1]]}}"#;
    let error = serde_json::from_str::<Trend>(broken).unwrap_err();
    assert!(error.to_string().contains("no bucket 99999999"), "{error}");
}

#[test]
fn statistics_are_parsed() {
    for text in [
        "avg", "min", "med", "max", "count", "p(90)", "p(99.9)", "p(0)",
    ] {
        assert_eq!(text.parse::<Statistic>().unwrap().to_string(), text);
    }
    let problems =
        Statistic::parse_all(&["p(101)".into(), "avg".into(), "mean".into()]).unwrap_err();
    assert_eq!(problems.len(), 2);
    assert_eq!(
        problems[1],
        "summary statistic 'mean' does not exist: expected avg, min, med, max, count or p(0..100)"
    );
}

proptest! {
    #[test]
    fn a_histogram_is_within_a_thousandth(
        values in prop::collection::vec(prop_oneof![0.001..1e7, -1e4..-0.001, Just(0.0)], 1..300),
        quantile in 0.0_f64..=1.0,
    ) {
        let mut trend = trend(&values);
        trend.coarsen();
        let (lower, upper) = {
            let mut sorted = values.clone();
            sorted.sort_by(f64::total_cmp);
            let place = quantile * (sorted.len() - 1) as f64;
            (sorted[place.floor() as usize], sorted[place.ceil() as usize])
        };
        let margin = (lower.abs() + upper.abs()) * 1e-3;
        let value = trend.quantile(quantile);
        prop_assert!(lower - margin <= value && value <= upper + margin, "{value} in {lower}..{upper}");
    }

    #[test]
    fn merged_is_the_same_as_all_together(
        parts in prop::collection::vec((prop::collection::vec(-1e3..1e6, 0..60), any::<bool>(), 1_usize..400), 1..6),
        quantile in 0.0_f64..=1.0,
    ) {
        let (mut merged, mut together, mut all) = (Trend::default(), Trend::default(), 0);
        let mut coarse_somewhere = false;
        for (values, coarse, repeated) in parts {
            let mut part = Trend::default();
            for _ in 0..repeated {
                for value in &values {
                    part.add(*value);
                    together.add(*value);
                    all += 1;
                }
            }
            if coarse {
                part.coarsen();
            }
            coarse_somewhere |= matches!(part.values, Values::Histogram(_)) && part.count() > 0;
            merged.merge(&part);
        }
        if coarse_somewhere {
            merged.coarsen();
            together.coarsen();
        }
        prop_assert_eq!(merged.count(), all);
        prop_assert_eq!((merged.min(), merged.max()), (together.min(), together.max()));
        prop_assert!((merged.sum() - together.sum()).abs() <= 1e-6 * (1.0 + together.sum().abs().max(1e9)));
        prop_assert_eq!(merged.quantile(quantile), together.quantile(quantile));
        prop_assert!(merged.is_sound());
    }
}
