//! One alias: what waits of it, what it needs, and what has been told of it.

use std::time::{Duration, Instant};

use crate::rate::RateMeter;
use crate::units::{Bitrate, DataSize};

use super::class::{Class, Kind};
use super::lane::Lane;
use super::repairs::Repairs;
use super::stats::{Reason, Stats};
use super::suspension::Rank;
use super::{Event, Packet};

/// Bytes that an alias sends before it is another's turn, by its weight. Lower breaks frames up, and with
/// them the runs of equal packets that leave together; higher makes the others wait.
const QUANTUM: i64 = 4_800;
/// An alias weighs at most this much more than another of its class.
const MAX_WEIGHT: i64 = 8;
/// What its rate is measured over.
const RATE_OVER: Duration = Duration::from_secs(1);

/// One spatial layer of a track, or one audio track.
#[derive(Debug)]
pub(super) struct Alias<T> {
    pub(super) id: u32,
    pub(super) kind: Kind,
    pub(super) priority: u8,
    pub(super) is_wanted: bool,
    pub(super) media: Lane<T>,
    resends: Lane<T>,
    pub(super) repairs: Repairs,
    pub(super) flow: Flow,
    /// What is offered, whatever becomes of it.
    meter: RateMeter,
    /// … since then.
    began: Instant,
    /// Its rate when it was suspended: nothing may come any more.
    rate_before: Bitrate,
    /// The last packet that was offered.
    last: Option<Packet>,
    told_suspended: bool,
    key_frame_wanted: bool,
    /// Among those that have something to tell.
    pub(super) has_news: bool,
}

/// What becomes of the packets of an alias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    Open,
    /// Something was dropped that the following needs.
    AwaitingKeyFrame,
    Suspended,
}

impl<T> Alias<T> {
    /// `at`: now, in microseconds.
    pub(super) fn new(id: u32, kind: Kind, priority: u8, now: Instant, at: u64) -> Self {
        Self {
            id,
            kind,
            priority,
            is_wanted: true,
            media: Lane::new(),
            resends: Lane::new(),
            repairs: Repairs::new(at),
            flow: Flow::Open,
            meter: RateMeter::new(RATE_OVER),
            began: now,
            rate_before: Bitrate::ZERO,
            last: None,
            told_suspended: false,
            key_frame_wanted: false,
            has_news: false,
        }
    }

    /// Bytes that it sends in one turn.
    pub(super) fn share(&self) -> i64 {
        let weight = i64::from(self.priority) + 1;
        QUANTUM * weight.min(MAX_WEIGHT)
    }

    pub(super) fn class(&self, resend: bool) -> Class {
        if resend {
            self.kind.resend_class()
        } else {
            self.kind.class()
        }
    }

    pub(super) fn lane(&self, class: Class) -> &Lane<T> {
        if class.is_resend() {
            &self.resends
        } else {
            &self.media
        }
    }

    pub(super) fn lane_mut(&mut self, class: Class) -> &mut Lane<T> {
        if class.is_resend() {
            &mut self.resends
        } else {
            &mut self.media
        }
    }

    /// Counts a packet. `true`: a key frame begins with it. Time in microseconds.
    pub(super) fn offered(&mut self, packet: &Packet, at: u64) -> bool {
        self.meter.add(DataSize::from_bytes(packet.len as u64), at);
        if packet.resend {
            return false;
        }
        let last = self.last.replace(*packet);
        packet.key_frame && last.is_none_or(|last| !last.key_frame || last.frame_end)
    }

    /// Over the last second; one that has just begun counts as much as it has sent, not as fast as its
    /// first key frame came.
    pub(super) fn rate(&self, at: u64, now: Instant) -> Bitrate {
        let measured = self.meter.rate(at);
        if self.flow == Flow::Suspended {
            // Others may still want it here, and then what comes is what it needs.
            return measured.max(self.rate_before);
        }
        let age = now.saturating_duration_since(self.began).min(RATE_OVER);
        let known = age.as_secs_f64() / RATE_OVER.as_secs_f64();
        measured.scale(known) + self.rate_before.scale(1.0 - known)
    }

    /// How much it is missed. `None`: it is never suspended.
    pub(super) fn rank(&self) -> Option<Rank> {
        match self.kind {
            Kind::Audio | Kind::Video { layer: 0, .. } => None,
            Kind::Video { layer, .. } => Some(Rank::new(self.priority, layer)),
        }
    }

    /// Drops the head of the media, and all up to the next key frame. The bytes that wait no longer.
    pub(super) fn cut(&mut self, reason: Reason, stats: &mut Stats) -> usize {
        let cut = self.media.cut(self.kind.class(), reason, stats);
        // They belong to what is not decoded any more.
        let resends = self.kind.resend_class();
        cut + self.resends.clear(resends, reason, stats)
    }

    pub(super) fn clear(&mut self, reason: Reason, stats: &mut Stats) -> usize {
        let media = self.media.clear(self.kind.class(), reason, stats);
        let resends = self.kind.resend_class();
        media + self.resends.clear(resends, reason, stats)
    }

    pub(super) fn await_key_frame(&mut self) {
        self.flow = Flow::AwaitingKeyFrame;
        self.key_frame_wanted = true;
    }

    /// A key frame has begun.
    pub(super) fn go_on(&mut self) {
        self.flow = Flow::Open;
        self.key_frame_wanted = false;
    }

    pub(super) fn suspend(&mut self, rate: Bitrate, stats: &mut Stats) -> usize {
        self.flow = Flow::Suspended;
        self.rate_before = rate;
        self.key_frame_wanted = false;
        self.clear(Reason::Suspended, stats)
    }

    pub(super) fn resume(&mut self, now: Instant) {
        self.await_key_frame();
        self.meter = RateMeter::new(RATE_OVER);
        self.began = now;
    }

    pub(super) fn next_event(&mut self) -> Option<Event> {
        let suspended = self.flow == Flow::Suspended;
        if suspended != self.told_suspended {
            self.told_suspended = suspended;
            return Some(if suspended {
                Event::Suspended(self.id)
            } else {
                Event::Resumed(self.id)
            });
        }
        if std::mem::take(&mut self.key_frame_wanted) {
            return Some(Event::KeyFrameNeeded(self.id));
        }
        self.has_news = false;
        None
    }
}
