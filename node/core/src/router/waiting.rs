//! Packets that wait for their subscriber's bandwidth: found again when it is there, or given up.

use std::time::Instant;

use super::{Router, SubscriptionKey, TrackKey};

impl<R: Ord + Copy, P: Ord + Copy> Router<R, P> {
    /// A packet that was forwarded to a subscription and has waited since. `None`: it waited too long,
    /// or is not to be sent any more.
    pub fn waiting_packet(
        &self,
        key: SubscriptionKey,
        encoding: u8,
        sequence: u64,
    ) -> Option<(TrackKey, &[u8])> {
        let subscription = self.subscription(key)?;
        let track = self.track(subscription.track)?;
        if track.spec.muted {
            return None;
        }
        let encoding = track.encodings.get(usize::from(encoding))?;
        Some((subscription.track, encoding.cache.packet(sequence)?))
    }

    /// Nothing that was forwarded from number `next` on has been sent, or will be: the stream goes on
    /// from there, with a key frame.
    pub fn rewind(&mut self, key: SubscriptionKey, next: u64, now: Instant) {
        let Some(subscription) = self.subscriptions.get_mut(key.0) else {
            return;
        };
        subscription.forwarder.rewind(next);
        let track = subscription.track;
        self.update_interest(track, now);
    }

    /// What a subscription is being sent is far more than there is bandwidth for: unless it is all there is
    /// of the track, it ends here, and nothing of it is sent again.
    pub fn abandon(&mut self, key: SubscriptionKey, now: Instant) {
        let Some(subscription) = self.subscriptions.get_mut(key.0) else {
            return;
        };
        subscription.forwarder.abandon();
        let track = subscription.track;
        self.update_interest(track, now);
    }

    /// Who is subscribed to a track.
    pub fn subscriptions(&self, key: TrackKey) -> &[SubscriptionKey] {
        self.track(key)
            .map_or(&[], |track| track.subscriptions.as_slice())
    }
}
