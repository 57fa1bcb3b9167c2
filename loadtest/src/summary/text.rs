//! The summary on a terminal.
//!
//! Columns are as wide over all blocks as their widest entry, so that the eye can run down them;
//! widths are those of the text without colours.

mod columns;
mod paint;
#[cfg(test)]
mod tests;

use std::str::FromStr;

use self::columns::{Columns, Row};
use self::paint::Paint;
use super::format;
use super::{Measured, Part, Summary, totals};
use crate::metrics::builtin::Section;
use crate::metrics::{Aggregation, BlockKind, Check, Contains, Judgement, Kind, Verdict};
use crate::options::TimeUnit;

/// How much of the summary is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Thresholds and totals, without the details of protocols.
    #[default]
    Compact,
    /// All metrics, and those of each group and scenario.
    Full,
    Disabled,
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "compact" => Ok(Self::Compact),
            "full" => Ok(Self::Full),
            "disabled" => Ok(Self::Disabled),
            _ => Err(format!(
                "summary mode '{text}' does not exist: expected compact, full or disabled"
            )),
        }
    }
}

/// What the compact summary leaves out unless a threshold asks for it.
const DETAILS: [&str; 1] = ["group_duration"];

/// The whole text, which begins and ends with the end of a line; empty if the mode is disabled.
#[must_use]
pub fn render(summary: &Summary, mode: Mode, colour: bool) -> String {
    let text = Text {
        summary,
        mode,
        paint: Paint { colour },
        columns: columns(summary, mode),
    };
    match mode {
        Mode::Disabled => String::new(),
        Mode::Compact => format!("{}{}{}", text.warnings(), text.thresholds(), text.total()),
        Mode::Full => format!(
            "{}{}{}{}",
            text.warnings(),
            text.thresholds(),
            text.total(),
            text.parts()
        ),
    }
}

struct Text<'a> {
    summary: &'a Summary,
    mode: Mode,
    paint: Paint,
    columns: Columns,
}

impl Text<'_> {
    fn warnings(&self) -> String {
        let warnings = &self.summary.run.warnings;
        if warnings.is_empty() {
            return String::new();
        }
        let lines = warnings
            .iter()
            .map(|warning| format!("    {} {warning}\n", self.paint.yellow("!")));
        self.block(2, "WARNINGS", &[lines.collect()])
    }

    fn thresholds(&self) -> String {
        let mut paragraphs: Vec<String> = Vec::new();
        let mut metric = "";
        for measured in self
            .summary
            .metrics
            .iter()
            .filter(|measured| !measured.thresholds.is_empty())
        {
            let lines = |indent: &str| -> String {
                let each = measured.thresholds.iter();
                each.map(|judgement| format!("{indent}{}\n", self.judgement(measured, judgement)))
                    .collect()
            };
            match measured.suffix() {
                None => paragraphs.push(format!("    {}\n{}", measured.name, lines("    "))),
                Some(suffix) => {
                    if metric != measured.metric {
                        paragraphs.push(format!("    {}\n", measured.metric));
                    }
                    paragraphs.push(format!("      {{{suffix}}}\n{}", lines("      ")));
                }
            }
            metric = &measured.metric;
        }
        if paragraphs.is_empty() {
            String::new()
        } else {
            self.block(2, "THRESHOLDS", &paragraphs)
        }
    }

    fn judgement(&self, measured: &Measured, judgement: &Judgement) -> String {
        let mark = match judgement.verdict {
            Verdict::Passed => self.paint.green("✓"),
            Verdict::Failed => self.paint.red("✗"),
            Verdict::Unknown => self.paint.yellow("!"),
        };
        let expression = judgement.expression.text();
        let Some(actual) = judgement.actual else {
            return format!("{mark} '{expression}' no samples");
        };
        let aggregation = judgement.expression.aggregation;
        let actual = actual_value(
            aggregation,
            actual,
            measured.kind,
            measured.contains,
            self.summary.run.time_unit,
        );
        format!(
            "{mark} '{expression}' {aggregation}={}",
            self.paint.cyan(&actual)
        )
    }

    fn total(&self) -> String {
        let mut paragraphs = self.checks(&self.summary.checks, 4);
        paragraphs.extend(self.sections(&self.summary.metrics, 4));
        self.block(2, "TOTAL RESULTS", &paragraphs)
    }

    fn parts(&self) -> String {
        let mut groups: Vec<&Part> = Vec::new();
        let mut scenarios = Vec::new();
        for part in &self.summary.parts {
            match part.kind {
                BlockKind::Group => groups.push(part),
                BlockKind::Scenario => scenarios.push(part),
            }
        }
        // By path a group stands right before those within it.
        groups.sort_by(|a, b| a.name.split("::").cmp(b.name.split("::")));
        let mut text = String::new();
        for group in groups {
            let depth = group.name.matches("::").count().max(1);
            let name = group.name.rsplit("::").next().unwrap_or_default();
            text += &self.part(group, &format!("GROUP: {name}"), 2 * depth);
        }
        for scenario in scenarios {
            text += &self.part(scenario, &format!("SCENARIO: {}", scenario.name), 2);
        }
        text
    }

    fn part(&self, part: &Part, title: &str, indent: usize) -> String {
        let mut paragraphs = Vec::new();
        if !part.checks.is_empty() {
            paragraphs.push(self.check_list(&part.checks, indent + 2));
        }
        paragraphs.extend(self.sections(&part.metrics, indent + 2));
        self.block(indent, title, &paragraphs)
    }

    /// Totals, and each check.
    fn checks(&self, checks: &[Check], indent: usize) -> Vec<String> {
        if checks.is_empty() {
            return Vec::new();
        }
        let rows = check_rows(checks, self.summary.elapsed.as_secs_f64());
        let columns = Columns::new(&rows);
        let lines = rows.iter().map(|row| columns.line(row, indent, self.paint));
        vec![lines.collect(), self.check_list(checks, indent)]
    }

    fn check_list(&self, checks: &[Check], indent: usize) -> String {
        let indent = " ".repeat(indent);
        let line = |check: &Check| {
            if check.fails == 0 {
                return format!("{indent}{} {}\n", self.paint.green("✓"), check.name);
            }
            let share = 100 * check.passes / check.total().max(1);
            let counts = format!("↳  {share}% — ✓ {} / ✗ {}", check.passes, check.fails);
            format!(
                "{indent}{} {}\n{indent}  {}\n",
                self.paint.red("✗"),
                check.name,
                self.paint.red(&counts)
            )
        };
        checks.iter().map(line).collect()
    }

    fn sections(&self, metrics: &[Measured], indent: usize) -> Vec<String> {
        let mut paragraphs = Vec::new();
        for section in Section::ALL {
            let shown = metrics
                .iter()
                .filter(|measured| measured.section == section && is_shown(measured, self.mode));
            let lines: String = shown
                .map(|measured| {
                    self.columns.line(
                        &row(measured, self.summary.run.time_unit),
                        indent,
                        self.paint,
                    )
                })
                .collect();
            if !lines.is_empty() {
                paragraphs.push(format!(
                    "{}{}\n{lines}",
                    " ".repeat(indent),
                    self.paint.bold(section.title())
                ));
            }
        }
        paragraphs
    }

    fn block(&self, indent: usize, title: &str, paragraphs: &[String]) -> String {
        let title = self.paint.bold(&format!("█ {title}"));
        format!(
            "\n\n{}{title} \n\n{}",
            " ".repeat(indent),
            paragraphs.join("\n")
        )
    }
}

