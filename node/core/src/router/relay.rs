//! Tracks that leave the router for another one, and tracks that come from one: rooms that are larger
//! than a shard.
//!
//! The router a track is published at is its origin; one that has receivers of it elsewhere is a taker.
//! A taker is sent the packets of the encodings that its forwarders use at present, once, whoever
//! receives them there, and a packet is at the taker what it is at the origin: same cache, same
//! forwarders, same losses asked for. Only four things cannot be concluded from packets that do not all
//! arrive, so the origin tells them: which encodings are being sent and at which rates, which cycle a
//! sequence number is of, and when an encoding began anew.
//!
//! How packets get from one to the other is not known here; some may be lost on the way.

mod catch_up;

use std::time::Instant;

use super::agenda::Agenda;
use super::subscriptions::select_all;
use super::{Output, Router, Source, TrackKey};
use crate::forward::EncodingSet;
use crate::layer::LayerRates;
use crate::nack::LossTracker;
use crate::rtcp::SenderInfo;
use crate::stats::SenderClock;
use crate::track::{Encoding, Track, TrackSpec};
use catch_up::CatchUp;

/// A way out of the router, to one taker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port(pub u16);

/// A taker's name for a track that it takes, for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alias(pub u64);

/// What a taker uses of a track.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Interest {
    /// Those that its forwarders have to be shown now.
    pub encodings: EncodingSet,
    /// Those that were being sent, as far as it knew when it chose.
    pub known: EncodingSet,
    /// Encodings, from the lowest up, that its receivers could use if they were sent.
    pub wanted: u8,
    /// Those that nobody awaits but receivers that have been sent nothing of the track yet.
    pub fresh: EncodingSet,
    /// How much it is missed where there is not room for everything; larger is more.
    pub priority: u8,
}

impl Interest {
    /// What a taker is sent: what it uses, and of what it does not know to choose yet what it could use.
    /// An encoding begins with a key frame, which would be over until the taker has heard of it.
    fn sent(self) -> EncodingSet {
        let unknown = EncodingSet::first(self.wanted).without(self.known);
        self.encodings.or(unknown)
    }
}

/// A track that is published here, on its way to one taker.
#[derive(Debug)]
pub(crate) struct Relay {
    port: Port,
    alias: Alias,
    interest: Interest,
    /// Encodings of which the taker has been sent a packet since it last began to be sent them.
    begun: EncodingSet,
    catch_up: CatchUp,
}

/// A track that is published elsewhere.
#[derive(Debug, Default)]
pub(crate) struct Upstream {
    /// What the origin was last asked for.
    interest: Interest,
    /// What the origin has measured.
    rates: LayerRates,
    /// Encodings that are being sent, as the origin has said last.
    told: EncodingSet,
}

/// What a taker has to know of a packet beside its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Extended sequence number.
    pub number: u64,
    /// How often the encoding has begun anew under another SSRC, modulo 256.
    pub restarts: u8,
    /// The taker did not use the encoding just before, or packets were left out: what it misses was not
    /// lost.
    pub resumes: bool,
    /// A key frame begins with it.
    pub key_frame: bool,
}

/// The last sender report of an encoding, as a taker needs it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RelayedReport {
    pub encoding: u8,
    pub restarts: u8,
    pub info: SenderInfo,
    /// Ticks in a second.
    pub rate: u32,
    /// When the origin received it.
    pub received: Instant,
}

/// At the origin.
impl<R: Ord + Copy, P: Ord + Copy> Router<R, P> {
    /// Begins or changes what leaves for a taker; then it may have to [catch up](Self::catch_up). `false`:
    /// there is no such track.
    pub fn relay(
        &mut self,
        key: TrackKey,
        port: Port,
        alias: Alias,
        interest: Interest,
        now: Instant,
    ) -> bool {
        let Some(track) = self.track_mut(key) else {
            return false;
        };
        let before = match track.relays.iter_mut().find(|relay| relay.port == port) {
            Some(relay) => {
                relay.begun = relay.begun.and(interest.sent());
                relay.alias = alias;
                std::mem::replace(&mut relay.interest, interest)
            }
            None => {
                track.relays.push(Relay {
                    port,
                    alias,
                    interest,
                    begun: EncodingSet::default(),
                    catch_up: CatchUp::default(),
                });
                Interest::default()
            }
        };
        let used = interest.encodings.without(before.encodings);
        self.begin_elsewhere(key, port, used, now);
        self.update_interest(key, now);
        self.update_demand(key, now);
        true
    }

