//! `pipemesh-node`: one node as a process of its own.

use std::process::ExitCode;

use pipemesh_node_media::alloc::Counting;
use tikv_jemallocator::Jemalloc;

mod run;

/// Shards say how much they allocate: packets should cost none.
#[global_allocator]
static ALLOCATOR: Counting<Jemalloc> = Counting(Jemalloc);

/// Memory in huge pages. A packet touches a few places of every session that it goes to; in pages of 4 KB
/// these are more than a processor remembers the addresses of, and in virtual machines it looks them up
/// twice.
#[allow(
    unsafe_code,
    reason = "the allocator finds its options under this name"
)]
#[unsafe(export_name = "malloc_conf")]
pub static MALLOC_CONF: &[u8; 11] = b"thp:always\0";

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
