//! Which layers of its tracks a subscriber is sent within its bandwidth.
//!
//! A pure function of what is wanted, what it costs and what there is. It knows neither packets nor how
//! the bandwidth was found ([`crate::bandwidth`]), and is called several times a second for each
//! subscriber that could do with more.
//!
//! # How the bandwidth is given away
//!
//! A video track is a ladder of steps: its layers from the lowest up, each with the rate that it takes
//! together with all it builds on. Bandwidth is given away in this order:
//!
//! 1. **Audio** gets what it needs, even if that is more than there is. Nobody leaves a call because of a
//!    bad picture.
//! 2. **The lowest step of every video track**, by priority, then by the size of the view. A track whose
//!    lowest step does not fit is paused; smaller ones behind it may still fit. One picture is sent
//!    however little there is: if none were, nothing would show that there is bandwidth again.
//! 3. **More**, priority by priority: whatever tracks of a higher priority can use comes before the
//!    second step of a lower one. Within a priority each bit goes where it shows most: a step is worth the
//!    pixels it adds to its view (by the square root, since twice the pixels are not twice the picture),
//!    and frames per second count as well. Steps that show little are jumped over if the one above is
//!    better for its price. A step larger than the view is worth nothing.
//!
//! # What keeps it steady
//!
//! Estimates and rates move by some percent all the time, and every change is a key frame and a visible
//! jump. So a subscriber keeps what it has as long as that fits, and is given more only
//!
//! - with **headroom**: if the bandwidth is some percent larger than all that would then be sent, and has
//!   been for a moment;
//! - after a **hold**: for some time after something had to be taken away. The hold is doubled when what
//!   was given has to be taken away again at once.
//!
//! Less is taken at once, and a little more than has to be, so that what remains goes on fitting. What could
//! only be given in place of what others have needs more headroom still. What a new subscription gets at first
//! needs only the headroom. The memory of this is the caller's: [`Demand::held`] and [`Damping`] go in,
//! [`Allocation::choices`] and [`Damping`] come out.
//!
//! # What it says besides
//!
//! [`Allocation::next`] is the bandwidth that would allow the next step, which is what a probe looks for;
//! [`Allocation::wanted`] would be enough for everything. [`Allocation::again`] is when time alone will
//! change the result.

mod ladder;

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

pub use crate::layer::Layer;
use crate::track::Size;
use crate::units::Bitrate;
pub use ladder::{Ladder, MAX_STEPS, Step};

/// More is given only if the bandwidth exceeds its rate by this factor. Lower comes back a little earlier
/// and flickers; higher leaves bandwidth unused.
const HEADROOM: f64 = 1.15;
/// … to go on with a track that is paused: that it is seen at all is worth a mistake more.
const RESUME_HEADROOM: f64 = 1.08;
/// … for so long: rates differ from one moment to the next.
const MOMENT: Duration = Duration::from_millis(400);
/// What is kept when somebody gets more, or has to give away something, leaves so much: lower, and what moves
/// by some percent takes it away a moment later; higher takes more than is needed. What would only fit in
/// place of something else needs as much more headroom.
const STEADY: f64 = 1.07;
/// Nothing is given so soon after something was taken.
const HOLD: Duration = Duration::from_millis(1_000);
/// Longer, and the end of a limit is not made use of within ten seconds.
const LONGEST_HOLD: Duration = Duration::from_millis(4_000);
/// What has to be taken this soon after something was given should not have been given.
const TOO_EARLY: Duration = Duration::from_millis(5_000);
/// After as long without that the hold is short again.
const FORGIVEN: Duration = Duration::from_millis(30_000);
/// Until the key frame of a lower encoding has come, the higher one goes on, unless all takes more than so
/// many times what there is. Lower shows a gap where there need be none; higher lets what cannot arrive
/// take the room of what could.
const TOO_MUCH: f64 = 1.5;
/// Rates that are not known yet: those of Opus, and of cameras, which send somewhat less for each pixel
/// the more pixels they send.
const AUDIO_RATE: Bitrate = Bitrate::from_kbps(48);
const CAMERA_RATE: f64 = 150_000.0;
const CAMERA_PIXELS: f64 = 320.0 * 180.0;
const CAMERA_EXPONENT: f64 = 0.85;
/// Share of the rate that one temporal layer less takes.
const TEMPORAL_SHARE: f64 = 0.65;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Media {
    Audio,
    Video,
}

