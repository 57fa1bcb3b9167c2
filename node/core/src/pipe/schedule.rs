//! What leaves next for one node.
//!
//! Strict classes, each with the time after which its packets are worth nothing; inside a class, aliases
//! take turns. What cannot leave goes by whole frames and up to the next key frame, and whole layers are
//! suspended before that has to happen. Audio never goes because of video. Knows neither the connection
//! nor the wire: payloads are the caller's.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::units::Bitrate;

mod alias;
mod class;
mod lane;
mod padding;
mod repairs;
mod stats;
mod suspension;

#[cfg(test)]
mod tests;

pub use class::{Class, Kind};
pub use stats::{Count, Reason, Stats};

use alias::{Alias, Flow};
use lane::Entry;
use padding::Padding;
use suspension::{Measured, Rank, Suspensions};

/// More than a node takes of another: every encoding of 16,384 tracks.
const MAX_ALIASES: usize = 1 << 16;
/// Bytes that wait at most, of all aliases. Beyond it, the least class gives way as a whole.
const MAX_BYTES: usize = 8 << 20;
/// Packets of one alias that wait at most: a key frame of a megabyte.
const MAX_PACKETS: usize = 1024;
/// Control datagrams that wait at most; they are sent again by whoever needs them.
const MAX_CONTROL: usize = 256;
/// How often rates are compared with the budget, while there is anything to compare.
const TICK: Duration = Duration::from_millis(25);
/// What may lie in the transport's own queue, where nothing can overtake it any more. Lower leaves the
/// path idle if the sender wakes late; higher delays audio.
const IN_TRANSPORT: Duration = Duration::from_millis(10);
const LEAST_IN_TRANSPORT: usize = 4_000;
const MOST_IN_TRANSPORT: usize = 64 << 10;
/// One datagram of padding.
const PADDING: usize = 1_200;

/// A packet of an alias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    pub alias: u32,
    pub len: usize,
    /// Part of a frame that a decoder can begin with.
    pub key_frame: bool,
    /// The last of its frame.
    pub frame_end: bool,
    /// Sent before, and asked for again.
    pub resend: bool,
}

/// Where an open alias lies: for who pushes many packets, and does not want it to be looked for each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot(usize);

/// What the other node and the publishers' node have to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    Suspended(u32),
    Resumed(u32),
    /// Packets were dropped, or the alias has been resumed: nothing of it leaves before a key frame.
    KeyFrameNeeded(u32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    #[error("the alias is open already")]
    AlreadyOpen,
    #[error("{MAX_ALIASES} aliases are open")]
    TooMany,
}

/// The queues of one connection.
///
/// After any call, drain [`Self::poll_event`]; call [`Self::handle_timeout`] no later than
/// [`Self::poll_timeout`].
#[derive(Debug)]
pub struct Schedule<T> {
    origin: Instant,
    control: VecDeque<Entry<T>>,
    /// Where in `aliases` one lies.
    slots: BTreeMap<u32, usize>,
    aliases: Vec<Option<Alias<T>>>,
    vacant: Vec<usize>,
    /// Slots whose lane of that class has something to send, in the order of their turns.
    turns: [VecDeque<usize>; Class::COUNT],
    /// Bytes that wait.
    waiting: usize,
    /// Slots with something to tell.
    news: VecDeque<usize>,
    rate: Option<Bitrate>,
    /// On the path.
    queue: Duration,
    suspensions: Suspensions,
    padding: Padding,
    stats: Stats,
    next_tick: Instant,
    /// Media came since the last tick.
    busy: bool,
    /// Video came too late since the last tick.
    expired: bool,
}

impl<T> Schedule<T> {
    pub fn new(now: Instant) -> Self {
        Self {
            origin: now,
            control: VecDeque::new(),
            slots: BTreeMap::new(),
            aliases: Vec::new(),
            vacant: Vec::new(),
            turns: Default::default(),
            waiting: 0,
            news: VecDeque::new(),
            rate: None,
            queue: Duration::ZERO,
            suspensions: Suspensions::new(now),
            padding: Padding::default(),
            stats: Stats::default(),
            next_tick: now,
            busy: false,
            expired: false,
        }
    }

    /// Declares an alias; its slot is good until it is closed. The higher its priority, the more of its
    /// class's turns it gets, and the later it is suspended.
    pub fn open(
        &mut self,
        alias: u32,
        kind: Kind,
        priority: u8,
        now: Instant,
    ) -> Result<Slot, OpenError> {
        if self.slots.contains_key(&alias) {
            return Err(OpenError::AlreadyOpen);
        }
        if self.slots.len() >= MAX_ALIASES {
            return Err(OpenError::TooMany);
        }
        let at = since(self.origin, now);
        let slot = match self.vacant.pop() {
            Some(slot) => slot,
            None => {
                self.aliases.push(None);
                self.aliases.len() - 1
            }
        };
        self.aliases[slot] = Some(Alias::new(alias, kind, priority, now, at));
        self.slots.insert(alias, slot);
        Ok(Slot(slot))
    }

