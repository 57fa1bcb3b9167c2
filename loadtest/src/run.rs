//! A test from its script to its exit code.
//!
//! The order is in [`run`]; what happens while it goes on is in `course`. Nobody else starts threads.

mod collector;
mod course;
mod engine;
mod health;
mod outputs;
mod terminal;
mod threads;
mod user;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crossbeam_channel::bounded;
use pipemesh_loadtest_client::{Generator, ReceiveMode};
use tokio::sync::mpsc;
use tokio::time::timeout;

pub(crate) use self::collector::Sight;
use self::collector::{Collector, Finished, Rules, SAMPLES};
use self::course::Course;
use self::outputs::Outputs;
pub use self::terminal::LogFormat;
use self::terminal::Terminal;
use crate::exit::Exit;
use crate::http::Http;
use crate::metrics::{Registry, Statistic};
use crate::options::{Options, Plan};
use crate::output::Target;
use crate::progress::{self, Header};
use crate::script::{
    CallError, Files, Lines, LoadError, Log, LogLine, Parts, Runtime, Settings, Severity, Shared,
    Signal, chain,
};
use crate::status;
use crate::summary::text::Mode;
use crate::summary::{Run, Summary, html, object, text};

/// Above so many virtual users participants look at samples of what they receive, unless told otherwise.
const SAMPLED_ABOVE: u64 = 200;
const ONE_IN: u32 = 20;

/// What the command line asks for.
#[derive(Debug, Clone, Default)]
pub struct Request {
    pub script: String,
    /// Of flags and the environment; they go before the script's.
    pub options: Options,
    /// Of a configuration file; the script's go before them.
    pub config: Options,
    /// What scripts see as `__ENV`.
    pub environment: BTreeMap<String, String>,
    pub outputs: Vec<Target>,
    pub mode: Mode,
    pub summary_export: Option<PathBuf>,
    /// One HTML file.
    pub report: Option<PathBuf>,
    pub results: Option<PathBuf>,
    /// Where the state of the test is told over HTTP.
    pub address: Option<String>,
    /// Whether scripts may start programs.
    pub allow_exec: bool,
    pub quiet: bool,
    pub no_colour: bool,
    pub verbose: bool,
    pub log_format: LogFormat,
    pub fail_on_empty: bool,
    pub fail_on_saturation: bool,
    pub receive: Option<ReceiveMode>,
    /// Of scripts; one for each core if none are given.
    pub threads: Option<usize>,
    pub seed: u64,
}

/// Why a test ended before its end, or did not begin.
struct Failure {
    exit: Exit,
    text: String,
}

impl Failure {
    fn new(exit: Exit, text: impl Into<String>) -> Self {
        Self {
            exit,
            text: text.into(),
        }
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        Self::new(Exit::ScriptException, error.to_string())
    }
}

/// A script that was read, with all that its options say.
struct Loaded {
    shared: Arc<Shared>,
    runtime: Runtime,
    plan: Plan,
    options: Options,
}

/// What the parts of a run tell each other.
struct Channels {
    signals: mpsc::UnboundedReceiver<Signal>,
    samples: crossbeam_channel::Receiver<crate::metrics::Sample>,
}

/// Runs a test. Everything that there is to say has been said when it answers.
pub async fn run(request: Request) -> Exit {
    let mut terminal = Terminal::new(
        request.quiet,
        request.no_colour,
        request.verbose,
        request.log_format,
    );
    let (log, mut lines) = crate::script::log();
    let attempted = attempt(&request, &mut terminal, log, &mut lines).await;
    while let Some(line) = lines.try_next() {
        terminal.log(&line);
    }
    match attempted {
        Ok(exit) => exit,
        Err(Failure { exit, text }) => {
            terminal.log(&LogLine {
                severity: Severity::Error,
                text,
                source: None,
            });
            exit
        }
    }
}

/// The options that a test would run with, as JSON, and what is worth a warning.
///
/// # Errors
/// With the exit code, and everything that is wrong.
pub async fn inspect(request: &Request) -> Result<(serde_json::Value, Plan), (Exit, String)> {
    let (log, _lines) = crate::script::log();
    let loaded = load(request, log).await.map(|(loaded, _)| loaded);
    let loaded = loaded.map_err(|Failure { exit, text }| (exit, text))?;
    Ok((loaded.options.to_json(), loaded.plan))
}

