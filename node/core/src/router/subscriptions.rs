//! Who receives which track, and what each is to be sent of it: what its client wishes, within what
//! bandwidth allows.

use std::time::Instant;

use super::slots::Slots;
use super::{LayerWish, Router, SubscriptionKey, TrackKey};
use crate::allocate::{Ladder, Media};
use crate::codec::Codec;
use crate::forward::Forwarder;
use crate::layer::{Layer, LayerRates, Limit};
use crate::track::{Size, Track};
use crate::units::Bitrate;

#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) track: TrackKey,
    pub(super) wish: LayerWish,
    limit: Limit,
    pub(super) forwarder: Forwarder,
}

/// What a subscription is being sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// The highest; those that it needs are, too.
    pub layer: Layer,
    /// Its pixels; zero where nobody knows them.
    pub size: Size,
    /// What it takes. Zero where it is not measured.
    pub rate: Bitrate,
}

impl Subscription {
    /// Works out anew what is to be sent. `true` if that has changed.
    pub(super) fn resolve<R, P>(&mut self, track: &Track<R, P>) -> bool {
        let portion = track.portion(self.wish, self.limit);
        let changed = portion != self.forwarder.portion();
        if changed {
            self.forwarder.set_portion(portion, track.live);
        }
        changed
    }
}

impl<R: Ord + Copy, P: Ord + Copy> Router<R, P> {
    /// `codec` is what the receiver gets; `first_sequence`: see
    /// [`Continuity::new`](crate::forward::continuity::Continuity::new). `None`: there is no such track.
    pub fn subscribe(
        &mut self,
        key: TrackKey,
        wish: LayerWish,
        codec: Codec,
        first_sequence: u64,
        now: Instant,
    ) -> Option<SubscriptionKey> {
        let track = self.tracks.get_mut(key.0)?;
        let limit = Limit::NONE;
        let portion = track.portion(wish, limit);
        let mut forwarder = Forwarder::new(portion, first_sequence, codec.clock_rate());
        forwarder.select(track.live);
        let subscription = SubscriptionKey(self.subscriptions.insert(Subscription {
            track: key,
            wish,
            limit,
            forwarder,
        }));
        track.subscriptions.push(subscription);
        self.update_interest(key, now);
        self.update_demand(key, now);
        Some(subscription)
    }

    /// What the subscriber wants to see.
    pub fn set_wish(&mut self, key: SubscriptionKey, wish: LayerWish, now: Instant) {
        let changed = self.change(key, now, |subscription| subscription.wish = wish);
        if let Some(track) = changed {
            self.update_demand(track, now);
        }
    }

    /// What bandwidth allows, whatever is wanted; [`Limit::NONE`] at first.
    pub fn set_limit(&mut self, key: SubscriptionKey, limit: Limit, now: Instant) {
        self.change(key, now, |subscription| subscription.limit = limit);
    }

    /// Answers which track it is of.
    fn change(
        &mut self,
        key: SubscriptionKey,
        now: Instant,
        change: impl FnOnce(&mut Subscription),
    ) -> Option<TrackKey> {
        let subscription = self.subscriptions.get_mut(key.0)?;
        change(subscription);
        let key = subscription.track;
        if subscription.resolve(self.tracks.get(key.0)?) {
            self.update_interest(key, now);
        }
        Some(key)
    }

    /// Answers the first number that was never used.
    pub fn unsubscribe(&mut self, key: SubscriptionKey, now: Instant) -> Option<u64> {
        let ended = self.subscriptions.remove(key.0)?;
        if let Some(track) = self.track_mut(ended.track) {
            track.subscriptions.retain(|other| *other != key);
        }
        self.update_interest(ended.track, now);
        self.update_demand(ended.track, now);
        Some(ended.forwarder.next_sequence())
    }

    /// The layer up to which the subscription is being sent.
    pub fn current_layer(&self, key: SubscriptionKey) -> Option<Layer> {
        let subscription = self.subscription(key)?;
        let encoding = subscription.forwarder.current()?;
        let track = self.track(subscription.track)?;
        Some(track.place(encoding, subscription.forwarder.layer()))
    }

    /// The same, for people who look.
    pub fn sent(&self, key: SubscriptionKey) -> Option<Sent> {
        let layer = self.current_layer(key)?;
        let track = self.track(self.subscription(key)?.track)?;
        let size = track.sizes().get(usize::from(layer.spatial)).copied();
        Some(Sent {
            layer,
            size: size.unwrap_or_default(),
            rate: Bitrate::from_bps(track.rates().up_to(layer)),
        })
    }

    /// The layer up to which the subscriber can use the track, were there no limit. `None` while it
    /// wants nothing of it.
    pub fn wanted_layer(&self, key: SubscriptionKey) -> Option<Layer> {
        let subscription = self.subscription(key)?;
        let track = self.track(subscription.track)?;
        (!subscription.wish.paused).then(|| track.wanted(subscription.wish))
    }

    /// The layers that a subscriber can use and that are being sent, as steps to choose from; none while
    /// it wants nothing.
    pub fn ladder(&self, key: SubscriptionKey) -> Option<(Media, Ladder)> {
        let subscription = self.subscription(key)?;
        let track = self.track(subscription.track)?;
        let rates = track.rates();
        if !track.spec.is_video {
            let rate = Bitrate::from_bps(rates.up_to(Layer::MAX));
            return Some((Media::Audio, Ladder::of_whole(rate)));
        }
        let ladder = match subscription.wish.paused {
            true => Ladder::default(),
            false => {
                let top = track.wanted(subscription.wish);
                Ladder::of_layers(top, &rates, track.sizes())
            }
        };
        Some((Media::Video, ladder))
    }

    /// What it takes to forward each layer of a track.
    pub fn layer_rates(&self, key: TrackKey) -> Option<LayerRates> {
        self.track(key).map(Track::rates)
    }

    /// What is wished of a track can be understood better than before.
    pub(super) fn reconsider(&mut self, key: TrackKey, now: Instant) {
        let track = self.tracks.get(key.0);
        if track.is_some_and(|track| resolve_all(track, &mut self.subscriptions)) {
            self.update_interest(key, now);
        }
        self.update_demand(key, now);
    }

    pub(super) fn subscription(&self, key: SubscriptionKey) -> Option<&Subscription> {
        self.subscriptions.get(key.0)
    }
}

/// Works out anew what everybody is to be sent. `true` if that has changed for anybody.
fn resolve_all<R, P>(track: &Track<R, P>, subscriptions: &mut Slots<Subscription>) -> bool {
    let mut changed = false;
    for key in &track.subscriptions {
        changed |= subscriptions[key.0].resolve(track);
    }
    changed
}

/// Other encodings of a track are being sent than before.
pub(super) fn select_all<R, P>(track: &Track<R, P>, subscriptions: &mut Slots<Subscription>) {
    for key in &track.subscriptions {
        subscriptions[key.0].forwarder.select(track.live);
    }
}
