//! Samples as CSV: a column for each system tag, all other tags in one.

use std::sync::Arc;

use super::names::Names;
use super::timestamp;
use crate::metrics::{Registry, Sample, TagSet};

/// What has a column of its own when nobody says otherwise.
pub const SYSTEM_TAGS: [&str; 12] = [
    "check",
    "error",
    "error_code",
    "group",
    "kind",
    "layer",
    "method",
    "name",
    "path",
    "region",
    "scenario",
    "status",
];

#[derive(Debug)]
pub struct Csv {
    names: Names,
    /// Sorted.
    columns: Vec<String>,
}

impl Csv {
    #[must_use]
    pub fn new(registry: Arc<Registry>, system_tags: &[String]) -> Self {
        let mut columns = system_tags.to_vec();
        columns.sort();
        columns.dedup();
        Self {
            names: Names::new(registry),
            columns,
        }
    }

    /// The first line.
    #[must_use]
    pub fn header(&self) -> Vec<u8> {
        let mut out = b"metric_name,timestamp,metric_value".to_vec();
        for column in &self.columns {
            out.push(b',');
            field(column, &mut out);
        }
        out.extend(b",extra_tags,metadata\n");
        out
    }

    /// Adds the lines of these samples to `out`.
    pub fn write(&mut self, samples: &[Sample], out: &mut Vec<u8>) {
        for sample in samples {
            let (metric, tags, _) = self.names.of(sample);
            field(&metric.name, out);
            out.extend(
                format!(
                    ",{},{:.6}",
                    timestamp::seconds(sample.at),
                    sample.shown(metric.kind)
                )
                .bytes(),
            );
            for column in &self.columns {
                out.push(b',');
                field(tags.get(column).map_or("", String::as_str), out);
            }
            out.push(b',');
            field(&extra(&self.columns, tags), out);
            // There is no metadata: a sample knows neither its VU nor its iteration.
            out.extend(b",\n");
        }
    }
}

fn extra(columns: &[String], tags: &TagSet) -> String {
    let extra = tags
        .iter()
        .filter(|(tag, _)| columns.binary_search(tag).is_err());
    let pairs: Vec<String> = extra.map(|(tag, value)| format!("{tag}={value}")).collect();
    pairs.join("&")
}

/// In quotes if it would be taken for several fields.
fn field(text: &str, out: &mut Vec<u8>) {
    if text.contains([',', '"', '\n', '\r']) {
        out.extend(format!("\"{}\"", text.replace('"', "\"\"")).bytes());
    } else {
        out.extend(text.bytes());
    }
}

#[cfg(test)]
mod tests {
    //! Lines as they are written.

    use super::*;

    #[test]
    fn tags_have_columns() {
        let registry = Arc::new(Registry::new());
        let tags = [
            ("scenario", "s"),
            ("check", "a, \"b\""),
            ("role", "viewer"),
            ("phase", "outage"),
        ];
        let tags = tags.map(|(tag, value)| (tag.to_owned(), value.to_owned()));
        let tags = registry.tag_set(&TagSet::from(tags));
        let sample = Sample::new(registry.builtin("checks"), tags, 1_700_000_000_120.0, 1.0);
        let mut csv = Csv::new(registry, &["scenario".to_owned(), "check".to_owned()]);
        let mut out = csv.header();
        csv.write(&[sample], &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "metric_name,timestamp,metric_value,check,scenario,extra_tags,metadata\n\
             checks,1700000000,1.000000,\"a, \"\"b\"\"\",s,phase=outage&role=viewer,\n"
        );
    }
}
