//! What forwarding costs a node, beside what it cannot cost less than: `make bench`.
//!
//! Three servers are measured in turn, each a process of its own on the first core, each sending the
//! same packets at the same times to as many sockets, which are read on the second core by somebody who
//! looks and sleeps and never waits (whom a sender wakes, it pays for):
//!
//! - the *floor* seals every packet under its receiver's key and sends it, and does nothing else;
//! - the *reference* is the shortest honest forwarder: opens each packet once, rewrites its header,
//!   seals, sends with one `sendmmsg` and UDP segmentation for bursts;
//! - the *node* is `pipemesh-node` as in production, with real ICE, DTLS, SRTP, RTCP, histories and
//!   statistics, reached through `pipemesh-signaling`.
//!
//! Pipes are measured in the same way: between two such nodes, beside QUIC alone (`pipes`). So is the load-test
//! harness, with all others on the second core (`generator`).
//!
//! What counts is CPU time of the server's process per packet sent, as the kernel accounts it, and only
//! as a ratio of neighbours in one run. `cargo bench -p pipemesh-loadtest-client --bench forwarding`; needs
//! `target/release/pipemesh-{node,signaling,loadtest}`. Arguments: names of shapes, `quick`, or nothing for all.

#![allow(clippy::print_stdout, reason = "the figures are what it is for")]

mod bare;
mod crowd;
mod generator;
mod lane;
mod latency;
mod mesh;
mod pipes;
mod process;
mod report;
mod rooms;
mod server;
mod span;

use std::time::Duration;

use anyhow::Context;
use pipemesh_loadtest_client::Layout;

use crate::report::{Ratios, Report};

/// The node's allocator, for all who are compared with it and for whoever reads: in huge pages, the reader
/// leaves more of the cache that all share.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[allow(
    unsafe_code,
    reason = "the allocator finds its options under this name"
)]
#[unsafe(export_name = "malloc_conf")]
pub static MALLOC_CONF: &[u8; 11] = b"thp:always\0";

/// What is sent, and to how many.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    pub(crate) rooms: usize,
    /// Receivers in each room.
    pub(crate) receivers: usize,
    pub(crate) bursts_per_second: u32,
    /// Packets in a burst.
    pub(crate) burst: usize,
    /// Bytes of payload of each; a frame's packets may be a byte longer.
    pub(crate) payload: usize,
    pub(crate) is_video: bool,
}

const VIDEO: Shape = Shape {
    name: "burst1",
    rooms: 1,
    receivers: 400,
    bursts_per_second: 260,
    burst: 1,
    payload: 1_110,
    is_video: true,
};

/// One packet at a time, frames of several, many rooms, audio, a large room: 1,200 bytes on the wire, or 120 of audio.
const SHAPES: [Shape; 7] = [
    VIDEO,
    Shape {
        name: "burst4",
        bursts_per_second: 100,
        burst: 4,
        ..VIDEO
    },
    Shape {
        name: "burst10",
        bursts_per_second: 60,
        burst: 10,
        ..VIDEO
    },
    Shape {
        name: "framed",
        bursts_per_second: 30,
        burst: 9,
        payload: 1_105,
        ..VIDEO
    },
    Shape {
        name: "rooms_of_4",
        rooms: 100,
        receivers: 4,
        // What one core can publish and read at the same time, with a fifth of it left.
        bursts_per_second: 200,
        ..VIDEO
    },
    Shape {
        name: "audio",
        receivers: 2_000,
        bursts_per_second: 50,
        payload: 80,
        is_video: false,
        ..VIDEO
    },
    // Half of a core: for what a packet's way takes then.
    Shape {
        name: "half_load",
        receivers: 500,
        bursts_per_second: 200,
        ..VIDEO
    },
];

/// Settling, and measuring, of each of the three servers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) warm_up: Duration,
    pub(crate) window: Duration,
    /// Share of the receivers.
    pub(crate) crowd: f64,
}

/// Windows of each server: many short ones rather than a few long ones, since other machines disturb for
/// seconds at a time. An odd number, which has a middle.
const ROUNDS: usize = 21;

const FULL: Pace = Pace {
    warm_up: Duration::from_millis(700),
    window: Duration::from_secs(1),
    crowd: 1.0,
};
/// For looking at one's own change; not for keeping.
const QUICK: Pace = Pace {
    warm_up: Duration::from_millis(1_000),
    window: Duration::from_secs(2),
    crowd: 0.5,
};

impl Shape {
    pub(crate) fn shrunk(self, share: f64) -> Self {
        match self.rooms {
            1 => Self {
                receivers: (self.receivers as f64 * share) as usize,
                ..self
            },
            rooms => Self {
                rooms: (rooms as f64 * share) as usize,
                ..self
            },
        }
    }

    /// To all receivers together.
    pub(crate) fn packets_per_second(&self) -> f64 {
        (self.receivers_in_all() * self.burst) as f64 * f64::from(self.bursts_per_second)
    }

