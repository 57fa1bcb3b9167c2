//! The report: one HTML file that needs nothing else, to be attached to a ticket.
//!
//! Plots are SVG within it, the look is `html/style.css` within it, and there is no script. Every
//! text that comes from elsewhere is escaped.

mod plot;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;

use self::plot::{Line, Plot, Unit};
use super::text::actual_value;
use super::timeline::Moment;
use super::{Measured, Part, Summary, format};
use crate::metrics::builtin::Section;
use crate::metrics::{BlockKind, Check, Kind, Verdict};
use crate::output::timestamp;

const STYLE: &str = include_str!("html/style.css");

/// The whole page.
#[must_use]
pub fn render(summary: &Summary, moments: &[Moment]) -> String {
    let title = escaped(&summary.run.script);
    let body = [
        header(summary),
        warnings(&summary.run.warnings),
        figures(summary),
        thresholds(summary),
        plots(moments),
        checks(&summary.checks),
        metrics(&summary.metrics, summary),
        parts(summary),
    ];
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{title} - load test</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{}\
         <footer>pipemesh-loadtest {}</footer>\n</main>\n</body>\n</html>\n",
        body.concat(),
        escaped(&summary.run.version)
    )
}

fn header(summary: &Summary) -> String {
    let judged: Vec<_> = summary
        .metrics
        .iter()
        .flat_map(|measured| &measured.thresholds)
        .collect();
    let failed = judged
        .iter()
        .filter(|judgement| !judgement.passed())
        .count();
    let (class, verdict) = match (judged.len(), failed) {
        (0, _) => ("none", "No thresholds".to_owned()),
        (1, 0) => ("good", "Passed: the threshold holds".to_owned()),
        (count, 0) => ("good", format!("Passed: all {count} thresholds hold")),
        (count, failed) => (
            "bad",
            format!("Failed: {failed} of {count} thresholds crossed"),
        ),
    };
    format!(
        "<header>\n<p class=\"eyebrow\">Load test</p>\n<h1>{}</h1>\n<p class=\"verdict {class}\">{verdict}</p>\n\
         <dl class=\"about\"><div><dt>Started</dt><dd>{}</dd></div><div><dt>Duration</dt><dd>{}</dd></div></dl>\n</header>\n",
        escaped(&summary.run.script),
        // Fractions of a second help nobody here.
        timestamp::rfc3339((summary.run.started_at / 1e3).floor() * 1e3),
        format::time(summary.elapsed.as_secs_f64() * 1e3, None)
    )
}

fn warnings(warnings: &[String]) -> String {
    if warnings.is_empty() {
        return String::new();
    }
    let lines: String = warnings
        .iter()
        .map(|warning| format!("<li>{}</li>\n", escaped(warning)))
        .collect();
    format!(
        "<section class=\"warnings\" role=\"alert\">\n<h2>Read this first</h2>\n<ul>\n{lines}</ul>\n</section>\n"
    )
}

/// The few numbers that are looked for first.
fn figures(summary: &Summary) -> String {
    let value = |metric: &str, name: &str| {
        summary
            .find(metric)
            .and_then(|measured| measured.value(name))
    };
    let (passes, total) = summary.check_totals();
    let ms = |value: f64| format::time(value, summary.run.time_unit);
    let trend = |metric: &str| {
        // The last percentile is the one that was cared for most.
        let measured = summary.find(metric)?;
        let (name, value) = measured
            .values
            .iter()
            .rev()
            .find(|(name, _)| name.starts_with("p("))?;
        Some((name.clone(), ms(*value)))
    };
    let mut tiles = Vec::new();
    let mut tile = |label: String, value: Option<String>| {
        if let Some(value) = value {
            tiles.push(format!(
                "<div><dt>{}</dt><dd>{}</dd></div>\n",
                escaped(&label),
                escaped(&value)
            ));
        }
    };
    tile("Most VUs".into(), value("vus", "max").map(format::number));
    tile(
        "Iterations".into(),
        value("iterations", "count").map(format::number),
    );
    tile(
        "Checks that held".into(),
        (total > 0).then(|| format::percent(passes as f64 / total as f64)),
    );
    for (metric, label) in [
        ("sfu_join_duration", "Join"),
        ("rtc_e2e_latency", "Latency"),
    ] {
        if let Some((statistic, value)) = trend(metric) {
            tile(format!("{label} {statistic}"), Some(value));
        }
    }
    tile(
        "Joins that failed".into(),
        value("sfu_join_failed", "rate").map(format::percent),
    );
    tile(
        "Packet loss".into(),
        value("rtc_packet_loss", "rate").map(format::percent),
    );
    tile(
        "Time frozen".into(),
        value("rtc_freeze_ratio", "rate").map(format::percent),
    );
    if tiles.is_empty() {
        String::new()
    } else {
        format!("<dl class=\"figures\">\n{}</dl>\n", tiles.concat())
    }
}

