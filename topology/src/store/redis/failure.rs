//! Why Redis did not do what it was asked.

use std::sync::Arc;

use redis::{ErrorKind, RedisError, ServerErrorKind};

use super::LIMIT;
use crate::store::Unavailable;

/// No variant holds what was sent or stored.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Failure {
    #[error("there is no connection to Redis")]
    NotConnected(#[source] Arc<Failure>),
    #[error("the first connection to Redis is not there yet")]
    Starting,
    #[error("Redis has forgotten everything; rooms that somebody is in are brought back first")]
    Forgetful,
    #[error("Redis gave no answer within {} s", LIMIT.as_secs())]
    TimedOut,
    #[error("the connection to Redis broke")]
    Disconnected,
    #[error("Redis: {0}")]
    Refused(RedisError),
    #[error("the answer of Redis cannot be read: {0}")]
    Answer(String),
}

impl Failure {
    /// Whether the connection is of no use after this.
    pub(super) fn breaks(&self) -> bool {
        match self {
            Self::TimedOut | Self::Disconnected => true,
            Self::Refused(error) => {
                // A server that became a replica goes on answering, and never again as it should.
                error.is_unrecoverable_error()
                    || error.is_io_error()
                    || error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly)
            }
            Self::NotConnected(_) | Self::Starting | Self::Forgetful | Self::Answer(_) => false,
        }
    }
}

impl Failure {
    /// Whether what was asked for may have been done all the same.
    fn may_be_done(&self) -> bool {
        match self {
            Self::NotConnected(_) | Self::Starting | Self::Forgetful => false,
            // A server that answers with an error has checked before it changed anything.
            Self::Refused(error) => !matches!(error.kind(), ErrorKind::Server(_)),
            Self::TimedOut | Self::Disconnected | Self::Answer(_) => true,
        }
    }
}

impl From<RedisError> for Failure {
    fn from(error: RedisError) -> Self {
        Self::Refused(error)
    }
}

impl From<Failure> for Unavailable {
    fn from(failure: Failure) -> Self {
        if failure.may_be_done() {
            Self::unheard(failure)
        } else {
            Self::refused(failure)
        }
    }
}