/// What a subscription was given before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Held {
    /// Nothing was decided yet, or the receiver did not want it.
    #[default]
    New,
    /// It did not fit.
    Paused,
    At(Layer),
}

/// One subscription that its receiver wants to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demand {
    pub media: Media,
    /// Higher comes first.
    pub priority: u32,
    /// Zero if not known.
    pub view: Size,
    /// Only layers that can be had and that the receiver wishes. None at all: nothing is chosen.
    pub ladder: Ladder,
    pub held: Held,
    /// What is being sent of it, which goes on until the key frame of a lower encoding has come.
    pub sent: Option<Layer>,
}

/// What a subscription is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// There is nothing to choose from.
    Nothing,
    /// Not even the lowest step fits.
    Paused,
    At(Layer),
}

impl Choice {
    /// What to say next time.
    pub fn held(self) -> Held {
        match self {
            Self::Nothing => Held::New,
            Self::Paused => Held::Paused,
            Self::At(layer) => Held::At(layer),
        }
    }
}

/// What there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    pub all: Bitrate,
    /// For audio and the lowest steps: while a queue drains nobody is paused for it. Counts if it is more.
    pub lowest: Bitrate,
}

/// What one subscriber's allocations remember of each other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Damping {
    given: Option<Instant>,
    taken: Option<Instant>,
    /// How often in a row something was given too early.
    mistakes: u8,
    /// Since when there has been enough for more.
    enough: Option<Instant>,
}

impl Damping {
    /// There has been enough for long enough, and nothing was taken lately.
    fn may_give(&self, now: Instant) -> bool {
        self.waits_until().is_some_and(|until| now >= until)
    }

    /// When more may be given, if there is enough until then.
    fn waits_until(&self) -> Option<Instant> {
        let hold = (HOLD * (1 << self.mistakes.min(4))).min(LONGEST_HOLD);
        let held = self.taken.map(|at| at + hold);
        self.enough
            .map(|since| (since + MOMENT).max(held.unwrap_or(since)))
    }

    fn note(&mut self, given: bool, taken: bool, enough: bool, now: Instant) {
        let since = |at: Option<Instant>| at.map(|at| now.saturating_duration_since(at));
        if since(self.taken).is_some_and(|age| age >= FORGIVEN) {
            self.mistakes = 0;
        }
        if taken {
            if since(self.given).is_some_and(|age| age < TOO_EARLY) {
                self.mistakes = self.mistakes.saturating_add(1);
            }
            self.taken = Some(now);
            self.given = None;
        }
        if given {
            self.given = Some(now);
        }
        self.enough = enough.then_some(self.enough.unwrap_or(now));
    }
}

/// The result, and the space it is made in: kept by the caller, so that nothing is allocated.
#[derive(Debug, Default)]
pub struct Allocation {
    /// In the order of the demands.
    pub choices: Vec<Choice>,
    /// What all of it takes.
    pub used: Bitrate,
    /// The least bandwidth at which more would be given; zero if there is no more.
    pub next: Bitrate,
    /// Enough for everything, headroom included; zero if all is given.
    pub wanted: Bitrate,
    /// When to allocate again even if nothing changes.
    pub again: Option<Instant>,
    /// What is being sent takes so much more than there is that nothing of it is worth finishing: it would
    /// only be in the way of what follows.
    pub too_much: bool,
    order: Vec<u32>,
    /// Position in the ladder of each demand, once it has one.
    at: Vec<Option<u8>>,
    heap: BinaryHeap<Offer>,
}

/// A step that a demand could be given.
#[derive(Debug, Clone, Copy)]
struct Offer {
    /// Of the picture, for each bit.
    value: f64,
    demand: u32,
    step: u8,
}

impl Ord for Offer {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_value = self.value.total_cmp(&other.value);
        by_value.then(Reverse(self.demand).cmp(&Reverse(other.demand)))
    }
}

