//! Where samples go while a test runs: files and a Prometheus server.
//!
//! An output that fails is reported and dropped; the test goes on.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use crate::metrics::{Registry, Sample};
use crate::options::Threshold;
use crate::output::csv::Csv;
use crate::output::json::Json;
use crate::output::prometheus::{RemoteWrite, Settings, headers};
use crate::output::{File, Target};

/// A server that takes longer for a write does not take it.
const PUSH_LIMIT: Duration = Duration::from_secs(10);
/// For what is left at the end, if somebody waits for that.
const LAST_PUSHES: Duration = Duration::from_secs(2);

#[derive(Default)]
pub(super) struct Outputs {
    waiting: Vec<Sample>,
    files: Vec<Writing>,
    pushed: Option<Push>,
    problems: Vec<String>,
}

struct Writing {
    name: String,
    format: Format,
    file: File,
}

enum Format {
    Json(Json),
    Csv(Csv),
}

/// Requests to a Prometheus server, one after the other.
struct Push {
    series: RemoteWrite,
    settings: Settings,
    client: reqwest::Client,
    handle: Handle,
    /// Milliseconds since the Unix epoch.
    next: f64,
    sending: Option<JoinHandle<Result<(), String>>>,
    failures: u64,
}

impl Outputs {
    /// # Errors
    /// What cannot be opened or is set wrongly.
    pub(super) fn open(
        targets: &[Target],
        registry: &Arc<Registry>,
        thresholds: &BTreeMap<String, Vec<Threshold>>,
        system_tags: &[String],
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, Vec<String>> {
        let (mut outputs, mut problems) = (Self::default(), Vec::new());
        let client = reqwest::Client::builder().timeout(PUSH_LIMIT).build();
        let client = client.map_err(|error| vec![error.to_string()])?;
        for target in targets {
            match target {
                Target::Json(path) => {
                    let format = Format::Json(Json::new(Arc::clone(registry), thresholds.clone()));
                    outputs.create(path, format, Vec::new(), &mut problems);
                }
                Target::Csv(path) => {
                    let csv = Csv::new(Arc::clone(registry), system_tags);
                    let header = csv.header();
                    outputs.create(path, Format::Csv(csv), header, &mut problems);
                }
                Target::PrometheusRemoteWrite(url) => {
                    match Settings::from_env(url.as_deref(), &variable) {
                        Ok(settings) => {
                            outputs.pushed = Some(Push {
                                series: RemoteWrite::new(Arc::clone(registry), &settings),
                                settings,
                                client: client.clone(),
                                handle: Handle::current(),
                                next: 0.0,
                                sending: None,
                                failures: 0,
                            });
                        }
                        Err(wrong) => problems.extend(wrong),
                    }
                }
                // Made at the end, from what the collector keeps anyway.
                Target::WebDashboard(_) => {}
            }
        }
        if problems.is_empty() {
            Ok(outputs)
        } else {
            Err(problems)
        }
    }

    /// Empties them: what could be refused was.
    fn create(
        &mut self,
        path: &std::path::Path,
        format: Format,
        header: Vec<u8>,
        problems: &mut Vec<String>,
    ) {
        let opened = File::create(path).and_then(|mut file| {
            if !header.is_empty() {
                file.write(&header)?;
            }
            Ok(file)
        });
        match opened {
            Ok(file) => self.files.push(Writing {
                name: path.display().to_string(),
                format,
                file,
            }),
            Err(error) => problems.push(format!("{} cannot be written: {error}", path.display())),
        }
    }

    pub(super) fn add(&mut self, sample: Sample) {
        if !self.files.is_empty() {
            self.waiting.push(sample);
        }
        if let Some(push) = &mut self.pushed {
            push.series.add(&sample);
        }
    }

    pub(super) fn flush(&mut self, now: f64) {
        self.write();
        if let Some(push) = &mut self.pushed {
            push.step(now);
        }
    }

    fn write(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        if waiting.is_empty() {
            return;
        }
        let problems = &mut self.problems;
        self.files.retain_mut(|writing| {
            let mut bytes = Vec::new();
            match &mut writing.format {
                Format::Json(json) => json.write(&waiting, &mut bytes),
                Format::Csv(csv) => csv.write(&waiting, &mut bytes),
            }
            let written = writing.file.write(&bytes);
            if let Err(error) = &written {
                problems.push(format!("{} is not complete: {error}", writing.name));
            }
            written.is_ok()
        });
    }

    /// Writes what is left; answers what went wrong. `is_cut_short`: somebody waits.
    pub(super) fn finish(mut self, now: f64, is_cut_short: bool) -> Vec<String> {
        self.write();
        for writing in self.files.drain(..) {
            if let Err(error) = writing.file.finish() {
                self.problems
                    .push(format!("{} is not complete: {error}", writing.name));
            }
        }
        if let Some(push) = self.pushed.take() {
            let limit = if is_cut_short {
                LAST_PUSHES
            } else {
                PUSH_LIMIT
            };
            self.problems.extend(push.finish(now, limit));
        }
        self.problems
    }
}

impl Push {
    fn step(&mut self, now: f64) {
        if now < self.next || self.sending.as_ref().is_some_and(|it| !it.is_finished()) {
            return;
        }
        self.next = now + self.settings.push_interval.as_secs_f64() * 1_000.0;
        self.collect();
        if let Some(body) = self.series.batch(now) {
            self.sending = Some(self.handle.spawn(self.request(body)));
        }
    }

    fn request(&self, body: Vec<u8>) -> impl Future<Output = Result<(), String>> + Send + 'static {
        let mut request = self.client.post(&self.settings.url).body(body);
        for (name, value) in headers(&self.settings, env!("CARGO_PKG_VERSION")) {
            request = request.header(name, value);
        }
        async move {
            let sent = request
                .send()
                .await
                .and_then(reqwest::Response::error_for_status);
            sent.map(drop).map_err(|error| crate::script::chain(&error))
        }
    }

    fn collect(&mut self) {
        if let Some(sent) = self.sending.take() {
            let outcome = self.handle.block_on(sent);
            self.failures += u64::from(!matches!(outcome, Ok(Ok(()))));
        }
    }

    /// The limit is for all of it: a server that hangs does not hang us.
    fn finish(mut self, now: f64, limit: Duration) -> Option<String> {
        let deadline = Instant::now() + limit;
        let (handle, mut last) = (self.handle.clone(), None);
        let bodies = [self.series.batch(now), self.series.finish(now + 1.0)];
        let waiting = self.sending.take().map(|sending| {
            let sent = async move { sending.await.unwrap_or_else(|error| Err(error.to_string())) };
            Box::pin(sent) as Pin<Box<dyn Future<Output = Result<(), String>>>>
        });
        let requests = bodies.into_iter().flatten().map(|body| {
            let sent: Pin<Box<dyn Future<Output = Result<(), String>>>> =
                Box::pin(self.request(body));
            sent
        });
        let requests: Vec<_> = waiting.into_iter().chain(requests).collect();
        for request in requests {
            let sent = handle.block_on(async { timeout_at(deadline, request).await });
            let sent = sent.unwrap_or_else(|_| Err(format!("it did not answer within {limit:?}")));
            self.failures += u64::from(sent.is_err());
            last = sent.err().or(last);
        }
        let why = last.map_or(String::new(), |last| format!(", the last because {last}"));
        (self.failures > 0).then(|| {
            format!(
                "Prometheus at {} did not take {} of the writes{why}",
                self.settings.url, self.failures
            )
        })
    }
}
