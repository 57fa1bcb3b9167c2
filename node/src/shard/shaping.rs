//! The bandwidth towards subscribers: what their clients report of it, what waits for it, and padding
//! that looks for more. Who gets it is `allocation`'s.

use std::time::{Duration, Instant};

use pipemesh_node_core::drops::DropReason;
use pipemesh_node_core::router::SubscriptionKey;
use pipemesh_node_core::rtp::Header;
use pipemesh_node_core::units::Bitrate;
use pipemesh_proto::ids::TrackId;

use super::wire::{Outbound, Shaping, Waiting};
use super::{Shard, Timer};

/// How often what waits is looked at. More makes longer runs, which cost less, and more delay.
const DRAIN_EVERY: Duration = Duration::from_millis(5);

impl Shard {
    /// From now on what a connection sends has to fit its bandwidth, if its client reports on it.
    pub(super) fn begin_shaping(&mut self, index: usize, now: Instant) {
        let connection = &self.connections[index];
        let mut sections = connection.send.iter();
        let reports = sections.any(|section| {
            let numbered = section.extensions.transport_sequence.is_some();
            let feedback = section.feedback;
            numbered && feedback.transport_wide || feedback.estimated_maximum_bitrate
        });
        let session = connection.session;
        let link = self.wire.link(index);
        if reports && link.shaping.is_none() {
            link.shaping = Some(Box::new(Shaping::new(now)));
            self.allocate_in_a_moment(session, now);
        }
    }

    /// Transport-wide feedback of a subscriber's client.
    pub(super) fn handle_transport_feedback(&mut self, index: usize, content: &[u8], now: Instant) {
        let Some(shaping) = self.wire.link(index).shaping.as_mut() else {
            return self.rtcp_drops.count(DropReason::UnknownSource);
        };
        match shaping.bandwidth.handle_feedback(content, now) {
            Ok(()) => {
                shaping.note_report();
                self.after_report(index, now);
            }
            Err(_) => self.rtcp_drops.count(DropReason::Malformed),
        }
    }

    /// The client's own estimate.
    pub(super) fn handle_estimate(&mut self, index: usize, bits_per_second: u64, now: Instant) {
        let Some(shaping) = self.wire.link(index).shaping.as_mut() else {
            return self.rtcp_drops.count(DropReason::UnknownSource);
        };
        let rate = Bitrate::from_bps(bits_per_second);
        shaping.bandwidth.handle_remb(rate, now);
        shaping.note_report();
        self.after_report(index, now);
    }

    /// A receiver report: what is lost, and how long packets take there and back.
    pub(super) fn note_receiver_report(
        &mut self,
        index: usize,
        fraction_lost: u8,
        round_trip: Option<Duration>,
        now: Instant,
    ) {
        if let Some(shaping) = self.wire.link(index).shaping.as_mut() {
            let loss = f32::from(fraction_lost) / 256.0;
            shaping
                .bandwidth
                .handle_receiver_report(loss, round_trip, now);
            self.after_report(index, now);
        }
    }

    fn after_report(&mut self, index: usize, now: Instant) {
        self.probe(index, now);
        self.watch_estimate(index, now);
        self.note_estimate(self.connections[index].session, now);
    }

    pub(super) fn handle_estimate_timeout(&mut self, index: usize, now: Instant) {
        let Some(shaping) = self.wire.link(index).shaping.as_mut() else {
            return;
        };
        if !shaping.alarm.fire(now) {
            return;
        }
        shaping.bandwidth.handle_timeout(now);
        self.serving = Some(self.connections[index].session);
        self.after_report(index, now);
    }

    /// Sets a timer for when the estimate wants to be called.
    pub(super) fn watch_estimate(&mut self, index: usize, now: Instant) {
        let Some(shaping) = self.wire.link(index).shaping.as_mut() else {
            return;
        };
        let Some(at) = shaping.bandwidth.poll_timeout() else {
            return;
        };
        let at = at.max(now);
        if shaping.alarm.set(at) {
            let key = self.connections[index].key;
            self.timers.set(at, Timer::Estimate(index, key));
        }
    }