impl PartialOrd for Offer {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Offer {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Offer {}

/// How far a climb may lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Limit {
    /// What each held.
    Held,
    Top,
    /// For those that held nothing because nothing was decided yet.
    TopIfNew,
}

impl Allocation {
    /// Decides anew. See the module.
    pub fn decide(
        &mut self,
        demands: &[Demand],
        budget: Budget,
        damping: &mut Damping,
        now: Instant,
    ) {
        self.reset(demands);
        let may_give = damping.may_give(now);
        self.give_audio(demands);
        let sent: Bitrate = demands.iter().filter_map(sent_rate).sum();
        self.too_much = sent.scale(1.0 / TOO_MUCH) > budget.all.saturating_sub(self.used);
        self.give_lowest(demands, budget, may_give);
        let with_headroom = budget.all.scale(1.0 / HEADROOM);
        let steady = budget.all.scale(1.0 / STEADY);
        // What those hold whose turn has not come.
        let mut reserved = self.held_above_lowest(demands, 0..self.order.len());
        let mut to_keep = if self.used + reserved <= budget.all {
            budget.all
        } else {
            steady
        };
        let mut first = 0;
        while first < self.order.len() {
            let end = self.same_priority(demands, first);
            let own = self.held_above_lowest(demands, first..end);
            reserved = reserved.saturating_sub(own);
            self.climb(demands, first..end, Limit::Held, to_keep);
            let mut given = self.climb(demands, first..end, Limit::TopIfNew, with_headroom);
            if may_give {
                let beside = with_headroom.saturating_sub(reserved);
                let instead = with_headroom.scale(1.0 / STEADY);
                given |= self.climb(demands, first..end, Limit::Top, beside.max(instead));
            }
            if given {
                to_keep = steady;
            }
            first = end;
        }
        let (given, taken) = self.compare(demands);
        self.look_ahead(demands);
        let enough = !self.next.is_zero() && self.next <= budget.all;
        damping.note(given, taken, enough, now);
        self.again = damping.waits_until().filter(|until| *until > now);
    }

    /// What a probe should look for, and what would be enough: the next step, or first of all that what is
    /// given fits.
    pub fn wish(&self, bandwidth: Bitrate) -> (Bitrate, Bitrate) {
        if self.used <= bandwidth {
            return (self.next, self.wanted);
        }
        let fitting = self.used.scale(HEADROOM);
        (fitting, self.wanted.max(fitting))
    }

    /// What all of it takes, if nobody can be given more and all fits: then only less bandwidth changes
    /// anything, or other demands, which layers that begin and rates that grow are as well.
    pub fn settled(&self, budget: Budget) -> Option<Bitrate> {
        (self.next.is_zero() && self.used <= budget.all).then_some(self.used)
    }

    fn reset(&mut self, demands: &[Demand]) {
        self.used = Bitrate::ZERO;
        self.at.clear();
        self.at.resize(demands.len(), None);
        self.order.clear();
        let video = demands.iter().enumerate().filter(|(_, demand)| {
            demand.media == Media::Video && !demand.ladder.steps().is_empty()
        });
        self.order.extend(video.map(|(index, _)| index as u32));
        self.order.sort_unstable_by_key(|&index| {
            let demand = &demands[index as usize];
            (
                Reverse(demand.priority),
                Reverse(pixels(demand.view)),
                index,
            )
        });
    }

    fn give_audio(&mut self, demands: &[Demand]) {
        for (demand, at) in demands.iter().zip(&mut self.at) {
            let top = demand.ladder.steps().len().checked_sub(1);
            if let (Media::Audio, Some(top)) = (demand.media, top) {
                *at = Some(top as u8);
                self.used += rate(demand, top);
            }
        }
    }

    fn give_lowest(&mut self, demands: &[Demand], budget: Budget, may_give: bool) {
        let bandwidth = budget.lowest.max(budget.all);
        let held: Bitrate = demands.iter().filter_map(held_rate).sum();
        let mut kept = self.used + held;
        for &index in &self.order {
            let demand = &demands[index as usize];
            let own = rate(demand, 0);
            let used = self.used + own;
            let fits = match demand.held {
                Held::Paused => {
                    let beside = (kept + own).scale(RESUME_HEADROOM) <= budget.all;
                    let instead = used.scale(HEADROOM) <= bandwidth;
                    may_give && (beside || instead)
                }
                Held::New | Held::At(_) => used <= bandwidth,
            };
            if fits {
                self.used = used;
                self.at[index as usize] = Some(0);
                if demand.held == Held::Paused {
                    kept += own;
                }
            }
        }
        let is_given = |index: &&u32| self.at[**index as usize].is_some();
        if self.order.iter().any(|index| is_given(&index)) {
            return;
        }
        // Who is shown stays.
        let is_shown = |index: &&u32| matches!(demands[**index as usize].held, Held::At(_));
        let shown = self.order.iter().find(is_shown);
        if let Some(&one) = shown.or(self.order.first()) {
            self.used += rate(&demands[one as usize], 0);
            self.at[one as usize] = Some(0);
        }
    }

