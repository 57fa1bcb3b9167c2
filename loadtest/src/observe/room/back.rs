//! Losing a connection and coming back: what is measured of it, what the script is told, and losing
//! one on purpose.

use std::rc::Rc;
use std::time::{Duration, Instant};

use pipemesh_loadtest_client::{Event, Loss, Return, Scenario, Way};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::Room;
use crate::observe::outages::Cause;
use crate::observe::second::{About, millis};
use crate::script::Severity;

/// For a server to do what it was asked to act as if.
const OBEYS_WITHIN: Duration = Duration::from_secs(5);
/// How long nothing passes.
const MEDIA_DROP: Duration = Duration::from_secs(3);

/// Where a participant is between its connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Presence {
    /// It tries to come back.
    pub(super) is_away: bool,
    /// It does not any more.
    pub(super) is_over: bool,
    /// How often it has come back.
    pub(super) returns: u64,
}

/// What can be simulated.
enum Simulation {
    /// By the participant alone.
    Lose(Way),
    Cut,
    /// By the server.
    Server(Scenario),
}

impl Simulation {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "resume" | "signal-drop" | "ice-restart" => Self::Lose(Way::Resume),
            "full-reconnect" => Self::Lose(Way::Rejoin),
            "media-drop" => Self::Cut,
            "leave-full-reconnect" => Self::Server(Scenario::LeaveRequestFullReconnect(true)),
            "node-failure" => Self::Server(Scenario::NodeFailure(true)),
            "migration" => Self::Server(Scenario::Migration(true)),
            "server-leave" => Self::Server(Scenario::ServerLeave(true)),
            _ => return None,
        })
    }
}

impl Room {
    pub(super) async fn follow(self: Rc<Self>, mut events: mpsc::Receiver<Event>) {
        while let Some(event) = events.recv().await {
            // Whoever is leaving does not come back.
            if self.closed.get() {
                return;
            }
            match event {
                Event::Lost { loss, at } => self.handle_lost(&loss, at),
                Event::Back(back) => self.handle_back(&back).await,
                Event::Over {
                    loss,
                    at,
                    tries,
                    way,
                } => self.handle_over(&loss, at, tries, way),
            }
            self.changed.notify_waiters();
        }
    }

    pub(crate) fn is_here(&self) -> bool {
        let presence = self.presence.get();
        !presence.is_away && !presence.is_over
    }

    pub(crate) fn returns(&self) -> u64 {
        self.presence.get().returns
    }

    fn handle_lost(&self, loss: &Loss, at: Instant) {
        self.be(|it| it.is_away = true);
        self.count_loss(loss);
        let mut outages = self.shared.outages();
        let (room, identity) = (&self.participant.room, &self.participant.identity);
        outages.begin(room, identity, cause(loss, None), at);
        drop(outages);
        self.tell(json!({ "type": "reconnecting", "reason": loss.reason() }));
    }

    async fn handle_back(&self, back: &Return) {
        self.be(|it| {
            it.is_away = false;
            it.returns += 1;
        });
        self.end_outage(&back.loss, back.way, back.at);
        let (meters, tags) = (
            &self.shared.meters,
            self.set(About::default(), Some(kind(&back.loss, back.way))),
        );
        let took = millis(back.took);
        self.add(meters.sfu_reconnects, tags, 1.0, 1.0);
        self.add(meters.sfu_reconnect_failed, tags, 0.0, 1.0);
        self.add(meters.sfu_reconnect_duration, tags, took, 1.0);
        let Ok(stats) = self.stats().await else {
            return;
        };
        self.tell(json!({
            "type": "reconnected",
            "kind": kind(&back.loss, back.way),
            "reason": back.loss.reason(),
            "duration": took,
            "attempts": back.failed + 1,
            "sid": stats.sid,
            "node": { "id": stats.place.node, "region": stats.place.region },
        }));
    }