    /// Sends the padding that a probe asks for.
    fn probe(&mut self, index: usize, now: Instant) {
        /// Steps of a probe that are made up for at most: what was missed is not saved up.
        const STEPS: usize = 4;
        for _ in 0..STEPS {
            let Some(shaping) = self.wire.link(index).shaping.as_mut() else {
                return;
            };
            let Some(due) = shaping.bandwidth.poll_probe(now) else {
                return;
            };
            if !self.wire.pad(index, due.as_bytes() as usize, now) {
                return;
            }
        }
    }

    /// Looks after those whose packets wait since the last call.
    pub(super) fn watch_waiting(&mut self, now: Instant) {
        while let Some(index) = self.wire.poll_delayed() {
            let Some(key) = self.connections.get(index).map(|connection| connection.key) else {
                continue;
            };
            let Some(shaping) = self.wire.link(index).shaping.as_mut() else {
                continue;
            };
            if shaping.has_waiting() && !std::mem::replace(&mut shaping.is_watched, true) {
                self.timers.set(now + DRAIN_EVERY, Timer::Drain(index, key));
                self.allocate_in_a_moment(self.connections[index].session, now);
            }
        }
    }

    /// Sends what waits, as far as the budget goes.
    pub(super) fn drain(&mut self, index: usize, now: Instant) {
        self.serving = Some(self.connections[index].session);
        let key = self.connections[index].key;
        loop {
            let Some(shaping) = self.wire.link(index).shaping.as_mut() else {
                return;
            };
            let Some(waiting) = shaping.poll_admitted(now) else {
                shaping.is_watched = shaping.has_waiting();
                if shaping.is_watched {
                    self.timers.set(now + DRAIN_EVERY, Timer::Drain(index, key));
                }
                return;
            };
            if let Err(reason) = self.send_waiting(&waiting, now) {
                self.drops.count(reason);
                self.give_up(&waiting, now);
            }
        }
    }

    /// A packet that has waited is gone, or cannot be sent. Its number is used again, so that it does not
    /// look lost, and its track goes on with a key frame.
    fn give_up(&mut self, waiting: &Waiting, now: Instant) {
        if let Some((dropped, next)) = self.wire.give_up(waiting) {
            self.drops.add(DropReason::Congested, dropped);
            self.router.rewind(waiting.subscription, next, now);
        }
    }

    fn send_waiting(&mut self, waiting: &Waiting, now: Instant) -> Result<(), DropReason> {
        let Self {
            router,
            wire,
            publishers,
            ..
        } = self;
        let (track, packet) = router
            .waiting_packet(waiting.subscription, waiting.encoding, waiting.sequence)
            .ok_or(DropReason::Congested)?;
        let publisher = publishers.get(track.index());
        let Some(Some(publisher)) = publisher else {
            return Err(DropReason::UnknownSource);
        };
        let header = Header::parse(packet).ok_or(DropReason::Malformed)?;
        let (codec, extensions) = (waiting.codec, &publisher.extensions);
        let ids = header
            .payload(packet)
            .and_then(|payload| codec.frame_ids(payload));
        let outbound = Outbound::new(codec, &header, packet, None, ids.as_ref(), extensions);
        let mut outbound = outbound.ok_or(DropReason::Malformed)?;
        wire.send_waiting(waiting, &mut outbound, now)
    }

    /// Nothing of a muted track goes out any more.
    pub(super) fn withdraw_track(&mut self, track: &TrackId, now: Instant) {
        let Some(key) = self.tracks.get(track).map(|track| track.key) else {
            return;
        };
        let keys = self.router.subscriptions(key).to_vec();
        for key in keys {
            self.wire.forget_frame(key);
            self.take_back(key, now);
        }
    }

    /// What waits of a subscription, but for the frame that is under way, is not worth its bandwidth any
    /// more, or found no place.
    pub(super) fn take_back(&mut self, key: SubscriptionKey, now: Instant) {
        if let Some(next) = self.withdraw(key) {
            self.router.rewind(key, next, now);
        }
    }

    /// A subscription has ended: nothing of it waits any more.
    pub(super) fn forget_waiting(&mut self, key: SubscriptionKey) {
        self.wire.forget_frame(key);
        self.withdraw(key);
    }

    fn withdraw(&mut self, key: SubscriptionKey) -> Option<u64> {
        let (dropped, next) = self.wire.withdraw(key)?;
        self.drops.add(DropReason::Congested, dropped);
        Some(next)
    }
}
