//! The node, measured: participants with real ICE, DTLS, SRTP and RTCP, of the load generator.

use std::time::{Duration, Instant};

use anyhow::Context;
use futures_util::{StreamExt, TryStreamExt, stream};
use livekit_token::{AccessToken, VideoGrants};
use pipemesh_loadtest_client::{
    Audio, Generator, Join, Layer, Layout, Media, Participant, ReceiveMode, Video, stats::Stats,
};

use crate::lane::VERIFIED;
use crate::mesh::Mesh;
use crate::process;
use crate::{Figure, Pace, SHAPES, Shape};

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Joins that are under way at a time.
pub(crate) const AT_A_TIME: usize = 16;

/// A shape's media, at its rate exactly.
pub(crate) fn media(shape: Shape) -> Media {
    let bytes = shape.burst * shape.payload;
    let kbps = |bytes: usize| (bytes as u32 * 8 * shape.bursts_per_second).div_ceil(1_000);
    if !shape.is_video {
        return Media::Audio(Audio {
            kbps: kbps(bytes),
            ..Audio::default()
        });
    }
    // Half the packets a byte longer than the others, where there are several.
    let bytes = bytes + shape.burst / 2;
    let size = (1_280, 720);
    Media::Video(Video {
        layers: vec![Layer::new("", size, shape.bursts_per_second, kbps(bytes))],
        key_frame_every: None,
        steady: true,
    })
}

pub(crate) struct Who<'a> {
    pub(crate) room: &'a str,
    pub(crate) name: String,
    /// Others are not told of receivers: they would be, of a thousand, a million times.
    pub(crate) hidden: bool,
    pub(crate) layout: Layout,
    pub(crate) data: bool,
    pub(crate) mode: ReceiveMode,
    pub(crate) seed: u64,
    /// Where they are to be served, if it matters.
    pub(crate) region: Option<&'a str>,
}

pub(crate) async fn join(
    generator: &Generator,
    url: &str,
    who: Who<'_>,
) -> anyhow::Result<Participant> {
    let grants = VideoGrants {
        room_join: true,
        room: who.room.to_owned(),
        hidden: who.hidden,
        ..Default::default()
    };
    let token = AccessToken::with_api_key("devkey", "secret")
        .with_identity(&who.name)
        .with_grants(grants)
        .with_attributes(who.region.map(|region| ("pipemesh.region", region)))
        .to_jwt()?;
    let participant = generator
        .join(Join {
            seed: who.seed,
            mode: who.mode,
            data: who.data,
            patience: PATIENCE,
            ..Join::new(url, token, who.layout)
        })
        .await?;
    if who.data {
        participant.connected(PATIENCE).await?;
    } else {
        let secured = participant.until("it has keys", PATIENCE, |stats| stats.connected);
        secured.await?;
    }
    Ok(participant)
}

pub(crate) struct Crowd {
    mesh: Mesh,
    generator: Generator,
    publishers: Vec<Participant>,
    receivers: Vec<Participant>,
}

impl Crowd {
    pub(crate) async fn gather(shape: Shape) -> anyhow::Result<Self> {
        let mesh = Mesh::start()?;
        let generator = Generator::start(1)?;
        generator.poll();
        let mut publishers = Vec::new();
        for room in 0..shape.rooms {
            let who = Who {
                room: &room_name(room),
                name: "publisher".to_owned(),
                hidden: false,
                layout: Layout::Single,
                data: true,
                mode: ReceiveMode::Full,
                seed: room as u64 + 1,
                region: None,
            };
            let publisher = join(&generator, &mesh.url, who).await?;
            publisher.publish("media", media(shape), PATIENCE).await?;
            publishers.push(publisher);
        }
        let everybody = 0..shape.receivers_in_all();
        let receivers = stream::iter(everybody.map(async |number: usize| {
            let who = Who {
                room: &room_name(number % shape.rooms),
                name: format!("receiver-{number}"),
                hidden: true,
                layout: Layout::Single,
                data: true,
                mode: ReceiveMode::Sampled(VERIFIED as u32),
                seed: 1_000 + number as u64,
                region: None,
            };
            join(&generator, &mesh.url, who).await
        }))
        .buffer_unordered(AT_A_TIME)
        .try_collect()
        .await?;
        Ok(Self {
            mesh,
            generator,
            publishers,
            receivers,
        })
    }

    async fn totals(&self) -> anyhow::Result<Totals> {
        let mut totals = Totals::default();
        for receiver in &self.receivers {
            let stats = receiver.stats().await.context("the generator has ended")?;
            for track in &stats.tracks {
                totals.packets += track.packets;
                totals.lost += track.lost + track.missing;
                totals.recovered += track.recovered;
            }
            totals.errors += stats.integrity.errors();
            let looked_at = match stats.video_latency.is_empty() {
                true => stats.audio_latency,
                false => stats.video_latency,
            };
            totals.verified += looked_at.len();
            match &mut totals.latency {
                None => totals.latency = Some(looked_at),
                Some(sum) => sum.add(&looked_at)?,
            }
        }
        totals.drops = self.generator.load().await.socket_drops;
        Ok(totals)
    }
}