    /// Nothing more leaves for a taker.
    pub fn end_relay(&mut self, key: TrackKey, port: Port, now: Instant) {
        if let Some(track) = self.track_mut(key) {
            track.relays.retain(|relay| relay.port != port);
            self.update_interest(key, now);
            self.update_demand(key, now);
        }
    }

    /// The way to a taker is gone: nothing leaves for it any more.
    pub fn end_port(&mut self, port: Port, now: Instant) {
        let taken = self.tracks.iter().filter(|(_, track)| {
            let mut relays = track.relays.iter();
            relays.any(|relay| relay.port == port)
        });
        let taken: Vec<TrackKey> = taken.map(|(slot, _)| TrackKey(slot)).collect();
        for key in taken {
            self.end_relay(key, port, now);
        }
    }

    /// The takers of a track, with their names for it.
    pub fn relays(&self, key: TrackKey) -> impl Iterator<Item = (Port, Alias)> + '_ {
        let relays = self.track(key).map_or(&[][..], |track| &track.relays);
        relays.iter().map(|relay| (relay.port, relay.alias))
    }

    /// Shows a packet that [`Self::handle_media`] has just accepted to the takers that use it. `send`
    /// answers whether it was taken: what is not is lost on the way.
    pub fn pass_on(
        &mut self,
        source: Source,
        sequence: u16,
        mut send: impl FnMut(Port, Alias, Stamp) -> bool,
    ) {
        let Some(track) = self.track_mut(source.track) else {
            return;
        };
        if track.relays.is_empty() {
            return;
        }
        let Some(encoding) = track.encodings.get(usize::from(source.encoding)) else {
            return;
        };
        let number = encoding.sequences.peek(sequence);
        let last = encoding.pending.last();
        let key_frame = last.is_some_and(|last| last.begins_key_frame_with(number));
        for relay in &mut track.relays {
            if !relay.interest.sent().contains(source.encoding) {
                continue;
            }
            let stamp = Stamp {
                number,
                restarts: encoding.restarts,
                resumes: !relay.begun.contains(source.encoding),
                key_frame,
            };
            if key_frame {
                relay.catch_up.handle_key_frame(source.encoding);
            }
            if send(relay.port, relay.alias, stamp) {
                relay.begun.insert(source.encoding);
            }
        }
    }

    /// A packet that a taker misses; `None`: it is not here either. If it is on its way, it is passed on
    /// as it comes.
    pub fn repair(&self, source: Source, number: u64) -> Option<(&[u8], Stamp)> {
        let track = self.track(source.track)?;
        let encoding = track.encodings.get(usize::from(source.encoding))?;
        let stamp = Stamp {
            number,
            restarts: encoding.restarts,
            resumes: false,
            key_frame: false,
        };
        Some((encoding.cache.packet(number)?, stamp))
    }

    /// What was said of a track when it was published, and since.
    pub fn spec(&self, key: TrackKey) -> Option<&TrackSpec<R, P>> {
        Some(&self.track(key)?.spec)
    }

    /// The encodings that are being sent.
    pub fn live(&self, key: TrackKey) -> EncodingSet {
        let track = self.track(key);
        // What packets speak of alone may be taken back, and nobody would be told of that.
        let live = track.map(|track| match &track.upstream {
            Some(upstream) => upstream.told,
            None => track.live,
        });
        live.unwrap_or_default()
    }

    /// The last sender report of each encoding that had one.
    pub fn reports(&self, key: TrackKey) -> impl Iterator<Item = RelayedReport> + '_ {
        let track = self.track(key);
        let encodings = track.map_or(&[][..], |track| &track.encodings);
        let clocks = track.map_or(&[][..], |track| &track.clocks);
        let known = encodings.iter().zip(clocks).enumerate();
        known.filter_map(|(index, (encoding, clock))| {
            let (info, received) = encoding.stats.last_sender_report()?;
            Some(RelayedReport {
                encoding: index as u8,
                restarts: encoding.restarts,
                info,
                rate: clock.as_ref()?.rate,
                received,
            })
        })
    }
}

/// At the taker.
impl<R: Ord + Copy, P: Ord + Copy> Router<R, P> {
    /// The origin says which encodings are being sent. The first time this makes the track one that
    /// comes from elsewhere: from then on [`Output::InterestChanged`] tells what is used of it.
    pub fn set_live(&mut self, key: TrackKey, live: EncodingSet, now: Instant) {
        let Some(track) = self.tracks.get_mut(key.0) else {
            return;
        };
        let begins = track.upstream.is_none();
        track.upstream.get_or_insert_default().told = live;
        if begins || track.live != live {
            if !begins {
                // What has begun is sent unasked (see `Interest::sent`), key frame first.
                let begun = live.without(track.live);
                for (index, encoding) in track.encodings.iter_mut().enumerate() {
                    if begun.contains(index as u8) {
                        encoding.key_frames.expect(now);
                    }
                }
            }
            track.live = live;
            select_all(track, &mut self.subscriptions);
            self.update_interest(key, now);
            self.update_demand(key, now);
        }
    }

