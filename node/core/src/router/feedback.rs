//! What publishers and subscribers report, and what is reported to them; packets and key frames that
//! subscribers ask for.

use std::time::{Duration, Instant};

use super::{Repair, Router, Source, SubscriptionKey};
use crate::codec::Codec;
use crate::drops::DropReason;
use crate::forward::continuity::Rewrite;
use crate::rtcp::SenderInfo;
use crate::rtp::Header;
use crate::stats::{Report, SenderClock, ticks};

impl<R: Ord + Copy, P: Ord + Copy> Router<R, P> {
    /// A publisher's sender report for one encoding.
    pub fn handle_sender_report(
        &mut self,
        source: Source,
        info: SenderInfo,
        codec: Codec,
        now: Instant,
    ) {
        let Some(track) = self.track_mut(source.track) else {
            return;
        };
        let index = usize::from(source.encoding);
        let (Some(encoding), Some(clock)) =
            (track.encodings.get_mut(index), track.clocks.get_mut(index))
        else {
            return;
        };
        encoding.stats.handle_sender_report(info, now);
        *clock = Some(SenderClock {
            ntp: info.ntp,
            rtp: info.rtp,
            rate: codec.clock_rate(),
        });
    }

    /// What to report to the publisher of an encoding; `None` before its first packet.
    pub fn receiver_report(&mut self, source: Source, ssrc: u32, now: Instant) -> Option<Report> {
        let track = self.track_mut(source.track)?;
        track
            .encodings
            .get_mut(usize::from(source.encoding))?
            .stats
            .report(ssrc, now)
    }

    /// What to report to a subscriber: the publisher's clock, continued to now, in the subscriber's
    /// timestamps. `None` until the publisher has reported and something was sent.
    pub fn sender_report(&self, key: SubscriptionKey, now: Instant) -> Option<SenderInfo> {
        let subscription = self.subscription(key)?;
        let encoding = subscription.forwarder.current()?;
        let track = self.track(subscription.track)?;
        let rate = track
            .clocks
            .get(usize::from(encoding))
            .copied()
            .flatten()?
            .rate;
        let (info, received) = track
            .encodings
            .get(usize::from(encoding))?
            .stats
            .last_sender_report()?;
        let age = now.saturating_duration_since(received);
        let (packets, octets) = subscription.forwarder.sent();
        Some(SenderInfo {
            ntp: info.ntp.wrapping_add(ntp_duration(age)),
            rtp: subscription
                .forwarder
                .timestamp(info.rtp.wrapping_add(ticks(age, rate)))?,
            packets,
            octets,
        })
    }

    /// A subscriber cannot decode and asks for a key frame.
    pub fn handle_key_frame_request(&mut self, key: SubscriptionKey, now: Instant) {
        let Some(subscription) = self.subscription(key) else {
            return;
        };
        let forwarder = &subscription.forwarder;
        let Some(encoding) = forwarder.current().or(forwarder.awaits_key_frame_of()) else {
            return;
        };
        self.want_key_frame(
            Source {
                track: subscription.track,
                encoding,
            },
            now,
        );
    }

    /// A subscriber misses a packet; answers it if it is still there and may be sent again now.
    pub fn handle_loss(
        &mut self,
        key: SubscriptionKey,
        sequence: u16,
        round_trip: Duration,
        now: Instant,
    ) -> Result<Repair<'_>, DropReason> {
        let subscription = self.subscriptions.get_mut(key.0);
        let subscription = subscription.ok_or(DropReason::Gone)?;
        let forwarder = &mut subscription.forwarder;
        let track = self.tracks.get(subscription.track.0);
        let resend = forwarder.find(sequence).and_then(|resend| {
            let encodings = &track?.encodings;
            let encoding = encodings.get(usize::from(resend.origin.encoding))?;
            if !encoding.cache.is_recent(resend.origin.sequence, now) {
                return None;
            }
            let packet = encoding.cache.packet(resend.origin.sequence)?;
            let meta = encoding.cache.meta(resend.origin.sequence)?;
            Some((resend, packet, meta))
        });
        let (resend, packet, meta) = resend.ok_or(DropReason::NotKept)?;
        // What is not there any more uses nothing up.
        if !forwarder.may_resend(resend.sequence, round_trip, now) {
            return Err(DropReason::Limit);
        }
        let timestamp = Header::parse(packet)
            .ok_or(DropReason::Malformed)?
            .timestamp
            .wrapping_add(resend.origin.timestamp_shift);
        let rewrite = Rewrite {
            sequence: resend.sequence,
            timestamp,
            shift: resend.origin.shift,
            ends_picture: meta.ends_frame && meta.spatial == resend.origin.top,
            is_filler: meta.spatial > resend.origin.top,
        };
        Ok(Repair {
            codec: meta.codec,
            packet,
            rewrite,
        })
    }
}

/// A duration in 32.32 fixed point seconds.
fn ntp_duration(duration: Duration) -> u64 {
    (duration.as_secs() << 32) + ((u64::from(duration.subsec_nanos()) << 32) / 1_000_000_000)
}
