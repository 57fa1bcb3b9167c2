//! `pipemesh-signaling`: signaling in a process of its own.

use std::process::ExitCode;

use pipemesh_service::config::consul;
use pipemesh_service::{Program, config};

mod mesh;
mod run;

const PROGRAM: Program = Program {
    name: "pipemesh-signaling",
    about: "The front door of a Pipemesh: LiveKit's client protocol, rooms, placement",
    version: env!("CARGO_PKG_VERSION"),
    settings: &[
        pipemesh_signaling::SETTINGS,
        pipemesh_signaling::GEO_SETTINGS,
        run::SETTINGS,
        pipemesh_signaling::admin::SETTINGS,
        mesh::SETTINGS,
        consul::SETTINGS,
    ],
};

fn main() -> ExitCode {
    let started = match config::start(&PROGRAM, run::Config::read) {
        Ok(started) => started,
        Err(code) => return code,
    };
    match run::run(&PROGRAM, started.config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = %pipemesh_service::Chain(&*error), "signaling ends");
            ExitCode::FAILURE
        }
    }
}
