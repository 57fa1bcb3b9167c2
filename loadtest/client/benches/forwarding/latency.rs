//! How long a packet takes from one client through the node to another, beside an echo: sockets, wake-ups
//! and scheduling are the same, and the readers here wait for what comes.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::Context;
use pipemesh_loadtest_client::{Generator, Layout, ReceiveMode};
use pipemesh_node_media::poll::{Poller, Token};
use pipemesh_node_media::udp::{Destination, Egress, EgressOptions, ReceiveBatch, Run};

use crate::crowd::{self, Who};
use crate::mesh::Mesh;
use crate::process::Process;
use crate::server::{self, Kind};
use crate::{Pace, SHAPES, Shape};

const SHAPE: Shape = Shape {
    receivers: 1,
    ..SHAPES[0]
};

/// The median of an echo, there and back, in microseconds.
pub(crate) fn echo(pace: Pace) -> anyhow::Result<u64> {
    let mut process = Process::serve(&server::arguments(Kind::Echo, SHAPE), true)?;
    let port: u16 = process.answer()?.parse()?;
    process.tell("")?;
    let sockets = [server::bind()?];
    let mut poller = Poller::new()?;
    poller.register(&sockets[0], Token(0))?;
    let mut egress = Egress::new(EgressOptions {
        sockets: 1,
        chunks: 2,
        max_segments: 1,
    });
    let to = Destination {
        socket: 0,
        addr: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
    };
    let (mut run, mut batch) = (Run::default(), ReceiveBatch::new());
    let mut times = Vec::new();
    let end = Instant::now() + pace.window;
    while Instant::now() < end {
        std::thread::sleep(Duration::from_secs(1) / SHAPE.bursts_per_second);
        let sent = Instant::now();
        let len = SHAPE.payload + 28;
        let slot = egress.reserve(&mut run, to, len);
        slot.context("one of two chunks is free")?.commit(len);
        let _ = egress.flush(&sockets);
        // One that is lost is not waited for.
        let deadline = sent + Duration::from_millis(100);
        while Instant::now() < deadline {
            poller.wait(Some(Duration::from_millis(100)))?;
            if sockets[0].receive(&mut batch)? > 0 {
                times.push(sent.elapsed().as_micros() as u64);
                break;
            }
        }
    }
    times.sort_unstable();
    let median = times.get(times.len() / 2).copied();
    median.context("the echo is silent")
}

/// The median from publisher to receiver, in microseconds.
pub(crate) async fn node(pace: Pace) -> anyhow::Result<u64> {
    let mesh = Mesh::start()?;
    let generator = Generator::start(1)?;
    let who = |name: &str, seed| Who {
        room: "latency",
        name: name.to_owned(),
        hidden: false,
        layout: Layout::Single,
        data: true,
        mode: ReceiveMode::Full,
        seed,
        region: None,
    };
    let publisher = crowd::join(&generator, &mesh.url, who("publisher", 1)).await?;
    publisher
        .publish("media", crowd::media(SHAPE), crowd::PATIENCE)
        .await?;
    let receiver = crowd::join(&generator, &mesh.url, who("receiver", 2)).await?;
    let flows = |stats: &pipemesh_loadtest_client::stats::Stats| !stats.video_latency.is_empty();
    receiver
        .until("media flows", crowd::PATIENCE, flows)
        .await?;
    tokio::time::sleep(pace.window).await;
    let stats = receiver.stats().await.context("the generator has ended")?;
    Ok(stats.video_latency.value_at_quantile(0.5))
}
