//! The command line: commands and flags, most of them k6's.
//!
//! Every option of a test is a flag as well, and `PIPEMESH_…` or `K6_…` in the environment.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command};
use pipemesh_loadtest_client::ReceiveMode;
use tokio::task::LocalSet;

use crate::executor::Requirements;
use crate::exit::Exit;
use crate::options::{Options, Problems, duration};
use crate::output::Target;
use crate::run::{self, LogFormat, Request};
use crate::summary;
use crate::summary::merge::Results;
use crate::summary::text::Mode;

/// Flags that are options of a test: name, short, what stands for the value, whether it can be said
/// again, and help.
const OPTIONS: [(&str, Option<char>, &str, bool, &str); 16] = [
    ("vus", Some('u'), "N", false, "virtual users"),
    ("duration", Some('d'), "30s", false, "how long they loop"),
    (
        "iterations",
        Some('i'),
        "N",
        false,
        "iterations that they share",
    ),
    (
        "stage",
        Some('s'),
        "10s:5",
        true,
        "a stage of ramping: how long, up to how many",
    ),
    (
        "tag",
        None,
        "KEY=VALUE",
        true,
        "of everything that is measured",
    ),
    (
        "system-tags",
        None,
        "LIST",
        false,
        "tags that outputs show in columns of their own",
    ),
    ("setup-timeout", None, "60s", false, "for setup()"),
    ("teardown-timeout", None, "60s", false, "for teardown()"),
    (
        "min-iteration-duration",
        None,
        "1s",
        false,
        "an iteration that is over sooner waits",
    ),
    (
        "summary-trend-stats",
        None,
        "avg,p(95)",
        false,
        "what the summary says of trends",
    ),
    (
        "summary-time-unit",
        None,
        "ms",
        false,
        "s, ms or us, of all times in the summary",
    ),
    (
        "execution-segment",
        None,
        "0:1/3",
        false,
        "the part of the test that this process runs",
    ),
    (
        "execution-segment-sequence",
        None,
        "0,1/3,2/3,1",
        false,
        "into which parts the test is divided",
    ),
    (
        "local-ips",
        None,
        "LIST",
        false,
        "addresses that participants send from, in turn",
    ),
    ("user-agent", None, "TEXT", false, "of HTTP requests"),
    ("scenarios", None, "JSON", false, "instead of the script's"),
];

const SWITCHES: [(&str, Option<char>, &str); 5] = [
    ("no-setup", None, "leave setup() out"),
    ("no-teardown", None, "leave teardown() out"),
    ("no-thresholds", None, "judge nothing"),
    (
        "insecure-skip-tls-verify",
        None,
        "take any certificate, over HTTPS and WSS",
    ),
    ("throw", Some('w'), "failed HTTP requests throw"),
];

/// Runs a command line to its exit code.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> Exit {
    let matches = match command().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => {
            // Help and version are errors to clap, not to us.
            let _ = error.print();
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Exit::Fine,
                _ => Exit::InvalidConfig,
            };
        }
    };
    match matches.subcommand() {
        Some(("run", matches)) => with_request(matches, |request| Box::pin(run::run(request))),
        Some(("inspect", matches)) => {
            let requirements = matches.get_flag("execution-requirements");
            with_request(matches, move |request| {
                Box::pin(inspect(request, requirements))
            })
        }
        Some(("merge", matches)) => merge(matches),
        Some(("new", matches)) => new(matches),
        Some(("version", _)) => {
            say(&format!(
                "pipemesh-loadtest {}\n",
                env!("CARGO_PKG_VERSION")
            ));
            Exit::Fine
        }
        _ => unreachable!("clap asks for one of its commands"),
    }
}

