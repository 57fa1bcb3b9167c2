//! A participant as a script holds it: joins, is looked at once a second, tells what happens, leaves.

mod back;
mod change;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pipemesh_loadtest_client::stats::{Integrity, Stats};
use pipemesh_loadtest_client::{
    DataMessage, Event, Join, LayerWish, Message, Network, Participant, Place, RemoteTrack,
};
use serde_json::json;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval_at, timeout};

use self::back::Presence;
use super::doings::Attention;
use super::outages::Cause;
use super::second::{About, Kind, Measurement, Path, Seconds, millis};
use crate::metrics::{MetricId, Sample, TagSetId};
use crate::script::{Severity, Shared, chain, now_millis};

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// All rooms of a process look at multiples of this: threads that are woken for one look for several.
const TOGETHER: Duration = Duration::from_millis(50);
/// Scripts are not told more often: each time costs.
const TELL_EVERY: Duration = Duration::from_millis(100);
/// Events that wait for a script that does not listen; older ones go.
const MAX_EVENTS: usize = 1_024;
/// For saying goodbye.
const GOODBYE: Duration = Duration::from_secs(5);

/// A join as a script asked for it.
pub(crate) struct Asked {
    pub(crate) join: Join,
    /// For the whole of it.
    pub(crate) patience: Duration,
    /// The iteration began so much later than it should have.
    pub(crate) queued: Duration,
    /// Of everything that is measured of it: its user's,
    pub(crate) tags: BTreeMap<String, String>,
    /// and its own, which no tag of its user's takes the place of.
    pub(crate) own_tags: BTreeMap<String, String>,
    pub(crate) expects_data: bool,
}

/// Which tracks to subscribe to.
#[derive(Debug, Clone, serde::Deserialize)]
pub(crate) struct Wanted {
    kinds: Vec<String>,
    limit: Option<usize>,
    from: Option<OneOrMore>,
    names: Option<OneOrMore>,
}

#[derive(Debug, Clone, serde::Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl OneOrMore {
    fn has(&self, name: &str) -> bool {
        match self {
            Self::One(one) => one == name,
            Self::More(more) => more.iter().any(|it| it == name),
        }
    }
}

impl Wanted {
    fn matches(&self, track: &RemoteTrack) -> bool {
        let kind = if track.is_video { "video" } else { "audio" };
        self.kinds.iter().any(|it| it == kind)
            && self.from.as_ref().is_none_or(|it| it.has(&track.identity))
            && self.names.as_ref().is_none_or(|it| it.has(&track.name))
    }
}

/// A participant, what it had seen when it was there, and what comes of it from now on.
type Joined = (
    Participant,
    Stats,
    mpsc::Receiver<Message>,
    mpsc::Receiver<Event>,
);