    /// How much a track is missed here where there is not room for everything.
    pub fn set_priority(&mut self, key: TrackKey, priority: u8) {
        let Some(track) = self.tracks.get_mut(key.0) else {
            return;
        };
        track.priority = priority;
        if track.interest_changed() {
            self.agenda.say(Output::InterestChanged(key));
        }
    }

    /// The origin says what it takes to forward each layer.
    pub fn set_rates(&mut self, key: TrackKey, rates: &LayerRates) {
        if let Some(track) = self.track_mut(key)
            && let Some(upstream) = &mut track.upstream
        {
            upstream.rates = *rates;
        }
    }

    /// What is used of a track.
    pub fn interest(&self, key: TrackKey) -> Interest {
        let track = self.track(key);
        Interest {
            encodings: track.map(Track::used).unwrap_or_default(),
            known: track.map(|track| track.live).unwrap_or_default(),
            wanted: self.wanted(key),
            fresh: self.fresh(key),
            priority: track.map(Track::priority).unwrap_or_default(),
        }
    }

    /// The same for the track's wants: tells the origin if they have changed.
    pub(super) fn update_wanted(&mut self, key: TrackKey, wanted: u8) {
        if let Some(track) = self.track_mut(key)
            && let Some(upstream) = &mut track.upstream
            && upstream.interest.wanted != wanted
        {
            upstream.interest.wanted = wanted;
            self.agenda.say(Output::InterestChanged(key));
        }
    }

    /// Whether what has gathered has to be forwarded before a packet of the origin's is accepted.
    pub fn breaks_off(&self, source: Source, stamp: Stamp) -> bool {
        let track = self.track(source.track);
        let encoding = track.and_then(|t| t.encodings.get(usize::from(source.encoding)));
        encoding.is_some_and(|encoding| {
            !encoding.pending.is_empty() && (stamp.resumes || encoding.restarts != stamp.restarts)
        })
    }

    /// Makes ready for a packet of the origin's, which goes to [`Self::handle_media`] next. `false`: it
    /// is of long ago and of no use any more.
    pub fn accept(&mut self, source: Source, stamp: Stamp, now: Instant) -> bool {
        let Some(encoding) = self.encoding_mut(source) else {
            return false;
        };
        let later = stamp.restarts.wrapping_sub(encoding.restarts).cast_signed();
        if later < 0 && encoding.sequences.highest().is_some() {
            // It was overtaken by those of a later SSRC.
            return false;
        }
        if later != 0 {
            self.restart_as(source, stamp.restarts, now);
        }
        let Some(encoding) = self.encoding_mut(source) else {
            return false;
        };
        let highest = encoding.sequences.highest();
        let follows = highest.is_some_and(|highest| stamp.number <= highest + 1);
        if stamp.resumes && !follows {
            encoding.resume();
            self.break_off(source, now);
            // Whoever takes the track from here misses the same.
            if let Some(track) = self.track_mut(source.track) {
                track.tear(source.encoding);
            }
        }
        let encoding = self.encoding_mut(source);
        encoding.is_some_and(|encoding| encoding.sequences.place(stamp.number))
    }

    /// The origin has received a sender report.
    pub fn handle_relayed_report(&mut self, key: TrackKey, report: &RelayedReport, now: Instant) {
        let source = Source {
            track: key,
            encoding: report.encoding,
        };
        let Some(encoding) = self.encoding_mut(source) else {
            return;
        };
        match report
            .restarts
            .wrapping_sub(encoding.restarts)
            .cast_signed()
        {
            // Packets of a later SSRC have overtaken it.
            ..0 => return,
            0 => {}
            1.. => self.restart_as(source, report.restarts, now),
        }
        let Some(track) = self.track_mut(key) else {
            return;
        };
        let index = usize::from(report.encoding);
        if let (Some(encoding), Some(clock)) =
            (track.encodings.get_mut(index), track.clocks.get_mut(index))
        {
            encoding
                .stats
                .handle_sender_report(report.info, report.received);
            *clock = Some(SenderClock {
                ntp: report.info.ntp,
                rtp: report.info.rtp,
                rate: report.rate,
            });
        }
    }

