//! The values of all layers, and the problems found while reading them.
//!
//! Owns which layer wins. A binary asks for each setting once, by key; asking for a key that is
//! not in its table is a bug and panics, as does leaving one unread.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::command_line::CONFIG_VARIABLE;
use super::file;
use super::problems::{Problem, Problems};
use super::setting::{Need, Program, Setting};
use crate::Chain;

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    Flag(String),
    Environment(String),
    File(PathBuf),
    Default,
}

#[derive(Debug)]
pub struct Values<'a> {
    program: &'a Program,
    given: BTreeMap<&'static str, Given>,
    problems: Vec<Problem>,
    warnings: Vec<String>,
    log_fields: Vec<(&'static str, String)>,
    /// Settings with a problem already: one line each is enough.
    refused: BTreeSet<&'static str>,
    read: BTreeSet<&'static str>,
}

struct Given {
    /// `None` when a secret's file could not be read.
    text: Option<Zeroizing<String>>,
    origin: Origin,
    /// The file a secret was taken from.
    via: Option<PathBuf>,
}

impl<'a> Values<'a> {
    pub(super) fn load(
        program: &'a Program,
        flags: BTreeMap<&'static str, String>,
        config: Option<PathBuf>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Self {
        let mut values = Self {
            program,
            given: BTreeMap::new(),
            problems: Vec::new(),
            warnings: Vec::new(),
            log_fields: Vec::new(),
            refused: BTreeSet::new(),
            read: BTreeSet::new(),
        };
        for (key, text) in flags {
            let setting = values.known(key);
            let origin = Origin::Flag(format!("--{}", setting.flag()));
            values.give(setting, setting.secret, Zeroizing::new(text), origin);
        }
        let config = values.load_environment(environment, config);
        let file_is_known = config.is_none_or(|path| values.load_file(&path));
        for setting in program.settings() {
            match setting.need {
                _ if values.given.contains_key(setting.key) => {}
                Need::Default(text) => {
                    values.give(setting, false, text.to_owned().into(), Origin::Default);
                }
                // What an unreadable file would have said is unknown, not missing.
                Need::Required if file_is_known => values.missing(setting),
                Need::Required => {
                    values.refused.insert(setting.key);
                }
                Need::Optional => {}
            }
        }
        values
    }

    /// The value of a setting that must have one.
    pub fn required<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.optional(key, parse)?;
        if value.is_none() {
            self.missing(self.known(key));
        }
        value
    }

    /// The value of a setting that may be left out: `Some(None)` when it is, `None` when it has a
    /// problem.
    pub fn optional<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<Option<T>> {
        self.known(key);
        self.read.insert(key);
        if self.refused.contains(key) {
            return None;
        }
        let Some(given) = self.given.get(key) else {
            return Some(None);
        };
        match parse(given.text.as_ref()?) {
            Ok(value) => Some(Some(value)),
            Err(what) => {
                self.problem(key, what);
                None
            }
        }
    }

    /// For what can only be judged by trying, such as a certificate file.
    pub fn check<T>(
        &mut self,
        key: &'static str,
        outcome: Result<T, impl Error + 'static>,
    ) -> Option<T> {
        match outcome {
            Ok(value) => Some(value),
            Err(error) => {
                self.problem(key, format!("cannot be used: {}", Chain(&error)));
                None
            }
        }
    }

    /// Adds a problem with the value of `key`; `what` completes "the value …".
    pub fn problem(&mut self, key: &'static str, what: impl fmt::Display) {
        let setting = self.known(key);
        if !self.refused.insert(key) {
            return;
        }
        let mut what = what.to_string();
        let variable = self.program.variable(setting);
        let given = self.given.get(key);
        if setting.secret && given.is_none_or(|given| given.via.is_none()) {
            what += &format!("; it may also come from a file: {variable}_FILE");
        }
        self.problems.push(Problem {
            name: variable,
            value: given.and_then(|given| given.shown(setting)),
            what,
            origin: given.map(Given::source),
            rank: self.rank(key),
        });
    }

    /// Something to tell the operator that is no reason not to run.
    pub fn warn(&mut self, warning: impl Into<String>) {
        self.warnings.push(warning.into());
    }

    /// A field that every log line of this process carries, such as its node id.
    pub fn log_field(&mut self, name: &'static str, value: impl Into<String>) {
        self.log_fields.push((name, value.into()));
    }

    pub fn origin(&self, key: &'static str) -> Option<&Origin> {
        self.known(key);
        self.given.get(key).map(|given| &given.origin)
    }

    /// The file that a secret was taken from.
    pub fn file(&self, key: &'static str) -> Option<&Path> {
        self.known(key);
        self.given.get(key)?.via.as_deref()
    }

