//! `pipemesh-dev`: the whole mesh in one process, for a first look, for development and for tests.
//! Loopback only; everybody gets in.

use std::process::ExitCode;

mod config;
mod run;

fn main() -> ExitCode {
    match pipemesh_service::config::start(&config::PROGRAM, config::Config::read) {
        Err(code) => code,
        Ok(started) => match run::run(started.config) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                tracing::error!("{error:#}");
                ExitCode::FAILURE
            }
        },
    }
}
