//! How the program ends: the codes that scripts and pipelines look at, k6's and one of ours.

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Exit {
    #[default]
    Fine,
    ThresholdsCrossed,
    SetupTimeout,
    TeardownTimeout,
    /// Of `handleSummary`.
    Timeout,
    /// Over HTTP.
    Stopped,
    InvalidConfig,
    Interrupted,
    /// The address for that cannot be listened on.
    NoStatus,
    ScriptException,
    Aborted,
    Panicked,
    Failed,
    /// What was measured was the generator; only if asked for.
    Saturated,
}

impl Exit {
    #[cfg(test)]
    pub(crate) const ALL: [Self; 14] = [
        Self::Fine,
        Self::ThresholdsCrossed,
        Self::SetupTimeout,
        Self::TeardownTimeout,
        Self::Timeout,
        Self::Stopped,
        Self::InvalidConfig,
        Self::Interrupted,
        Self::NoStatus,
        Self::ScriptException,
        Self::Aborted,
        Self::Panicked,
        Self::Failed,
        Self::Saturated,
    ];

    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Fine => 0,
            Self::ThresholdsCrossed => 99,
            Self::SetupTimeout => 100,
            Self::TeardownTimeout => 101,
            Self::Timeout => 102,
            Self::Stopped => 103,
            Self::InvalidConfig => 104,
            Self::Interrupted => 105,
            Self::NoStatus => 106,
            Self::ScriptException => 107,
            Self::Aborted => 108,
            Self::Panicked => 109,
            Self::Failed => 110,
            Self::Saturated => 111,
        }
    }
}
