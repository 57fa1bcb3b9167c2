//! One virtual user as the functions that scripts call see it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::busy::Busy;
use super::runtime::CallError;
use super::shared::{Context, Severity, Shared, now_millis};
use super::tags::Tags;
use super::timers::Timers;
use crate::metrics::{MetricId, Sample, TagSetId};
use crate::observe::Room;

/// A script that runs so long without waiting stops everybody on its thread.
const WATCHDOG: Duration = Duration::from_secs(1);

/// Where an iteration stands.
#[derive(Debug, Clone, Copy, Default)]
pub struct Iteration {
    /// Of this virtual user, over all scenarios.
    pub of_vu: u64,
    /// Of this virtual user in this scenario.
    pub of_vu_in_scenario: u64,
    /// Over all processes of the test.
    pub of_scenario: u64,
    /// In this process.
    pub of_scenario_here: u64,
    /// When it should have begun.
    pub intended: Duration,
}

pub(crate) struct Vu {
    pub(crate) shared: Arc<Shared>,
    /// From 1 in this process; 0 sets up and tears down.
    pub(crate) id: u64,
    /// Of which scenario it runs an iteration; none while it is loaded.
    pub(super) context: RefCell<Option<Arc<Context>>>,
    pub(super) is_loading: Cell<bool>,
    pub(super) iteration: Cell<Iteration>,
    /// How much later than it should have the iteration began; zero once somebody has taken account of it.
    pub(super) queued: Cell<Duration>,
    pub(super) tags: Tags,
    /// Those that the script has made.
    pub(super) metrics: RefCell<Vec<MetricId>>,
    pub(super) busy: Rc<Busy>,
    pub(super) timers: Timers,
    /// Promises that were rejected in this turn and that nobody waits for, each with what was thrown.
    pub(super) unhandled: RefCell<BTreeMap<u64, CallError>>,
    /// It has seen variables of a scenario's own.
    pub(super) has_own_environment: Cell<bool>,
    pub(super) rooms: RefCell<BTreeMap<u32, Rc<Room>>>,
    pub(super) last_room: Cell<u32>,
    pub(super) limits: Rc<Limits>,
}

/// When a script is stopped in the middle.
pub(super) struct Limits {
    /// Since when it runs without waiting.
    turn: Cell<Instant>,
    /// The iteration is to end at once.
    pub(super) interrupted: Arc<AtomicBool>,
    pub(super) blocked: Cell<bool>,
}

impl Limits {
    pub(super) fn begin_turn(&self) {
        self.turn.set(Instant::now());
    }

    /// It waited for us, which is no fault of its own.
    pub(super) fn excuse(&self, pause: Duration) {
        self.turn.set(self.turn.get() + pause);
    }

    /// Asked by the interpreter again and again.
    pub(super) fn is_over(&self) -> bool {
        if self.turn.get().elapsed() > WATCHDOG {
            self.blocked.set(true);
        }
        self.blocked.get() || self.interrupted.load(Ordering::Relaxed)
    }
}

impl Vu {
    pub(crate) fn new(shared: Arc<Shared>, id: u64, interrupted: Arc<AtomicBool>) -> Self {
        Self {
            shared,
            id,
            context: RefCell::default(),
            is_loading: Cell::new(true),
            iteration: Cell::default(),
            queued: Cell::default(),
            tags: Tags::default(),
            metrics: RefCell::default(),
            busy: Rc::default(),
            timers: Timers::default(),
            unhandled: RefCell::default(),
            has_own_environment: Cell::new(false),
            rooms: RefCell::default(),
            last_room: Cell::new(0),
            limits: Rc::new(Limits {
                turn: Cell::new(Instant::now()),
                interrupted,
                blocked: Cell::new(false),
            }),
        }
    }

    /// Over all processes of the test.
    pub(super) fn id_in_test(&self) -> u64 {
        let place = self.id.checked_sub(1);
        let settings = self.shared.settings.get();
        let number = settings
            .zip(place)
            .and_then(|(settings, place)| settings.share.nth(place));
        number.map_or(0, |it| it + 1)
    }

    pub(crate) fn begin(&self, context: &Arc<Context>, iteration: Iteration) {
        let settings = self.shared.settings.get();
        let mut tags = settings.map_or_else(BTreeMap::new, |it| it.tags.clone());
        tags.extend(context.tags.clone());
        self.tags.begin(&tags);
        self.context.replace(Some(Arc::clone(context)));
        self.iteration.set(iteration);
        let since = self.shared.elapsed();
        self.queued.set(since.saturating_sub(iteration.intended));
        self.unhandled.borrow_mut().clear();
    }

    /// After an interruption: it may run again.
    pub(crate) fn resume(&self) {
        self.limits.interrupted.store(false, Ordering::Relaxed);
    }

    pub(crate) fn enter_group(&self, name: &str) {
        self.tags.enter(name);
    }

    pub(crate) fn tag_set(&self, more: Option<&BTreeMap<String, String>>) -> TagSetId {
        self.tags.id(&self.shared.registry, more)
    }

    pub(crate) fn measure(&self, metric: MetricId, value: f64, weight: f64, tags: TagSetId) {
        self.shared.measure(Sample {
            metric,
            tags,
            at: now_millis(),
            value,
            weight,
        });
    }

    pub(super) fn console(&self, severity: Severity, text: String) {
        self.shared.say(severity, text, Some("console"));
    }

    pub(super) fn room(&self, id: u32) -> Result<Rc<Room>, String> {
        let room = self.rooms.borrow().get(&id).cloned();
        room.ok_or_else(|| "the participant has left the room".to_owned())
    }

    /// Leaves what the script has not left.
    pub(crate) async fn leave_rooms(&self) {
        let rooms = std::mem::take(&mut *self.rooms.borrow_mut());
        futures_util::future::join_all(
            rooms
                .into_values()
                .map(|room| async move { room.leave().await }),
        )
        .await;
    }
}