    pub(super) fn warnings(&self) -> &[String] {
        &self.warnings
    }

    pub(super) fn take_log_fields(&mut self) -> Vec<(&'static str, String)> {
        std::mem::take(&mut self.log_fields)
    }

    /// `None` when there are none.
    pub(super) fn into_problems(self) -> Option<Problems> {
        Problems::new(self.program.name, self.problems)
    }

    /// All settings as a TOML file whose comments say where each value comes from.
    pub(super) fn to_toml(&self) -> String {
        let mut settings: Vec<&Setting> = self.program.settings().collect();
        settings.sort_by_key(|setting| (setting.section().is_empty(), setting.section()));
        let mut out = String::new();
        let mut section = "";
        for setting in settings {
            if setting.section() != section {
                section = setting.section();
                let gap = if out.is_empty() { "" } else { "\n" };
                out += &format!("{gap}[{section}]\n");
            }
            let name = setting.name();
            let (line, origin) = match self.given.get(setting.key) {
                Some(given) => {
                    let shown = given.shown(setting).unwrap_or_default();
                    (
                        format!("{name} = {}", toml::Value::String(shown)),
                        given.source(),
                    )
                }
                None => (format!("# {name}"), "not set".to_owned()),
            };
            out += &format!("{line:<48}  # {origin}\n");
        }
        out
    }

    /// Key and value of each setting, those that only have their default if `defaults`.
    pub(super) fn summary(&self, defaults: bool) -> String {
        let shown = self.program.settings().filter_map(|setting| {
            let given = self.given.get(setting.key)?;
            let wanted = defaults || given.origin != Origin::Default;
            wanted.then(|| {
                format!(
                    "{}={}",
                    setting.key,
                    given.shown(setting).unwrap_or_default()
                )
            })
        });
        shown.collect::<Vec<_>>().join(" ")
    }

