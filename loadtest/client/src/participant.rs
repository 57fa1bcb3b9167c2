//! A simulated participant as tests and benchmarks drive it: joins, publishes, subscribes, sends,
//! comes back, leaves; tells what it has seen.

mod comeback;
mod pump;

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use livekit_protocol::signal_response::Message as Response;
pub use livekit_protocol::simulate_scenario::Scenario;
use rustls_pki_types::CertificateDer;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use self::comeback::ComeBack;
pub use self::comeback::{Event, Loss, Return, TRIES, Way};
pub use self::pump::ResumeError;
use self::pump::{Pump, Server};
use super::connection::ReceiveMode;
use super::generator::{Command, Generator, Newcomer, SeatId, Thread, Watch};
use super::impairment::Network;
use super::media::Media;
use super::signal::{ConnectError, ReceiveError, SignalClient, TrustError};
use super::stats::Stats;
use super::user::{DataMessage, Description, LayerWish, Layout, Message, Protocol, Setup, Wish};

/// Received messages that wait for [`Participant::next_message`]; what comes then is counted only.
const MESSAGES: usize = 4_096;

/// Losses and returns that wait for who watches; an outage makes two.
const EVENTS: usize = 256;

/// Of a server that does not say how long it may be silent, in seconds, as livekit-client has it.
const SILENT_AFTER: u64 = 15;

/// How to join.
#[derive(Debug, Clone)]
pub struct Join {
    /// `ws://host:port/prefix`, or `http://`; `wss://` or `https://` for TLS.
    pub url: String,
    /// Whose certificates the server may have, for TLS; if none are given, whom the system trusts.
    pub roots: Vec<CertificateDer<'static>>,
    /// Whatever certificate the server has.
    pub trusts_anybody: bool,
    pub token: String,
    pub layout: Layout,
    pub protocol: Protocol,
    /// Data channels are asked for.
    pub data: bool,
    /// Receive everything that is published; else what is asked for.
    pub auto_subscribe: bool,
    /// Whether tracks may pause for want of bandwidth; none leaves it to the server.
    pub allow_pause: Option<bool>,
    /// What nobody wants of its video is not sent (`dynacast`).
    pub dynacast: bool,
    /// Where the participant says that it is; none leaves it to the server.
    pub region: Option<String>,
    /// Of the upgrade of the signaling connection.
    pub headers: Vec<(String, String)>,
    pub mode: ReceiveMode,
    pub network: Network,
    /// Of everything that is drawn by lot.
    pub seed: u64,
    /// Where media is sent from.
    pub local: IpAddr,
    /// For each step of joining.
    pub patience: Duration,
    /// How often in a row it tries to come back when its connection is lost, [`TRIES`] as SDKs do; with 0
    /// it stays away.
    pub come_back: u32,
}

