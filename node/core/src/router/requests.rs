//! What is asked of a publisher: key frames, packets that were lost, and no more encodings than anybody
//! can use. Asked again while it does not come, and no longer than it is needed.

use std::time::Instant;

use super::agenda::{Agenda, Timer};
use super::slots::Slots;
use super::subscriptions::Subscription;
use super::{Output, Router, Source, TrackKey};
use crate::forward::EncodingSet;
use crate::track::{Encoding, Track};

/// Key frames and lost packets.
impl<R: Ord + Copy, P: Ord + Copy> Router<R, P> {
    /// Somebody needs a key frame, here or elsewhere.
    pub fn want_key_frame(&mut self, source: Source, now: Instant) {
        let track = self.tracks.get_mut(source.track.0);
        let Some(track) = track.filter(|track| track.spec.is_video) else {
            return;
        };
        if let Some(encoding) = track.encodings.get_mut(usize::from(source.encoding)) {
            want_key_frame(encoding, source, now, &mut self.agenda);
        }
    }

    pub(super) fn retry_key_frame(&mut self, source: Source, now: Instant) {
        let Some(track) = self.track(source.track) else {
            return;
        };
        let awaited = track.subscriptions.iter().any(|key| {
            let forwarder = &self.subscriptions[key.0].forwarder;
            forwarder.awaits_key_frame_of() == Some(source.encoding)
                || forwarder.current() == Some(source.encoding)
        });
        let awaited = awaited || track.is_relayed(source.encoding);
        let Some(encoding) = self.encoding_mut(source) else {
            return;
        };
        if !encoding.key_frames_alarm.fire(now) {
            return;
        }
        if !awaited {
            encoding.key_frames.withdraw();
        }
        let due = encoding.key_frames.due(now);
        let deadline = encoding.key_frames.deadline();
        let deadline = deadline.filter(|deadline| encoding.key_frames_alarm.set(*deadline));
        if due {
            self.agenda.say(Output::RequestKeyFrame(source));
        }
        if let Some(deadline) = deadline {
            self.agenda.set(deadline, Timer::KeyFrame(source));
        }
    }

    pub(super) fn request_packets(&mut self, source: Source, now: Instant) {
        let Some(encoding) = self.encoding_mut(source) else {
            return;
        };
        if !encoding.losses_alarm.fire(now) {
            return;
        }
        let is_said = !encoding.lost.is_empty();
        encoding.losses.due(now, &mut encoding.lost);
        let is_new = !is_said && !encoding.lost.is_empty();
        let deadline = encoding.losses.next_deadline();
        let deadline = deadline.filter(|deadline| encoding.losses_alarm.set(*deadline));
        if is_new {
            self.agenda.say(Output::RequestPackets(source));
        }
        if let Some(deadline) = deadline {
            self.agenda.set(deadline, Timer::Losses(source));
        }
    }

    /// Moves the numbers that [`Output::RequestPackets`] speaks of into `lost`, ascending. They take its
    /// memory in exchange, so that nothing is allocated where packets get lost all the time.
    pub fn take_lost(&mut self, source: Source, lost: &mut Vec<u16>) {
        lost.clear();
        if let Some(encoding) = self.encoding_mut(source) {
            std::mem::swap(&mut encoding.lost, lost);
        }
    }

    pub(super) fn update_interest(&mut self, key: TrackKey, now: Instant) {
        if let Some(track) = self.tracks.get_mut(key.0) {
            update_interest(track, key, &self.subscriptions, now, &mut self.agenda);
        }
    }
}

/// Encodings that anybody can use.
impl<R: Ord + Copy, P: Ord + Copy> Router<R, P> {
    /// How many encodings of a track, from the lowest up, anybody can use.
    pub(super) fn wanted(&self, key: TrackKey) -> u8 {
        let Some(track) = self.track(key) else {
            return 0;
        };
        let wishes = track
            .subscriptions
            .iter()
            .map(|key| self.subscriptions[key.0].wish);
        let here = wishes
            .filter(|wish| !wish.paused && !track.is_unheard)
            .map(|wish| track.wanted(wish).spatial + 1)
            .max()
            .unwrap_or(0);
        here.max(track.wanted_elsewhere())
    }

