//! What signaling does without a packet of media: people who come and go, and one large room. It has the
//! first core, all others the second; rooms are kept in its memory, or in a Redis of its own.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use livekit_protocol::signal_request::Message as Request;
use livekit_protocol::signal_response::Message as Response;
use livekit_protocol::{JoinResponse, ParticipantInfo, SignalResponse, participant_info};
use livekit_token::{AccessToken, VideoGrants};
use pipemesh_loadtest_client::signal::{Connect, SignalClient};
use pipemesh_loadtest_client::url::Dialect;
use prost::Message as _;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep};

use crate::Pace;
use crate::crowd::PATIENCE;
use crate::mesh::Mesh;
use crate::process::Process;
use crate::report::Report;

/// People who come and go at the same time, and the rooms they are spread over.
const VISITORS: usize = 16;
const ROOMS: usize = 200;

/// In one room, and how many of them join at the same time.
const MEMBERS: usize = 1_000;
const AT_ONCE: usize = 10;

/// Time for the last news to reach everybody.
const SETTLED: Duration = Duration::from_secs(3);

/// Who is silent for longer than signaling says is taken to be gone.
const PING_EVERY: Duration = Duration::from_secs(5);

/// Where rooms are kept.
struct Kept {
    name: &'static str,
    redis: Option<Redis>,
}

struct Redis {
    _process: Process,
    address: SocketAddr,
}

impl Kept {
    fn in_each() -> anyhow::Result<[Self; 2]> {
        let redis = Some(Redis::start()?);
        let memory = Self {
            name: "memory",
            redis: None,
        };
        let name = "redis";
        Ok([memory, Self { name, redis }])
    }

    fn mesh(&self) -> anyhow::Result<Mesh> {
        let redis = self.redis.as_ref();
        let url = redis.map(|redis| format!("redis://{}/", redis.address));
        Mesh::start_rooms(url)
    }
}

impl Redis {
    fn start() -> anyhow::Result<Self> {
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let port = address.port().to_string();
        let arguments = ["--bind", "127.0.0.1", "--port", &port, "--save", ""];
        let arguments = arguments.map(str::to_owned);
        let process = Process::start(&"redis-server".into(), &arguments, false)?;
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(address).is_err() {
            ensure!(Instant::now() < deadline, "redis-server does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Self {
            _process: process,
            address,
        })
    }
}

/// Joins a second, as fast as so many visitors can, each of whom leaves at once.
pub(crate) async fn joins(pace: Pace, report: &mut Report) -> anyhow::Result<()> {
    for kept in Kept::in_each()? {
        let mesh = Arc::new(kept.mesh()?);
        // What is there once is no part of what a join costs.
        visits(&mesh, pace.warm_up).await?;
        let (begin, before) = (Instant::now(), mesh.signaling.cpu()?);
        let times = visits(&mesh, pace.window * 8).await?;
        let (took, cost) = (begin.elapsed(), mesh.signaling.cpu()? - before);
        let count = times.len() as f64;
        let [p50, p99] = quantiles(times)?;
        let per_second = count / took.as_secs_f64();
        let milliseconds = 1e3 * cost.as_secs_f64() / count;
        let busy = 100.0 * cost.as_secs_f64() / took.as_secs_f64();
        println!(
            "joins, rooms in {}: {per_second:.0} a second, answered after p50 {p50:.1} ms, p99 {p99:.1} ms; \
             signaling {busy:.0} % of a core, {milliseconds:.3} ms for each to come and go",
            kept.name
        );
        for (name, value, unit) in [
            ("joins_per_second", per_second, "1/s"),
            ("join_signaling_cpu_ms", milliseconds, "ms"),
        ] {
            report.add(&format!("{name}_{}", kept.name), value, unit, 0.0);
        }
    }
    Ok(())
}

/// How long each join took.
async fn visits(mesh: &Arc<Mesh>, time: Duration) -> anyhow::Result<Vec<Duration>> {
    let end = Instant::now() + time;
    let mut visitors = JoinSet::new();
    for visitor in 0..VISITORS {
        let mesh = Arc::clone(mesh);
        visitors.spawn(async move {
            let mut times = Vec::new();
            while Instant::now() < end {
                let room = format!("room-{}", (times.len() * VISITORS + visitor) % ROOMS);
                let identity = format!("visitor-{visitor}");
                let (mut client, _, took) = enter(&mesh, &room, &identity).await?;
                times.push(took);
                client.leave().await?;
                client.closed(PATIENCE).await?;
            }
            anyhow::Ok(times)
        });
    }
    let mut all = Vec::new();
    while let Some(times) = visitors.join_next().await {
        all.append(&mut times??);
    }
    Ok(all)
}

