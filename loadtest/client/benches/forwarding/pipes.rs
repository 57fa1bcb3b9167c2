//! What a pipe costs the node it leaves and the node it comes to, beside QUIC alone (`bare`).
//!
//! Publishers are on one node and as many watchers on another, one for each: every packet goes over the
//! pipe once. What is a pipe's, a link's task and QUIC's, runs on tokio's threads, and a client's media on
//! shards: so the pipe's cost is that of all threads but the shards, less what those take while nobody
//! sends. Windows of QUIC alone and of the nodes follow each other. Who is measured has the first core,
//! whoever it speaks to and everybody else the second.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use pipemesh_loadtest_client::stats::Stats;
use pipemesh_loadtest_client::{Generator, Layout, Participant, ReceiveMode};

use crate::bare::Bare;
use crate::crowd::{self, PATIENCE, Who, go_on, hush};
use crate::lane::{POLL_EVERY, Publisher, VERIFIED};
use crate::process::{Core, Shares};
use crate::report::{MOST_LOSS, Report, quartiles};
use crate::span::{HERE, Span, THERE};
use crate::{Pace, SHAPES, Shape};

/// Of each side at each rate, of QUIC and of the nodes; an odd number.
const ROUNDS: usize = 11;
/// A pipe may cost so many times what QUIC alone does.
const MOST_OVER_QUIC: f64 = 1.5;
/// What a datagram of a pipe has beyond its packet's payload: headers and extensions of RTP, and its own.
const HEADERS: usize = 56;
/// The pipe has carried each packet once, but for what is asked for again and what was under way.
const ONCE: std::ops::Range<f64> = 0.97..1.03;

/// Packets alone, and four at a time.
const RATES: [Shape; 2] = [
    Shape {
        name: "10k",
        rooms: 50,
        receivers: 1,
        bursts_per_second: 200,
        ..SHAPES[0]
    },
    Shape {
        name: "50k",
        rooms: 50,
        receivers: 1,
        bursts_per_second: 250,
        burst: 4,
        ..SHAPES[0]
    },
];

/// Which end of a pipe.
#[derive(Debug, Clone, Copy)]
enum Side {
    Egress,
    Ingress,
}

impl Side {
    const BOTH: [Self; 2] = [Self::Egress, Self::Ingress];

    fn name(self) -> &'static str {
        match self {
            Self::Egress => "egress",
            Self::Ingress => "ingress",
        }
    }

    /// Where who sends runs, and who receives.
    fn cores(self) -> [Core; 2] {
        match self {
            Self::Egress => [Core::Measured, Core::Other],
            Self::Ingress => [Core::Other, Core::Measured],
        }
    }
}

/// Microseconds of CPU per packet.
#[derive(Debug, Clone, Copy)]
struct Window {
    bare: f64,
    pipe: f64,
    /// The shards' of the same node.
    shards: f64,
    per_second: f64,
    loss: f64,
}

/// Both ends at both rates.
pub(crate) async fn measure(pace: Pace, report: &mut Report) -> anyhow::Result<()> {
    for shape in RATES {
        let mut stage = Stage::build(shape).await?;
        let piped = stage.piped()?;
        let published = stage.sent().await?;
        let mut windows = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            for (side, windows) in Side::BOTH.into_iter().zip(&mut windows) {
                let window = stage.round(side, pace).await?;
                println!(
                    "pipe_{}, {}: QUIC alone {:.3} us/packet, pipe {:.3}, the node's shard {:.3}; {:.0} packets/s, \
                     loss {:.3} %",
                    shape.name,
                    side.name(),
                    window.bare,
                    window.pipe,
                    window.shards,
                    window.per_second,
                    100.0 * window.loss,
                );
                windows.push(window);
            }
        }
        tokio::time::sleep(pace.warm_up).await;
        let published = (stage.sent().await? - published) as f64;
        let piped = stage.piped()? - piped;
        ensure!(
            ONCE.contains(&(piped / published)),
            "{published} packets were published, and {piped} went over the pipe"
        );
        for (side, windows) in Side::BOTH.into_iter().zip(windows) {
            tell(shape, side, &windows, report);
        }
    }
    Ok(())
}

