//! How many participants a core carries, and what each costs: rooms of one speaker and many viewers
//! against a mesh that runs already, for example `pipemesh-dev`.
//!
//! `cargo run --release -p pipemesh-loadtest-client --example crowd -- http://127.0.0.1:7880 4 25 full`:
//! four rooms of 25 viewers; `full`, `sampled` or `drain`.

#![allow(clippy::print_stdout, reason = "the figures are what it is for")]

use std::time::Duration;

use anyhow::{Context, bail};
use livekit_token::{AccessToken, VideoGrants};
use pipemesh_loadtest_client::{
    Audio, Generator, Join, Layout, Media, Participant, ReceiveMode, Video,
};

const PATIENCE: Duration = Duration::from_secs(30);
const WARM_UP: Duration = Duration::from_secs(2);
const WINDOW: Duration = Duration::from_secs(8);
/// Of `sampled`.
const ONE_IN: u32 = 20;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, rooms, viewers, mode] = arguments.as_slice() else {
        bail!("usage: crowd <url> <rooms> <viewers per room> full|sampled|drain");
    };
    let (rooms, viewers): (usize, usize) = (rooms.parse()?, viewers.parse()?);
    let mode = match mode.as_str() {
        "full" => ReceiveMode::Full,
        "sampled" => ReceiveMode::Sampled(ONE_IN),
        "drain" => ReceiveMode::Drain,
        other => bail!("{other} is no mode"),
    };
    let generator = Generator::start(1)?;
    let before = resident()?;
    let mut speakers = Vec::new();
    let mut crowd = Vec::new();
    for room in 0..rooms {
        let room = format!("crowd-{room}");
        let speaker = generator
            .join(join(url, &room, "speaker", 0, ReceiveMode::Full)?)
            .await?;
        speaker.connected(PATIENCE).await?;
        speaker
            .publish("camera", Media::Video(Video::simulcast()), PATIENCE)
            .await?;
        speaker
            .publish("voice", Media::Audio(Audio::default()), PATIENCE)
            .await?;
        speakers.push(speaker);
        for viewer in 0..viewers {
            let seed = crowd.len() as u64 + 1;
            let join = join(url, &room, &format!("viewer-{viewer}"), seed, mode)?;
            let participant = generator.join(join).await?;
            participant.connected(PATIENCE).await?;
            crowd.push(participant);
        }
    }
    tokio::time::sleep(WARM_UP).await;
    let (start, load) = (totals(&crowd).await?, generator.load().await);
    tokio::time::sleep(WINDOW).await;
    let (end, after) = (totals(&crowd).await?, generator.load().await);

    let cpu = (after.cpu - load.cpu).as_secs_f64();
    let packets = end.packets - start.packets;
    let people = crowd.len() + speakers.len();
    println!(
        "{people} participants, {mode:?}: {:.0} packets/s, {:.0} Mbit/s received; generator thread \
         {:.0} % of a core, {:.2} us a packet; {:.0} participants a core",
        packets as f64 / WINDOW.as_secs_f64(),
        (end.bytes - start.bytes) as f64 * 8e-6 / WINDOW.as_secs_f64(),
        100.0 * cpu / WINDOW.as_secs_f64(),
        1e6 * cpu / packets as f64,
        people as f64 * WINDOW.as_secs_f64() / cpu,
    );
    println!(
        "memory {:.0} kB a participant; lag at most {:?}; socket drops {}, send drops {}; \
         {} errors of integrity, {} lost, {} frozen; latency p50 {} us, p99 {} us",
        (resident()? - before) as f64 / 1e3 / people as f64,
        after.lag,
        after.socket_drops - load.socket_drops,
        after.send_drops,
        end.errors,
        end.lost,
        end.freezes,
        end.latency.0,
        end.latency.1,
    );
    Ok(())
}

fn join(
    url: &str,
    room: &str,
    identity: &str,
    seed: u64,
    mode: ReceiveMode,
) -> anyhow::Result<Join> {
    let grants = VideoGrants {
        room_join: true,
        room: room.to_owned(),
        ..Default::default()
    };
    let token = AccessToken::with_api_key("devkey", "secret")
        .with_identity(identity)
        .with_grants(grants)
        .to_jwt()?;
    Ok(Join {
        seed,
        mode,
        ..Join::new(url, token, Layout::Single)
    })
}

#[derive(Default)]
struct Totals {
    packets: u64,
    bytes: u64,
    lost: u64,
    errors: u64,
    freezes: u64,
    latency: (u64, u64),
}

async fn totals(crowd: &[Participant]) -> anyhow::Result<Totals> {
    let mut totals = Totals::default();
    let mut latencies = None;
    for participant in crowd {
        let stats = participant
            .stats()
            .await
            .context("the generator has ended")?;
        totals.packets += stats.drained_packets;
        totals.bytes += stats.drained_bytes;
        totals.errors += stats.integrity.errors();
        for track in &stats.tracks {
            totals.packets += track.packets;
            totals.bytes += track.bytes;
            totals.lost += track.lost;
            totals.freezes += track.frames.freezes;
        }
        match &mut latencies {
            None => latencies = Some(stats.video_latency),
            Some(sum) => sum.add(&stats.video_latency)?,
        }
    }
    if let Some(latencies) = latencies {
        let at = |quantile| latencies.value_at_quantile(quantile);
        totals.latency = (at(0.5), at(0.99));
    }
    Ok(totals)
}

/// Of the platforms we run on.
const PAGE: u64 = 4_096;

/// Memory of this process, in bytes.
fn resident() -> anyhow::Result<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = statm.split(' ').nth(1).context("statm")?.parse()?;
    Ok(pages * PAGE)
}
