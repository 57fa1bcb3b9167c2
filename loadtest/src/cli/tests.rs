//! That what people read has everything that has a name, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::metrics::builtin;
use crate::observe::Meters;

const DOC: &str = include_str!("../../../docs/loadtest.md");

/// From the heading to the next one.
fn section<'a>(text: &'a str, heading: &str) -> &'a str {
    let begin = format!("\n{heading}\n");
    let (_, rest) = text
        .split_once(&begin)
        .unwrap_or_else(|| panic!("there is no heading {heading}"));
    let level = heading.split(' ').next().unwrap_or_default();
    let next = (1..=level.len()).map(|count| format!("\n{} ", "#".repeat(count)));
    let end = next.filter_map(|next| rest.find(&next)).min();
    &rest[..end.unwrap_or(rest.len())]
}

/// What stands in backquotes in one column of all rows of tables.
fn quoted(text: &str, column: usize) -> BTreeSet<String> {
    let rows = text.lines().filter(|line| line.starts_with("| "));
    let cells = rows.filter_map(|row| row.split(" | ").nth(column));
    let words = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    words.map(str::to_owned).collect()
}

#[track_caller]
fn assert_same(what: &str, written: &BTreeSet<String>, there: &BTreeSet<String>) {
    let absent: Vec<_> = there.difference(written).collect();
    let made_up: Vec<_> = written.difference(there).collect();
    assert!(
        absent.is_empty() && made_up.is_empty(),
        "{what}: not written: {absent:#?}, and written without being there: {made_up:#?}"
    );
}

#[track_caller]
fn assert_has_table(section: &str, table: &str) {
    let absent: Vec<&str> = table
        .lines()
        .filter(|line| !section.contains(line))
        .collect();
    let written = section.lines().filter(|line| line.starts_with("| "));
    let made_up: Vec<&str> = written.filter(|line| !table.contains(line)).collect();
    assert!(
        section.contains(table),
        "not written:\n{}\nwritten without being there:\n{}\nthe whole:\n{table}",
        absent.join("\n"),
        made_up.join("\n")
    );
}

/// Those of several commands once.
fn flags() -> String {
    let mut rows: Vec<(String, String, Vec<String>)> = Vec::new();
    for command in command().get_subcommands() {
        for argument in command.get_arguments() {
            let Some(long) = argument.get_long().filter(|it| *it != "help") else {
                continue;
            };
            let short = argument.get_short();
            let mut flag = short.map_or_else(String::new, |short| format!("`-{short}`, "));
            let value = match argument.get_action().takes_values() {
                true => argument.get_value_names().and_then(|names| names.first()),
                false => None,
            };
            flag += &match value {
                Some(value) => format!("`--{long} {value}`"),
                None => format!("`--{long}`"),
            };
            let help = argument.get_help().map(ToString::to_string);
            let (name, help) = (command.get_name().to_owned(), help.unwrap_or_default());
            match rows.iter_mut().find(|row| row.0 == flag && row.1 == help) {
                Some(row) => row.2.push(name),
                None => rows.push((flag, help, vec![name])),
            }
        }
    }
    let mut table = "| Flag | Of | |\n| --- | --- | --- |\n".to_owned();
    for (flag, help, commands) in rows {
        table += &format!("| {flag} | {} | {help} |\n", commands.join(", "));
    }
    table
}

#[test]
fn every_flag_is_written() {
    assert_has_table(section(DOC, "## Flags"), &flags());
}

#[test]
fn every_metric_is_written() {
    assert_has_table(section(DOC, "## Metrics"), &builtin::table());
}

#[test]
fn every_metric_that_is_built_in_is_fed() {
    let named = |names: &[&str]| names.iter().map(|it| (*it).to_owned()).collect();
    let all: Vec<&str> = builtin::ALL.iter().map(|it| it.name).collect();
    assert_same("metrics", &named(&all), &named(Meters::NAMES));
}

