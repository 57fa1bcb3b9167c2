//! One connection's budget: what may leave at once, and what waits until it may.
//!
//! What waits are references into the packet caches, never packets. Only video waits: audio goes ahead
//! of it, and what is sent again is sent or left to be asked for once more. With budget left this costs
//! a packet a branch and a subtraction. Knows neither rooms nor wishes.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use pipemesh_node_core::bandwidth::{Bandwidth, Limits, PacketKind};
use pipemesh_node_core::codec::Codec;
use pipemesh_node_core::drops::DropReason;
use pipemesh_node_core::forward::continuity::Rewrite;
use pipemesh_node_core::router::SubscriptionKey;
use pipemesh_node_core::wheel::Alarm;
use pipemesh_node_media::prefetch::{prefetch, prefetch_head};

/// Packets that wait at most: a second of a thin line's video. Those behind would come too late to be
/// shown.
const MAX_WAITING: usize = 256;

/// What has waited for so long is not held back any more where no limit is known: the budget has been a
/// guess, and reports show no queue. Longer delays whom the first estimate is far too low for; shorter sends
/// the first key frames in bursts.
const PATIENCE: Duration = Duration::from_millis(100);

/// A client that was never heard of for so long reports nothing, whatever it negotiated: it gets
/// everything, as one that negotiated nothing.
pub(super) const SILENT_AFTER: Duration = Duration::from_secs(2);

/// A packet that waits, where to find it and what its numbers are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waiting {
    pub(crate) since: Instant,
    pub(crate) subscription: SubscriptionKey,
    pub(crate) codec: Codec,
    pub(crate) encoding: u8,
    /// Its number in the encoding's cache.
    pub(crate) sequence: u64,
    pub(crate) rewrite: Rewrite,
}

/// What has become of packets, to be counted.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PacerStats {
    /// Had to wait.
    pub(crate) delayed: u64,
    /// Padding that was sent for probes.
    pub(crate) padding: u64,
}

/// Bytes at the beginning of [`Shaping`] that each packet touches.
const PACKETS_PART: usize = 4 * 64;