async fn load(request: &Request, log: Log) -> Result<(Loaded, Channels), Failure> {
    let files = Files::of(&request.script)
        .map_err(|error| Failure::new(Exit::ScriptException, chain(&error)))?;
    let generator =
        Generator::start(1).map_err(|error| Failure::new(Exit::ScriptException, chain(&error)))?;
    let (samples, received) = bounded(SAMPLES);
    // Wishes of scripts: few, and read all the time.
    let (signals, wishes) = mpsc::unbounded_channel();
    let mut shared = Shared::new(Parts {
        registry: Arc::new(Registry::new()),
        files: Arc::new(files),
        environment: request.environment.clone(),
        generator,
        receive: request.receive.unwrap_or(ReceiveMode::Full),
        samples,
        log,
        signals,
        seed: request.seed,
    });
    shared.chooses_receive = request.receive.is_none();
    let shared = Arc::new(shared);
    let runtime = Runtime::load(&shared, 0, Arc::new(AtomicBool::new(false))).await?;
    let given = runtime
        .options()
        .await?
        .unwrap_or_else(|| serde_json::json!({}));
    let invalid = |problems: crate::options::Problems| {
        Failure::new(Exit::InvalidConfig, problems.to_string())
    };
    let script = Options::from_json(&given, "the script's options").map_err(invalid)?;
    let options = request
        .options
        .clone()
        .over(script)
        .over(request.config.clone());
    let plan = options.clone().plan().map_err(invalid)?;
    let mut missing = Vec::new();
    for scenario in &plan.scenarios {
        if !runtime.has(&scenario.exec).await {
            missing.push(format!(
                "scenario {}: the script exports no function '{}'",
                scenario.name, scenario.exec
            ));
        }
    }
    if !missing.is_empty() {
        return Err(Failure::new(Exit::InvalidConfig, missing.join("\n")));
    }
    let loaded = Loaded {
        shared,
        runtime,
        plan,
        options,
    };
    let channels = Channels {
        signals: wishes,
        samples: received,
    };
    Ok((loaded, channels))
}

