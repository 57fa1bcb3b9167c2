//! The command line, generated from the table of settings.
//!
//! Owns the subcommands that every binary has. Values stay text: what they mean is judged where
//! the values of all layers are.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::setting::{Need, Program, Setting};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Run,
    CheckConfig,
    PrintConfig,
}

#[derive(Debug)]
pub(super) struct CommandLine {
    pub(super) action: Action,
    pub(super) file: Option<PathBuf>,
    /// By key of the setting; for a secret this is the path of its file.
    pub(super) flags: BTreeMap<&'static str, String>,
}

pub(super) const CONFIG_VARIABLE: &str = "PIPEMESH_CONFIG_FILE";

pub(super) fn parse(
    program: &Program,
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<CommandLine, clap::Error> {
    let matches = command(program).try_get_matches_from(arguments)?;
    let (action, matches) = match matches.subcommand() {
        Some(("check-config", matches)) => (Action::CheckConfig, matches),
        Some(("print-config", matches)) => (Action::PrintConfig, matches),
        Some((_, matches)) => (Action::Run, matches),
        None => (Action::Run, &matches),
    };
    Ok(CommandLine {
        action,
        file: matches.get_one::<PathBuf>("config").cloned(),
        flags: flags(program, matches),
    })
}

fn flags(program: &Program, matches: &ArgMatches) -> BTreeMap<&'static str, String> {
    program
        .settings()
        .filter_map(|setting| Some((setting.key, matches.get_one::<String>(setting.key)?.clone())))
        .collect()
}

fn command(program: &Program) -> Command {
    let config = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .value_parser(clap::value_parser!(PathBuf))
        .help(format!(
            "TOML file with settings [environment: {CONFIG_VARIABLE}]"
        ))
        .global(true);
    let redacted = Arg::new("redacted")
        .long("redacted")
        .action(ArgAction::SetTrue)
        .help("Mask secrets; they are never printed, with or without this");
    Command::new(program.name)
        .about(program.about)
        .version(program.version)
        .disable_help_subcommand(true)
        .after_help("Flags win over the environment, the environment over the file.")
        .subcommand(Command::new("run").about("Run; also what happens without a command"))
        .subcommand(Command::new("check-config").about("Report every problem and exit"))
        .subcommand(
            Command::new("print-config")
                .about("Print the settings in effect and where each comes from")
                .arg(redacted),
        )
        .arg(config)
        .args(program.settings().map(|setting| arg(program, setting)))
}

fn arg(program: &Program, setting: &'static Setting) -> Arg {
    let mut help = setting.help.to_owned();
    match setting.need {
        Need::Required => help += &format!(" [required, example: {}]", setting.example),
        Need::Optional if setting.secret => {}
        Need::Optional => help += &format!(" [example: {}]", setting.example),
        Need::Default(_) if setting.switch => {}
        Need::Default(default) => help += &format!(" [default: {default}]"),
    }
    let suffix = if setting.secret { "[_FILE]" } else { "" };
    help += &format!(" [environment: {}{suffix}]", program.variable(setting));
    let arg = Arg::new(setting.key)
        .long(setting.flag())
        .value_name(if setting.secret { "FILE" } else { "VALUE" })
        .help(help)
        .help_heading(heading(setting))
        .global(true);
    if setting.switch {
        arg.num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
    } else {
        arg
    }
}

fn heading(setting: &Setting) -> String {
    let section = setting.section();
    section[..1].to_uppercase() + &section[1..]
}
