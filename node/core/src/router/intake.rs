//! The first half of a packet's way: it is understood, counted, kept for those who ask for it again, and
//! noted down for the burst it is forwarded with. Does not know who receives it.

use std::time::Instant;

use super::agenda::{Agenda, Timer};
use super::burst::{self, LONGEST_PACKET};
use super::requests::{update_interest, want_key_frame};
use super::subscriptions::select_all;
use super::{Gathered, Media, Pending, Router, Source};
use crate::cache::PacketMeta;
use crate::drops::DropReason;
use crate::layer::Layer;
use crate::nack::Arrival;
use crate::stats::ticks;
use crate::structure::PacketInfo;
use crate::track::{Encoding, TrackSpec};

impl<R: Ord + Copy, P: Ord + Copy> Router<R, P> {
    /// Takes a packet in; it goes on with the next [`Self::forward`].
    pub fn handle_media(
        &mut self,
        source: Source,
        media: Media<'_>,
        now: Instant,
    ) -> Result<Gathered, DropReason> {
        let track = self
            .tracks
            .get_mut(source.track.0)
            .ok_or(DropReason::UnknownSource)?;
        let encoding = track
            .encodings
            .get_mut(usize::from(source.encoding))
            .ok_or(DropReason::UnknownSource)?;
        if media.packet.len() > LONGEST_PACKET {
            return Err(DropReason::Limit);
        }
        let payload = media
            .header
            .payload(media.packet)
            .ok_or(DropReason::Malformed)?;
        if media.repaired && !encoding.may_have_missed(media.header.sequence) {
            return Err(DropReason::UnknownSource);
        }
        let sequence = encoding.sequences.unwrap(media.header.sequence);
        if !encoding.seen.admit(sequence) {
            return Err(DropReason::Replayed);
        }
        encoding.is_torn = false;
        encoding.note_arrival(sequence, &media, self.origin, now);
        let before = encoding.structure.revision();
        let info =
            encoding
                .structure
                .inspect(media.codec, payload, media.header.marker, media.dependency);
        let is_restructured = encoding.structure.revision() != before;
        let is_key_frame = media.codec.is_video() && info.starts_key_frame;
        let missed = encoding.note_number(sequence, is_key_frame, now);
        let agenda = &mut self.agenda;
        ask_for(missed, encoding, source, &track.spec, now, agenda);
        encoding.keep(sequence, &media, &info, now);
        if track.spec.muted {
            return Err(DropReason::Muted);
        }
        // Who speaks is judged where the packets arrive.
        if track.spec.speaks && track.upstream.is_none() {
            track.level.add(media.audio_level);
            if let Some(level) = media.audio_level
                && let Some(room) = self.rooms.get_mut(&track.spec.room)
            {
                room.hear(&track.spec, level, now, &mut self.agenda);
            }
        }
        let encoding = &mut track.encodings[usize::from(source.encoding)];
        if encoding.pending.is_empty() {
            self.gathered.push(source);
        }
        let packet = Pending {
            sequence,
            header: media.header,
            codec: media.codec,
            payload_len: payload.len() as u16,
            info,
        };
        let gathered = encoding.gather(packet, media.packet.len());
        // A track from elsewhere may be ahead of what its origin says of it. It may also come late, or because
        // it was asked for again, of an encoding that has stopped: only with a key frame is there anything to
        // begin with.
        let begins = is_key_frame || !track.spec.is_video;
        let is_fresh = track.upstream.is_none() || begins && !media.repaired;
        if is_fresh && !track.live.contains(source.encoding) {
            track.live.insert(source.encoding);
            track.tell_live(source.track, &mut self.agenda);
            select_all(track, &mut self.subscriptions);
            let agenda = &mut self.agenda;
            update_interest(track, source.track, &self.subscriptions, now, agenda);
        }
        if is_restructured {
            self.reconsider(source.track, now);
        }
        Ok(gathered)
    }

    /// A packet of this source has come by itself and is dropped on purpose. Its publisher is not told that it
    /// was lost, it is not asked for again, and nobody misses it: whoever was being sent the encoding goes on
    /// with its next key frame. Forward what has gathered before, unless it [is torn](Self::is_torn) already.
    pub fn leave_out(&mut self, source: Source, sequence: u16, now: Instant) {
        let Some(track) = self.tracks.get_mut(source.track.0) else {
            return;
        };
        let Some(encoding) = track.encodings.get_mut(usize::from(source.encoding)) else {
            return;
        };
        let highest = encoding.sequences.highest();
        let number = encoding.sequences.unwrap(sequence);
        encoding.stats.count(number);
        if highest.is_some_and(|highest| number <= highest) {
            // It comes late, and is missed already.
            return;
        }
        let missed = encoding.note_number(number, false, now);
        let was_torn = std::mem::replace(&mut encoding.is_torn, true);
        ask_for(missed, encoding, source, &track.spec, now, &mut self.agenda);
        if was_torn {
            return;
        }
        track.tear(source.encoding);
        self.break_off(source, now);
    }