    /// The extended number of a packet that [`Output::RequestPackets`] asks for.
    pub fn extend(&self, source: Source, sequence: u16) -> Option<u64> {
        let track = self.track(source.track)?;
        let encoding = track.encodings.get(usize::from(source.encoding))?;
        Some(encoding.sequences.peek(sequence))
    }

    /// The highest number that has come of an encoding.
    pub fn highest(&self, source: Source) -> Option<u64> {
        let track = self.track(source.track)?;
        let encoding = track.encodings.get(usize::from(source.encoding))?;
        encoding.sequences.highest()
    }

    /// Whether an encoding that was being sent has not been for so long that it is over.
    pub fn is_silent(&self, source: Source, now: Instant) -> bool {
        let track = self.track(source.track);
        let encoding = track.and_then(|t| t.encodings.get(usize::from(source.encoding)));
        encoding.is_some_and(|encoding| encoding.is_silent(now))
    }

    fn restart_as(&mut self, source: Source, restarts: u8, now: Instant) {
        self.restart(source, now);
        if let Some(encoding) = self.encoding_mut(source) {
            encoding.restarts = restarts;
        }
    }
}

impl Encoding {
    /// Packets follow that were not asked for before.
    fn resume(&mut self) {
        self.losses = LossTracker::default();
    }
}

impl<R, P> Track<R, P> {
    /// Encodings that somebody has to be shown, here or at whom the track is passed on to.
    fn used(&self) -> EncodingSet {
        let relayed = self.relays.iter().map(|relay| relay.interest.encodings);
        let mut used = relayed.fold(EncodingSet::default(), EncodingSet::or);
        for (index, encoding) in self.encodings.iter().enumerate() {
            if !encoding.interested.is_empty() {
                used.insert(index as u8);
            }
        }
        used
    }

    /// How much it is missed, here or by whom it is passed on to.
    fn priority(&self) -> u8 {
        let relayed = self.relays.iter().map(|relay| relay.interest.priority);
        relayed.max().unwrap_or_default().max(self.priority)
    }

    /// A packet that takers would have been sent is left out.
    pub(super) fn tear(&mut self, encoding: u8) {
        for relay in &mut self.relays {
            relay.begun.remove(encoding);
        }
    }

    /// Encodings, from the lowest up, that receivers elsewhere could use.
    pub(super) fn wanted_elsewhere(&self) -> u8 {
        let wanted = self.relays.iter().map(|relay| relay.interest.wanted);
        wanted.max().unwrap_or_default()
    }

    /// Whether what is used of a track from elsewhere has changed, or what it was chosen from; the
    /// origin has to hear it then.
    pub(super) fn interest_changed(&mut self) -> bool {
        let (encodings, known, priority) = (self.used(), self.live, self.priority());
        let Some(upstream) = &mut self.upstream else {
            return false;
        };
        let before = upstream.interest;
        upstream.interest = Interest {
            encodings,
            known,
            priority,
            ..before
        };
        upstream.interest != before
    }

    /// Whether a taker uses an encoding's packets.
    pub(super) fn is_relayed(&self, encoding: u8) -> bool {
        let mut relays = self.relays.iter();
        relays.any(|relay| relay.interest.encodings.contains(encoding))
    }

    /// Marks encodings as stopped that packets have spoken of, before the origin or after it, and that it does
    /// not send. `true` if there was one.
    pub(super) fn take_back_live(&mut self, now: Instant) -> bool {
        let Some(upstream) = &self.upstream else {
            return false;
        };
        let ahead = self.live.without(upstream.told);
        let before = self.live;
        for (index, encoding) in self.encodings.iter().enumerate() {
            if ahead.contains(index as u8) && encoding.is_silent(now) {
                self.live.remove(index as u8);
            }
        }
        self.live != before
    }

    /// What was measured elsewhere of a track that is published there.
    pub(crate) fn rates_elsewhere(&self) -> Option<&LayerRates> {
        Some(&self.upstream.as_ref()?.rates)
    }

    /// Says what has been measured, if anybody elsewhere has to hear it.
    pub(super) fn tell_rates(&self, key: TrackKey, agenda: &mut Agenda<R, P>) {
        if self.spec.is_video && self.upstream.is_none() && !self.relays.is_empty() {
            agenda.say(Output::RatesMeasured(key));
        }
    }

    /// Says that other encodings are being sent than before, if anybody elsewhere has to hear it.
    pub(super) fn tell_live(&self, key: TrackKey, agenda: &mut Agenda<R, P>) {
        if !self.relays.is_empty() {
            agenda.say(Output::LiveChanged(key));
        }
    }
}