    /// What some of those in `order` hold above their lowest steps, of those that go on.
    fn held_above_lowest(&self, demands: &[Demand], range: std::ops::Range<usize>) -> Bitrate {
        let order = self.order[range].iter().map(|&index| index as usize);
        let given = order.filter(|&index| self.at[index].is_some());
        let above = given.filter_map(|index| {
            let demand = &demands[index];
            Some(held_rate(demand)?.saturating_sub(rate(demand, 0)))
        });
        above.sum()
    }

    /// The end of those in `order` that have the priority of the one at `first`.
    fn same_priority(&self, demands: &[Demand], first: usize) -> usize {
        let priority = |position: usize| demands[self.order[position] as usize].priority;
        (first..self.order.len())
            .find(|&position| priority(position) != priority(first))
            .unwrap_or(self.order.len())
    }

    /// Gives steps to some of those in `order`, the most worthwhile first, as long as they fit. Answers
    /// whether anybody got one.
    fn climb(
        &mut self,
        demands: &[Demand],
        range: std::ops::Range<usize>,
        limit: Limit,
        bandwidth: Bitrate,
    ) -> bool {
        let before = self.used;
        self.heap.clear();
        let offers = self.order[range].iter().filter_map(|&index| {
            offer(
                demands,
                index,
                self.at[index as usize]?,
                limit,
                Bitrate::MAX,
            )
        });
        self.heap.extend(offers);
        while let Some(best) = self.heap.pop() {
            let demand = &demands[best.demand as usize];
            let Some(at) = self.at[best.demand as usize] else {
                continue;
            };
            let others = self.used.saturating_sub(rate(demand, at.into()));
            let used = others + rate(demand, best.step.into());
            let next = if used <= bandwidth {
                self.used = used;
                self.at[best.demand as usize] = Some(best.step);
                offer(demands, best.demand, best.step, limit, Bitrate::MAX)
            } else {
                let left = bandwidth.saturating_sub(others);
                offer(demands, best.demand, at, limit, left)
            };
            self.heap.extend(next);
        }
        self.used > before
    }

    /// Writes down the choices; answers whether anybody has more than before, or less.
    fn compare(&mut self, demands: &[Demand]) -> (bool, bool) {
        let (mut given, mut taken) = (false, false);
        self.choices.clear();
        for (demand, at) in demands.iter().zip(&self.at) {
            let layer = at.and_then(|at| demand.ladder.steps().get(usize::from(at)));
            let choice = match layer {
                Some(step) => Choice::At(step.layer),
                None if demand.ladder.steps().is_empty() => Choice::Nothing,
                None => Choice::Paused,
            };
            match (demand.held, choice) {
                (Held::At(_), Choice::Paused) => taken = true,
                (Held::At(before), Choice::At(layer)) => {
                    given |= layer > before;
                    // A layer that is not offered any more was not taken by the bandwidth.
                    let kept = demand.ladder.position(before).map(|kept| kept as u8);
                    taken |= *at < kept;
                }
                (Held::Paused, Choice::At(_)) => given = true,
                (Held::New | Held::Paused, _) | (Held::At(_), Choice::Nothing) => {}
            }
            self.choices.push(choice);
        }
        (given, taken)
    }

