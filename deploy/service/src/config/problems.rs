//! Everything that is wrong with a configuration, printed at once.

use std::fmt;

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The name under which the value can be given.
    pub name: String,
    /// As given; masked for secrets.
    pub value: Option<String>,
    /// A predicate, such as `is not a port number (1-65535)`.
    pub what: String,
    /// Where the value came from.
    pub origin: Option<String>,
    /// Problems are printed in the order of the table, those outside it last.
    pub(super) rank: usize,
}

/// All problems of one configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems {
    program: &'static str,
    list: Vec<Problem>,
}

/// Names longer than this push their own line to the right, not everybody's.
const NAME_COLUMN_MAX: usize = 48;

impl Problems {
    pub(super) fn new(program: &'static str, mut list: Vec<Problem>) -> Option<Self> {
        list.sort_by_key(|problem| problem.rank);
        (!list.is_empty()).then_some(Self { program, list })
    }

    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.list.iter()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.list.len();
        let plural = if count == 1 { "" } else { "s" };
        writeln!(
            f,
            "error: the configuration is not valid ({count} problem{plural})"
        )?;
        let names: Vec<String> = self.list.iter().map(Problem::name_and_value).collect();
        let width = names
            .iter()
            .map(|name| name.len())
            .filter(|&len| len <= NAME_COLUMN_MAX)
            .max();
        let width = width.unwrap_or(NAME_COLUMN_MAX);
        for (problem, name) in self.list.iter().zip(names) {
            write!(f, "  {name:width$}  {}", problem.what)?;
            if let Some(origin) = &problem.origin {
                write!(f, "  [from {origin}]")?;
            }
            writeln!(f)?;
        }
        let program = self.program;
        writeln!(
            f,
            "  hint: {program} print-config --redacted shows where each value comes from"
        )
    }
}

impl Problem {
    fn name_and_value(&self) -> String {
        match &self.value {
            Some(value) => format!("{} = {value:?}", self.name),
            None => self.name.clone(),
        }
    }
}
