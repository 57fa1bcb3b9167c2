//! How the program ends: the codes that scripts and pipelines look at, k6's and one of ours.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Fine,
    ThresholdsCrossed,
    SetupTimeout,
    TeardownTimeout,
    /// Of `handleSummary`.
    Timeout,
    InvalidConfig,
    Interrupted,
    ScriptException,
    Aborted,
    Panicked,
    Failed,
    /// What was measured was the generator; only if asked for.
    Saturated,
}

impl Exit {
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Fine => 0,
            Self::ThresholdsCrossed => 99,
            Self::SetupTimeout => 100,
            Self::TeardownTimeout => 101,
            Self::Timeout => 102,
            Self::InvalidConfig => 104,
            Self::Interrupted => 105,
            Self::ScriptException => 107,
            Self::Aborted => 108,
            Self::Panicked => 109,
            Self::Failed => 110,
            Self::Saturated => 111,
        }
    }
}