fn command() -> Command {
    let script = Arg::new("script")
        .required(true)
        .help("the script; - for standard input");
    let run = Command::new("run")
        .about("Run a test")
        .args(test_arguments())
        .args([
            Arg::new("out")
                .short('o')
                .long("out")
                .value_name("json=FILE")
                .action(ArgAction::Append)
                .help("where samples go: json=FILE[.gz], csv=FILE, experimental-prometheus-rw"),
            Arg::new("quiet")
                .short('q')
                .long("quiet")
                .action(ArgAction::SetTrue)
                .help("no header and no progress"),
            Arg::new("verbose")
                .short('v')
                .long("verbose")
                .action(ArgAction::SetTrue)
                .help("lines of console.debug too"),
            Arg::new("no-color")
                .long("no-color")
                .action(ArgAction::SetTrue)
                .help("plain text"),
            Arg::new("summary-mode")
                .long("summary-mode")
                .value_name("MODE")
                .help("compact, full or disabled"),
            Arg::new("summary-export")
                .long("summary-export")
                .value_name("FILE")
                .help("the summary as JSON"),
            Arg::new("report")
                .long("report")
                .value_name("FILE")
                .help("the summary as one HTML file, with plots"),
            Arg::new("results")
                .long("results")
                .value_name("FILE")
                .help("everything that was found, to be merged with that of other processes"),
            Arg::new("address")
                .short('a')
                .long("address")
                .value_name("HOST:PORT")
                .help("where the state of the test is told over HTTP, and where it can be stopped"),
            Arg::new("allow-exec")
                .long("allow-exec")
                .action(ArgAction::SetTrue)
                .help("scripts may start programs, with chaos.exec()"),
            Arg::new("log-format")
                .long("log-format")
                .value_name("FORMAT")
                .help("text, json or raw"),
            Arg::new("fail-on-empty-thresholds")
                .long("fail-on-empty-thresholds")
                .action(ArgAction::SetTrue)
                .help("a threshold without samples fails"),
            Arg::new("fail-on-saturation")
                .long("fail-on-saturation")
                .action(ArgAction::SetTrue)
                .help("exit with 111 if the generator could not keep up"),
            Arg::new("receive")
                .long("receive")
                .value_name("MODE")
                .help("full, sampled or drain; sampled above 200 virtual users"),
            Arg::new("threads")
                .long("threads")
                .value_name("N")
                .help("that scripts run on; one for each core"),
            Arg::new("seed")
                .long("seed")
                .value_name("N")
                .help("of what participants draw by lot"),
        ])
        .arg(script.clone());
    let inspect = Command::new("inspect")
        .about("Print the options that a test would run with")
        .args(test_arguments())
        .arg(
            Arg::new("execution-requirements")
                .long("execution-requirements")
                .action(ArgAction::SetTrue)
                .help("and how many virtual users it needs, for how long"),
        )
        .arg(script);
    let merge = Command::new("merge")
        .about("Print the summary of several files of run --results as one")
        .args([
            Arg::new("summary-mode")
                .long("summary-mode")
                .value_name("MODE")
                .help("compact, full or disabled"),
            Arg::new("summary-trend-stats")
                .long("summary-trend-stats")
                .value_name("avg,p(95)")
                .help("what the summary says of trends"),
            Arg::new("summary-time-unit")
                .long("summary-time-unit")
                .value_name("ms")
                .help("s, ms or us, of all times in the summary"),
            Arg::new("no-color")
                .long("no-color")
                .action(ArgAction::SetTrue)
                .help("plain text"),
            Arg::new("file")
                .required(true)
                .num_args(1..)
                .value_name("FILE")
                .help("what run --results wrote"),
        ]);
    let new = Command::new("new")
        .about("Write a script to begin with")
        .arg(Arg::new("file").default_value("script.js").help("where"))
        .arg(
            Arg::new("force")
                .short('f')
                .long("force")
                .action(ArgAction::SetTrue)
                .help("even if it exists"),
        )
        .arg(
            Arg::new("types")
                .long("types")
                .action(ArgAction::SetTrue)
                .help("and beside it k6.d.ts and sfu.d.ts, for editors"),
        );
    Command::new("pipemesh-loadtest")
        .about("Load tests in the manner of k6, with real WebRTC participants")
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands([
            run,
            inspect,
            merge,
            new,
            Command::new("version").about("Print the version"),
        ])
}

