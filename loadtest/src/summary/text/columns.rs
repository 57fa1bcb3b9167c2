//! Rows of values below each other, and how wide their columns are.

use super::paint::Paint;

/// So many dots at least are between the longest name and its colon.
const DOTS: usize = 3;

pub(super) enum Row {
    /// A value, and what is said beside it.
    Plain {
        name: String,
        value: String,
        extra: Vec<String>,
    },
    /// Named values.
    Trend {
        name: String,
        statistics: Vec<(String, String)>,
    },
}

#[derive(Debug, Default)]
pub(super) struct Columns {
    name: usize,
    value: usize,
    extra: Vec<usize>,
    statistics: Vec<usize>,
}

impl Row {
    pub(super) fn plain(name: String, value: String, extra: Vec<String>) -> Self {
        Self::Plain { name, value, extra }
    }

    fn name(&self) -> &str {
        match self {
            Self::Plain { name, .. } | Self::Trend { name, .. } => name,
        }
    }
}

impl Columns {
    pub(super) fn new(rows: &[Row]) -> Self {
        let mut columns = Self::default();
        for row in rows {
            columns.name = columns.name.max(width(row.name()));
            match row {
                Row::Plain { value, extra, .. } => {
                    columns.value = columns.value.max(width(value));
                    widen(&mut columns.extra, extra.iter().map(|text| width(text)));
                }
                Row::Trend { statistics, .. } => {
                    let widths = statistics
                        .iter()
                        .map(|(name, value)| width(name) + 1 + width(value));
                    widen(&mut columns.statistics, widths);
                }
            }
        }
        columns
    }

    /// A row with the end of its line. What is said beside a value is not padded at the end of the
    /// row; the statistics of trends are.
    pub(super) fn line(&self, row: &Row, indent: usize, paint: Paint) -> String {
        let name = row.name();
        let dots = ".".repeat((self.name + DOTS).saturating_sub(width(name)));
        let mut cells = vec![format!(
            "{}{name}{}",
            " ".repeat(indent),
            paint.faint(&format!("{dots}:"))
        )];
        match row {
            Row::Plain { value, extra, .. } => {
                cells.push(padded(&paint.cyan(value), width(value), self.value));
                for (column, text) in extra.iter().enumerate() {
                    let is_last = column + 1 == extra.len();
                    let wide = if is_last { 0 } else { self.extra[column] };
                    cells.push(padded(&paint.cyan(text), width(text), wide));
                }
            }
            Row::Trend { statistics, .. } => {
                for ((statistic, value), wide) in statistics.iter().zip(&self.statistics) {
                    let text = format!("{statistic}={}", paint.cyan(value));
                    cells.push(padded(&text, width(statistic) + 1 + width(value), *wide));
                }
            }
        }
        cells.join(" ") + "\n"
    }
}

fn widen(columns: &mut Vec<usize>, widths: impl Iterator<Item = usize>) {
    for (column, width) in widths.enumerate() {
        if columns.len() <= column {
            columns.push(0);
        }
        columns[column] = columns[column].max(width);
    }
}

fn padded(painted: &str, width: usize, wide: usize) -> String {
    format!("{painted}{}", " ".repeat(wide.saturating_sub(width)))
}

fn width(text: &str) -> usize {
    text.chars().count()
}