fn thresholds(summary: &Summary) -> String {
    let mut rows = String::new();
    for measured in summary
        .metrics
        .iter()
        .filter(|measured| !measured.thresholds.is_empty())
    {
        for judgement in &measured.thresholds {
            let (class, mark) = match judgement.verdict {
                Verdict::Passed => ("good", "✓ passed"),
                Verdict::Failed => ("bad", "✗ crossed"),
                Verdict::Unknown => ("none", "! no samples"),
            };
            let aggregation = judgement.expression.aggregation;
            let actual = judgement.actual.map_or("-".to_owned(), |actual| {
                actual_value(
                    aggregation,
                    actual,
                    measured.kind,
                    measured.contains,
                    summary.run.time_unit,
                )
            });
            writeln!(
                rows,
                "<tr><th scope=\"row\"><code>{}</code></th><td><code>{}</code></td><td class=\"number\">{}</td><td class=\"{class}\">{mark}</td></tr>",
                escaped(&measured.name),
                escaped(judgement.expression.text()),
                escaped(&actual)
            )
            .expect("a String takes everything");
        }
    }
    if rows.is_empty() {
        return String::new();
    }
    table(
        "Thresholds",
        &["Metric", "Expected", "*Actual", "Verdict"],
        &rows,
    )
}

fn plots(moments: &[Moment]) -> String {
    if moments.is_empty() {
        return String::new();
    }
    let line = |name: &'static str, value: fn(&Moment) -> Option<f64>| Line {
        name,
        points: moments
            .iter()
            .map(|moment| (moment.at, value(moment)))
            .collect(),
    };
    let plot = |title: &'static str, unit, lines| Plot { title, unit, lines };
    let all = [
        plot(
            "VUs",
            Unit::Number,
            vec![line("active", |moment| moment.vus)],
        ),
        plot(
            "Iterations per second",
            Unit::Number,
            vec![line("complete", |moment| {
                Some(moment.iterations_per_second)
            })],
        ),
        plot(
            "Checks that held",
            Unit::Share,
            vec![line("held", |moment| moment.checks)],
        ),
        plot(
            "Join duration",
            Unit::Milliseconds,
            vec![line("p95", |moment| moment.join_duration_p95)],
        ),
        plot(
            "End-to-end latency",
            Unit::Milliseconds,
            vec![
                line("p50", |moment| moment.latency_p50),
                line("p95", |moment| moment.latency_p95),
            ],
        ),
        plot(
            "Packet loss",
            Unit::Share,
            vec![line("lost", |moment| moment.packet_loss)],
        ),
        plot(
            "Bit rate received, all tracks",
            Unit::Bits,
            vec![line("received", |moment| moment.bitrate)],
        ),
        plot(
            "Freezes per second",
            Unit::Number,
            vec![line("freezes", |moment| Some(moment.freezes_per_second))],
        ),
        plot(
            "CPU of the generator",
            Unit::Percent,
            vec![line("highest", |moment| moment.cpu)],
        ),
        plot(
            "Loop lag of the generator",
            Unit::Milliseconds,
            vec![line("longest", |moment| moment.loop_lag)],
        ),
    ];
    let drawn: String = all.iter().filter_map(Plot::render).collect();
    if drawn.is_empty() {
        return String::new();
    }
    format!("<section>\n<h2>Over time</h2>\n<div class=\"plots\">\n{drawn}</div>\n</section>\n")
}

fn checks(checks: &[Check]) -> String {
    if checks.is_empty() {
        return String::new();
    }
    let mut rows = String::new();
    for check in checks {
        let share = check.passes as f64 / check.total().max(1) as f64;
        let (class, mark) = if check.fails == 0 {
            ("good", "✓")
        } else {
            ("bad", "✗")
        };
        let group = check.group.trim_start_matches("::").replace("::", " › ");
        writeln!(
            rows,
            "<tr><th scope=\"row\"><span class=\"{class}\">{mark}</span> {}</th><td>{}</td><td class=\"number\">{}</td><td class=\"number\">{}</td><td class=\"number\">{}</td></tr>",
            escaped(&check.name),
            escaped(&group),
            check.passes,
            check.fails,
            format::percent(share)
        )
        .expect("a String takes everything");
    }
    table(
        "Checks",
        &["Check", "Group", "*Held", "*Failed", "*Share"],
        &rows,
    )
}