#[test]
fn every_exit_code_is_written() {
    let rows = section(DOC, "## Exit codes").lines();
    let codes = rows.filter_map(|row| row.strip_prefix("| ")?.split(' ').next()?.parse().ok());
    let written: Vec<u8> = codes.collect();
    let mut there = Exit::ALL.map(Exit::code);
    there.sort_unstable();
    assert_eq!(written, there);
}

#[test]
fn every_option_is_written_with_an_example_that_is_right() {
    let rows = section(DOC, "## Options").lines();
    let examples: serde_json::Map<String, serde_json::Value> = rows
        .take_while(|row| !row.starts_with("| Executor"))
        .filter(|row| row.starts_with("| `"))
        .map(|row| {
            let mut words = row.split('`').skip(1).step_by(2);
            let (key, example) = (words.next().expect(row), words.next().expect(row));
            let example = serde_json::from_str(example);
            (
                key.to_owned(),
                example.unwrap_or_else(|error| panic!("{row}: {error}")),
            )
        })
        .collect();
    let mut problems = Problems::default();
    let options = taken(
        Options::from_json(&examples.clone().into(), "the table"),
        &mut problems,
    );
    assert_eq!(problems.to_string(), "");
    assert_eq!(options.warnings, Vec::<String>::new());
    let written: BTreeSet<String> = examples.keys().cloned().collect();
    let shown = options.to_json();
    let shown = shown.as_object().expect("options are an object");
    assert_same("options", &written, &shown.keys().cloned().collect());
    // A field that is new does not compile here, and belongs into the table.
    let Options {
        vus: Some(_),
        duration: Some(_),
        iterations: Some(_),
        stages: Some(_),
        scenarios: Some(_),
        thresholds: Some(_),
        tags: Some(_),
        system_tags: Some(_),
        setup_timeout: Some(_),
        teardown_timeout: Some(_),
        handle_summary_timeout: Some(_),
        no_setup: Some(_),
        no_teardown: Some(_),
        no_thresholds: Some(_),
        min_iteration_duration: Some(_),
        paused: Some(_),
        throw: Some(_),
        summary_trend_stats: Some(_),
        summary_time_unit: Some(_),
        insecure_skip_tls_verify: Some(_),
        hosts: Some(_),
        local_ips: Some(_),
        execution_segment: Some(_),
        execution_segment_sequence: Some(_),
        user_agent: Some(_),
        warnings: _,
    } = options
    else {
        panic!("not written: one that is none in {options:#?}");
    };
}