/// A room that fills until everybody knows of everybody.
pub(crate) async fn members(report: &mut Report) -> anyhow::Result<()> {
    for kept in Kept::in_each()? {
        let mesh = Arc::new(kept.mesh()?);
        let (resident, before) = (mesh.signaling.resident()?, mesh.signaling.cpu()?);
        let (full, is_full) = watch::channel(false);
        let begin = Instant::now();
        let mut queues = JoinSet::new();
        for queue in 0..AT_ONCE {
            queues.spawn(fill(Arc::clone(&mesh), queue, is_full.clone()));
        }
        let (mut times, mut members) = (Vec::new(), Vec::new());
        while let Some(queue) = queues.join_next().await {
            let (mut took, staying) = queue??;
            times.append(&mut took);
            members.push(staying);
        }
        let took = begin.elapsed().as_secs_f64();
        sleep(SETTLED).await;
        let memory = mesh.signaling.resident()?.saturating_sub(resident);
        let cost = (mesh.signaling.cpu()? - before).as_secs_f64();
        full.send_replace(true);
        let mut heard = Vec::new();
        for mut staying in members {
            while let Some(one) = staying.join_next().await {
                heard.push(one??);
            }
        }
        ensure!(
            heard.len() == MEMBERS,
            "{} of {MEMBERS} stayed",
            heard.len()
        );
        for Heard { others, .. } in &heard {
            let known = others.len() + 1;
            ensure!(known == MEMBERS, "somebody knows of {known} of {MEMBERS}");
        }
        let of_each = |count: u64| count as f64 / MEMBERS as f64;
        let messages = of_each(heard.iter().map(|one| one.messages).sum());
        let bytes = of_each(heard.iter().map(|one| one.bytes).sum());
        let memory = of_each(memory);
        let [p50, p99] = quantiles(times)?;
        println!(
            "{MEMBERS} members, room in {}: all in after {took:.1} s, {AT_ONCE} at once, each after p50 {p50:.1} ms, \
             p99 {p99:.1} ms; each was told {messages:.0} times, {:.0} kB in all; signaling took {cost:.2} s of \
             CPU, and {:.1} kB of memory for each",
            kept.name,
            bytes / 1e3,
            memory / 1e3,
        );
        for (name, value, unit) in [
            ("join_p50_ms", p50, "ms"),
            ("join_p99_ms", p99, "ms"),
            ("updates", messages, "1"),
            ("update_bytes", bytes, "B"),
            ("memory", memory, "B"),
            ("cpu_s", cost, "s"),
        ] {
            report.add(&format!("members_{name}_{}", kept.name), value, unit, 0.0);
        }
    }
    Ok(())
}

/// What one member has heard of the others.
struct Heard {
    messages: u64,
    bytes: u64,
    /// Those who are there.
    others: BTreeSet<String>,
}

impl Heard {
    fn note(&mut self, message: Response) {
        if let Response::Update(update) = &message {
            update.participants.iter().for_each(|one| self.meet(one));
        }
        let message = Some(message);
        self.messages += 1;
        self.bytes += SignalResponse { message }.encoded_len() as u64;
    }

    fn meet(&mut self, other: &ParticipantInfo) {
        if other.state() == participant_info::State::Disconnected {
            self.others.remove(&other.identity);
        } else {
            self.others.insert(other.identity.clone());
        }
    }
}

/// Every member that stands in this queue, one after the other: how long each took, and who stays.
async fn fill(
    mesh: Arc<Mesh>,
    queue: usize,
    is_full: watch::Receiver<bool>,
) -> anyhow::Result<(Vec<Duration>, JoinSet<anyhow::Result<Heard>>)> {
    let (mut times, mut staying) = (Vec::new(), JoinSet::new());
    for number in (queue..MEMBERS).step_by(AT_ONCE) {
        let identity = format!("member-{number:04}");
        let (client, joined, took) = enter(&mesh, "large", &identity).await?;
        times.push(took);
        staying.spawn(stay(client, joined, identity, is_full.clone()));
    }
    Ok((times, staying))
}

/// Listens until everybody is in.
async fn stay(
    mut client: SignalClient,
    joined: JoinResponse,
    identity: String,
    mut is_full: watch::Receiver<bool>,
) -> anyhow::Result<Heard> {
    let mut heard = Heard {
        messages: 0,
        bytes: 0,
        others: BTreeSet::new(),
    };
    let others = &joined.other_participants;
    others.iter().for_each(|other| heard.meet(other));
    let mut pings = interval(PING_EVERY);
    loop {
        tokio::select! {
            message = client.next(PATIENCE) => heard.note(message?),
            _ = pings.tick() => client.send(Request::Ping(1)).await?,
            full = is_full.changed() => {
                full.context("somebody fills the room")?;
                break;
            }
        }
    }
    // One's own state is told as well.
    heard.others.remove(&identity);
    Ok(heard)
}

/// Joins; how long it takes until signaling has answered.
async fn enter(
    mesh: &Mesh,
    room: &str,
    identity: &str,
) -> anyhow::Result<(SignalClient, JoinResponse, Duration)> {
    let grants = VideoGrants {
        room_join: true,
        room: room.to_owned(),
        ..Default::default()
    };
    let token = AccessToken::with_api_key("devkey", "secret")
        .with_identity(identity)
        .with_grants(grants)
        .to_jwt()?;
    let address = mesh.url.trim_start_matches("http://");
    let parameters = [("protocol", "16"), ("auto_subscribe", "1")];
    let connect = Connect::new(address, token, Dialect::dual(parameters));
    let begin = Instant::now();
    let mut client = SignalClient::connect(&connect, PATIENCE).await?;
    let joined = client.joined(PATIENCE).await?;
    Ok((client, joined, begin.elapsed()))
}

/// The median, and what one in a hundred is above, in milliseconds.
fn quantiles(mut times: Vec<Duration>) -> anyhow::Result<[f64; 2]> {
    ensure!(!times.is_empty(), "nobody joined");
    times.sort_unstable();
    Ok([0.5, 0.99].map(|share| {
        let place = (times.len() - 1) as f64 * share;
        1e3 * times[place as usize].as_secs_f64()
    }))
}
