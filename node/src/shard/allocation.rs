//! Who gets the bandwidth towards a subscriber: its subscriptions are put to the allocation, and what it
//! decides is told to the router, and to the client where a track has to pause.

use std::time::{Duration, Instant};

use pipemesh_node_core::allocate::{Allocation, Budget, Choice, Damping, Demand, Held};
use pipemesh_node_core::layer::{Layer, Limit};
use pipemesh_node_core::router::SubscriptionKey;
use pipemesh_node_core::units::Bitrate;
use pipemesh_node_core::wheel::Alarm;
use pipemesh_proto::ids::TrackId;

use super::counters::Counters;
use super::event::Event;
use super::wire::Shaping;
use super::{Shard, Timer};

/// How often bandwidth is given away anew. Less often is later to see that it is short.
const ALLOCATE_EVERY: Duration = Duration::from_millis(200);
/// … to a session that has all it wants: sooner only if its estimate falls below that, or if packets have to
/// wait. What tracks take is measured as often; less often is also later to see that reports stay away.
const ALLOCATE_SETTLED_EVERY: Duration = Duration::from_millis(500);

/// An estimate that has moved by this share is acted on at once.
const MOVED: f64 = 0.1;

/// What the allocations of one session remember.
#[derive(Debug, Default)]
pub(crate) struct Allocated {
    damping: Damping,
    /// What was given away last.
    bandwidth: Bitrate,
    /// What all of it takes, if the session has all it wants.
    settled: Option<Bitrate>,
    alarm: Alarm,
}

/// Kept so that nothing is allocated.
#[derive(Debug, Default)]
pub(crate) struct Allocator {
    allocation: Allocation,
    demands: Vec<Demand>,
    /// Whose the demands are.
    keys: Vec<SubscriptionKey>,
}

impl Shard {
    /// A session's bandwidth is limited from now on, or seems short.
    pub(super) fn allocate_in_a_moment(&mut self, index: usize, now: Instant) {
        self.allocate_by(index, now + ALLOCATE_EVERY);
    }

    fn allocate_by(&mut self, index: usize, at: Instant) {
        if let Some(session) = self.sessions.get_mut(index)
            && session.allocated.alarm.set(at)
        {
            self.timers.set(at, Timer::Allocate(index, session.key));
        }
    }

    pub(super) fn handle_allocate_timeout(&mut self, index: usize, now: Instant) {
        let session = &mut self.sessions[index];
        if !session.allocated.alarm.fire(now) {
            return;
        }
        self.serving = Some(index);
        if let Some(connection) = session.downlink() {
            self.watch_estimate(connection, now);
        }
        self.allocate(index, now);
        let every = match self.sessions[index].allocated.settled {
            Some(_) if !self.has_waiting(index) => ALLOCATE_SETTLED_EVERY,
            Some(_) | None => ALLOCATE_EVERY,
        };
        self.allocate_by(index, now + every);
    }

    fn has_waiting(&self, index: usize) -> bool {
        self.shaping_of(index).is_some_and(Shaping::has_waiting)
    }

    /// `None`: the session's bandwidth is not limited.
    fn shaping_of(&self, index: usize) -> Option<&Shaping> {
        self.wire.shaping(self.sessions[index].downlink()?)
    }

    /// The estimate of a session's connection may have moved.
    pub(super) fn note_estimate(&mut self, index: usize, now: Instant) {
        let Some(connection) = self.sessions[index].downlink() else {
            return;
        };
        let Some(shaping) = &self.wire.link(connection).shaping else {
            return;
        };
        let allocated = &self.sessions[index].allocated;
        let (before, target) = (allocated.bandwidth, shaping.bandwidth.target());
        let moved = before.as_bps().abs_diff(target.as_bps());
        let has_moved = moved as f64 > before.as_bps() as f64 * MOVED;
        if has_moved || allocated.settled.is_some_and(|all| target < all) {
            self.allocate(index, now);
        }
    }

    /// What a session wants has changed. In a large room much changes at a time: there it waits for the
    /// timer.
    pub(super) fn allocate_soon(&mut self, index: usize, now: Instant) {
        const AT_ONCE: usize = 32;
        if self.sessions[index].wanted.len() <= AT_ONCE {
            self.allocate(index, now);
        } else if self.shaping_of(index).is_some() {
            self.allocate_in_a_moment(index, now);
        }
    }