/// See the module. In this order in memory, so that what each packet touches lies together.
#[repr(C)]
pub(crate) struct Shaping {
    /// In the order of their numbers.
    waiting: VecDeque<Waiting>,
    /// Of the clients' reports.
    reports: Reports,
    /// Whose retransmission stream takes padding: the last one that was sent video.
    pub(super) padded: Option<SubscriptionKey>,
    pub(crate) bandwidth: Bandwidth,
    /// Send times count from here.
    origin: Instant,
    /// The wire has it among those that something waits of.
    pub(super) is_listed: bool,
    /// A timer is set to look at what waits.
    pub(crate) is_watched: bool,
    /// The timer that is set for the estimate.
    pub(crate) alarm: Alarm,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reports {
    /// Nothing was sent.
    Unneeded,
    /// None has come since something was sent.
    AwaitedSince(Instant),
    Come,
    /// None ever comes.
    Absent,
}

impl Shaping {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            bandwidth: Bandwidth::new(Limits::default(), now),
            origin: now,
            waiting: VecDeque::new(),
            reports: Reports::Unneeded,
            padded: None,
            is_listed: false,
            is_watched: false,
            alarm: Alarm::default(),
        }
    }

    /// Asks for what a packet touches, to be there when it is needed; in two steps, since the first says
    /// where the second lies.
    #[inline]
    pub(super) fn prefetch(&self) {
        prefetch_head(self, PACKETS_PART);
    }

    #[inline]
    pub(super) fn prefetch_notes(&self, packets: usize) {
        prefetch(self.bandwidth.next_places(packets));
    }

    /// The same for what a report is about.
    #[inline]
    pub(super) fn prefetch_report(&self) {
        prefetch(self);
    }

    #[inline]
    pub(super) fn prefetch_reported(&self) {
        let (packets, delays) = self.bandwidth.reported_places();
        prefetch(packets);
        prefetch(delays);
    }

    /// Whether what the client is sent has to fit its bandwidth.
    pub(crate) fn is_limiting(&self) -> bool {
        self.reports != Reports::Absent
    }

    /// The client has reported something an estimate can be made from.
    pub(crate) fn note_report(&mut self) {
        self.reports = Reports::Come;
    }

    /// Whether probes are possible, which show that there is more bandwidth than is used.
    pub(crate) fn may_probe(&self) -> bool {
        self.padded.is_some()
    }

    /// Gives up on clients that report nothing. `true`: just now.
    pub(crate) fn note_silence(&mut self, now: Instant) -> bool {
        let is_absent = matches!(self.reports, Reports::AwaitedSince(at)
            if now.saturating_duration_since(at) >= SILENT_AFTER);
        if is_absent {
            self.reports = Reports::Absent;
        }
        is_absent
    }

    /// Whether a packet may leave now.
    #[inline]
    pub(super) fn admits(&mut self, kind: PacketKind, now: Instant) -> bool {
        if kind == PacketKind::Video && !self.waiting.is_empty() {
            return false;
        }
        self.bandwidth.admits(kind, now) || !self.is_limiting()
    }

    /// A packet leaves. Answers its transport-wide number.
    #[inline]
    pub(super) fn sent(&mut self, len: usize, kind: PacketKind, now: Instant) -> u16 {
        self.note_begun(now);
        self.bandwidth.packet_sent(len as u16, kind, now)
    }

    /// A packet leaves that carries no number. Of audio without one no report speaks.
    pub(super) fn sent_unnumbered(&mut self, len: usize, kind: PacketKind, now: Instant) {
        if kind != PacketKind::Audio {
            self.note_begun(now);
        }
        self.bandwidth.unnumbered_sent(len as u16, kind);
    }

    /// A packet is sent again as it was, under the number it had if it had one.
    pub(super) fn repeated(&mut self, number: Option<u16>, len: usize, kind: PacketKind) {
        self.bandwidth.packet_repeated(number, len as u16, kind);
    }

    #[inline]
    fn note_begun(&mut self, now: Instant) {
        if self.reports == Reports::Unneeded {
            self.reports = Reports::AwaitedSince(now);
        }
    }

    /// The time as clients without transport-wide feedback want it on packets: seconds, 6.18 fixed point.
    pub(super) fn absolute_time(&self, now: Instant) -> [u8; 3] {
        let time = now.saturating_duration_since(self.origin);
        let fraction = (u64::from(time.subsec_nanos()) << 18) / 1_000_000_000;
        let units = (time.as_secs() << 18) + fraction;
        let [.., high, middle, low] = (units as u32).to_be_bytes();
        [high, middle, low]
    }

    /// Puts a packet behind those that wait, if there is a place.
    pub(super) fn wait(&mut self, packet: Waiting) -> Result<(), DropReason> {
        if self.waiting.len() >= MAX_WAITING {
            return Err(DropReason::Congested);
        }
        self.waiting.push_back(packet);
        Ok(())
    }

    pub(crate) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The next packet that may leave.
    pub(crate) fn poll_admitted(&mut self, now: Instant) -> Option<Waiting> {
        let waited = now.saturating_duration_since(self.waiting.front()?.since);
        let is_admitted = self.bandwidth.admits(PacketKind::Video, now)
            || !self.is_limiting()
            || waited >= PATIENCE && self.bandwidth.is_clear();
        if is_admitted {
            self.waiting.pop_front()
        } else {
            None
        }
    }

    /// Takes back what waits of a subscription, but for the rest of the frame with this timestamp.
    /// Answers how many packets that were, and the first number behind those that stay.
    pub(super) fn withdraw(
        &mut self,
        key: SubscriptionKey,
        timestamp: Option<u32>,
    ) -> (usize, Option<u64>) {
        let before = self.waiting.len();
        let mut kept = None;
        self.waiting.retain(|waiting| {
            if waiting.subscription != key {
                return true;
            }
            let stays = timestamp == Some(waiting.rewrite.timestamp);
            if stays {
                kept = kept.max(Some(waiting.rewrite.sequence + 1));
            }
            stays
        });
        (before - self.waiting.len(), kept)
    }
}