    /// Counts anew what anybody can use of a track.
    pub(super) fn update_demand(&mut self, key: TrackKey, now: Instant) {
        let wanted = self.wanted(key);
        let Some(track) = self.track_mut(key).filter(|track| track.spec.is_video) else {
            return;
        };
        if track.upstream.is_some() {
            return self.update_wanted(key, wanted);
        }
        let before = track.demand.deadline();
        if track.demand.set(wanted, now) {
            self.agenda.say(Output::DemandChanged(key, wanted));
        } else if track.demand.deadline() != before {
            self.watch_demand(key);
        }
    }

    pub(super) fn watch_demand(&mut self, key: TrackKey) {
        let Some(track) = self.track_mut(key).filter(|track| track.spec.is_video) else {
            return;
        };
        if let Some(at) = track.demand.deadline()
            && track.demand_alarm.set(at)
        {
            self.agenda.set(at, Timer::Demand(key));
        }
    }

    /// What nobody has wanted for a while is wanted no more.
    pub(super) fn release(&mut self, key: TrackKey, now: Instant) {
        let Some(track) = self.track_mut(key) else {
            return;
        };
        if !track.demand_alarm.fire(now) {
            return;
        }
        if track.upstream.is_none() && track.demand.due(now) {
            let told = track.demand.told();
            self.agenda.say(Output::DemandChanged(key, told));
        }
        self.watch_demand(key);
    }
}

/// Lists anew who has to be shown which encoding, and asks for the key frames that are waited for.
pub(super) fn update_interest<R: Ord + Copy, P: Ord + Copy>(
    track: &mut Track<R, P>,
    key: TrackKey,
    subscriptions: &Slots<Subscription>,
    now: Instant,
    agenda: &mut Agenda<R, P>,
) {
    let (mut awaited, mut by_newcomers) = (EncodingSet::default(), EncodingSet::default());
    track
        .encodings
        .iter_mut()
        .for_each(|encoding| encoding.interested.clear());
    for &subscription in &track.subscriptions {
        let forwarder = &subscriptions[subscription.0].forwarder;
        if let Some(encoding) = forwarder.awaits_key_frame_of() {
            match forwarder.is_new() {
                true => by_newcomers.insert(encoding),
                false => awaited.insert(encoding),
            }
        }
        let interest = forwarder.interest();
        for (index, encoding) in track.encodings.iter_mut().enumerate() {
            if interest.contains(index as u8) {
                encoding.interested.push(subscription);
            }
        }
    }
    if track.interest_changed() {
        agenda.say(Output::InterestChanged(key));
    }
    if !track.spec.is_video || track.spec.muted {
        return;
    }
    for (index, encoding) in track.encodings.iter_mut().enumerate() {
        let source = Source {
            track: key,
            encoding: index as u8,
        };
        let is_awaited = awaited.contains(source.encoding);
        let newcomers = by_newcomers.contains(source.encoding);
        if !is_awaited && !newcomers || encoding.has_gathered_key_frame() {
            continue;
        }
        let may_begin = newcomers && encoding.has_recent(now);
        if may_begin && !agenda.newcomers.contains(&source) {
            agenda.newcomers.push(source);
        }
        if is_awaited || !may_begin {
            want_key_frame(encoding, source, now, agenda);
        }
    }
}

pub(super) fn want_key_frame<R: Copy, P>(
    encoding: &mut Encoding,
    source: Source,
    now: Instant,
    agenda: &mut Agenda<R, P>,
) {
    if encoding.key_frames.want(now) {
        agenda.say(Output::RequestKeyFrame(source));
    }
    if let Some(at) = encoding.key_frames.deadline()
        && encoding.key_frames_alarm.set(at)
    {
        agenda.set(at, Timer::KeyFrame(source));
    }
}