    /// Gives a session's bandwidth away.
    pub(super) fn allocate(&mut self, index: usize, now: Instant) {
        let Some(connection) = self.sessions[index].downlink() else {
            return;
        };
        let Some(shaping) = self.wire.link(connection).shaping.as_mut() else {
            return;
        };
        if shaping.note_silence(now) {
            let participant = &self.sessions[index].participant;
            tracing::debug!(%participant, "the client reports nothing of its bandwidth");
        }
        let target = shaping.bandwidth.target();
        let is_allowed = self.sessions[index].may_pause;
        // Nothing pauses for a guess, nor where nothing could show that there is enough again, nor for a
        // client that does not want it.
        let may_pause = !shaping.bandwidth.is_guess() && shaping.may_probe() && is_allowed;
        let budget = match shaping.is_limiting() {
            true => Budget {
                all: target,
                lowest: match may_pause {
                    true => shaping.bandwidth.estimate(),
                    false => Bitrate::MAX,
                },
            },
            false => Budget {
                all: Bitrate::MAX,
                lowest: Bitrate::MAX,
            },
        };
        self.gather_demands(index);
        let allocator = &mut self.allocator;
        let allocated = &mut self.sessions[index].allocated;
        allocated.bandwidth = budget.all;
        allocator
            .allocation
            .decide(&allocator.demands, budget, &mut allocated.damping, now);
        allocated.settled = allocator.allocation.settled(budget);
        if let Some(shaping) = self.wire.link(connection).shaping.as_mut() {
            let estimate = shaping.bandwidth.estimate();
            let (next, wanted) = self.allocator.allocation.wish(estimate);
            shaping.bandwidth.set_wish(next, wanted);
        }
        if self.sessions[index].allocated.settled.is_none() {
            self.allocate_in_a_moment(index, now);
        }
        self.apply_choices(index, now);
    }

    /// Puts down what a session wants, and what that costs.
    fn gather_demands(&mut self, index: usize) {
        let Self {
            sessions,
            router,
            allocator,
            ..
        } = self;
        let Allocator { demands, keys, .. } = allocator;
        demands.clear();
        keys.clear();
        for wanted in sessions[index].wanted.values() {
            let Some(key) = wanted.subscription else {
                continue;
            };
            let Some((media, ladder)) = router.ladder(key) else {
                continue;
            };
            demands.push(Demand {
                media,
                priority: wanted.wish.priority,
                view: wanted.wish.view,
                ladder,
                held: wanted.held,
                sent: router.current_layer(key),
            });
            keys.push(key);
        }
    }

    fn apply_choices(&mut self, index: usize, now: Instant) {
        for place in 0..self.allocator.keys.len() {
            let key = self.allocator.keys[place];
            let Some(choice) = self.allocator.allocation.choices.get(place).copied() else {
                return;
            };
            let steps = self.allocator.demands[place].ladder.steps();
            let is_top = |layer| steps.last().is_some_and(|top| top.layer == layer);
            let limit = match choice {
                Choice::At(layer) if !is_top(layer) => Limit::UpTo(layer),
                Choice::Paused => Limit::Paused,
                Choice::At(_) | Choice::Nothing => Limit::NONE,
            };
            self.router.set_limit(key, limit, now);
            let demand = &self.allocator.demands[place];
            let pauses = choice == Choice::Paused && matches!(demand.held, Held::At(_));
            let is_above =
                |layer: Layer| demand.sent.is_some_and(|sent| layer.spatial < sent.spatial);
            let falls = pauses || matches!(choice, Choice::At(layer) if is_above(layer));
            if falls && self.allocator.allocation.too_much {
                self.wire.forget_frame(key);
                self.router.abandon(key, now);
                self.take_back(key, now);
            } else if pauses {
                self.take_back(key, now);
            }
            let Some((_, track)) = self.subscriber(key).cloned() else {
                continue;
            };
            self.note_choice(index, track, choice);
        }
    }

    /// Remembers what a subscription was given, and tells the client if it pauses or goes on.
    fn note_choice(&mut self, index: usize, track: TrackId, choice: Choice) {
        let Some(wanted) = self.sessions[index].wanted.get_mut(&track) else {
            return;
        };
        let before = std::mem::replace(&mut wanted.held, choice.held());
        let (was, paused) = (before == Held::Paused, choice == Choice::Paused);
        if was != paused {
            let counter = match paused {
                true => &self.counters.subscriptions_paused,
                false => &self.counters.subscriptions_resumed,
            };
            Counters::add(counter, 1);
            self.sessions[index].tell(Event::SubscriptionPaused { track, paused });
        }
    }
}