    /// `is_wanted`: somebody would use it. What nobody would does not come back while it is suspended.
    pub fn set_demand(&mut self, alias: u32, priority: u8, is_wanted: bool) {
        if let Some(alias) = self.alias(alias) {
            alias.priority = priority;
            alias.is_wanted = is_wanted;
        }
    }

    /// What waits of it goes nowhere, and nothing more is told of it.
    pub fn close(&mut self, alias: u32) {
        let Some(slot) = self.slots.remove(&alias) else {
            return;
        };
        let Some(mut closed) = self.aliases[slot].take() else {
            return;
        };
        self.waiting -= closed.clear(Reason::Closed, &mut self.stats);
        for turns in &mut self.turns {
            turns.retain(|&other| other != slot);
        }
        self.news.retain(|&other| other != slot);
        self.vacant.push(slot);
    }

    /// What the congestion controller has found: what the path carries, and how long packets wait on it.
    /// Until the first time, nothing is suspended for its rate.
    pub fn set_path(&mut self, rate: Bitrate, queue: Duration) {
        self.rate = Some(rate);
        self.queue = queue;
    }

    /// Bytes that may lie in the transport's queue: what is there cannot be overtaken. [`Self::pop`] wants
    /// the difference to what lies there.
    pub fn transport_share(&self) -> usize {
        let Some(rate) = self.rate else {
            return MOST_IN_TRANSPORT;
        };
        let share = rate.during(IN_TRANSPORT).as_bytes();
        usize::try_from(share)
            .unwrap_or(usize::MAX)
            .clamp(LEAST_IN_TRANSPORT, MOST_IN_TRANSPORT)
    }

    /// A datagram that goes before all media. Of too many, the oldest give way.
    pub fn push_control(&mut self, len: usize, payload: T, now: Instant) {
        self.stats.push(Class::Control, len);
        if self.control.len() >= MAX_CONTROL
            && let Some(oldest) = self.control.pop_front()
        {
            self.waiting -= oldest.len;
            self.stats.drop(Class::Control, Reason::Full, oldest.len);
        }
        self.waiting += len;
        self.control.push_back(Entry {
            payload,
            len,
            at: now,
            begins_key_frame: false,
            frame_end: true,
        });
    }

    /// Takes a packet in. One that cannot be used is dropped, and counted.
    pub fn push(&mut self, packet: Packet, payload: T, now: Instant) {
        let Some(&slot) = self.slots.get(&packet.alias) else {
            self.stats.unknown += 1;
            return;
        };
        self.push_at(Slot(slot), packet, payload, now);
    }

    /// The same for an alias that is known to be open, and lies there.
    pub fn push_at(&mut self, Slot(slot): Slot, packet: Packet, payload: T, now: Instant) {
        let Some(alias) = self.aliases.get_mut(slot).and_then(Option::as_mut) else {
            self.stats.unknown += 1;
            return;
        };
        let class = alias.class(packet.resend);
        self.stats.push(class, packet.len);
        self.busy = true;
        let at = since(self.origin, now);
        let begins_key_frame = alias.offered(&packet, at);
        match alias.flow {
            Flow::Open => {}
            Flow::AwaitingKeyFrame if begins_key_frame => alias.go_on(),
            Flow::AwaitingKeyFrame => {
                self.stats.drop(class, Reason::AwaitingKeyFrame, packet.len);
                return;
            }
            Flow::Suspended => {
                self.stats.drop(class, Reason::Suspended, packet.len);
                return;
            }
        }
        if !packet.resend {
            alias.repairs.earn(packet.len);
        } else if !alias.repairs.allow(packet.len, at) {
            self.stats.drop(class, Reason::RepairLimit, packet.len);
            return;
        }
        self.make_room(slot, packet.len, class);
        let Some(alias) = self.aliases[slot].as_mut() else {
            return;
        };
        // Making room may have broken the chain of frames that this packet belongs to.
        if alias.flow != Flow::Open {
            if !begins_key_frame {
                self.stats.drop(class, Reason::AwaitingKeyFrame, packet.len);
                return;
            }
            alias.go_on();
        }
        self.waiting += packet.len;
        let share = alias.share();
        let lane = alias.lane_mut(class);
        lane.entries.push_back(Entry {
            payload,
            len: packet.len,
            at: now,
            begins_key_frame,
            frame_end: packet.frame_end,
        });
        if !lane.listed {
            lane.listed = true;
            lane.deficit = share;
            self.turns[class as usize].push_back(slot);
        }
    }