    pub(crate) fn receivers_in_all(&self) -> usize {
        self.rooms * self.receivers
    }
}

/// Of one server in one window.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figure {
    pub(crate) microseconds: f64,
    pub(crate) per_second: f64,
    /// Of the server's core.
    pub(crate) utilisation: f64,
    pub(crate) loss: f64,
    /// Packets that were opened and were authentic.
    pub(crate) verified: u64,
    pub(crate) latency: Option<(u64, u64)>,
    pub(crate) per_message: f64,
    /// Share of a core that whoever sends to it and reads what it sends has used.
    pub(crate) reader: f64,
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, rest @ ..] = arguments.as_slice()
        && flag == "--serve"
    {
        let outcome = bare::run(rest).or_else(|| generator::serve(rest));
        return outcome.unwrap_or_else(|| server::run(rest));
    }
    process::leave_first_core()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let names: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let pace = if names.contains(&"quick") {
        QUICK
    } else {
        FULL
    };
    let wanted: Vec<&str> = names
        .into_iter()
        .filter(|name| *name != "quick" && !name.starts_with("--"))
        .collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.contains(&name);

    let mut report = Report::default();
    for shape in SHAPES.into_iter().filter(|shape| is_wanted(shape.name)) {
        runtime.block_on(measure(shape.shrunk(pace.crowd), pace, &mut report))?;
    }
    if is_wanted("ingress") {
        let ingress = runtime.block_on(crowd::ingress(pace))?;
        report.add("ingress_us", ingress, "us", 1.5);
    }
    if is_wanted("sessions") {
        for (name, layout, data, bar) in [
            ("media", Layout::Single, false, 12_288.0),
            ("single", Layout::Single, true, 32_768.0),
            ("dual", Layout::Dual, true, 57_344.0),
        ] {
            let cost = runtime.block_on(crowd::sessions(layout, data, pace))?;
            report.add(&format!("session_bytes_{name}"), cost.bytes, "B", bar);
            if name == "single" {
                report.add("join_cpu_ms", cost.join_milliseconds, "ms", 0.35);
            }
        }
    }
    if is_wanted("latency") {
        let echo = latency::echo(pace)?;
        let node = runtime.block_on(latency::node(pace))?;
        report.add("echo_p50_us", echo as f64, "us", 0.0);
        report.add("latency_1to1_p50_us", node as f64, "us", echo as f64);
    }
    if is_wanted("pipes") {
        runtime.block_on(pipes::measure(pace, &mut report))?;
    }
    if is_wanted("pipe_hop") {
        let echo = latency::echo(pace)?;
        let hop = runtime.block_on(pipes::hop(pace))?;
        report.add("pipe_hop_p50_us", hop, "us", echo as f64);
    }
    if is_wanted("pipe_watchers") {
        runtime.block_on(pipes::watchers(pace, &mut report))?;
    }
    if is_wanted("joins") {
        runtime.block_on(rooms::joins(pace, &mut report))?;
    }
    if is_wanted("members") {
        runtime.block_on(rooms::members(&mut report))?;
    }
    // Half as long as all others together, and about nobody else.
    if wanted.contains(&"generator") {
        runtime.block_on(generator::watchers(pace, &mut report))?;
        runtime.block_on(generator::joins(pace, &mut report))?;
        runtime.block_on(generator::memory(pace, &mut report))?;
        runtime.block_on(generator::saturation(&mut report))?;
    }
    report.finish()?;
    Ok(())
}

/// One shape: the three in turn, many times. Of times the best window counts, since what disturbs only ever
/// adds. Ratios are of windows that follow each other, and of them the median counts: where the whole machine
/// is now faster and now slower, the best windows were not had under the same conditions.
async fn measure(shape: Shape, pace: Pace, report: &mut Report) -> anyhow::Result<()> {
    let mut crowd = crowd::Crowd::gather(shape).await?;
    let mut best: Option<[Figure; 3]> = None;
    let mut ratios = Ratios::default();
    for _ in 0..ROUNDS {
        // It is there meanwhile, and has nothing to do.
        crowd.hush();
        let round = [
            lane::measure(server::Kind::Floor, shape, pace)?,
            lane::measure(server::Kind::Reference, shape, pace)?,
            {
                crowd.go_on(shape);
                crowd.window(shape, pace).await?
            },
        ];
        report.round(shape, &round);
        ratios.add(&round);
        best = Some(match best {
            None => round,
            Some(best) => std::array::from_fn(|server| better(best[server], round[server])),
        });
    }
    let best = best.context("no round")?;
    let allocations = match shape.name {
        "burst10" => Some(crowd.allocations(pace).await?),
        _ => None,
    };
    report.shape(shape, best, &mut ratios, allocations);
    Ok(())
}

fn better(a: Figure, b: Figure) -> Figure {
    if a.microseconds <= b.microseconds {
        a
    } else {
        b
    }
}