fn metrics(metrics: &[Measured], summary: &Summary) -> String {
    let tables = metric_tables(metrics, summary);
    if tables.is_empty() {
        String::new()
    } else {
        format!("<section>\n<h2>Metrics</h2>\n{tables}</section>\n")
    }
}

fn parts(summary: &Summary) -> String {
    let each = |part: &Part| {
        let kind = match part.kind {
            BlockKind::Group => "Group",
            BlockKind::Scenario => "Scenario",
        };
        let name = escaped(&part.name.trim_start_matches("::").replace("::", " › "));
        let tables = metric_tables(&part.metrics, summary);
        format!("<details>\n<summary>{kind} {name}</summary>\n{tables}</details>\n")
    };
    let parts: String = summary.parts.iter().map(each).collect();
    if parts.is_empty() {
        String::new()
    } else {
        format!("<section>\n<h2>Groups and scenarios</h2>\n{parts}</section>\n")
    }
}

/// For each section one table of trends and one of everything else.
fn metric_tables(metrics: &[Measured], summary: &Summary) -> String {
    let mut tables = String::new();
    for section in Section::ALL {
        let of_section = || {
            metrics
                .iter()
                .filter(|measured| measured.section == section && measured.has_samples())
        };
        let trends: String = of_section()
            .filter(|measured| measured.kind == Kind::Trend)
            .map(|trend| trend_row(trend, summary))
            .collect();
        let others: String = of_section()
            .filter(|measured| measured.kind != Kind::Trend)
            .map(|other| other_row(other, summary))
            .collect();
        let statistics: Vec<String> = summary
            .run
            .trend_stats
            .iter()
            .map(|statistic| format!("*{statistic}"))
            .collect();
        let mut headings = vec!["Trend"];
        headings.extend(statistics.iter().map(String::as_str));
        if !(trends.is_empty() && others.is_empty()) {
            writeln!(tables, "<h3>{}</h3>", section.title()).expect("a String takes everything");
        }
        if !trends.is_empty() {
            tables += &plain_table(&headings, &trends);
        }
        if !others.is_empty() {
            tables += &plain_table(&["Metric", "*Value", "*Detail"], &others);
        }
    }
    tables
}

fn trend_row(trend: &Measured, summary: &Summary) -> String {
    let cells: String = trend
        .values
        .iter()
        .map(|(name, value)| {
            let text = match name.as_str() {
                "count" => format::number(*value),
                _ => format::value(*value, trend.contains, summary.run.time_unit),
            };
            format!("<td class=\"number\">{}</td>", escaped(&text))
        })
        .collect();
    format!(
        "<tr><th scope=\"row\"><code>{}</code></th>{cells}</tr>\n",
        escaped(&trend.name)
    )
}

fn other_row(measured: &Measured, summary: &Summary) -> String {
    let of = |name: &str| measured.value(name).unwrap_or(0.0);
    let shown = |name: &str| format::value(of(name), measured.contains, summary.run.time_unit);
    let (value, detail) = match measured.kind {
        Kind::Rate => {
            let total = format::number(of("passes") + of("fails"));
            (
                format::percent(of("rate")),
                format!("{} of {total}", format::number(of("passes"))),
            )
        }
        Kind::Gauge => (
            shown("value"),
            format!("{} to {}", shown("min"), shown("max")),
        ),
        Kind::Counter | Kind::Trend => (shown("count"), format!("{}/s", shown("rate"))),
    };
    format!(
        "<tr><th scope=\"row\"><code>{}</code></th><td class=\"number\">{}</td><td class=\"number\">{}</td></tr>\n",
        escaped(&measured.name),
        escaped(&value),
        escaped(&detail)
    )
}

fn table(title: &str, headings: &[&str], rows: &str) -> String {
    format!(
        "<section>\n<h2>{title}</h2>\n{}</section>\n",
        plain_table(headings, rows)
    )
}

/// Headings that begin with a star are of numbers.
fn plain_table(headings: &[&str], rows: &str) -> String {
    let heading = |heading: &&str| match heading.strip_prefix('*') {
        Some(number) => format!(
            "<th scope=\"col\" class=\"number\">{}</th>",
            escaped(number)
        ),
        None => format!("<th scope=\"col\">{}</th>", escaped(heading)),
    };
    let headings: String = headings.iter().map(heading).collect();
    format!(
        "<div class=\"scroll\"><table>\n<thead><tr>{headings}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table></div>\n"
    )
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&#39;",
            character => escaped.push(character),
        }
    }
    escaped
}
