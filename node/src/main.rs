//! `pipemesh-node`: one node as a process of its own.

use std::process::ExitCode;

mod run;

/// Shards say how much they allocate: packets should cost none.
#[global_allocator]
static ALLOCATOR: pipemesh_node_media::alloc::Counting = pipemesh_node_media::alloc::Counting;

fn main() -> ExitCode {
    let program = pipemesh_node::config::PROGRAM;
    let read = pipemesh_node::config::ProcessConfig::read;
    match pipemesh_service::config::start(&program, read) {
        Err(code) => code,
        Ok(started) => match run::run(&program, started.config) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                tracing::error!("{error:#}");
                ExitCode::FAILURE
            }
        },
    }
}