async fn attempt(
    request: &Request,
    terminal: &mut Terminal,
    log: Log,
    lines: &mut Lines,
) -> Result<Exit, Failure> {
    let (
        Loaded {
            shared,
            runtime,
            plan,
            options,
        },
        channels,
    ) = load(request, log).await?;
    for warning in &plan.warnings {
        shared.say(Severity::Warning, warning.clone(), None);
    }
    let most = crate::executor::Requirements::of(&plan.scenarios, &plan.share).max_vus;
    if shared.chooses_receive && most > SAMPLED_ABOVE {
        shared.sample_received(ONE_IN);
    }
    let agent = plan
        .user_agent
        .clone()
        .unwrap_or_else(|| concat!("pipemesh-loadtest/", env!("CARGO_PKG_VERSION")).to_owned());
    let http = Http::new(&agent, plan.insecure_skip_tls_verify)
        .map_err(|error| Failure::new(Exit::InvalidConfig, chain(&error)))?;
    let settings = Settings {
        options: options.to_json().to_string(),
        tags: plan.tags.clone(),
        local_ips: plan.local_ips.clone(),
        share: plan.share.clone(),
        http,
        trusts_anybody: plan.insecure_skip_tls_verify,
        throws: plan.throw,
        allow_exec: request.allow_exec,
    };
    if shared.settings.set(settings).is_err() {
        unreachable!("the settings are set here and nowhere else");
    }
    let (aborts, aborted) = mpsc::unbounded_channel();
    let thresholds = if plan.no_thresholds {
        BTreeMap::new()
    } else {
        plan.thresholds.clone()
    };
    let invalid = |problems: Vec<String>| Failure::new(Exit::InvalidConfig, problems.join("\n"));
    // Whatever can be refused is, before the files of a test before this one are emptied.
    let listener = match &request.address {
        None => None,
        Some(address) => {
            let bound = status::Listener::bind(address).await;
            Some(bound.map_err(|error| Failure::new(Exit::NoStatus, chain(&error)))?)
        }
    };
    let open = || {
        Outputs::open(
            &request.outputs,
            &shared.registry,
            &thresholds,
            &plan.system_tags,
            |name| std::env::var(name).ok(),
        )
    };
    let rules = Rules {
        thresholds: &thresholds,
        scenarios: &plan.scenarios,
        fail_on_empty: request.fail_on_empty,
        detailed: request.mode == Mode::Full,
    };
    let collector = Collector::start(&shared.registry, &rules, channels.samples, open, aborts)
        .map_err(invalid)?;
    let trend_stats: Vec<Statistic> = plan
        .summary_trend_stats
        .iter()
        .filter_map(|it| it.parse().ok())
        .collect();
    let view = status::View::new(&shared, collector.sight(), trend_stats.clone());
    let status = listener.map(|listener| listener.serve(view));
    if let Some(status) = &status {
        let text = format!(
            "the state of the test: http://{}/v1/status",
            status.address()
        );
        shared.say(Severity::Info, text, None);
    }
    let names: Vec<String> = request.outputs.iter().map(shown).collect();
    terminal.header(&format!(
        "\n{}\n",
        progress::header(&Header {
            execution: "local",
            script: &request.script,
            web_dashboard: None,
            outputs: &names,
            scenarios: &plan.scenarios,
            share: &plan.share,
        })
    ));
    let started_at = crate::script::now_millis();
    let course = Course {
        shared: Arc::clone(&shared),
        runtime: &runtime,
        plan: &plan,
        collector: &collector,
        terminal,
        log: &mut *lines,
        signals: channels.signals,
        aborted,
        threads: request.threads,
    };
    let ended = course.run().await;
    // Outputs are completed however it ended; who asked for the end does not wait for them.
    let is_asked_for = |ended: &course::Ended| {
        matches!(
            ended.exit,
            Exit::Interrupted | Exit::Stopped | Exit::Aborted
        )
    };
    let is_cut_short = ended.as_ref().map_or(true, is_asked_for);
    let finished = collector.finish(is_cut_short).await;
    let ended = ended?;
    let Some(finished) = finished else {
        return Err(Failure::new(
            Exit::Panicked,
            "the collector of samples ended before the test",
        ));
    };
    let mut warnings = ended.warnings;
    warnings.extend(finished.problems.clone());
    let summary = Summary::new(
        Run {
            script: request.script.clone(),
            started_at,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            trend_stats,
            time_unit: plan.summary_time_unit,
            warnings,
        },
        &finished.snapshot,
    );
    let mut exit = ended.exit;
    let handled = if request.mode == Mode::Disabled {
        Handled::Not
    } else {
        handle_summary(
            &shared,
            runtime,
            &plan,
            &summary,
            terminal,
            ended.data.as_deref(),
        )
        .await?
    };
    while let Some(line) = lines.try_next() {
        terminal.log(&line);
    }
    if handled == Handled::TooLate && exit == Exit::Fine {
        exit = Exit::Timeout;
    }
    if handled != Handled::Done {
        terminal.result(&text::render(&summary, request.mode, terminal.has_colour()));
    }
    write_files(request, &summary, &finished, terminal);
    Ok(verdict(
        request,
        exit,
        &finished,
        ended.is_saturated,
        terminal,
    ))
}

/// An output as the header names it.
fn shown(target: &Target) -> String {
    match target {
        Target::Json(path) => format!("json ({})", path.display()),
        Target::Csv(path) => format!("csv ({})", path.display()),
        Target::PrometheusRemoteWrite(url) => match url {
            Some(url) => format!("Prometheus remote write ({url})"),
            None => "Prometheus remote write".to_owned(),
        },
        Target::WebDashboard(_) => "web-dashboard".to_owned(),
    }
}

/// Whether the script has made a summary of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Handled {
    Done,
    Not,
    TooLate,
}

