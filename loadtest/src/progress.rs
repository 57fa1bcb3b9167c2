//! What the terminal shows before and while a test runs, as text.
//!
//! Writes nothing and knows no terminal: whoever redraws counts the lines.

use std::time::Duration;

use crate::executor::{Phase, Requirements, Status, description};
use crate::options::{Scenario, duration};
use crate::segment::Share;

/// Between the brackets; with them it is 40 wide.
const BAR: usize = 38;

/// What is said about a run as a whole.
#[derive(Debug, Clone, Copy)]
pub struct Header<'a> {
    /// Where it runs: `local`.
    pub execution: &'a str,
    pub script: &'a str,
    pub web_dashboard: Option<&'a str>,
    /// Each with its destination: `json (out.json)`.
    pub outputs: &'a [String],
    pub scenarios: &'a [Scenario],
    pub share: &'a Share,
}

/// The lines above the bars, with a line break at the end.
#[must_use]
pub fn header(header: &Header<'_>) -> String {
    let mut text = format!("     execution: {}\n", header.execution);
    text += &format!("        script: {}\n", header.script);
    if let Some(address) = header.web_dashboard {
        text += &format!(" web dashboard: {address}\n");
    }
    let outputs = match header.outputs {
        [] => "-".to_owned(),
        outputs => outputs.join(", "),
    };
    text += &format!("        output: {outputs}\n\n");
    let requirements = Requirements::of(header.scenarios, header.share);
    let count = header.scenarios.len();
    text += &format!(
        "     scenarios: ({:.2}%) {count} {}, {} max VUs, {} max duration (incl. graceful stop):\n",
        header.share.ratio() * 100.0,
        if count == 1 { "scenario" } else { "scenarios" },
        requirements.max_vus,
        duration::format(requirements.total_duration),
    );
    for scenario in header.scenarios {
        let description = description(scenario, header.share);
        text += &format!("              * {}: {description}\n", scenario.name);
    }
    text
}

/// The state of the test in one line, and one line for each scenario, with a line break at the end
/// of each. VUs count as many as have been made, `initialized`.
#[must_use]
pub fn lines(
    elapsed: Duration,
    longest: Duration,
    initialized: u64,
    scenarios: &[(&str, Status)],
) -> String {
    let sum = |count: fn(&Status) -> u64| scenarios.iter().map(|(_, it)| count(it)).sum::<u64>();
    let width = duration::digits(initialized);
    let mut text = format!(
        "running ({}), {:0width$}/{initialized} VUs, {} complete and {} interrupted iterations\n",
        duration::format_fixed(elapsed, longest),
        sum(|status| status.active_vus),
        sum(|status| status.complete),
        sum(|status| status.interrupted),
    );
    let name_width = widest(scenarios.iter().map(|(name, _)| *name));
    let columns = scenarios.iter().map(|(_, status)| status.columns.len());
    let column_widths: Vec<usize> = (0..columns.max().unwrap_or(0))
        .map(|i| {
            let column = scenarios
                .iter()
                .filter_map(|(_, status)| status.columns.get(i));
            widest(column.map(String::as_str))
        })
        .collect();
    for (name, status) in scenarios {
        let padded = status.columns.iter().zip(&column_widths);
        let padded: Vec<String> = padded
            .map(|(column, width)| format!("{column:width$}"))
            .collect();
        let line = format!(
            "{name:name_width$} {} [{}] {}",
            glyph(status.phase),
            bar(status.progress),
            padded.join("  "),
        );
        text += line.trim_end();
        text.push('\n');
    }
    text
}

fn widest<'a>(texts: impl Iterator<Item = &'a str>) -> usize {
    texts.map(|text| text.chars().count()).max().unwrap_or(0)
}

fn glyph(phase: Phase) -> char {
    match phase {
        Phase::Waiting => '•',
        Phase::Running => ' ',
        Phase::Stopping => '↓',
        Phase::Interrupted => '✗',
        Phase::Done => '✓',
    }
}

fn bar(progress: f64) -> String {
    // A float becomes the nearest whole number that there is; it cannot be out of range.
    let filled = (progress.clamp(0.0, 1.0) * BAR as f64) as usize;
    match filled {
        0 => "-".repeat(BAR),
        filled if filled >= BAR => "=".repeat(BAR),
        filled => "=".repeat(filled - 1) + ">" + &"-".repeat(BAR - filled),
    }
}

#[cfg(test)]
mod tests;