    /// Settings that nobody asked for: knobs without effect.
    pub(super) fn unread(&self) -> Vec<&'static str> {
        let keys = self.program.settings().map(|setting| setting.key);
        keys.filter(|key| !self.read.contains(key)).collect()
    }

    fn load_environment(
        &mut self,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        mut config: Option<PathBuf>,
    ) -> Option<PathBuf> {
        let names = self.names();
        let prefix = self.program.prefix();
        let mut environment: Vec<_> = environment.into_iter().collect();
        environment.sort();
        for (name, text) in environment {
            let Some(name) = name.to_str() else { continue };
            if name == CONFIG_VARIABLE {
                config = config.or(Some(PathBuf::from(text)));
                continue;
            }
            if name == "RUST_LOG" {
                // Sorted behind ours, which wins.
                if let (false, Ok(text)) =
                    (self.given.contains_key("log.filter"), text.into_string())
                {
                    let origin = Origin::Environment(name.to_owned());
                    self.give(self.known("log.filter"), false, text.into(), origin);
                }
                continue;
            }
            let Some(&(setting, is_file)) = names.get(name) else {
                if name.starts_with(&prefix) && !is_service_link(name, &text) {
                    let known = names.keys().map(String::as_str);
                    self.unknown(name, "variable", known, "environment".to_owned());
                }
                continue;
            };
            if setting.is_foreign() && text.is_empty() {
                continue;
            }
            let origin = Origin::Environment(name.to_owned());
            match text.into_string() {
                Ok(text) => self.give(setting, is_file, text.into(), origin),
                Err(_) => self.problem(setting.key, "is not UTF-8 text"),
            }
        }
        config
    }

    /// Whether the file could be read.
    fn load_file(&mut self, path: &Path) -> bool {
        let entries = match file::entries(path) {
            Ok(entries) => entries,
            Err(what) => {
                self.problems.push(Problem {
                    name: CONFIG_VARIABLE.to_owned(),
                    value: Some(path.display().to_string()),
                    what,
                    origin: None,
                    rank: 0,
                });
                return false;
            }
        };
        let mut names = BTreeMap::new();
        for setting in self.program.settings() {
            names.insert(setting.key.to_owned(), (setting, false));
            if setting.secret {
                names.insert(format!("{}_file", setting.key), (setting, true));
            }
        }
        for (key, text) in entries {
            let origin = Origin::File(path.to_owned());
            match (names.get(&key), text) {
                (Some(&(setting, is_file)), Some(text)) => {
                    self.give(setting, is_file, text, origin);
                }
                (Some((setting, _)), None) => {
                    self.problem(
                        setting.key,
                        format!("has a value of a wrong kind in {}", path.display()),
                    );
                }
                (None, _) => {
                    let known = names.keys().map(String::as_str);
                    self.unknown(&key, "key", known, path.display().to_string());
                }
            }
        }
        true
    }

    /// Environment variable → setting, and whether it names the file of a secret.
    fn names(&self) -> BTreeMap<String, (&'static Setting, bool)> {
        let mut names = BTreeMap::new();
        for setting in self.program.settings() {
            let variable = self.program.variable(setting);
            if setting.secret {
                names.insert(format!("{variable}_FILE"), (setting, true));
            }
            let twin = names.insert(variable, (setting, false));
            assert!(
                twin.is_none(),
                "{} has a name that another setting has",
                setting.key
            );
        }
        names
    }

    /// The first layer that gives a value keeps it: layers are loaded from the highest down.
    fn give(
        &mut self,
        setting: &'static Setting,
        is_file: bool,
        text: Zeroizing<String>,
        origin: Origin,
    ) {
        if let Some(given) = self.given.get(setting.key) {
            if given.origin.layer() == origin.layer() {
                self.problem(setting.key, "is given twice, as itself and as a file");
            }
            return;
        }
        if !is_file {
            let empty = text.is_empty();
            self.given.insert(
                setting.key,
                Given {
                    text: Some(text),
                    origin,
                    via: None,
                },
            );
            if empty {
                self.problem(setting.key, "is set but empty");
            }
            return;
        }
        let path = PathBuf::from(text.as_str());
        let outcome = file::secret(&path);
        let mut given = Given {
            text: None,
            origin,
            via: Some(path.clone()),
        };
        match outcome {
            Ok(secret) => {
                given.text = Some(secret.text);
                self.given.insert(setting.key, given);
                self.warnings.extend(secret.warning);
            }
            Err(what) => {
                self.given.insert(setting.key, given);
                self.problem(
                    setting.key,
                    format!("cannot be taken from its file, which {what}"),
                );
            }
        }
    }

    fn missing(&mut self, setting: &Setting) {
        let what = if setting.secret {
            "is missing".to_owned()
        } else {
            format!("is missing; example: {}", setting.example)
        };
        self.problem(setting.key, what);
    }

    fn unknown<'n>(
        &mut self,
        name: &str,
        kind: &str,
        known: impl Iterator<Item = &'n str>,
        origin: String,
    ) {
        let mut what = format!("is not a known {kind}");
        if let Some(nearest) = nearest(name, known) {
            what += &format!("; did you mean {nearest}?");
        }
        let (name, value) = (name.to_owned(), None);
        self.problems.push(Problem {
            name,
            value,
            what,
            origin: Some(origin),
            rank: usize::MAX,
        });
    }

    fn known(&self, key: &str) -> &'static Setting {
        let setting = self.program.setting(key);
        setting.unwrap_or_else(|| panic!("{key} is not in the table of {}", self.program.name))
    }

    fn rank(&self, key: &str) -> usize {
        1 + self
            .program
            .settings()
            .take_while(|setting| setting.key != key)
            .count()
    }
}

impl Origin {
    fn layer(&self) -> u8 {
        match self {
            Self::Flag(_) => 0,
            Self::Environment(_) => 1,
            Self::File(_) => 2,
            Self::Default => 3,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => f.write_str(flag),
            Self::Environment(_) => f.write_str("environment"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

impl Given {
    fn shown(&self, setting: &Setting) -> Option<String> {
        match setting.secret {
            true => self.text.as_ref().map(|_| "***".to_owned()),
            false => self.text.as_ref().map(|text| text.to_string()),
        }
    }

    fn source(&self) -> String {
        match &self.via {
            Some(path) => format!("{}, {}", self.origin, path.display()),
            None => self.origin.to_string(),
        }
    }
}

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Given")
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}

/// The known name that differs least, if it differs little enough to be what was meant.
fn nearest<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let ranked = known.map(|known| (strsim::damerau_levenshtein(name, known), known));
    let (distance, known) = ranked.min()?;
    (distance <= 2 + name.len() / 6).then_some(known)
}

/// Kubernetes describes each Service of the namespace to every pod in variables that begin with the
/// Service's name. A Service called `pipemesh-node` must not keep the node from starting.
fn is_service_link(name: &str, value: &OsString) -> bool {
    let is_url = value.to_str().is_some_and(|value| value.contains("://"));
    name.contains("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || (name.ends_with("_PORT") && is_url)
        || ["_TCP", "_UDP", "_SCTP"].iter().any(|protocol| {
            let port = name
                .split("_PORT_")
                .nth(1)
                .and_then(|rest| rest.split_once(protocol));
            port.is_some_and(|(port, _)| port.parse::<u16>().is_ok())
        })
}