    /// A second copy of a packet came, which nobody needs. It may say of the first that it was not lost.
    pub fn handle_copy(&mut self, source: Source, sequence: u16, now: Instant) {
        let track = self.tracks.get_mut(source.track.0);
        let encodings = track.map(|track| &mut track.encodings);
        let encoding = encodings.and_then(|all| all.get_mut(usize::from(source.encoding)));
        let Some(encoding) = encoding else {
            return;
        };
        let sequence = encoding.sequences.peek(sequence);
        if encoding.losses.handle_copy(sequence, now) {
            encoding.stats.count(sequence);
        }
    }

    /// Whether the last packet of a source was [left out](Self::leave_out).
    pub fn is_torn(&self, source: Source) -> bool {
        let track = self.track(source.track);
        let encoding = track.and_then(|t| t.encodings.get(usize::from(source.encoding)));
        encoding.is_some_and(|encoding| encoding.is_torn)
    }

    /// Packets of an encoding are missing for good: whoever is being sent it goes on with a key frame.
    pub(super) fn break_off(&mut self, source: Source, now: Instant) {
        let Some(track) = self.tracks.get(source.track.0) else {
            return;
        };
        let mut is_anybody = false;
        for subscription in &track.subscriptions {
            let forwarder = &mut self.subscriptions[subscription.0].forwarder;
            if forwarder.current() == Some(source.encoding) {
                forwarder.interrupt();
                is_anybody = true;
            }
        }
        if is_anybody {
            self.update_interest(source.track, now);
        }
    }
}

impl Encoding {
    #[inline]
    fn note_arrival(&mut self, sequence: u64, media: &Media<'_>, origin: Instant, now: Instant) {
        if media.repaired {
            return self.losses.handle_repair(sequence, now);
        }
        // Sent again in place it was lost all the same.
        if media.in_place && self.losses.handle_in_place(sequence, now) {
            return;
        }
        let since = now.saturating_duration_since(origin);
        let arrival = ticks(since, media.codec.clock_rate());
        self.stats
            .handle_packet(sequence, media.header.timestamp, arrival);
    }

    /// Answers what is missing before it; nothing that precedes a key frame is missed.
    #[inline]
    fn note_number(&mut self, sequence: u64, is_key_frame: bool, now: Instant) -> Arrival {
        let missed = self.losses.handle_packet(sequence, now);
        if !is_key_frame {
            return missed;
        }
        self.key_frames.satisfy();
        self.losses.forget_before(sequence);
        Arrival::Next
    }

    /// Keeps a packet for as long as somebody may ask for it.
    #[inline]
    fn keep(&mut self, sequence: u64, media: &Media<'_>, info: &PacketInfo, now: Instant) {
        let meta = PacketMeta {
            codec: media.codec,
            spatial: info.frame.map_or(0, |frame| frame.layer.spatial),
            ends_frame: info.frame.is_some_and(|frame| frame.ends),
        };
        self.cache.store(sequence, media.packet, meta, now);
        self.last_packet = Some(now);
        let layer = info.frame.map_or(Layer::default(), |frame| frame.layer);
        let ends_frame = info.frame.map_or(media.header.marker, |frame| frame.ends);
        self.meter.count(layer, media.packet.len(), ends_frame, now);
    }

    /// Notes down a packet of `bytes` bytes for the next burst.
    #[inline]
    fn gather(&mut self, packet: Pending, bytes: usize) -> Gathered {
        self.pending.push(packet);
        self.pending_bytes += bytes;
        match burst::is_full(self.pending.len(), self.pending_bytes, &self.cache) {
            true => Gathered::Full,
            false => Gathered::Open,
        }
    }
}

/// Sees to it that what is missing comes: packets, or a key frame in their place.
#[inline]
fn ask_for<R: Copy, P>(
    missed: Arrival,
    encoding: &mut Encoding,
    source: Source,
    spec: &TrackSpec<R, P>,
    now: Instant,
    agenda: &mut Agenda<R, P>,
) {
    match missed {
        Arrival::Gap if spec.nack => {
            if let Some(deadline) = encoding.losses.next_deadline()
                && encoding.losses_alarm.set(deadline)
            {
                agenda.set(deadline, Timer::Losses(source));
            }
        }
        Arrival::Outage if spec.is_video => {
            want_key_frame(encoding, source, now, agenda);
        }
        Arrival::Gap | Arrival::Outage | Arrival::Next | Arrival::Late => {}
    }
}