    fn handle_over(&self, loss: &Loss, at: Instant, tries: u32, way: Way) {
        let was_away = self.presence.get().is_away;
        self.be(|it| (it.is_away, it.is_over) = (false, true));
        let reason = loss.reason();
        if was_away {
            self.end_outage(loss, way, at);
        } else {
            self.count_loss(loss);
        }
        if tries > 0 {
            let (meters, tags) = (
                &self.shared.meters,
                self.set(About::default(), Some(kind(loss, way))),
            );
            self.add(meters.sfu_reconnects, tags, 1.0, 1.0);
            self.add(meters.sfu_reconnect_failed, tags, 1.0, 1.0);
            let who = &self.participant.identity;
            let text = format!("{who} did not come back ({reason}) in {tries} attempts");
            self.shared.say(Severity::Warning, text, None);
        }
        self.tell(json!({ "type": "disconnected", "reason": reason }));
    }

    fn be(&self, change: impl FnOnce(&mut Presence)) {
        let mut presence = self.presence.get();
        change(&mut presence);
        self.presence.set(presence);
    }

    /// What was lost on purpose is none.
    fn count_loss(&self, loss: &Loss) {
        if let Loss::Asked(_) = loss {
            return;
        }
        let mut tags = self.tags.borrow().clone();
        tags.insert("reason".to_owned(), loss.reason());
        let tags = self.shared.registry.tag_set(&tags);
        self.add(self.shared.meters.sfu_disconnects, tags, 1.0, 1.0);
    }

    fn end_outage(&self, loss: &Loss, way: Way, at: Instant) {
        let (room, identity) = (&self.participant.room, &self.participant.identity);
        let mut outages = self.shared.outages();
        outages.end(room, identity, cause(loss, Some(way)), at);
    }

    /// Why it or somebody else was away between two times since it began to join.
    pub(super) fn outage(&self, who: &str, from: Duration, until: Duration) -> Option<Cause> {
        let identities = [who, self.participant.identity.as_str()];
        let (from, until) = (self.began + from, self.began + until);
        let outages = self.shared.outages();
        outages.cause(&self.participant.room, identities, from, until)
    }

    /// Waits until what is simulated has passed.
    pub(crate) async fn simulate(&self, name: &str) -> Result<(), String> {
        let simulation = Simulation::named(name);
        let simulation = simulation.ok_or_else(|| format!("there is no '{name}' to simulate"))?;
        if !self.is_here() {
            return Err("the participant is not there".to_owned());
        }
        let before = self.presence.get();
        match simulation {
            Simulation::Cut => {
                self.participant.cut(MEDIA_DROP);
                return Ok(());
            }
            Simulation::Lose(way) => self.participant.lose(way),
            Simulation::Server(scenario) => self.participant.simulate(scenario),
        }
        let loss = timeout(OBEYS_WITHIN, self.until(|it| it != before));
        if loss.await.is_err() {
            return Err(format!("the server does not simulate '{name}'"));
        }
        self.until(|it| !it.is_away).await;
        match self.presence.get().is_over && name != "server-leave" {
            true => Err("the participant has not come back".to_owned()),
            false => Ok(()),
        }
    }

    async fn until(&self, holds: impl Fn(Presence) -> bool) {
        loop {
            let changed = self.changed.notified();
            if holds(self.presence.get()) || self.closed.get() {
                return;
            }
            changed.await;
        }
    }
}

/// The tag `type`.
fn kind(loss: &Loss, way: Way) -> &'static str {
    match (loss.is_move(), way) {
        (true, _) => "migrate",
        (false, Way::Resume) => "resume",
        (false, Way::Rejoin) => "rejoin",
    }
}

/// `way`: how it came back, or did not, once that is known. Only a session that had to be begun anew was lost.
fn cause(loss: &Loss, way: Option<Way>) -> Cause {
    match loss {
        Loss::Asked(_) => Cause::Unknown,
        // Simulated, as a client asked for it.
        Loss::Told(..) if loss.reason() == "client_initiated" => Cause::Unknown,
        _ if loss.is_move() => Cause::Migrate,
        Loss::Told(..) if loss.way() == Way::Rejoin => Cause::NodeDown,
        _ if way == Some(Way::Rejoin) => Cause::NodeDown,
        _ => Cause::Unknown,
    }
}