    /// The next that leaves, if the transport has room for it. What has waited too long is dropped on the
    /// way to it.
    pub fn pop(&mut self, now: Instant, space: usize) -> Option<T> {
        while let Some(entry) = self.control.front() {
            let expired = Class::Control.expired(entry.at, now);
            if !expired && entry.len > space {
                return None;
            }
            let entry = self.control.pop_front()?;
            self.waiting -= entry.len;
            if expired {
                self.stats.drop(Class::Control, Reason::Expired, entry.len);
            } else {
                self.stats.pop(Class::Control, entry.len);
                return Some(entry.payload);
            }
        }
        for class in Class::MEDIA {
            while let Some(&slot) = self.turns[class as usize].front() {
                match self.turn(slot, class, now, space) {
                    Turn::Sends(payload) => return Some(payload),
                    Turn::Blocked => return None,
                    Turn::Empty => {
                        self.turns[class as usize].pop_front();
                    }
                    Turn::Over => self.turns[class as usize].rotate_left(1),
                }
            }
        }
        None
    }

    /// Whether more of the path is tried out than is used.
    pub fn is_padding(&self) -> bool {
        self.padding.next().is_some()
    }

    /// Bytes of padding to send now, while more of the path is tried out than is used. Only when nothing
    /// else waits.
    pub fn poll_padding(&mut self, now: Instant, space: usize) -> Option<usize> {
        if self.waiting > 0 {
            return None;
        }
        if space < PADDING {
            self.padding.postpone(now);
            return None;
        }
        if !self.padding.take(PADDING, now) {
            return None;
        }
        self.stats.push(Class::Padding, PADDING);
        self.stats.pop(Class::Padding, PADDING);
        Some(PADDING)
    }

    pub fn poll_event(&mut self) -> Option<Event> {
        while let Some(&slot) = self.news.front() {
            let event = self.aliases[slot].as_mut().and_then(Alias::next_event);
            if event.is_some() {
                return event;
            }
            self.news.pop_front();
        }
        None
    }

    /// `None`: nothing flows.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let flows = self.busy || self.waiting > 0 || self.suspensions.any();
        let tick = flows.then_some(self.next_tick);
        let padding = self.padding.next().filter(|_| self.waiting == 0);
        tick.into_iter().chain(padding).min()
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        if now < self.next_tick {
            return;
        }
        self.next_tick = now + TICK;
        self.busy = false;
        let late = self.drop_expired(now);
        self.suspend_or_resume(late, now);
        self.expired = false;
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Packets that wait, of one class.
    pub fn queued(&self, class: Class) -> usize {
        if class == Class::Control {
            return self.control.len();
        }
        let turns = self.turns[class as usize].iter();
        turns
            .filter_map(|&slot| self.aliases[slot].as_ref())
            .map(|alias| alias.lane(class).entries.len())
            .sum()
    }

    fn alias(&mut self, alias: u32) -> Option<&mut Alias<T>> {
        let slot = *self.slots.get(&alias)?;
        self.aliases[slot].as_mut()
    }

    /// Of the slot whose turn it is.
    fn turn(&mut self, slot: usize, class: Class, now: Instant, space: usize) -> Turn<T> {
        self.expire(slot, class, now);
        let Some(alias) = self.aliases[slot].as_mut() else {
            return Turn::Empty;
        };
        let share = alias.share();
        let lane = alias.lane_mut(class);
        let Some(entry) = lane.entries.front() else {
            lane.listed = false;
            return Turn::Empty;
        };
        if lane.deficit < entry.len as i64 {
            lane.deficit += share;
            return Turn::Over;
        }
        if entry.len > space {
            return Turn::Blocked;
        }
        let Some(entry) = lane.pop() else {
            return Turn::Empty;
        };
        lane.deficit -= entry.len as i64;
        lane.listed = !lane.entries.is_empty();
        if !lane.listed {
            self.turns[class as usize].pop_front();
        }
        self.waiting -= entry.len;
        self.stats.pop(class, entry.len);
        Turn::Sends(entry.payload)
    }

    /// Drops what is too old at the head of a lane, and what needs it.
    fn expire(&mut self, slot: usize, class: Class, now: Instant) {
        loop {
            let Some(alias) = self.aliases[slot].as_mut() else {
                return;
            };
            let lane = alias.lane(class);
            let Some(head) = lane.entries.front() else {
                return;
            };
            if !class.expired_in_frame(head.at, lane.within_frame, now) {
                return;
            }
            self.expired |= class.breaks_frames();
            self.cut(slot, class, Reason::Expired);
        }
    }

