//! `pipemesh-loadtest`: see `docs/loadtest.md`.

use std::process::ExitCode;

use pipemesh_loadtest::cli;

/// Histograms and scripts of many virtual users come and go in small pieces.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    ExitCode::from(cli::main(std::env::args_os()).code())
}
