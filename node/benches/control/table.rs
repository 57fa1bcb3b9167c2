//! The figures of one run, printed and kept.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

/// What a call's median may be of the echo's.
const BAR: f64 = 3.0;

#[derive(Default)]
pub(crate) struct Table {
    /// In the order of a session's life.
    rows: Vec<Row>,
}

/// One exchange, here and at the reference.
pub(crate) struct Sample {
    pub(crate) request_bytes: usize,
    pub(crate) answer_bytes: usize,
    pub(crate) node: Duration,
    pub(crate) echo: Duration,
}

struct Row {
    call: &'static str,
    /// Of the last exchange.
    request_bytes: usize,
    answer_bytes: usize,
    node: Vec<Duration>,
    echo: Vec<Duration>,
}

impl Table {
    pub(crate) fn add(&mut self, call: &'static str, sample: Sample) {
        let known = self.rows.iter().position(|row| row.call == call);
        let index = known.unwrap_or_else(|| {
            self.rows.push(Row {
                call,
                request_bytes: 0,
                answer_bytes: 0,
                node: Vec::new(),
                echo: Vec::new(),
            });
            self.rows.len() - 1
        });
        let row = &mut self.rows[index];
        row.request_bytes = sample.request_bytes;
        row.answer_bytes = sample.answer_bytes;
        row.node.push(sample.node);
        row.echo.push(sample.echo);
    }

    pub(crate) fn sort(&mut self) {
        for row in &mut self.rows {
            row.node.sort_unstable();
            row.echo.sort_unstable();
        }
    }

    pub(crate) fn json(&self) -> Value {
        let row = |row: &Row| {
            json!({
                "call": row.call,
                "count": row.node.len(),
                "request_bytes": row.request_bytes,
                "answer_bytes": row.answer_bytes,
                "p50_us": tenths(microseconds(&row.node, 50)),
                "p99_us": tenths(microseconds(&row.node, 99)),
                "echo_p50_us": tenths(microseconds(&row.echo, 50)),
                "echo_p99_us": tenths(microseconds(&row.echo, 99)),
                "ratio_p50": (row.ratio() * 100.0).round() / 100.0,
            })
        };
        json!({ "calls": self.rows.iter().map(row).collect::<Vec<_>>() })
    }
}

impl Row {
    fn ratio(&self) -> f64 {
        microseconds(&self.node, 50) / microseconds(&self.echo, 50)
    }
}

/// After [`Table::sort`].
impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<34} {:>5} {:>7} {:>7} {:>8} {:>8} {:>9} {:>9} {:>6}",
            "call",
            "count",
            "asked B",
            "told B",
            "p50 us",
            "p99 us",
            "echo p50",
            "echo p99",
            "ratio"
        )?;
        for row in &self.rows {
            writeln!(
                f,
                "{:<34} {:>5} {:>7} {:>7} {:>8.1} {:>8.1} {:>9.1} {:>9.1} {:>6.2}",
                row.call,
                row.node.len(),
                row.request_bytes,
                row.answer_bytes,
                microseconds(&row.node, 50),
                microseconds(&row.node, 99),
                microseconds(&row.echo, 50),
                microseconds(&row.echo, 99),
                row.ratio(),
            )?;
        }
        let above = self.rows.iter().filter(|row| row.ratio() > BAR);
        let above: Vec<_> = above.map(|row| row.call).collect();
        let within = self.rows.len() - above.len();
        write!(
            f,
            "median within {BAR} x the echo's: {within} of {} calls{}{}",
            self.rows.len(),
            if above.is_empty() { "" } else { "; above: " },
            above.join(", ")
        )
    }
}

fn microseconds(sorted: &[Duration], percent: usize) -> f64 {
    let at = (sorted.len() * percent / 100).min(sorted.len() - 1);
    sorted[at].as_secs_f64() * 1e6
}

fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}