pub(crate) struct Room {
    shared: Arc<Shared>,
    participant: Participant,
    /// When it began to join.
    began: Instant,
    tags: RefCell<BTreeMap<String, String>>,
    own_tags: BTreeMap<String, String>,
    /// Until a tag changes.
    sets: RefCell<BTreeMap<(About, Option<&'static str>), TagSetId>>,
    seconds: RefCell<Seconds>,
    last_look: Cell<Instant>,
    events: RefCell<VecDeque<serde_json::Value>>,
    told: Notify,
    closed: Cell<bool>,
    /// The server was told.
    left: Cell<bool>,
    /// What was received wrongly, as far as it was told.
    integrity: Cell<Integrity>,
    presence: Cell<Presence>,
    /// Its presence has changed, or it has left.
    changed: Notify,
    watching: RefCell<Vec<JoinHandle<()>>>,
    attention: RefCell<Attention>,
    /// The number of the last request that is answered.
    requests: Cell<u32>,
}

impl Room {
    /// Joins, and waits until media can flow.
    pub(crate) async fn join(shared: &Arc<Shared>, asked: Asked) -> Result<Rc<Self>, String> {
        let began = Instant::now();
        let meters = &shared.meters;
        let mut tags = asked.tags.clone();
        tags.extend(asked.own_tags.clone());
        let measure = |metric: MetricId, tags: &BTreeMap<String, String>, value: f64| {
            let tags = shared.registry.tag_set(tags);
            shared.measure(Sample::new(metric, tags, now_millis(), value));
        };
        measure(meters.sfu_joins, &tags, 1.0);
        let joined = timeout(asked.patience, Self::connect(shared, &asked)).await;
        let joined = joined.unwrap_or_else(|_| {
            Err((
                "timeout",
                format!("the join was not done within {:?}", asked.patience),
            ))
        });
        let (participant, stats, messages, events) = match joined {
            Ok(joined) => joined,
            Err((code, text)) => {
                tags.insert("error_code".to_owned(), code.to_owned());
                measure(meters.sfu_join_failed, &tags, 1.0);
                return Err(text);
            }
        };
        let times = stats.times;
        measure(meters.sfu_join_failed, &tags, 0.0);
        measure(
            meters.sfu_join_duration,
            &tags,
            millis(began.elapsed() + asked.queued),
        );
        measure(meters.sfu_join_queued, &tags, millis(asked.queued));
        let phases = [
            (meters.sfu_join_response, times.signal, Some(Duration::ZERO)),
            (meters.sfu_ice_connecting, times.ice, times.signal),
            (meters.sfu_dtls_handshaking, times.dtls, times.ice),
        ];
        for (metric, end, begin) in phases {
            if let (Some(end), Some(begin)) = (end, begin) {
                measure(metric, &tags, millis(end.saturating_sub(begin)));
            }
        }
        measure(meters.sfu_sessions, &tags, 1.0);
        let room = Rc::new(Self {
            shared: Arc::clone(shared),
            participant,
            began,
            tags: RefCell::new(tags),
            own_tags: asked.own_tags.clone(),
            sets: RefCell::default(),
            seconds: RefCell::new(Seconds::of(&asked.join)),
            last_look: Cell::new(Instant::now()),
            events: RefCell::default(),
            told: Notify::new(),
            closed: Cell::new(false),
            left: Cell::new(false),
            integrity: Cell::default(),
            presence: Cell::default(),
            changed: Notify::new(),
            watching: RefCell::default(),
            attention: RefCell::default(),
            requests: Cell::new(0),
        });
        let looking = tokio::task::spawn_local(Rc::clone(&room).look_on());
        let listening = tokio::task::spawn_local(Rc::clone(&room).listen(messages));
        let following = tokio::task::spawn_local(Rc::clone(&room).follow(events));
        let watching = [looking, listening, following];
        room.watching.borrow_mut().extend(watching);
        Ok(room)
    }

    async fn connect(shared: &Shared, asked: &Asked) -> Result<Joined, (&'static str, String)> {
        let joining = shared.generator.join(asked.join.clone()).await;
        let mut participant = joining.map_err(|error| ("signaling", chain(&error)))?;
        let expects_data = asked.expects_data;
        let ready = move |stats: &Stats| {
            (stats.connected && (stats.data_open || !expects_data))
                || stats.left.is_some()
                || stats.failures > 0
        };
        let stats = participant.until("connected", asked.patience, ready).await;
        let refusal = match &stats {
            Err(_) => Some(("media", "media did not connect in time".to_owned())),
            Ok(Stats {
                failure: Some(failure),
                ..
            }) => Some(("media", failure.clone())),
            Ok(Stats {
                left: Some(left), ..
            }) => Some(("left", format!("the server ended the session: {left:?}"))),
            Ok(_) => None,
        };
        if let Some(refusal) = refusal {
            // Signaling has let us in: it is told that we are gone.
            let _ = timeout(GOODBYE, participant.leave()).await;
            return Err(refusal);
        }
        let stats = stats.expect("an error is a refusal above");
        let messages = participant.take_messages();
        let events = participant.take_events();
        Ok((participant, stats, messages, events))
    }

    /// Since it began to join.
    pub(crate) fn age(&self) -> Duration {
        self.began.elapsed()
    }

    pub(crate) fn identity(&self) -> (&str, &str) {
        (&self.participant.identity, &self.participant.sid)
    }

    pub(crate) async fn place(&self) -> Place {
        self.participant
            .stats()
            .await
            .map(|stats| stats.place)
            .unwrap_or_default()
    }

    pub(crate) fn send(&self, message: DataMessage) {
        self.participant.send(message);
    }

    pub(crate) fn set_network(&self, network: Network) {
        self.participant.set_network(network);
    }

    pub(crate) fn cut(&self, pause: Duration) {
        self.participant.cut(pause);
    }

