//! `pipemesh-loadtest`: see `docs/loadtest.md`.

use std::process::ExitCode;

use pipemesh_loadtest::cli;
use pipemesh_loadtest::exit::Exit;

/// Histograms and scripts of many virtual users come and go in small pieces.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    // What panicked has said so.
    let ended = std::panic::catch_unwind(|| cli::main(std::env::args_os()));
    ExitCode::from(ended.unwrap_or(Exit::Panicked).code())
}
