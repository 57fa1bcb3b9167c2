//! A simulated participant of a LiveKit-compatible server: what a client sees, for tests, benchmarks
//! and load.
//!
//! Speaks LiveKit's public client protocol and knows nothing of how a server is built.
//!
//! [`Generator`] starts the threads, [`Generator::join`] makes a [`Participant`]. What decides is
//! pure: `user` and everything below it takes time and bytes and gives bytes; `generator` and
//! `participant` are the shell around it.

#![forbid(unsafe_code)]

mod connection;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod generator;
mod impairment;
mod media;
mod outbox;
mod participant;
mod sdp;
pub mod signal;
pub mod stats;
mod transport;
pub mod url;
mod user;
mod wire;

pub use connection::ReceiveMode;
pub use generator::{Generator, Load, StartError};
pub use impairment::{Bandwidth, Network, Profile};
pub use media::{
    Audio, Layer, Media, Recorded, Recording, RecordingError, Scalable, ScalableCodec, Video,
};
pub use participant::{
    Event, InVain, Join, JoinError, Loss, Participant, ResumeError, Return, Scenario, TRIES, Way,
};
pub use transport::data::Reliability;
pub use transport::dtls::CertificateError;
pub use user::{
    DataMessage, Description, LayerWish, Layout, Message, Person, Place, Protocol, RemoteTrack,
};