/// Of times the best window, of ratios the median.
fn tell(shape: Shape, side: Side, windows: &[Window], report: &mut Report) {
    let least = |of: fn(&Window) -> f64| windows.iter().map(of).fold(f64::MAX, f64::min);
    let (bare, pipe, shards) = (
        least(|window| window.bare),
        least(|window| window.pipe),
        least(|window| window.shards),
    );
    let mut ratios: Vec<f64> = windows.iter().map(|it| it.pipe / it.bare).collect();
    let [low, ratio, high] = quartiles(&mut ratios);
    let [_, loss, _] = quartiles(&mut windows.iter().map(|it| it.loss).collect::<Vec<_>>());
    let valid = if loss > MOST_LOSS { "NOT VALID: " } else { "" };
    println!(
        "\npipe_{}, {}: {valid}pipe {pipe:.3} us/packet, QUIC alone {bare:.3}, of windows that follow each \
         other {ratio:.3} ({low:.3} to {high:.3}); the node's shard {shards:.3} us/packet, loss {:.3} %\n",
        shape.name,
        side.name(),
        100.0 * loss,
    );
    let name = |what: &str| format!("pipe_{}_{what}_{}", side.name(), shape.name);
    report.add(&name("us"), pipe, "us", bare);
    report.add(&name("over_quinn"), ratio, "ratio", MOST_OVER_QUIC);
    report.add(&name("shard_us"), shards, "us", 0.0);
}

/// Publishers, watchers, two nodes; and beside them QUIC alone.
struct Stage {
    shape: Shape,
    bare: Bare,
    // They leave before the nodes do.
    publishers: Vec<Participant>,
    watchers: Vec<Participant>,
    _generator: Generator,
    span: Span,
}

impl Stage {
    async fn build(shape: Shape) -> anyhow::Result<Self> {
        let span = Span::start()?;
        let generator = Generator::start(1)?;
        generator.poll();
        let (mut publishers, mut watchers) = (Vec::new(), Vec::new());
        for room in 0..shape.rooms {
            let name = format!("room-{room}");
            let publisher = who(&name, "publisher", HERE, 1 + room as u64);
            let publisher = crowd::join(&generator, &span.url, publisher).await?;
            let media = crowd::media(shape);
            publisher.publish("media", media, PATIENCE).await?;
            publishers.push(publisher);
            let watcher = who(&name, "watcher", THERE, 1_000 + room as u64);
            watchers.push(crowd::join(&generator, &span.url, watcher).await?);
        }
        Ok(Self {
            shape,
            bare: Bare::start(shape.payload + HEADERS)?,
            publishers,
            watchers,
            _generator: generator,
            span,
        })
    }

    /// QUIC alone while the nodes are idle, then the nodes.
    async fn round(&mut self, side: Side, pace: Pace) -> anyhow::Result<Window> {
        hush(&self.publishers, true);
        let [sender, receiver] = side.cores();
        self.bare.place(sender, receiver)?;
        self.span.here.process.move_to(sender)?;
        self.span.there.process.move_to(receiver)?;

        let mut publisher = Publisher::new(self.shape, self.bare.port, Instant::now())?;
        publish(&mut publisher, pace.warm_up);
        let (before, idle) = (self.bare(side)?, self.node(side)?);
        let began = Instant::now();
        publish(&mut publisher, pace.window);
        let (after, idled) = (self.bare(side)?, self.node(side)?);
        let idle = (idled.others - idle.others).as_secs_f64() / began.elapsed().as_secs_f64();
        let bare = (after.0 - before.0).as_secs_f64() / (after.1 - before.1) as f64;
        drop(publisher);

        go_on(&self.publishers, self.shape);
        flow(&self.watchers).await?;
        tokio::time::sleep(pace.warm_up).await;
        let before = (self.received().await?, self.sent().await?);
        let (cpu, began) = (self.node(side)?, Instant::now());
        tokio::time::sleep(pace.window).await;
        let (used, elapsed) = (self.node(side)?, began.elapsed().as_secs_f64());
        let sent = (self.sent().await? - before.1) as f64;
        let received = self.received().await?;
        let lost = received.lost - before.0.lost;
        ensure!(received.errors == 0, "{} errors", received.errors);
        let pipe = (used.others - cpu.others).as_secs_f64() - idle * elapsed;
        let shards = (used.shards - cpu.shards).as_secs_f64();
        Ok(Window {
            bare: 1e6 * bare,
            pipe: 1e6 * pipe / sent,
            shards: 1e6 * shards / sent,
            per_second: sent / elapsed,
            loss: lost as f64 / sent,
        })
    }