async fn handle_summary(
    shared: &Arc<Shared>,
    runtime: Runtime,
    plan: &Plan,
    summary: &Summary,
    terminal: &mut Terminal,
    data: Option<&str>,
) -> Result<Handled, Failure> {
    if !runtime.has("handleSummary").await {
        return Ok(Handled::Not);
    }
    // What teardown has left behind would be waited for.
    let runtime = if runtime.is_idle() {
        runtime
    } else {
        Runtime::load(shared, 0, Arc::new(AtomicBool::new(false))).await?
    };
    runtime.vu().resume();
    let data = data.and_then(|data| serde_json::from_str(data).ok());
    let argument = object::handle_summary(
        summary,
        terminal.is_terminal(),
        !terminal.has_colour(),
        data.as_ref(),
    );
    let argument = argument.to_string();
    let call = runtime.call("handleSummary", Some(&argument));
    let answer = match timeout(plan.handle_summary_timeout, call).await {
        Err(_) => {
            let limit = plan.handle_summary_timeout;
            let text =
                format!("handleSummary took longer than {limit:?}; the usual summary follows");
            warn(terminal, text);
            return Ok(Handled::TooLate);
        }
        Ok(Err(error)) => {
            warn(
                terminal,
                format!("handleSummary: {error}; the usual summary follows"),
            );
            return Ok(Handled::Not);
        }
        Ok(Ok(answer)) => answer,
    };
    let files: Option<BTreeMap<String, serde_json::Value>> =
        answer.and_then(|text| serde_json::from_str(&text).ok());
    let Some(files) = files else {
        warn(
            terminal,
            "handleSummary answers an object: file name to text".to_owned(),
        );
        return Ok(Handled::Not);
    };
    for (name, content) in files {
        let content = content
            .as_str()
            .map_or_else(|| content.to_string(), str::to_owned);
        match name.as_str() {
            "stdout" => terminal.result(&content),
            "stderr" => terminal.error(&content),
            path => save(path.as_ref(), &content, terminal),
        }
    }
    Ok(Handled::Done)
}

fn write_files(request: &Request, summary: &Summary, finished: &Finished, terminal: &mut Terminal) {
    if let Some(path) = &request.summary_export {
        save(path, &pretty(&object::export(summary)), terminal);
    }
    if let Some(path) = &request.results {
        let run = &summary.run;
        let results = crate::summary::merge::Results::new(
            run,
            request.fail_on_empty,
            finished.snapshot.clone(),
        );
        save(path, &results.to_json(), terminal);
    }
    if let Some(path) = &request.report {
        save(path, &html::render(summary, &finished.moments), terminal);
    }
}

fn pretty(value: &serde_json::Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

fn save(path: &std::path::Path, content: &str, terminal: &mut Terminal) {
    if let Err(error) = std::fs::write(path, content) {
        warn(
            terminal,
            format!("{} cannot be written: {error}", path.display()),
        );
    }
}

fn warn(terminal: &mut Terminal, text: String) {
    terminal.log(&LogLine {
        severity: Severity::Warning,
        text,
        source: None,
    });
}

/// The first reason to fail counts.
fn verdict(
    request: &Request,
    exit: Exit,
    finished: &Finished,
    is_saturated: bool,
    terminal: &mut Terminal,
) -> Exit {
    let mut exit = exit;
    if !finished.evaluation.crossed.is_empty() {
        let crossed = finished.evaluation.crossed.join(", ");
        terminal.log(&LogLine {
            severity: Severity::Error,
            text: format!("thresholds on metrics '{crossed}' have been crossed"),
            source: None,
        });
        if matches!(exit, Exit::Fine | Exit::Failed) {
            exit = Exit::ThresholdsCrossed;
        }
    }
    if exit == Exit::Fine && is_saturated && request.fail_on_saturation {
        exit = Exit::Saturated;
    }
    exit
}

/// Why a call of `setup` or `teardown` gave nothing.
fn failed(what: &str, error: &CallError) -> Failure {
    Failure::new(Exit::ScriptException, format!("{what}: {error}"))
}

/// Time for what a script does before and after a test.
async fn within<T>(
    limit: Duration,
    exit: Exit,
    what: &str,
    call: impl Future<Output = Result<T, CallError>>,
) -> Result<T, Failure> {
    match timeout(limit, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(failed(what, &error)),
        Err(_) => Err(Failure::new(
            exit,
            format!("{what} took longer than {limit:?}"),
        )),
    }
}
