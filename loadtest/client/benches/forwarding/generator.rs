//! What the load-test harness itself can do on a core of its own: people who watch, people who come and go,
//! memory; and whether it says so when it is given more than it can.
//!
//! `pipemesh-loadtest` runs as people run it, with scripts. Node, signaling and speakers have the other core,
//! so that all that counts here is its own.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use pipemesh_loadtest_client::{Generator, Layout, Participant, ReceiveMode};
use serde_json::Value;
use tokio::time::sleep;

use crate::crowd::{AT_A_TIME, Who, join, media};
use crate::mesh::{Mesh, PATIENCE, binary, free_tcp, get};
use crate::process::Process;
use crate::report::{MOST_LOSS, Report, quartiles};
use crate::{Pace, SHAPES, Shape};

/// This program, as one that joins without scripts.
pub(crate) const WATCHERS: &str = "watchers";

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/forwarding/generator");

/// One of six speakers is large, five are small: 160 packets a second, 20 of each small one, 50 of each voice.
const SPEAKERS: usize = 6;
const PACKETS: f64 = 560.0;
const TRACKS: usize = 2 * SPEAKERS;
const LARGE: Shape = Shape {
    bursts_per_second: 32,
    burst: 5,
    ..SHAPES[0]
};
const SMALL: Shape = Shape {
    bursts_per_second: 20,
    payload: 900,
    ..SHAPES[0]
};
const VOICE: Shape = Shape {
    bursts_per_second: 50,
    payload: 80,
    is_video: false,
    ..SHAPES[0]
};

const WATCHING: usize = 200;
/// The goal: so many of them in this share of a core.
const MANY: usize = 500;
const SHARE: f64 = 0.65;
const GOAL: f64 = SHARE * 1e6 / (MANY as f64 * PACKETS);
/// … each in so much memory.
const MOST_BYTES: f64 = (512 << 10) as f64;

/// Of each mode, in turn, and windows of each.
const ROUNDS: usize = 3;
const WINDOWS: usize = 5;

/// People who come and go at the same time: as many as keep whoever is slowest busy.
const VISITORS: usize = 64;
const VISITING: Duration = Duration::from_secs(8);

/// Between these two the difference is what a user takes.
const FEW: usize = 100;
const MORE: usize = 400;

/// Runs a script, on the core that is measured.
struct Program {
    process: Process,
    address: SocketAddr,
}

impl Program {
    fn start(
        mesh: &Mesh,
        script: &str,
        arguments: &[&str],
        variables: &[(&str, String)],
    ) -> anyhow::Result<Self> {
        let address = free_tcp()?;
        let mut all: Vec<String> = ["run", "--quiet", "--no-color", "--address"]
            .map(str::to_owned)
            .into();
        all.push(address.to_string());
        all.extend(arguments.iter().map(|it| (*it).to_owned()));
        let url = ("SFU_URL", mesh.url.clone());
        for (name, value) in variables.iter().chain([&url]) {
            all.extend(["--env".to_owned(), format!("{name}={value}")]);
        }
        all.push(Path::new(SCRIPTS).join(script).display().to_string());
        let process = Process::start(&binary("pipemesh-loadtest")?, &all, true)?;
        Ok(Self { process, address })
    }

    fn watchers(mesh: &Mesh, count: usize, mode: &str) -> anyhow::Result<Self> {
        let variables = [
            ("WATCHERS", count.to_string()),
            ("TRACKS", TRACKS.to_string()),
            ("START", "3s".to_owned()),
            ("DURATION", "10m".to_owned()),
        ];
        Self::start(mesh, "watch.js", &["--receive", mode], &variables)
    }

    fn told(&self, path: &str) -> Option<Value> {
        let answer = get(self.address, path)?;
        let (_, body) = answer.split_once("\r\n\r\n")?;
        serde_json::from_str(body).ok()
    }

    /// A value of a metric, until now. None without samples.
    fn value(&self, metric: &str, value: &str) -> Option<f64> {
        let told = self.told(&format!("/v1/metrics/{metric}"))?;
        told["data"]["attributes"]["sample"][value].as_f64()
    }

