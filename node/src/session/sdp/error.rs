//! Why a session description was refused.

/// A refused description has changed nothing. The text names the place and what was expected there;
/// it goes back to the client's developer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SdpError {
    #[error("line {line}: expected {expected}")]
    Line { line: usize, expected: &'static str },
    #[error("session description: expected {expected}")]
    Session { expected: &'static str },
    #[error("m-section {index} (mid {mid:?}): expected {expected}")]
    Section {
        index: usize,
        mid: String,
        expected: &'static str,
    },
}

/// Why a track was not taken on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TrackError {
    #[error("the connection already has this track")]
    Exists,
    #[error("the connection has {limit} tracks in this direction, the most it can have")]
    Limit { limit: usize },
    #[error("all payload types of the connection are taken by other formats")]
    PayloadTypes,
}