    fn subscribe(&self, sid: &str) {
        self.participant.subscribe(sid, true);
        let at = self.began.elapsed();
        self.seconds.borrow_mut().subscribe(sid, at);
    }

    /// What has come until now is taken in first.
    pub(crate) async fn unsubscribe(&self, sid: &str) {
        self.look().await;
        self.participant.subscribe(sid, false);
        let told = self
            .seconds
            .borrow_mut()
            .unsubscribe(sid, &self.shared.meters);
        self.tell_measured(told);
    }

    /// Of the tracks that are wanted: how many, and how many have come.
    pub(crate) fn wanted(&self, stats: &Stats) -> (usize, usize) {
        self.seconds.borrow().wanted(stats)
    }

    /// Subscribes to what matches; waits for as many as are wanted, but not longer than `wait`.
    pub(crate) async fn subscribe_all(
        &self,
        wanted: Wanted,
        wait: Duration,
    ) -> Result<serde_json::Value, String> {
        let limit = wanted.limit;
        let enough = {
            let wanted = wanted.clone();
            move |stats: &Stats| {
                stats.remote.iter().filter(|it| wanted.matches(it)).count() >= limit.unwrap_or(1)
            }
        };
        if !wait.is_zero() {
            // If they do not come, those that are there have to do.
            let _ = self.participant.until("tracks", wait, enough).await;
        }
        let stats = self.stats().await?;
        let chosen = stats
            .remote
            .iter()
            .filter(|it| wanted.matches(it))
            .take(limit.unwrap_or(usize::MAX));
        let mut told = Vec::new();
        for track in chosen {
            self.subscribe(&track.sid);
            told.push(json!({
                "sid": track.sid,
                "identity": track.identity,
                "name": track.name,
                "kind": if track.is_video { "video" } else { "audio" },
                "path": Path::between(&track.place, &stats.place).name(),
            }));
        }
        Ok(told.into())
    }

    /// With `wait`, how long it took until its frames came.
    pub(crate) async fn set_layer(
        &self,
        sid: &str,
        wish: LayerWish,
        layer: Option<u8>,
        wait: Duration,
    ) -> Option<f64> {
        let asked = Instant::now();
        self.participant.wish_layer(sid, wish);
        self.seconds
            .borrow_mut()
            .wish(sid, layer, self.began.elapsed());
        let layer = layer.filter(|_| !wait.is_zero())?;
        let sid = sid.to_owned();
        let came = move |stats: &Stats| stats.track(&sid).is_some_and(|it| it.layer == Some(layer));
        self.participant.until("layer", wait, came).await.ok()?;
        Some(millis(asked.elapsed()))
    }

    pub(crate) async fn received(&self, sid: &str, within: Duration) -> bool {
        let sid = sid.to_owned();
        let came =
            move |stats: &Stats| stats.track(&sid).is_some_and(|it| it.first_frame.is_some());
        self.participant
            .until("first frame", within, came)
            .await
            .is_ok()
    }

    pub(crate) async fn stats(&self) -> Result<Stats, String> {
        let gone = || "the generator has ended".to_owned();
        self.participant.stats().await.ok_or_else(gone)
    }

    /// What happened since the last call, not sooner than there is something; none when it is over.
    pub(crate) async fn events(&self) -> Option<serde_json::Value> {
        while self.events.borrow().is_empty() {
            if self.closed.get() {
                return None;
            }
            self.told.notified().await;
        }
        tokio::time::sleep(TELL_EVERY).await;
        let events = std::mem::take(&mut *self.events.borrow_mut());
        Some(events.into_iter().collect())
    }

    /// May be called again if it was not waited for to its end.
    pub(crate) async fn leave(&self) {
        if self.left.get() {
            return;
        }
        self.closed.set(true);
        self.changed.notify_waiters();
        self.look().await;
        let told = self.seconds.borrow_mut().end(&self.shared.meters);
        self.tell_measured(told);
        self.watching
            .borrow_mut()
            .drain(..)
            .for_each(|it| it.abort());
        // A server that does not answer does not keep us.
        let _ = timeout(GOODBYE, self.participant.leave()).await;
        if self.left.replace(true) {
            return;
        }
        let who = (
            self.participant.room.as_str(),
            self.participant.identity.as_str(),
        );
        self.shared.doings().forget(who);
        if self.presence.get().is_away {
            self.shared.outages().leave(who.0, who.1, Instant::now());
        }
        let tags = self.set(About::default(), None);
        let metric = self.shared.meters.sfu_session_duration;
        self.add(metric, tags, millis(self.began.elapsed()), 1.0);
        self.told.notify_one();
    }

