//! A setting and the table of them: what can be configured and what each thing is called.
//!
//! Names are derived from the key, never written by hand: `media.port` of `pipemesh-node` is
//! `PIPEMESH_NODE_MEDIA_PORT` in the environment and `--media-port` on the command line.

use crate::log;

/// A binary as the person who configures it sees it.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// The binary's name, such as `pipemesh-node`.
    pub name: &'static str,
    pub about: &'static str,
    pub version: &'static str,
    /// Groups, so that one process can offer the settings of several parts.
    pub settings: &'static [&'static [Setting]],
}

impl Program {
    /// Every setting, those that all binaries share last.
    pub fn settings(&self) -> impl Iterator<Item = &'static Setting> + use<> {
        self.settings.iter().copied().flatten().chain(log::SETTINGS)
    }

    pub(super) fn setting(&self, key: &str) -> Option<&'static Setting> {
        self.settings().find(|setting| setting.key == key)
    }

    /// What the names of this binary's own environment variables begin with.
    pub(super) fn prefix(&self) -> String {
        format!("{}_", shout(self.name))
    }

    pub(super) fn variable(&self, setting: &Setting) -> String {
        match setting.variable {
            Some(shared) => shared.to_owned(),
            None => self.prefix() + &shout(setting.key),
        }
    }
}

/// One thing that can be configured.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    pub(super) key: &'static str,
    pub(super) help: &'static str,
    pub(super) example: &'static str,
    pub(super) need: Need,
    pub(super) secret: bool,
    pub(super) switch: bool,
    pub(super) variable: Option<&'static str>,
}

/// What happens when nobody gives a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    Required,
    Optional,
    Default(&'static str),
}

impl Setting {
    /// No default: a problem when missing.
    pub const fn required(key: &'static str, help: &'static str, example: &'static str) -> Self {
        let (need, variable) = (Need::Required, None);
        Self {
            key,
            help,
            example,
            need,
            secret: false,
            switch: false,
            variable,
        }
    }

    /// No default: the thing is off, or chosen at run time as `help` says.
    pub const fn optional(key: &'static str, help: &'static str, example: &'static str) -> Self {
        Self {
            need: Need::Optional,
            ..Self::required(key, help, example)
        }
    }

    pub const fn with_default(
        key: &'static str,
        help: &'static str,
        default: &'static str,
    ) -> Self {
        Self {
            need: Need::Default(default),
            ..Self::required(key, help, default)
        }
    }

    /// `false` unless set; the flag needs no value.
    pub const fn switch(key: &'static str, help: &'static str) -> Self {
        Self {
            switch: true,
            ..Self::with_default(key, help, "false")
        }
    }

    /// Masked wherever it is printed, and may come from a file. It has no flag of its own, only
    /// one for the file: command lines are visible to every user of the machine.
    #[must_use]
    pub const fn secret(self) -> Self {
        Self {
            secret: true,
            ..self
        }
    }

    /// A variable that means the same to all our processes.
    #[must_use]
    pub(crate) const fn shared(self, variable: &'static str) -> Self {
        Self {
            variable: Some(variable),
            ..self
        }
    }

    /// Whether its variable is one of other programs, to whom an empty one is none.
    pub(super) fn is_foreign(&self) -> bool {
        self.variable
            .is_some_and(|variable| !variable.starts_with("PIPEMESH_"))
    }

    pub(super) fn flag(&self) -> String {
        let flag = self.key.replace(['.', '_'], "-");
        if self.secret { flag + "-file" } else { flag }
    }

    pub(super) fn section(&self) -> &'static str {
        self.key.rsplit_once('.').map_or("", |(section, _)| section)
    }

    pub(super) fn name(&self) -> &'static str {
        self.key.rsplit_once('.').map_or(self.key, |(_, name)| name)
    }
}

fn shout(name: &str) -> String {
    name.replace(['.', '-'], "_").to_uppercase()
}
