//! Keeps a session with Redis, for ever.
//!
//! While there is none, whoever asks is refused at once, with the reason. What happens repeatedly
//! is logged when it begins, when its reason changes, and when it ends.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::Stats;
use super::config::RedisConfig;
use super::events::Standing;
use super::failure::Failure;
use super::keys::Keys;
use super::memory::Memory;
use super::session::Session;

/// Pause between two attempts to connect: doubles from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(1);

/// A session that lasted this long has heard of every room that anybody here is in.
const SETTLED: Duration = Duration::from_secs(10);

#[derive(Clone)]
enum State {
    Up(Arc<Session>),
    Down(Arc<Failure>),
}

/// What others see of it.
#[derive(Clone)]
pub(super) struct Link {
    state: watch::Receiver<State>,
    up: watch::Receiver<bool>,
    stats: Arc<Stats>,
}

/// What keeps it.
pub(super) struct Keeper {
    config: RedisConfig,
    keys: Keys,
    state: watch::Sender<State>,
    up: watch::Sender<bool>,
    stats: Arc<Stats>,
    /// Why there is no session, as last logged.
    logged: Option<String>,
    /// Where rooms stood when sessions were over, by channel. The next server may know less.
    standings: BTreeMap<String, Standing>,
    memory: Arc<Mutex<Memory>>,
}

pub(super) fn link(config: RedisConfig, keys: Keys, stats: Arc<Stats>) -> (Link, Keeper) {
    let (state, seen) = watch::channel(State::Down(Arc::new(Failure::Starting)));
    let (up, seen_up) = watch::channel(false);
    let link = Link {
        state: seen,
        up: seen_up,
        stats: Arc::clone(&stats),
    };
    let keeper = Keeper {
        config,
        keys,
        state,
        up,
        stats,
        logged: None,
        standings: BTreeMap::new(),
        memory: Arc::default(),
    };
    (link, keeper)
}

impl Link {
    pub(super) fn session(&self) -> Result<Arc<Session>, Failure> {
        match &*self.state.borrow() {
            State::Up(session) => Ok(Arc::clone(session)),
            State::Down(why) => {
                self.stats.refused.fetch_add(1, Ordering::Relaxed);
                Err(Failure::NotConnected(Arc::clone(why)))
            }
        }
    }

    pub(super) fn up(&self) -> watch::Receiver<bool> {
        self.up.clone()
    }
}

impl Keeper {
    pub(super) async fn run(self, stop: CancellationToken) {
        stop.run_until_cancelled_owned(self.keep()).await;
    }

    async fn keep(mut self) -> Infallible {
        let mut pause = FIRST_PAUSE;
        loop {
            let began = Instant::now();
            let failure = self.connect_and_hold().await;
            self.down(failure);
            // What has lasted is no reason to wait: the next attempt is at once.
            if began.elapsed() >= LAST_PAUSE {
                pause = FIRST_PAUSE;
            } else {
                sleep(pause).await;
                pause = (pause * 2).min(LAST_PAUSE);
            }
        }
    }

    async fn connect_and_hold(&mut self) -> Failure {
        let Self {
            config,
            keys,
            memory,
            stats,
            ..
        } = &*self;
        let connected = Session::connect(&config.client, keys, memory, stats).await;
        let (session, mut broken) = match connected {
            Ok(connected) => connected,
            Err(failure) => return failure,
        };
        // Before anybody writes: what is written then would hide what is lost.
        let standings: Vec<Standing> = self.standings.values().cloned().collect();
        let looked = async {
            session.catch_up(&standings).await?;
            session.remember().await
        };
        match looked.await {
            Err(failure) if failure.breaks() => return failure,
            // What it lacks is noticed by those who read it.
            Err(error) => tracing::warn!(%error, "what Redis has lost cannot be told"),
            Ok(_) => {}
        }
        let began = Instant::now();
        let session = Arc::new(session);
        self.state.send_replace(State::Up(Arc::clone(&session)));
        self.up.send_replace(true);
        self.logged = None;
        tracing::info!(redis = self.config.address(), "connected to Redis");
        let failure = session.hold(&mut broken).await;
        if began.elapsed() >= SETTLED {
            self.standings.clear();
        }
        let left = session.standings().into_iter();
        self.standings
            .extend(left.map(|standing| (standing.keys.channel.clone(), standing)));
        self.stats.disconnects.fetch_add(1, Ordering::Relaxed);
        failure
    }

    fn down(&mut self, failure: Failure) {
        let reason = failure.to_string();
        if self.logged.as_ref() != Some(&reason) {
            let redis = self.config.address();
            tracing::warn!(redis, error = reason, "Redis cannot be reached");
            self.logged = Some(reason);
        }
        self.state.send_replace(State::Down(Arc::new(failure)));
        self.up.send_replace(false);
    }
}