fn test_arguments() -> Vec<Arg> {
    let options = OPTIONS.iter().map(|(name, short, value, again, help)| {
        let argument = Arg::new(*name).long(*name).value_name(*value).help(*help);
        let argument = short
            .iter()
            .fold(argument, |argument, short| argument.short(*short));
        argument.action(if *again {
            ArgAction::Append
        } else {
            ArgAction::Set
        })
    });
    let switches = SWITCHES.iter().map(|(name, short, help)| {
        let argument = Arg::new(*name)
            .long(*name)
            .help(*help)
            .action(ArgAction::SetTrue);
        short
            .iter()
            .fold(argument, |argument, short| argument.short(*short))
    });
    let own = [
        Arg::new("env")
            .short('e')
            .long("env")
            .value_name("KEY=VALUE")
            .action(ArgAction::Append)
            .help("what the script sees in __ENV"),
        Arg::new("config")
            .short('c')
            .long("config")
            .value_name("FILE")
            .help("options in JSON, below the script's own"),
    ];
    options.chain(switches).chain(own).collect()
}

type Running = std::pin::Pin<Box<dyn Future<Output = Exit>>>;

fn with_request(matches: &ArgMatches, run: impl FnOnce(Request) -> Running) -> Exit {
    let request = match request(matches) {
        Ok(request) => request,
        Err(problems) => {
            complain(&problems.to_string());
            return Exit::InvalidConfig;
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&format!("no threads: {error}"));
            return Exit::InvalidConfig;
        }
    };
    // What sets up and tears down may have participants of its own, which belong to this thread.
    LocalSet::new().block_on(&runtime, run(request))
}

fn request(matches: &ArgMatches) -> Result<Request, Problems> {
    let mut problems = Problems::default();
    let flags = Options::from_flags(|name| flag(matches, name));
    let environment = Options::from_env(|name| std::env::var(name).ok());
    let mut request = Request {
        script: text(matches, "script").unwrap_or_default(),
        options: taken(flags, &mut problems).over(taken(environment, &mut problems)),
        environment: std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect(),
        seed: 1,
        ..Request::default()
    };
    variables(matches, &mut request.environment, &mut problems);
    if let Some(path) = text(matches, "config") {
        request.config = config(&path, &mut problems);
    }
    if matches.try_contains_id("out").is_ok() {
        run_flags(matches, &mut request, &mut problems);
    }
    problems.or(request)
}