    fn node(&self, side: Side) -> anyhow::Result<Shares> {
        match side {
            Side::Egress => self.span.here.process.shares(),
            Side::Ingress => self.span.there.process.shares(),
        }
    }

    /// CPU time and datagrams.
    fn bare(&mut self, side: Side) -> anyhow::Result<(Duration, u64)> {
        let [sent, received] = self.bare.counts()?;
        let [sender, receiver] = self.bare.shares()?;
        Ok(match side {
            Side::Egress => (sender.others, sent),
            Side::Ingress => (receiver.others, received),
        })
    }

    async fn sent(&self) -> anyhow::Result<u64> {
        sent(&self.publishers).await
    }

    async fn received(&self) -> anyhow::Result<Received> {
        received(&self.watchers).await
    }

    /// The other node's word; the first one's has to be the same.
    fn piped(&self) -> anyhow::Result<f64> {
        self.span.there.piped("in")
    }
}

fn publish(publisher: &mut Publisher, time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        publisher.send(Instant::now());
        std::thread::sleep(POLL_EVERY);
    }
}

fn who<'a>(room: &'a str, name: &str, region: &'a str, seed: u64) -> Who<'a> {
    Who {
        room,
        name: name.to_owned(),
        hidden: false,
        layout: Layout::Single,
        data: true,
        mode: ReceiveMode::Sampled(VERIFIED as u32),
        seed,
        region: Some(region),
    }
}

async fn stats(participant: &Participant) -> anyhow::Result<Stats> {
    participant.stats().await.context("the generator has ended")
}

fn count(stats: &Stats) -> u64 {
    stats.tracks.iter().map(|track| track.packets).sum()
}

/// Every one of them is sent something.
async fn flow(watchers: &[Participant]) -> anyhow::Result<()> {
    for watcher in watchers {
        let before = count(&stats(watcher).await?);
        let more = move |stats: &Stats| count(stats) > before;
        watcher.until("media flows", PATIENCE, more).await?;
    }
    Ok(())
}

async fn sent(publishers: &[Participant]) -> anyhow::Result<u64> {
    let mut sent = 0;
    for publisher in publishers {
        sent += stats(publisher).await?.sent.packets;
    }
    Ok(sent)
}

/// What watchers have seen.
struct Received {
    packets: u64,
    lost: u64,
    errors: u64,
}

async fn received(watchers: &[Participant]) -> anyhow::Result<Received> {
    let mut received = Received {
        packets: 0,
        lost: 0,
        errors: 0,
    };
    for watcher in watchers {
        let stats = stats(watcher).await?;
        received.packets += count(&stats);
        let lost = stats
            .tracks
            .iter()
            .map(|track| track.lost + track.recovered);
        received.lost += lost.sum::<u64>();
        received.errors += stats.integrity.errors();
    }
    Ok(received)
}

