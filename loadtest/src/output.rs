//! Where samples go while a run goes on: JSON lines, CSV, Prometheus.
//!
//! Formats are pure and give bytes; [`File`] alone writes them to a disk. Who sends them over the
//! network is not here.

pub mod csv;
mod file;
pub mod json;
mod names;
pub mod prometheus;
pub mod timestamp;

use std::path::PathBuf;
use std::str::FromStr;

pub use file::File;

/// What `--out` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Json(PathBuf),
    Csv(PathBuf),
    /// With the address to write to, if it is said here.
    PrometheusRemoteWrite(Option<String>),
    /// With its parameters, as they were written: `port=5665&period=10s`.
    WebDashboard(Option<String>),
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, argument) = match text.split_once('=') {
            Some((name, argument)) => (
                name,
                Some(argument.to_owned()).filter(|argument| !argument.is_empty()),
            ),
            None => (text, None),
        };
        let path =
            |usual: &str| PathBuf::from(argument.clone().unwrap_or_else(|| usual.to_owned()));
        match name.trim() {
            "json" => match argument {
                Some(path) => Ok(Self::Json(path.into())),
                None => Err("output 'json' has no file: expected json=FILE, with .gz at its end to compress it".into()),
            },
            "csv" => Ok(Self::Csv(path("file.csv"))),
            "experimental-prometheus-rw" | "prometheus-rw" => Ok(Self::PrometheusRemoteWrite(argument)),
            "web-dashboard" => Ok(Self::WebDashboard(argument)),
            name => Err(format!(
                "output '{name}' does not exist: expected json=FILE, csv=FILE, experimental-prometheus-rw or web-dashboard"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    //! What `--out` understands.

    use super::*;

    #[test]
    fn targets_are_parsed() {
        for (text, expected) in [
            ("json=out.json.gz", Target::Json("out.json.gz".into())),
            ("csv=a=b.csv", Target::Csv("a=b.csv".into())),
            ("csv", Target::Csv("file.csv".into())),
            (
                "experimental-prometheus-rw",
                Target::PrometheusRemoteWrite(None),
            ),
            (
                "web-dashboard=port=5665",
                Target::WebDashboard(Some("port=5665".into())),
            ),
        ] {
            assert_eq!(text.parse(), Ok(expected));
        }
        assert_eq!(
            "influxdb=x".parse::<Target>().unwrap_err(),
            "output 'influxdb' does not exist: expected json=FILE, csv=FILE, experimental-prometheus-rw or web-dashboard"
        );
        assert!(
            "json"
                .parse::<Target>()
                .unwrap_err()
                .contains("expected json=FILE")
        );
    }
}