/// `run` has more than `inspect`.
fn run_flags(matches: &ArgMatches, request: &mut Request, problems: &mut Problems) {
    let outputs = flag(matches, "out")
        .or_else(|| variable("OUT").map(|it| it.split(',').map(str::to_owned).collect()));
    for output in outputs.unwrap_or_default() {
        match output.parse::<Target>() {
            Ok(Target::WebDashboard(_)) => problems.add(
                "--out",
                output,
                "another output: there is no live dashboard, --report writes one HTML file",
            ),
            Ok(target) => request.outputs.push(target),
            Err(wrong) => problems.add("--out", output, wrong),
        }
    }
    let path = |name: &str, variable_name: &str| {
        text(matches, name)
            .or_else(|| variable(variable_name))
            .map(PathBuf::from)
    };
    request.summary_export = path("summary-export", "SUMMARY_EXPORT");
    request.report = path("report", "WEB_DASHBOARD_EXPORT");
    request.results = path("results", "RESULTS");
    request.address = text(matches, "address").or_else(|| variable("ADDRESS"));
    request.allow_exec = matches.get_flag("allow-exec");
    request.quiet = matches.get_flag("quiet");
    request.verbose = matches.get_flag("verbose");
    request.no_colour = matches.get_flag("no-color") || variable("NO_COLOR").is_some();
    request.fail_on_empty = matches.get_flag("fail-on-empty-thresholds");
    request.fail_on_saturation = matches.get_flag("fail-on-saturation");
    request.mode = summary_mode(matches, problems);
    match text(matches, "log-format")
        .or_else(|| variable("LOG_FORMAT"))
        .as_deref()
    {
        None | Some("text") => {}
        Some("json") => request.log_format = LogFormat::Json,
        Some("raw") => request.log_format = LogFormat::Raw,
        Some(other) => problems.add("--log-format", other, "text, json or raw"),
    }
    match text(matches, "receive").as_deref() {
        None => {}
        Some("full") => request.receive = Some(ReceiveMode::Full),
        Some("sampled") => request.receive = Some(ReceiveMode::Sampled(20)),
        Some("drain") => request.receive = Some(ReceiveMode::Drain),
        Some(other) => problems.add("--receive", other, "full, sampled or drain"),
    }
    if let Some(given) = text(matches, "threads") {
        match given.parse() {
            Ok(count @ 1..=256) => request.threads = Some(count),
            _ => problems.add("--threads", given, "a number from 1 to 256"),
        }
    }
    if let Some(given) = text(matches, "seed") {
        match given.parse() {
            Ok(seed) => request.seed = seed,
            Err(_) => problems.add("--seed", given, "a whole number that is not negative"),
        }
    }
}

fn summary_mode(matches: &ArgMatches, problems: &mut Problems) -> Mode {
    let mode = text(matches, "summary-mode").or_else(|| variable("SUMMARY_MODE"));
    match mode.as_deref() {
        None | Some("compact") => {}
        Some("full") => return Mode::Full,
        Some("disabled") => return Mode::Disabled,
        Some(other) => problems.add("--summary-mode", other, "compact, full or disabled"),
    }
    Mode::Compact
}

fn variables(
    matches: &ArgMatches,
    environment: &mut BTreeMap<String, String>,
    problems: &mut Problems,
) {
    for pair in flag(matches, "env").unwrap_or_default() {
        match pair.split_once('=') {
            Some((name, value)) if !name.is_empty() => {
                drop(environment.insert(name.to_owned(), value.to_owned()))
            }
            // As in k6: the value that it has anyway.
            None if std::env::var_os(&pair).is_some() => {}
            _ => problems.add("--env", pair, "NAME=value"),
        }
    }
}

fn config(path: &str, problems: &mut Problems) -> Options {
    let read = std::fs::read_to_string(path).map_err(|error| error.to_string());
    let parsed =
        read.and_then(|text| serde_json::from_str(&text).map_err(|error| error.to_string()));
    match parsed {
        Ok(value) => taken(Options::from_json(&value, path), problems),
        Err(error) => {
            problems.add(
                "--config",
                path,
                format!("a file of JSON that can be read ({error})"),
            );
            Options::default()
        }
    }
}

fn taken(options: Result<Options, Problems>, problems: &mut Problems) -> Options {
    options.unwrap_or_else(|wrong| {
        problems.append(wrong);
        Options::default()
    })
}

fn flag(matches: &ArgMatches, name: &str) -> Option<Vec<String>> {
    if SWITCHES.iter().any(|(switch, ..)| *switch == name) {
        return matches.get_flag(name).then(|| vec!["true".to_owned()]);
    }
    let values = matches.try_get_many::<String>(name).ok()??;
    Some(values.cloned().collect())
}

fn text(matches: &ArgMatches, name: &str) -> Option<String> {
    flag(matches, name)?.into_iter().next()
}

/// Ours, and k6's where that is not set.
fn variable(name: &str) -> Option<String> {
    let read = |prefix: &str| std::env::var(format!("{prefix}_{name}")).ok();
    read("PIPEMESH").or_else(|| read("K6"))
}