/// What a packet costs a node that sends it to so many watchers, and comes over a pipe, over what it costs
/// if it is published there. The node's threads all together.
pub(crate) async fn watchers(pace: Pace, report: &mut Report) -> anyhow::Result<()> {
    const WATCHERS: usize = 200;
    let shape = Shape {
        name: "watchers_200",
        receivers: WATCHERS,
        bursts_per_second: 100,
        burst: 4,
        ..SHAPES[0]
    };
    let span = Span::start()?;
    // The node that is measured is the second.
    span.here.process.move_to(Core::Other)?;
    let generator = Generator::start(1)?;
    generator.poll();
    let (mut publishers, mut tracks) = (Vec::new(), Vec::new());
    for (seed, region) in [(1, THERE), (2, HERE)] {
        let publisher = who("hall", region, region, seed);
        let publisher = crowd::join(&generator, &span.url, publisher).await?;
        let track = publisher.publish("media", crowd::media(shape), PATIENCE);
        tracks.push(track.await?);
        publishers.push([publisher]);
    }
    // Nothing is to go the other way.
    for [publisher] in &publishers {
        tracks
            .iter()
            .for_each(|sid| publisher.subscribe(sid, false));
    }
    let mut watchers = Vec::new();
    for number in 0..WATCHERS as u64 {
        let watcher = Who {
            hidden: true,
            ..who("hall", &format!("watcher-{number}"), THERE, 1_000 + number)
        };
        watchers.push(crowd::join(&generator, &span.url, watcher).await?);
    }
    let (mut best, mut ratios) = ([f64::MAX; 2], Vec::new());
    for _ in 0..ROUNDS {
        let mut costs = [0.0; 2];
        for (own, publisher) in publishers.iter().enumerate() {
            for (other, publisher) in publishers.iter().enumerate() {
                hush(publisher, other != own);
            }
            flow(&watchers).await?;
            tokio::time::sleep(pace.warm_up).await;
            let (before, sent_before) = (received(&watchers).await?, sent(publisher).await?);
            let cpu = span.there.process.cpu()?;
            tokio::time::sleep(pace.window).await;
            let cpu = span.there.process.cpu()? - cpu;
            let sent = (sent(publisher).await? - sent_before) as f64 * WATCHERS as f64;
            let after = received(&watchers).await?;
            costs[own] = 1e6 * cpu.as_secs_f64() / sent;
            println!(
                "pipe_watchers_200, {}: {:.3} us/packet, {:.1} % received, loss {:.3} %",
                ["local", "behind a pipe"][own],
                costs[own],
                100.0 * (after.packets - before.packets) as f64 / sent,
                100.0 * (after.lost - before.lost) as f64 / sent,
            );
        }
        let [local, piped] = costs;
        ratios.push(piped / local);
        best = [best[0].min(local), best[1].min(piped)];
    }
    let [low, ratio, high] = quartiles(&mut ratios);
    let [local, piped] = best;
    println!(
        "\npipe_watchers_200: {piped:.3} us/packet behind a pipe, {local:.3} local, of windows that follow each \
         other {ratio:.3} ({low:.3} to {high:.3})\n"
    );
    report.add("pipe_watchers_200_us", piped, "us", local);
    report.add("pipe_watchers_200_over_local", ratio, "ratio", 1.0);
    Ok(())
}

/// What a pipe adds to a packet's way from its publisher, in microseconds: medians, of two rooms in turn.
pub(crate) async fn hop(pace: Pace) -> anyhow::Result<f64> {
    let span = Span::start()?;
    span.there.process.move_to(Core::Other)?;
    let generator = Generator::start(1)?;
    let mut pairs = Vec::new();
    for (seed, region) in [(1, HERE), (2, THERE)] {
        let publisher = who(region, "publisher", HERE, seed);
        let publisher = crowd::join(&generator, &span.url, publisher).await?;
        publisher
            .publish("media", crowd::media(SHAPES[0]), PATIENCE)
            .await?;
        let watcher = Who {
            mode: ReceiveMode::Full,
            ..who(region, "watcher", region, 10 + seed)
        };
        let watcher = crowd::join(&generator, &span.url, watcher).await?;
        pairs.push(([publisher], [watcher]));
    }
    let mut added = Vec::new();
    for _ in 0..ROUNDS {
        let mut medians = [0.0; 2];
        for ((own, (publisher, watcher)), median) in pairs.iter().enumerate().zip(&mut medians) {
            for (other, (publisher, _)) in pairs.iter().enumerate() {
                hush(publisher, other != own);
            }
            hush(publisher, false);
            flow(watcher).await?;
            tokio::time::sleep(pace.warm_up).await;
            let before = stats(&watcher[0]).await?.video_latency;
            tokio::time::sleep(pace.window).await;
            let mut times = stats(&watcher[0]).await?.video_latency;
            times.subtract(&before)?;
            *median = times.value_at_quantile(0.5) as f64;
        }
        let [local, piped] = medians;
        println!("pipe_hop: p50 {local:.0} us on one node, {piped:.0} us through a pipe");
        added.push(piped - local);
    }
    let [low, median, high] = quartiles(&mut added);
    println!("pipe_hop: {median:.0} us more (p50; {low:.0} to {high:.0})");
    Ok(median)
}