#[test]
fn every_executor_is_written_with_its_keys() {
    let (_, table) = section(DOC, "## Options")
        .split_once("| Executor | Keys | |\n")
        .expect("there is a table of executors");
    let rows = table.lines().filter(|row| row.starts_with("| `"));
    let written: BTreeMap<String, BTreeSet<String>> = rows
        .map(|row| (quoted(row, 0).into_iter().collect(), quoted(row, 1)))
        .collect();
    let ramp = r#""stages": [{"duration": "1s", "target": 1}]"#;
    let examples = [
        ("shared-iterations", String::new()),
        ("per-vu-iterations", String::new()),
        ("constant-vus", r#", "duration": "1s""#.to_owned()),
        ("ramping-vus", format!(", {ramp}")),
        (
            "constant-arrival-rate",
            r#", "rate": 1, "duration": "1s", "preAllocatedVUs": 1"#.to_owned(),
        ),
        (
            "ramping-arrival-rate",
            format!(r#", {ramp}, "preAllocatedVUs": 1"#),
        ),
        (
            "ramping-until",
            r#", "step": 1, "stepDuration": "1s", "maxVUs": 2, "until": ["checks rate<1"]"#
                .to_owned(),
        ),
    ];
    let common = [
        "executor",
        "startTime",
        "gracefulStop",
        "exec",
        "env",
        "tags",
    ];
    let there = examples.map(|(name, keys)| {
        let text = format!(r#"{{"scenarios": {{"it": {{"executor": "{name}"{keys}}}}}}}"#);
        let value = serde_json::from_str(&text).expect(&text);
        let options = Options::from_json(&value, "the test");
        let options = options.unwrap_or_else(|problems| panic!("{name}: {problems}"));
        let shown = options.to_json();
        let keys = shown["scenarios"]["it"].as_object().expect(name).keys();
        let keys = keys.filter(|key| !common.contains(&key.as_str()));
        (name.to_owned(), keys.cloned().collect())
    });
    assert_eq!(written, BTreeMap::from(there));
}

const MODULES: [(&str, &str); 9] = [
    ("k6", include_str!("../script/modules/k6.js")),
    ("k6/metrics", include_str!("../script/modules/metrics.js")),
    (
        "k6/execution",
        include_str!("../script/modules/execution.js"),
    ),
    ("k6/data", include_str!("../script/modules/data.js")),
    ("k6/http", include_str!("../script/modules/http.js")),
    ("k6/crypto", include_str!("../script/modules/crypto.js")),
    ("k6/encoding", include_str!("../script/modules/encoding.js")),
    ("k6/timers", include_str!("../script/modules/timers.js")),
    ("sfu", include_str!("../script/modules/sfu.js")),
];

/// What `export default { … };` names.
fn exported(source: &str) -> BTreeSet<String> {
    let (_, list) = source.split_once("export default {").expect(source);
    let (list, _) = list.split_once("};").expect(source);
    let names = list.split(',').map(|it| it.trim().to_owned());
    names.filter(|it| !it.is_empty()).collect()
}

/// The methods of classes and of objects that are exported, by their place in the line.
fn methods(source: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for line in source.lines() {
        let Some(line) = line.strip_prefix("  ").filter(|it| !it.starts_with(' ')) else {
            continue;
        };
        let line = line.strip_prefix("async ").unwrap_or(line);
        let Some((name, rest)) = line.split_once('(') else {
            continue;
        };
        let is_name = name.chars().all(|it| it.is_ascii_alphanumeric());
        if is_name && rest.ends_with('{') && !["constructor", "if", "for"].contains(&name) {
            names.insert(name.to_owned());
        }
    }
    names
}

#[test]
fn every_function_of_scripts_is_written() {
    for (module, source) in MODULES {
        let section = section(DOC, &format!("### `{module}`"));
        let words: BTreeSet<&str> = section
            .split(|it: char| !(it.is_ascii_alphanumeric() || it == '_'))
            .collect();
        let there = exported(source).into_iter().chain(match module {
            "sfu" => methods(source),
            _ => BTreeSet::new(),
        });
        let absent: Vec<String> = there.filter(|it| !words.contains(it.as_str())).collect();
        assert!(absent.is_empty(), "{module}: not written: {absent:?}");
    }
    let headings = DOC
        .lines()
        .filter_map(|it| it.strip_prefix("### `")?.strip_suffix('`'));
    let written = headings.map(str::to_owned).collect();
    let there = MODULES.map(|(module, _)| module.to_owned()).into();
    assert_same("modules", &written, &there);
}

#[test]
fn the_types_name_what_modules_export() {
    let types = TYPES.map(|(_, text)| text).join("\n");
    for (module, source) in MODULES {
        let begin = format!("declare module '{module}' {{");
        let (_, declared) = types.split_once(&begin).expect(&begin);
        let (declared, _) = declared.split_once("\n}\n").expect(module);
        let lines = declared.lines().map(str::trim_start);
        let values = lines.filter_map(|line| {
            let rest = ["export function ", "export const ", "export class "]
                .iter()
                .find_map(|keyword| line.strip_prefix(keyword))?;
            let end = rest.find(|it: char| !(it.is_ascii_alphanumeric() || it == '_'));
            Some(rest[..end?].to_owned())
        });
        assert_same(module, &values.collect(), &exported(source));
    }
    let (_, declared) = types
        .split_once("declare module 'sfu' {")
        .expect("it is there");
    let (_, source) = MODULES[8];
    let absent: Vec<String> = methods(source)
        .into_iter()
        .filter(|name| !declared.contains(&format!(" {name}(")))
        .collect();
    assert!(absent.is_empty(), "sfu.d.ts lacks {absent:?}");
}