async fn inspect(request: Request, requirements: bool) -> Exit {
    match run::inspect(&request).await {
        Ok((mut options, plan)) => {
            if requirements {
                let needed = Requirements::of(&plan.scenarios, &plan.share);
                options["maxVUs"] = needed.max_vus.into();
                options["totalDuration"] = duration::format(needed.total_duration).into();
            }
            say(&format!("{options:#}\n"));
            Exit::Fine
        }
        Err((exit, text)) => {
            complain(&text);
            exit
        }
    }
}

fn merge(matches: &ArgMatches) -> Exit {
    let mut problems = Problems::default();
    let mode = summary_mode(matches, &mut problems);
    let flags = Options::from_flags(|name| match name {
        "summary-trend-stats" | "summary-time-unit" => flag(matches, name),
        _ => None,
    });
    let plan = taken(flags, &mut problems).plan();
    let plan = match plan.and_then(|plan| problems.or(plan)) {
        Ok(plan) => plan,
        Err(problems) => {
            complain(&problems.to_string());
            return Exit::InvalidConfig;
        }
    };
    let mut results = match merged(flag(matches, "file").unwrap_or_default()) {
        Ok(results) => results,
        Err(problem) => {
            complain(&problem);
            return Exit::InvalidConfig;
        }
    };
    let crossed = results.judge();
    let trend_stats = plan.summary_trend_stats.iter();
    let trend_stats = trend_stats.filter_map(|it| it.parse().ok()).collect();
    let summary = results.summary(trend_stats, plan.summary_time_unit);
    let is_plain = matches.get_flag("no-color") || variable("NO_COLOR").is_some();
    let colour = std::io::stdout().is_terminal() && !is_plain;
    say(&summary::text::render(&summary, mode, colour));
    if crossed.is_empty() {
        return Exit::Fine;
    }
    let crossed = crossed.join(", ");
    complain(&format!(
        "thresholds on metrics '{crossed}' have been crossed"
    ));
    Exit::ThresholdsCrossed
}

fn merged(files: Vec<String>) -> Result<Results, String> {
    let mut all: Option<Results> = None;
    for file in files {
        let text = std::fs::read_to_string(&file);
        let text = text.map_err(|error| format!("{file} cannot be read: {error}"))?;
        let results = Results::from_json(&text, &file).map_err(|error| error.to_string())?;
        match &mut all {
            Some(all) => all
                .merge(results, &file)
                .map_err(|error| error.to_string())?,
            None => all = Some(results),
        }
    }
    all.ok_or_else(|| "there are no files to merge".to_owned())
}

fn new(matches: &ArgMatches) -> Exit {
    let file = text(matches, "file").unwrap_or_default();
    let folder = Path::new(&file).parent().unwrap_or(Path::new(""));
    let mut files = vec![(PathBuf::from(&file), STARTER)];
    if matches.get_flag("types") {
        let types = TYPES.map(|(name, content)| (folder.join(name), content));
        files.extend(types);
    }
    let mut options = std::fs::OpenOptions::new();
    let options = match matches.get_flag("force") {
        true => options.create(true).truncate(true),
        false => options.create_new(true),
    };
    for (path, content) in files {
        let written = options
            .write(true)
            .open(&path)
            .and_then(|mut it| it.write_all(content.as_bytes()));
        if let Err(error) = written {
            complain(&format!("{} cannot be written: {error}", path.display()));
            return Exit::InvalidConfig;
        }
    }
    say(&format!(
        "{file} is written; run it with: pipemesh-loadtest run {file}\n"
    ));
    if !matches.get_flag("types") {
        say("for an editor that completes names: pipemesh-loadtest new --types\n");
    }
    Exit::Fine
}

const STARTER: &str = include_str!("cli/starter.js");

/// What editors complete names by.
const TYPES: [(&str, &str); 2] = [
    ("k6.d.ts", include_str!("../types/k6.d.ts")),
    ("sfu.d.ts", include_str!("../types/sfu.d.ts")),
];

fn say(text: &str) {
    // Whoever closed it does not want to read.
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "error: {text}");
}