    /// Scripts are loaded, and the test has begun.
    async fn begun(&self) -> anyhow::Result<()> {
        let is_running = || {
            let told = self.told("/v1/status")?;
            told["data"]["attributes"]["running"].as_bool()
        };
        until("scripts are loaded", || Ok(is_running() == Some(true))).await
    }
}

/// Looks ten times a second.
async fn until(what: &str, mut is_so: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE * 3;
    while !is_so()? {
        ensure!(Instant::now() < deadline, "in vain: {what}");
        sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// A mesh with six speakers in its only room.
struct Stage {
    mesh: Mesh,
    _speakers: Vec<Participant>,
    _generator: Generator,
}

impl Stage {
    async fn start() -> anyhow::Result<Self> {
        let mesh = Mesh::start_beside()?;
        let generator = Generator::start(1)?;
        let mut speakers = Vec::new();
        for number in 0..SPEAKERS {
            let who = who(format!("speaker-{number}"), false, number);
            let speaker = join(&generator, &mesh.url, who).await?;
            let camera = if number == 0 { LARGE } else { SMALL };
            speaker.publish("camera", media(camera), PATIENCE).await?;
            speaker.publish("voice", media(VOICE), PATIENCE).await?;
            speakers.push(speaker);
        }
        Ok(Self {
            mesh,
            _speakers: speakers,
            _generator: generator,
        })
    }

    /// Until everybody is sent all that there is.
    async fn flows(&self, watchers: usize) -> anyhow::Result<()> {
        let expected = PACKETS * watchers as f64;
        let deadline = Instant::now() + PATIENCE * 3;
        loop {
            let (before, began) = (self.mesh.counters()?.forwarded, Instant::now());
            sleep(Duration::from_secs(1)).await;
            let sent = self.mesh.counters()?.forwarded - before;
            let rate = sent / began.elapsed().as_secs_f64();
            if rate > 0.97 * expected {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "{rate:.0} packets a second, not {expected:.0}"
            );
        }
    }

    async fn window(&self, program: &Program, time: Duration) -> anyhow::Result<Window> {
        let (cpu, node) = (program.process.cpu()?, self.mesh.node.cpu()?);
        let (sent, began) = (self.mesh.counters()?.forwarded, Instant::now());
        sleep(time).await;
        let packets = self.mesh.counters()?.forwarded - sent;
        let elapsed = began.elapsed().as_secs_f64();
        let cpu = (program.process.cpu()? - cpu).as_secs_f64();
        let node = (self.mesh.node.cpu()? - node).as_secs_f64();
        ensure!(packets > 0.0, "nothing was sent");
        Ok(Window {
            microseconds: 1e6 * cpu / packets,
            core: cpu / elapsed,
            node: node / elapsed,
            per_second: packets / elapsed,
        })
    }
}

fn who<'a>(name: String, hidden: bool, number: usize) -> Who<'a> {
    Who {
        room: "room-0",
        name,
        hidden,
        layout: Layout::Single,
        data: true,
        mode: ReceiveMode::Sampled(20),
        seed: 1 + number as u64,
        region: None,
    }
}

struct Window {
    microseconds: f64,
    /// Share of its core.
    core: f64,
    /// The node's, of the other one.
    node: f64,
    per_second: f64,
}

/// What a packet costs that is received, in each of the ways to receive, in turn.
pub(crate) async fn watchers(pace: Pace, report: &mut Report) -> anyhow::Result<()> {
    const MODES: [&str; 3] = ["sampled", "full", "drain"];
    let stage = Stage::start().await?;
    let count = (WATCHING as f64 * pace.crowd) as usize;
    let mut costs = MODES.map(|_| Vec::new());
    for _ in 0..ROUNDS {
        for (mode, costs) in MODES.iter().zip(&mut costs) {
            costs.extend(watch(&stage, count, mode, pace).await?.0);
        }
    }
    println!("\nwatchers: {count} of {TRACKS} tracks, {PACKETS} packets a second to each");
    for (mode, mut costs) in MODES.iter().zip(costs) {
        let [low, cost, high] = quartiles(&mut costs);
        let watchers = 1e6 / (PACKETS * cost);
        println!(
            "  {mode:<8} {cost:.3} us/packet ({low:.3} to {high:.3}, best {:.3}), {watchers:.0} watchers per core",
            costs[0]
        );
        let (most, least) = match *mode {
            "sampled" => (GOAL, MANY as f64 / SHARE),
            _ => (0.0, 0.0),
        };
        let name = format!("generator_cpu_us_per_packet_{mode}");
        report.add(&name, cost, "us", most);
        let name = format!("generator_watchers_per_core_{mode}");
        report.add(&name, watchers, "1", least);
    }
    let many = (MANY as f64 * pace.crowd) as usize;
    let (_, mut cores) = watch(&stage, many, "sampled", pace).await?;
    let [low, core, high] = quartiles(&mut cores);
    println!("  {many} watchers, sampled: {core:.3} of a core ({low:.3} to {high:.3})");
    let name = format!("generator_core_{many}_watchers");
    report.add(&name, core, "core", SHARE * pace.crowd);
    Ok(())
}

/// So many of them: each window's cost of a packet, and share of the core.
async fn watch(
    stage: &Stage,
    count: usize,
    mode: &str,
    pace: Pace,
) -> anyhow::Result<(Vec<f64>, Vec<f64>)> {
    let program = Program::watchers(&stage.mesh, count, mode)?;
    stage.flows(count).await?;
    sleep(pace.warm_up).await;
    let (mut costs, mut cores) = (Vec::new(), Vec::new());
    for _ in 0..WINDOWS {
        let window = stage.window(&program, pace.window * 2).await?;
        println!(
            "{count} watchers, {mode}: {:.3} us/packet at {:.0}/s, {:.1} % of a core (node {:.0} %)",
            window.microseconds,
            window.per_second,
            100.0 * window.core,
            100.0 * window.node,
        );
        costs.push(window.microseconds);
        cores.push(window.core);
    }
    let loss = program.value("rtc_packet_loss", "rate").unwrap_or(0.0);
    let drops = program.value("gen_socket_drops", "count").unwrap_or(0.0);
    if loss > MOST_LOSS || drops > 0.0 {
        println!(
            "NOT VALID: loss {:.3} %, {drops} packets dropped by its sockets",
            100.0 * loss
        );
    }
    Ok((costs, cores))
}

/// Joins: each reaches media and leaves.
pub(crate) async fn joins(pace: Pace, report: &mut Report) -> anyhow::Result<()> {
    let stage = Stage::start().await?;
    let (mut rates, mut costs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let variables = [("VISITORS", VISITORS.to_string())];
        let program = Program::start(&stage.mesh, "visit.js", &[], &variables)?;
        program.begun().await?;
        sleep(2 * pace.warm_up).await;
        let visits = || program.value("iterations", "count").context("nobody came");
        let (before, cpu, began) = (visits()?, program.process.cpu()?, Instant::now());
        let (node, signaling) = (stage.mesh.node.cpu()?, stage.mesh.signaling.cpu()?);
        sleep(VISITING).await;
        let visits = visits()? - before;
        let elapsed = began.elapsed().as_secs_f64();
        let cpu = (program.process.cpu()? - cpu).as_secs_f64();
        let node = (stage.mesh.node.cpu()? - node).as_secs_f64();
        let signaling = (stage.mesh.signaling.cpu()? - signaling).as_secs_f64();
        let failed = program.value("sfu_join_failed", "rate").unwrap_or(0.0);
        println!(
            "visits: {:.0} a second, {:.3} ms of CPU each, {:.0} % of a core (node {:.0} %, signaling {:.0} %), {:.2} % failed",
            visits / elapsed,
            1e3 * cpu / visits,
            100.0 * cpu / elapsed,
            100.0 * node / elapsed,
            100.0 * signaling / elapsed,
            100.0 * failed,
        );
        rates.push(visits / elapsed);
        costs.push(1e3 * cpu / visits);
    }
    let ([_, rate, _], [_, cost, _]) = (quartiles(&mut rates), quartiles(&mut costs));
    report.add("generator_joins_per_second", rate, "1/s", 0.0);
    report.add("generator_join_cpu_ms", cost, "ms", 0.0);
    Ok(())
}

/// What a user takes: with a script, and without.
pub(crate) async fn memory(pace: Pace, report: &mut Report) -> anyhow::Result<()> {
    let stage = Stage::start().await?;
    let mut sizes = Vec::new();
    for count in [FEW, MORE] {
        let program = Program::watchers(&stage.mesh, count, "sampled")?;
        program.begun().await?;
        let loaded = program.process.resident()?;
        stage.flows(count).await?;
        sleep(3 * pace.window).await;
        sizes.push((loaded, program.process.resident()?));
    }
    let each = |few: u64, more: u64| more.saturating_sub(few) as f64 / (MORE - FEW) as f64;
    let (script, user) = (each(sizes[0].0, sizes[1].0), each(sizes[0].1, sizes[1].1));

    let arguments = ["--serve", WATCHERS, &stage.mesh.url].map(str::to_owned);
    // As the harness has it: in small pages.
    let environment = [("MALLOC_CONF", "thp:default".to_owned())];
    let program = std::env::current_exe()?;
    let mut bare = Process::start_with(&program, &arguments, &environment, true)?;
    let mut sizes = Vec::new();
    for count in [FEW, MORE] {
        bare.tell(&count.to_string())?;
        bare.answer()?;
        stage.flows(count).await?;
        sleep(3 * pace.window).await;
        sizes.push(bare.resident()?);
    }
    let participant = each(sizes[0], sizes[1]);
    println!(
        "memory of a user: {user:.0} bytes, of which {script:.0} its script; {participant:.0} without one, nor what is measured of it"
    );
    report.add("generator_bytes_per_user", user, "B", MOST_BYTES);
    report.add("generator_bytes_per_script", script, "B", 0.0);
    report.add("generator_bytes_per_participant", participant, "B", 0.0);
    Ok(())
}

/// Joins as many as it is told to, again and again: how many there are to be.
pub(crate) fn serve(rest: &[String]) -> Option<anyhow::Result<()>> {
    let [kind, url] = rest else { return None };
    (kind == WATCHERS).then(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(stay(url))
    })
}

async fn stay(url: &str) -> anyhow::Result<()> {
    let generator = Generator::start(1)?;
    let mut watchers: Vec<Participant> = Vec::new();
    loop {
        // Signaling is kept alive meanwhile.
        let line = tokio::task::spawn_blocking(|| {
            let mut line = String::new();
            std::io::stdin().read_line(&mut line).map(|_| line)
        });
        let line = line.await??;
        if line.is_empty() {
            return Ok(());
        }
        let missing = watchers.len()..line.trim().parse()?;
        let joins = missing.map(async |number| {
            let who = who(format!("watcher-{number}"), true, 100 + number);
            join(&generator, url, who).await
        });
        let joins = stream::iter(joins).buffer_unordered(AT_A_TIME);
        watchers.extend(joins.try_collect::<Vec<_>>().await?);
        println!("{}", watchers.len());
    }
}

/// More than it can bear, on purpose: scripts that compute, beside media on the same core.
pub(crate) async fn saturation(report: &mut Report) -> anyhow::Result<()> {
    let stage = Stage::start().await?;
    let variables = [
        ("WATCHERS", FEW.to_string()),
        ("TRACKS", TRACKS.to_string()),
        ("START", "1s".to_owned()),
        ("DURATION", "12s".to_owned()),
        ("BUSY", "50".to_owned()),
    ];
    let mut program = Program::start(
        &stage.mesh,
        "watch.js",
        &["--fail-on-saturation"],
        &variables,
    )?;
    let (output, code) = tokio::task::spawn_blocking(move || program.process.end()).await??;
    let said: Vec<&str> = output
        .lines()
        .filter(|line| line.contains("saturated") || line.contains("gen_"))
        .collect();
    println!(
        "overloaded on purpose: exit code {code}\n{}",
        said.join("\n")
    );
    report.add("generator_saturated_exit_code", f64::from(code), "1", 111.0);
    Ok(())
}