impl Join {
    #[must_use]
    pub fn new(url: impl Into<String>, token: impl Into<String>, layout: Layout) -> Self {
        Self {
            url: url.into(),
            roots: Vec::new(),
            trusts_anybody: false,
            token: token.into(),
            layout,
            protocol: Protocol::default(),
            data: true,
            auto_subscribe: true,
            allow_pause: None,
            dynacast: false,
            region: None,
            headers: Vec::new(),
            mode: ReceiveMode::Full,
            network: Network::default(),
            seed: 1,
            local: Ipv4Addr::UNSPECIFIED.into(),
            patience: Duration::from_secs(10),
            come_back: 0,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error("{0} is no ws://, wss://, http:// or https:// address")]
    Url(String),
    #[error("{0:?} is no HTTP header")]
    Header(String),
    #[error("there is nobody to trust")]
    Trust(#[from] TrustError),
    #[error("signaling cannot be reached")]
    Connect(#[from] ConnectError),
    #[error("the server did not let us in")]
    Refused(#[from] ReceiveError),
    #[error("no socket for media")]
    Socket(#[source] io::Error),
    #[error("the generator has ended")]
    Ended,
}

/// What was waited for did not come to be.
#[derive(Debug, thiserror::Error)]
#[error("in vain: {awaited}; last seen: {stats:?}")]
pub struct InVain {
    pub awaited: String,
    /// None if the participant is gone.
    pub stats: Option<Box<Stats>>,
}

/// A participant. Dropping it is a crash: nobody is told.
pub struct Participant {
    thread: Arc<Thread>,
    seat: SeatId,
    to_pump: mpsc::Sender<pump::Order>,
    pump: JoinHandle<()>,
    messages: mpsc::Receiver<Message>,
    events: mpsc::Receiver<Event>,
    pub room: String,
    pub identity: String,
    /// As it joined first: not every server keeps it for who joins anew.
    pub sid: String,
}

impl Generator {
    /// Joins. Answers when signaling has let us in; [`Participant::connected`] waits for media.
    ///
    /// # Errors
    /// When any step fails or takes longer than it may.
    pub async fn join(&self, join: Join) -> Result<Participant, JoinError> {
        let began = Instant::now();
        let mut server = Server::new(&join)?;
        let mut client = SignalClient::connect(&server.connect(None), join.patience).await?;
        let joined = client.joined(join.patience).await?;
        let me = joined.participant.clone().unwrap_or_default();
        server.sid.clone_from(&me.sid);

        let (thread, seat) = self.seat();
        let (said, hears) = mpsc::unbounded_channel();
        let (messages, received) = mpsc::channel(MESSAGES);
        let (admitted, admission) = oneshot::channel();
        let newcomer = Newcomer {
            setup: Setup {
                layout: join.layout,
                protocol: join.protocol,
                data: join.data,
                dynacast: join.dynacast,
                mode: join.mode,
                ipv4: join.local.is_ipv4(),
                seed: join.seed,
            },
            local: join.local,
            network: join.network,
            identity: self.identity(),
            began,
            said,
            messages,
            admitted,
        };
        thread.send(Command::Add(seat, Box::new(newcomer)));
        admission
            .await
            .map_err(|_| JoinError::Ended)?
            .map_err(JoinError::Socket)?;
        let ping_every =
            Duration::from_secs(joined.ping_interval.clamp(1, 60).unsigned_abs().into());
        let silent_after = match u64::from(joined.ping_timeout.unsigned_abs()) {
            0 => SILENT_AFTER,
            seconds => seconds,
        };
        let room = joined.room.clone().unwrap_or_default().name;
        thread.send(Command::Signal(seat, Box::new(Response::Join(joined))));

        let (to_pump, orders) = mpsc::channel(8);
        let (events, told) = mpsc::channel(EVENTS);
        let pump = Pump {
            thread: Arc::clone(&thread),
            seat,
            server,
            ping_every,
            silent_after: ping_every + Duration::from_secs(silent_after),
            patience: join.patience,
            comeback: ComeBack::new(join.come_back, join.patience, join.seed),
            events,
        };
        Ok(Participant {
            thread,
            seat,
            to_pump,
            pump: tokio::spawn(pump.run(client, hears, orders)),
            messages: received,
            events: told,
            room,
            identity: me.identity,
            sid: me.sid,
        })
    }
}

impl Participant {
    /// Waits until media and data flow both ways.
    ///
    /// # Errors
    /// When they do not in time.
    pub async fn connected(&self, within: Duration) -> Result<Stats, InVain> {
        self.until("connected", within, |stats| {
            stats.connected && stats.data_open
        })
        .await
    }

    /// Publishes a track under a name of its own; answers its id once it was negotiated.
    ///
    /// # Errors
    /// When it was not, in time.
    pub async fn publish(
        &self,
        name: &str,
        media: Media,
        within: Duration,
    ) -> Result<String, InVain> {
        let name = name.to_owned();
        self.wish(Wish::Publish {
            name: name.clone(),
            media,
        });
        let sid = move |stats: &Stats| {
            let mut published = stats.published.iter();
            let active = published.find(|it| it.name == name && it.active);
            active.map(|it| it.sid.clone())
        };
        let is_active = sid.clone();
        let stats = self
            .until("published", within, move |stats| is_active(stats).is_some())
            .await?;
        Ok(sid(&stats).expect("it was there when the wait ended"))
    }

    /// Others are told by the server. The name is free again.
    pub fn unpublish(&self, name: &str) {
        self.wish(Wish::Unpublish {
            name: name.to_owned(),
        });
    }

    /// Of a track that has several layers, by their names, only these are sent from now on.
    pub fn set_layers(&self, name: &str, rids: Vec<String>) {
        self.wish(Wish::Layers {
            name: name.to_owned(),
            rids,
        });
    }

    /// Changes what others see of it, under a number by which [`Stats::answers`] has the answer, if the
    /// server gives one.
    pub fn describe(&self, number: u32, description: Description) {
        self.wish(Wish::Describe(number, description));
    }

    /// Asks the publisher of a track for a key frame.
    pub fn request_key_frame(&self, sid: &str) {
        self.wish(Wish::KeyFrame {
            sid: sid.to_owned(),
        });
    }

    pub fn mute(&self, name: &str, muted: bool) {
        self.wish(Wish::Mute {
            name: name.to_owned(),
            muted,
        });
    }

    /// Wants a track of somebody else's, or wants it no more.
    pub fn subscribe(&self, sid: &str, wanted: bool) {
        self.wish(Wish::Subscribe {
            sid: sid.to_owned(),
            wanted,
        });
    }

    /// Says which layer of a track it can use.
    pub fn wish_layer(&self, sid: &str, wish: LayerWish) {
        self.wish(Wish::Layer {
            sid: sid.to_owned(),
            wish,
        });
    }

    pub fn send(&self, message: DataMessage) {
        self.wish(Wish::Send(message));
    }

    /// The next data message that came.
    pub async fn next_message(&mut self, within: Duration) -> Option<Message> {
        timeout(within, self.messages.recv()).await.ok().flatten()
    }

    /// Another network from now on.
    pub fn set_network(&self, network: Network) {
        self.thread.send(Command::Network(self.seat, network));
    }

    /// Nothing passes for so long, either way. Signaling is not concerned.
    pub fn cut(&self, pause: Duration) {
        self.thread.send(Command::Cut(self.seat, pause));
    }

    /// Loses the signaling connection and comes back with another, as an SDK resumes: media goes on,
    /// and ICE is restarted.
    ///
    /// # Errors
    /// When the server does not take us back.
    pub async fn reconnect(&self) -> Result<(), ResumeError> {
        self.resume(None).await
    }

    /// The same, at another URL.
    ///
    /// # Errors
    /// When there is no server, or it does not take us over.
    pub async fn reconnect_to(&self, url: &str) -> Result<(), ResumeError> {
        self.resume(Some(url.to_owned())).await
    }

    /// Loses its signaling connection or its session, and comes back if it may.
    pub fn lose(&self, so_that: Way) {
        self.order(match so_that {
            Way::Resume => pump::Order::Break,
            Way::Rejoin => pump::Order::Rejoin,
        });
    }

    /// Asks the server to act as if something had happened to it.
    pub fn simulate(&self, scenario: Scenario) {
        self.wish(Wish::Simulate(scenario));
    }

    fn order(&self, order: pump::Order) {
        // Many such orders wait, or it has left: this one changes nothing.
        let _ = self.to_pump.try_send(order);
    }

    async fn resume(&self, url: Option<String>) -> Result<(), ResumeError> {
        let (reply, answer) = oneshot::channel();
        let ended = |_| ResumeError::Ended;
        self.to_pump
            .send(pump::Order::Resume(url, reply))
            .await
            .map_err(|_| ResumeError::Ended)?;
        answer.await.map_err(ended)?
    }

    /// What it has seen. None if it is gone.
    pub async fn stats(&self) -> Option<Stats> {
        let answer = self.watch(|_| true);
        answer.await.ok()
    }

    /// What it has seen, and what came since it was last observed: somebody who measures asks once a
    /// second, and nobody else does. None if it is gone.
    pub async fn observe(&self) -> Option<Stats> {
        let (reply, answer) = oneshot::channel();
        self.thread.send(Command::Observe(self.seat, reply));
        answer.await.ok()
    }

    /// Data messages as they come, from now on for whoever has this, and once only.
    pub fn take_messages(&mut self) -> mpsc::Receiver<Message> {
        std::mem::replace(&mut self.messages, mpsc::channel(1).1)
    }

    /// Losses and returns, from now on for whoever has this, and once only.
    pub fn take_events(&mut self) -> mpsc::Receiver<Event> {
        std::mem::replace(&mut self.events, mpsc::channel(1).1)
    }

    /// Waits until a condition holds, and answers what was seen then.
    ///
    /// # Errors
    /// When it does not come to hold in time.
    pub async fn until(
        &self,
        awaited: &str,
        within: Duration,
        holds: impl FnMut(&Stats) -> bool + Send + 'static,
    ) -> Result<Stats, InVain> {
        if let Ok(Ok(stats)) = timeout(within, self.watch(holds)).await {
            return Ok(stats);
        }
        Err(InVain {
            awaited: format!("{} waits until {awaited}", self.identity),
            stats: self.stats().await.map(Box::new),
        })
    }

    /// Leaves in order; answers what it has seen.
    pub async fn leave(&self) -> Option<Stats> {
        self.wish(Wish::Leave);
        let (reply, answer) = oneshot::channel();
        self.thread.send(Command::Remove(self.seat, Some(reply)));
        let stats = answer.await.ok();
        // The seat's end of the pump's queue is gone: it says what is left to say, and ends.
        self.to_pump.closed().await;
        stats
    }

    fn watch(
        &self,
        holds: impl FnMut(&Stats) -> bool + Send + 'static,
    ) -> oneshot::Receiver<Stats> {
        let (reply, answer) = oneshot::channel();
        let holds = Box::new(holds);
        self.thread
            .send(Command::Watch(self.seat, Watch { holds, reply }));
        answer
    }

    fn wish(&self, wish: Wish) {
        self.thread.send(Command::Wish(self.seat, Box::new(wish)));
    }
}

impl Drop for Participant {
    fn drop(&mut self) {
        // Both are nothing new to a participant that has left.
        self.pump.abort();
        self.thread.send(Command::Remove(self.seat, None));
    }
}