    /// Drops the head of a lane: a packet alone, or of video all up to the next key frame.
    fn cut(&mut self, slot: usize, class: Class, reason: Reason) {
        let Some(alias) = self.aliases[slot].as_mut() else {
            return;
        };
        if !class.breaks_frames() {
            if let Some(entry) = alias.lane_mut(class).pop() {
                self.waiting -= entry.len;
                self.stats.drop(class, reason, entry.len);
            }
            return;
        }
        self.waiting -= alias.cut(reason, &mut self.stats);
        if alias.media.entries.is_empty() {
            alias.await_key_frame();
            self.tell(slot);
        }
    }

    /// Makes room for a packet: the alias' own oldest give way to it, then the least class.
    fn make_room(&mut self, slot: usize, len: usize, class: Class) {
        while let Some(alias) = self.aliases[slot].as_mut()
            && alias.lane(class).entries.len() >= MAX_PACKETS
        {
            self.cut(slot, class, Reason::Full);
        }
        while self.waiting + len > MAX_BYTES {
            let Some((slot, class)) = self.least() else {
                return;
            };
            self.cut(slot, class, Reason::Full);
        }
    }

    /// The lane that gives way first to whatever needs room.
    fn least(&self) -> Option<(usize, Class)> {
        Class::MEDIA.into_iter().rev().find_map(|class| {
            let mut turns = self.turns[class as usize].iter();
            let slot = turns.find(|&&slot| {
                (self.aliases[slot].as_ref())
                    .is_some_and(|alias| !alias.lane(class).entries.is_empty())
            })?;
            Some((*slot, class))
        })
    }

    /// `true`: what waits of video has waited for too long.
    fn drop_expired(&mut self, now: Instant) -> bool {
        let mut late = false;
        for class in Class::MEDIA {
            for turn in 0..self.turns[class as usize].len() {
                let slot = self.turns[class as usize][turn];
                self.expire(slot, class, now);
                let head = (self.aliases[slot].as_ref())
                    .and_then(|alias| alias.lane(class).entries.front());
                late |= head.is_some_and(|head| class.is_late(head.at, now));
            }
        }
        late
    }

    fn suspend_or_resume(&mut self, late: bool, now: Instant) {
        let at = since(self.origin, now);
        let mut measured = Measured::new(self.rate, self.queue, late || self.expired);
        for (slot, alias) in self.aliases.iter().enumerate() {
            let Some(alias) = alias else {
                continue;
            };
            let rate = alias.rate(at, now);
            match alias.flow {
                Flow::Suspended if alias.is_wanted => {
                    measured.add_suspended(slot, alias.rank(), rate);
                }
                Flow::Suspended => {}
                Flow::Open | Flow::AwaitingKeyFrame => {
                    measured.add_flowing(slot, alias.rank(), rate);
                }
            }
        }
        while let Some(slot) = self.suspensions.poll_suspension(&measured, now) {
            let rate = self.suspend(slot, at, now);
            measured.suspend(rate, self.next_to_suspend(at, now));
        }
        if let Some((goes, comes)) = self.suspensions.poll_exchange(&measured, now) {
            self.suspend(goes, at, now);
            self.resume(comes, now);
        } else if let Some(slot) = self.suspensions.poll_resumption(&measured, now) {
            self.resume(slot, now);
        }
        self.padding.set(self.suspensions.padding(), now);
    }

    /// Of those that flow, the one that is missed least.
    fn next_to_suspend(&self, at: u64, now: Instant) -> Option<(Rank, usize, Bitrate)> {
        let flowing = self.aliases.iter().enumerate().filter_map(|(slot, alias)| {
            let alias = alias.as_ref()?;
            let rank = alias.rank().filter(|_| alias.flow != Flow::Suspended)?;
            Some((rank, slot, alias.rate(at, now)))
        });
        flowing.min()
    }

    fn suspend(&mut self, slot: usize, at: u64, now: Instant) -> Bitrate {
        let Some(alias) = self.aliases[slot].as_mut() else {
            return Bitrate::ZERO;
        };
        let rate = alias.rate(at, now);
        self.waiting -= alias.suspend(rate, &mut self.stats);
        self.tell(slot);
        rate
    }

    fn resume(&mut self, slot: usize, now: Instant) {
        if let Some(alias) = self.aliases[slot].as_mut() {
            alias.resume(now);
            self.tell(slot);
        }
    }

    fn tell(&mut self, slot: usize) {
        if let Some(alias) = self.aliases[slot].as_mut()
            && !alias.has_news
        {
            alias.has_news = true;
            self.news.push_back(slot);
        }
    }
}

/// What comes of an alias' turn.
enum Turn<T> {
    Sends(T),
    /// The transport has no room for it.
    Blocked,
    /// It has nothing to send.
    Empty,
    /// It has sent its share.
    Over,
}

/// Microseconds.
fn since(origin: Instant, now: Instant) -> u64 {
    let passed = now.saturating_duration_since(origin).as_micros();
    u64::try_from(passed).unwrap_or(u64::MAX)
}