    fn look_ahead(&mut self, demands: &[Demand]) {
        let mut all = self.used;
        let mut next: Option<Bitrate> = None;
        for &index in &self.order {
            let demand = &demands[index as usize];
            let at = self.at[index as usize];
            let own = at.map_or(Bitrate::ZERO, |at| rate(demand, at.into()));
            let others = self.used.saturating_sub(own);
            let (more, headroom) = match at {
                None => (Some(rate(demand, 0)), RESUME_HEADROOM),
                Some(at) => (least_more(demand, at.into()), HEADROOM),
            };
            let Some(more) = more else {
                continue;
            };
            let need = (others + more).scale(headroom);
            next = Some(next.map_or(need, |next| next.min(need)));
            all += most_useful(demand).saturating_sub(own);
        }
        self.next = next.unwrap_or_default();
        self.wanted = match next {
            Some(_) => all.scale(HEADROOM),
            None => Bitrate::ZERO,
        };
    }
}

/// What to give a demand that is at a step: the most worthwhile of those that cost no more than `left`.
fn offer(demands: &[Demand], index: u32, at: u8, limit: Limit, left: Bitrate) -> Option<Offer> {
    let demand = &demands[index as usize];
    let at = usize::from(at);
    let highest = match (limit, demand.held) {
        (Limit::Top, _) | (Limit::TopIfNew, Held::New) => demand.ladder.steps().len() - 1,
        (Limit::Held, Held::At(layer)) => demand.ladder.position(layer)?,
        (Limit::Held, Held::New | Held::Paused) | (Limit::TopIfNew, _) => return None,
    };
    let (own_worth, own_rate) = (worth(demand, at), rate(demand, at));
    let mut best: Option<Offer> = None;
    for step in at + 1..=highest {
        let gain = worth(demand, step) - own_worth;
        let rate = rate(demand, step);
        if gain <= 0.0 || rate > left {
            continue;
        }
        let cost = rate.saturating_sub(own_rate).as_bps().max(1) as f64;
        let value = gain / cost;
        if best.is_none_or(|best| value > best.value) {
            best = Some(Offer {
                value,
                demand: index,
                step: step as u8,
            });
        }
    }
    best
}

/// The least rate at which a demand shows more than at a step. The most worthwhile one may be dearer.
fn least_more(demand: &Demand, at: usize) -> Option<Bitrate> {
    let own = worth(demand, at);
    let steps = at + 1..demand.ladder.steps().len();
    let more = steps.filter(|&step| worth(demand, step) > own);
    more.map(|step| rate(demand, step)).min()
}

/// The rate of a step; a guess if it is not known.
fn rate(demand: &Demand, step: usize) -> Bitrate {
    let Some(known) = demand.ladder.steps().get(step) else {
        return Bitrate::ZERO;
    };
    if !known.rate.is_zero() {
        return known.rate;
    }
    if demand.media == Media::Audio {
        return AUDIO_RATE;
    }
    let full = CAMERA_RATE * (frame_pixels(known) / CAMERA_PIXELS).powf(CAMERA_EXPONENT);
    let less = top_temporal(demand, known.layer.spatial) - known.layer.temporal;
    Bitrate::from_bps((full * TEMPORAL_SHARE.powi(less.into())) as u64)
}

/// What a video track takes at the step that it was given.
fn held_rate(demand: &Demand) -> Option<Bitrate> {
    let Held::At(layer) = demand.held else {
        return None;
    };
    let position = demand.ladder.position(layer)?;
    (demand.media == Media::Video).then(|| rate(demand, position))
}

/// What a video track is being sent at.
fn sent_rate(demand: &Demand) -> Option<Bitrate> {
    let position = demand.ladder.position(demand.sent?)?;
    (demand.media == Media::Video).then(|| rate(demand, position))
}

/// What a step shows, by the square root of the pixels that the view has place for.
fn worth(demand: &Demand, step: usize) -> f64 {
    let Some(step) = demand.ladder.steps().get(step) else {
        return 0.0;
    };
    let view = pixels(demand.view);
    let shown = if view == 0 {
        frame_pixels(step)
    } else {
        frame_pixels(step).min(view as f64)
    };
    // Half the frames a second are worth three quarters.
    let less = top_temporal(demand, step.layer.spatial) - step.layer.temporal;
    let smoothness = 0.5 + 0.5 / f64::from(1u32 << less.min(8));
    shown.sqrt() * smoothness
}

fn top_temporal(demand: &Demand, spatial: u8) -> u8 {
    let layers = demand.ladder.steps().iter().map(|step| step.layer);
    layers
        .filter(|layer| layer.spatial == spatial)
        .map(|layer| layer.temporal)
        .max()
        .unwrap_or_default()
}

/// Pixels of a frame; if they are not known, each spatial layer has four times those below.
fn frame_pixels(step: &Step) -> f64 {
    if step.pixels > 0 {
        return step.pixels.into();
    }
    CAMERA_PIXELS * f64::from(1u32 << (2 * step.layer.spatial.min(4)))
}

/// The rate of the highest step that shows more than those below it.
fn most_useful(demand: &Demand) -> Bitrate {
    let steps = 0..demand.ladder.steps().len();
    let best = steps.rev().reduce(|best, lower| {
        if worth(demand, lower) >= worth(demand, best) {
            lower
        } else {
            best
        }
    });
    best.map_or(Bitrate::ZERO, |best| rate(demand, best))
}

fn pixels(size: Size) -> u64 {
    u64::from(size.width) * u64::from(size.height)
}

#[cfg(test)]
mod tests;
