//! Where to write, how often, as whom: from the environment.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::PUSH_INTERVAL;
use crate::metrics::Statistic;
use crate::options::duration;

const URL: &str = "http://localhost:9090/api/v1/write";

#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    pub url: String,
    pub push_interval: Duration,
    pub trend_stats: Vec<Statistic>,
    pub credentials: Option<Credentials>,
    /// Says at the end that the series have ended, so that no plot draws them on.
    pub stale_markers: bool,
    pub insecure_skip_tls_verify: bool,
    /// More headers, as they are given.
    pub headers: Vec<(String, String)>,
}

#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    Basic { username: String, password: String },
    Bearer(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(secret)")
    }
}

impl Credentials {
    pub(super) fn header(&self) -> String {
        match self {
            Self::Basic { username, password } => {
                format!(
                    "Basic {}",
                    STANDARD.encode(format!("{username}:{password}"))
                )
            }
            Self::Bearer(token) => format!("Bearer {token}"),
        }
    }
}

impl Settings {
    /// Reads `PIPEMESH_PROMETHEUS_RW_…`, and `K6_PROMETHEUS_RW_…` where that is not set. `url` is
    /// what the command line says.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn from_env(
        url: Option<&str>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, Vec<String>> {
        let read = |name: &str| {
            let names = ["PIPEMESH", "K6"].map(|prefix| format!("{prefix}_PROMETHEUS_RW_{name}"));
            names.into_iter().find_map(|name| {
                variable(&name)
                    .filter(|value| !value.is_empty())
                    .map(|value| (name, value))
            })
        };
        let mut problems = Vec::new();
        let mut flag = |name: &str| {
            let Some((name, value)) = read(name) else {
                return false;
            };
            match value.as_str() {
                "true" | "1" => true,
                "false" | "0" => false,
                _ => {
                    problems.push(format!("{name}: '{value}' is neither true nor false"));
                    false
                }
            }
        };
        let stale_markers = flag("STALE_MARKERS");
        let insecure_skip_tls_verify = flag("INSECURE_SKIP_TLS_VERIFY");
        let push_interval = match read("PUSH_INTERVAL") {
            None => PUSH_INTERVAL,
            Some((name, value)) => match duration::parse(&value) {
                Ok(interval) if !interval.is_zero() => interval,
                _ => {
                    problems.push(format!("{name}: '{value}' is no time between pushes: expected a duration such as 5s"));
                    PUSH_INTERVAL
                }
            },
        };
        let trend_stats = match read("TREND_STATS") {
            None => vec![Statistic::Percentile(99.0)],
            Some((name, value)) => {
                let names: Vec<String> = value.split(',').map(str::to_owned).collect();
                Statistic::parse_all(&names).unwrap_or_else(|wrong| {
                    problems.extend(
                        wrong
                            .into_iter()
                            .map(|problem| format!("{name}: {problem}")),
                    );
                    Vec::new()
                })
            }
        };
        let url = url
            .map(str::to_owned)
            .or_else(|| read("SERVER_URL").map(|(_, value)| value))
            .unwrap_or_else(|| URL.to_owned());
        if !url.starts_with("http://") && !url.starts_with("https://") {
            problems.push(format!(
                "'{url}' is no address to write to: expected one such as {URL}"
            ));
        }
        let mut headers = Vec::new();
        if let Some((name, value)) = read("HTTP_HEADERS") {
            for header in value.split(',') {
                match header.split_once(':') {
                    Some((header, value)) => {
                        headers.push((header.trim().to_owned(), value.trim().to_owned()))
                    }
                    None => problems.push(format!(
                        "{name}: '{}' is no header: expected 'name:value'",
                        header.trim()
                    )),
                }
            }
        }
        let secret = |name: &str| read(name).map(|(_, value)| value);
        let credentials = match (
            secret("BEARER_TOKEN"),
            secret("USERNAME"),
            secret("PASSWORD"),
        ) {
            (Some(token), None, None) => Some(Credentials::Bearer(token)),
            (None, Some(username), Some(password)) => {
                Some(Credentials::Basic { username, password })
            }
            (None, None, None) => None,
            _ => {
                problems.push(
                    "PROMETHEUS_RW credentials: expected BEARER_TOKEN alone, or USERNAME and PASSWORD together".to_owned(),
                );
                None
            }
        };
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Self {
            url,
            push_interval,
            trend_stats,
            credentials,
            stale_markers,
            insecure_skip_tls_verify,
            headers,
        })
    }
}