/// What a threshold looked at.
pub(crate) fn actual_value(
    aggregation: Aggregation,
    actual: f64,
    kind: Kind,
    contains: Contains,
    unit: Option<TimeUnit>,
) -> String {
    match (kind, aggregation) {
        (Kind::Rate, _) => format::percent(actual),
        (Kind::Counter, Aggregation::Rate) => {
            format!("{}/s", format::value(actual, contains, unit))
        }
        _ => format::value(actual, contains, unit),
    }
}

fn columns(summary: &Summary, mode: Mode) -> Columns {
    let parts = summary
        .parts
        .iter()
        .flat_map(|part| &part.metrics)
        .filter(|_| mode == Mode::Full);
    let shown = summary
        .metrics
        .iter()
        .chain(parts)
        .filter(|measured| is_shown(measured, mode));
    let rows: Vec<Row> = shown
        .map(|measured| row(measured, summary.run.time_unit))
        .collect();
    Columns::new(&rows)
}

/// The checks have their own rows.
fn is_shown(measured: &Measured, mode: Mode) -> bool {
    let is_detail = DETAILS.contains(&&*measured.metric) && measured.thresholds.is_empty();
    measured.has_samples() && measured.metric != "checks" && (mode == Mode::Full || !is_detail)
}

fn row(measured: &Measured, unit: Option<TimeUnit>) -> Row {
    let name = match measured.suffix() {
        Some(suffix) => format!("  {{ {suffix} }}"),
        None => measured.name.clone(),
    };
    let shown = |value: f64| format::value(value, measured.contains, unit);
    let of = |name: &str| measured.value(name).unwrap_or(0.0);
    match measured.kind {
        Kind::Counter => Row::plain(
            name,
            shown(of("count")),
            vec![format!("{}/s", shown(of("rate")))],
        ),
        Kind::Gauge => {
            let extra = ["min", "max"].map(|end| format!("{end}={}", shown(of(end))));
            Row::plain(name, shown(of("value")), extra.into())
        }
        Kind::Rate => {
            let (passes, total) = (of("passes"), of("passes") + of("fails"));
            let counts = format!(
                "{} out of {}",
                format::number(passes),
                format::number(total)
            );
            Row::plain(name, format::percent(of("rate")), vec![counts])
        }
        Kind::Trend => Row::Trend {
            name,
            // How many there are is a number whatever they are.
            statistics: measured
                .values
                .iter()
                .map(|(name, value)| {
                    let text = if name == "count" {
                        format::number(*value)
                    } else {
                        shown(*value)
                    };
                    (name.clone(), text)
                })
                .collect(),
        },
    }
}

fn check_rows(checks: &[Check], seconds: f64) -> Vec<Row> {
    let (passes, total) = totals(checks);
    let per_second = if seconds > 0.0 {
        total as f64 / seconds
    } else {
        0.0
    };
    let share = |part: u64| format::percent(part as f64 / total.max(1) as f64);
    let fails = total - passes;
    vec![
        Row::plain(
            "checks_total".into(),
            total.to_string(),
            vec![format!("{}/s", format::number(per_second))],
        ),
        Row::plain(
            "checks_succeeded".into(),
            share(passes),
            vec![format!("{passes} out of {total}")],
        ),
        Row::plain(
            "checks_failed".into(),
            share(fails),
            vec![format!("{fails} out of {total}")],
        ),
    ]
}