    async fn look_on(self: Rc<Self>) {
        let since_last = self.shared.elapsed().as_millis() % TOGETHER.as_millis();
        let ahead = TOGETHER - Duration::from_millis(since_last as u64);
        let first = tokio::time::Instant::now() + LOOK_EVERY + ahead;
        let mut looks = interval_at(first, LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        while !self.closed.get() {
            looks.tick().await;
            self.look().await;
        }
    }

    async fn look(&self) {
        let Some(stats) = self.participant.observe().await else {
            return;
        };
        let now = Instant::now();
        let elapsed = now - self.last_look.replace(now);
        let told = self.seconds.borrow_mut().handle(
            &stats,
            elapsed,
            self.began.elapsed(),
            &|who, from, until| self.outage(who, from, until),
            &self.shared.meters,
        );
        self.tell_measured(told);
        self.notice(&stats);
        let known = self.integrity.replace(stats.integrity);
        if stats.integrity.errors() > known.errors() {
            let (identity, found) = (&self.participant.identity, stats.integrity);
            let text = format!("{identity} has received what it should not have: {found:?}");
            self.shared.say(Severity::Warning, text, None);
        }
    }

    fn tell_measured(&self, told: Vec<Measurement>) {
        for measurement in told {
            let tags = self.set(measurement.about, None);
            self.add(
                measurement.metric,
                tags,
                measurement.value,
                measurement.weight,
            );
        }
    }

    async fn listen(self: Rc<Self>, mut messages: mpsc::Receiver<Message>) {
        while let Some(message) = messages.recv().await {
            let latency = message.latency.map(millis);
            if let Some(latency) = latency {
                let tags = self.set(About::default(), None);
                self.add(self.shared.meters.rtc_data_latency, tags, latency, 1.0);
            }
            self.tell(json!({
                "type": "data",
                "topic": message.topic,
                "from": message.from,
                "payload": String::from_utf8_lossy(&message.payload),
                "latency": latency,
            }));
        }
    }

    fn tell(&self, event: serde_json::Value) {
        let mut events = self.events.borrow_mut();
        if events.len() == MAX_EVENTS {
            events.pop_front();
        }
        events.push_back(event);
        self.told.notify_one();
    }

    fn add(&self, metric: MetricId, tags: TagSetId, value: f64, weight: f64) {
        self.shared.measure(Sample {
            metric,
            tags,
            at: now_millis(),
            value,
            weight,
        });
    }

    /// Its user has another tag, or none of this name any more: so has what is measured from now on.
    pub(crate) fn set_tag(&self, name: &str, value: Option<String>) {
        if self.own_tags.contains_key(name) {
            return;
        }
        let mut tags = self.tags.borrow_mut();
        match value {
            Some(value) => tags.insert(name.to_owned(), value),
            None => tags.remove(name),
        };
        self.sets.borrow_mut().clear();
    }

    /// The tags of what is measured about something; `type` of a way to come back.
    fn set(&self, about: About, way: Option<&'static str>) -> TagSetId {
        if let Some(known) = self.sets.borrow().get(&(about, way)) {
            return *known;
        }
        let mut tags = self.tags.borrow().clone();
        let kind = match about.kind {
            Kind::None => None,
            Kind::Audio => Some("audio"),
            Kind::Video => Some("video"),
        };
        let path = Some(about.path.name()).filter(|it| !it.is_empty());
        let layer = about.layer.map(|layer| {
            ["q", "h", "f"]
                .get(usize::from(layer))
                .copied()
                .unwrap_or("f")
        });
        let given = [
            ("cause", about.cause.map(Cause::name)),
            ("kind", kind),
            ("path", path),
            ("layer", layer),
            ("type", way),
        ];
        for (name, value) in given {
            if let Some(value) = value {
                tags.insert(name.to_owned(), value.to_owned());
            }
        }
        let id = self.shared.registry.tag_set(&tags);
        self.sets.borrow_mut().insert((about, way), id);
        id
    }
}