#[derive(Default)]
struct Totals {
    packets: u64,
    lost: u64,
    recovered: u64,
    errors: u64,
    verified: u64,
    drops: u64,
    latency: Option<hdrhistogram::Histogram<u32>>,
}

fn room_name(room: usize) -> String {
    format!("room-{room}")
}

impl Crowd {
    pub(crate) fn hush(&self) {
        hush(&self.publishers, true);
    }

    pub(crate) fn go_on(&self, shape: Shape) {
        go_on(&self.publishers, shape);
    }

    /// What forwarding costs the node.
    pub(crate) async fn window(&mut self, shape: Shape, pace: Pace) -> anyhow::Result<Figure> {
        self.flows().await?;
        tokio::time::sleep(pace.warm_up).await;
        let before = self.totals().await?;
        let counters = self.mesh.counters()?;
        let (cpu, own, began) = (self.mesh.node.cpu()?, process::cpu("self")?, Instant::now());
        let sent = self.sent().await?;
        tokio::time::sleep(pace.window).await;
        let sent = self.sent().await? - sent;
        let (cpu, elapsed) = (self.mesh.node.cpu()? - cpu, began.elapsed());
        let own = process::cpu("self")? - own;
        let done = self.mesh.counters()?;
        let after = self.totals().await?;
        anyhow::ensure!(after.errors == 0, "{} errors of integrity", after.errors);

        let packets = sent as f64 * shape.receivers as f64;
        anyhow::ensure!(packets > 0.0, "nothing was sent");
        let lost = (after.lost + after.recovered).saturating_sub(before.lost + before.recovered);
        let seen = after.packets - before.packets;
        let latency = match (after.latency, before.latency) {
            (Some(mut after), Some(before)) => {
                after.subtract(&before)?;
                Some((after.value_at_quantile(0.5), after.value_at_quantile(0.99)))
            }
            _ => None,
        };
        if after.drops > before.drops {
            println!("the reader lost {} packets", after.drops - before.drops);
        }
        let forwarded = (done.forwarded - counters.forwarded).max(1.0);
        Ok(Figure {
            microseconds: cpu.as_secs_f64() * 1e6 / packets,
            per_second: packets / elapsed.as_secs_f64(),
            utilisation: cpu.as_secs_f64() / elapsed.as_secs_f64(),
            loss: lost as f64 / (seen + lost) as f64,
            verified: after.verified - before.verified,
            latency,
            per_message: forwarded / (done.messages - counters.messages).max(1.0),
            reader: own.as_secs_f64() / elapsed.as_secs_f64(),
        })
    }

    /// Everybody is sent something.
    async fn flows(&self) -> anyhow::Result<()> {
        for receiver in &self.receivers {
            let count = |stats: &Stats| stats.tracks.iter().map(|track| track.packets).sum::<u64>();
            let stats = receiver.stats().await.context("the generator has ended")?;
            let before = count(&stats);
            let more = move |stats: &Stats| count(stats) > before;
            receiver.until("media flows", PATIENCE, more).await?;
        }
        Ok(())
    }

    /// What the node allocates for each packet that it forwards. Sessions have reports, checks and
    /// heartbeats whether media flows or not; what they allocate is not the packets' doing.
    pub(crate) async fn allocations(&self, pace: Pace) -> anyhow::Result<f64> {
        let busy = self.allocating().await?;
        self.hush();
        tokio::time::sleep(pace.warm_up).await;
        let idle = self.allocating().await?;
        println!(
            "allocations: {:.0} a second while {:.0} packets are forwarded, {:.0} while none is",
            busy.0, busy.1, idle.0,
        );
        Ok((busy.0 - idle.0).max(0.0) / busy.1.max(1.0))
    }

    /// Allocations and forwarded packets in a second.
    async fn allocating(&self) -> anyhow::Result<(f64, f64)> {
        /// Sessions tell how good their connections are, which takes memory, every five seconds, many of them
        /// at once.
        const WINDOW: Duration = Duration::from_secs(10);
        let (before, began) = (self.mesh.counters()?, Instant::now());
        tokio::time::sleep(WINDOW).await;
        let (after, elapsed) = (self.mesh.counters()?, began.elapsed().as_secs_f64());
        let allocations = (after.allocations - before.allocations) / elapsed;
        Ok((allocations, (after.forwarded - before.forwarded) / elapsed))
    }
}

impl Crowd {
    /// Packets that all publishers have sent.
    async fn sent(&self) -> anyhow::Result<u64> {
        let mut sent = 0;
        for publisher in &self.publishers {
            let stats = publisher.stats().await.context("the generator has ended")?;
            sent += stats.sent.packets;
        }
        Ok(sent)
    }
}

/// Publishers fall silent, or go on, all at once.
pub(crate) fn hush(publishers: &[Participant], muted: bool) {
    publishers.iter().for_each(|it| it.mute("media", muted));
}

/// They go on one after the other, spread over the time between two bursts, as what they are compared with is
/// sent: those that begin together send together, and what travels together costs less.
pub(crate) fn go_on(publishers: &[Participant], shape: Shape) {
    let between = Duration::from_secs(1) / shape.bursts_per_second;
    let begin = Instant::now();
    for (number, publisher) in (0..).zip(publishers) {
        let at = begin + between * number / shape.rooms as u32;
        std::thread::sleep(at.saturating_duration_since(Instant::now()));
        publisher.mute("media", false);
    }
}

/// CPU time per packet that arrives and goes to nobody.
pub(crate) async fn ingress(pace: Pace) -> anyhow::Result<f64> {
    let shape = Shape {
        name: "ingress",
        rooms: 100,
        receivers: 0,
        ..SHAPES[0]
    };
    let crowd = Crowd::gather(shape).await?;
    tokio::time::sleep(pace.warm_up).await;
    // What participants cost that send nothing is none of the packets' doing.
    let idle = {
        crowd.hush();
        tokio::time::sleep(pace.warm_up).await;
        let (cpu, began) = (crowd.mesh.node.cpu()?, Instant::now());
        tokio::time::sleep(pace.window).await;
        (crowd.mesh.node.cpu()? - cpu).as_secs_f64() / began.elapsed().as_secs_f64()
    };
    crowd.go_on(shape);
    tokio::time::sleep(pace.warm_up).await;
    let (sent, cpu, began) = (crowd.sent().await?, crowd.mesh.node.cpu()?, Instant::now());
    tokio::time::sleep(pace.window).await;
    let sent = crowd.sent().await? - sent;
    let cpu = (crowd.mesh.node.cpu()? - cpu).as_secs_f64();
    let cost = cpu - idle * began.elapsed().as_secs_f64();
    println!(
        "ingress: {:.2} us per packet, {:.0} packets/s of {} publishers; their sessions alone take \
         {:.1} % of a core",
        cost * 1e6 / sent as f64,
        sent as f64 / began.elapsed().as_secs_f64(),
        shape.rooms,
        100.0 * idle,
    );
    Ok(cost * 1e6 / sent as f64)
}

pub(crate) struct SessionCost {
    pub(crate) bytes: f64,
    pub(crate) join_milliseconds: f64,
}

/// What a session costs that watches one camera.
pub(crate) async fn sessions(
    layout: Layout,
    data: bool,
    pace: Pace,
) -> anyhow::Result<SessionCost> {
    let shape = Shape {
        receivers: 0,
        bursts_per_second: 30,
        ..SHAPES[0]
    };
    let sessions = (400.0 * pace.crowd) as usize;
    let mut crowd = Crowd::gather(shape).await?;
    let watch = async |crowd: &Crowd, numbers: std::ops::Range<usize>| {
        let joins = numbers.map(async |number| {
            let who = Who {
                room: &room_name(0),
                name: format!("watcher-{number}"),
                hidden: true,
                layout,
                data,
                mode: ReceiveMode::Sampled(VERIFIED as u32),
                seed: 1_000 + number as u64,
                region: None,
            };
            join(&crowd.generator, &crowd.mesh.url, who).await
        });
        let joins = stream::iter(joins).buffer_unordered(AT_A_TIME);
        joins.try_collect::<Vec<_>>().await
    };
    // What is set up once, pools and arenas, is there before the first that counts.
    crowd.receivers = watch(&crowd, 0..100).await?;
    tokio::time::sleep(pace.warm_up).await;
    let (memory, cpu, began) = (
        crowd.mesh.node.resident()?,
        crowd.mesh.node.cpu()?,
        Instant::now(),
    );
    let more = watch(&crowd, 100..100 + sessions).await?;
    let (joined, took) = (crowd.mesh.node.cpu()? - cpu, began.elapsed());
    tokio::time::sleep(pace.window).await;
    let (steady, began) = (crowd.mesh.node.cpu()?, Instant::now());
    tokio::time::sleep(pace.window).await;
    let steady = (crowd.mesh.node.cpu()? - steady).as_secs_f64() / began.elapsed().as_secs_f64();
    let memory = crowd.mesh.node.resident()?.saturating_sub(memory);
    // While they join, those who have joined are served: on average as if half were there.
    let served =
        steady * took.as_secs_f64() * (100.0 + sessions as f64 / 2.0) / (100.0 + sessions as f64);
    let cost = SessionCost {
        bytes: memory as f64 / sessions as f64,
        join_milliseconds: (joined.as_secs_f64() - served).max(0.0) * 1e3 / sessions as f64,
    };
    println!(
        "sessions, {layout:?}, {}: {:.0} bytes and {:.2} ms of CPU each; {} joins in {took:.1?}",
        if data { "with data" } else { "media only" },
        cost.bytes,
        cost.join_milliseconds,
        more.len(),
    );
    Ok(cost)
}
