//! One peer connection with the media on it: what the participant publishes over it, what it
//! receives, and the RTCP of both.
//!
//! Pure, as everything below it. What was negotiated is for `user` to say.

mod feedback;
mod streams;

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rand::Rng;
use rand::rngs::StdRng;

use self::streams::Streams;
use super::media::publication::Publication;
use super::media::receiver::{Receiver, Setup};
use super::media::sender::{SentCounts, Uplink};
use super::media::stamp::TrackStamp;
use super::outbox::Outbox;
use super::stats::{Integrity, latencies, note_latency};
use super::transport::{Arrived, Transport};
use super::wire::rtp::Header;
use super::wire::transport_cc::{Arrivals, FEEDBACK_EVERY};

/// Reports, as often as browsers send them.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// How closely received media is looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ReceiveMode {
    /// Every packet is opened and verified.
    #[default]
    Full,
    /// Headers of all are counted; one in so many is opened. Until its first frame is decoded a
    /// track is verified in full.
    Sampled(u32),
    /// Media is counted and forgotten. Nothing is reported, nothing asked for again.
    Drain,
}

/// A track that is received on a section.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) mid: String,
    pub(super) sid: String,
    pub(super) receiver: Receiver,
}

/// A track that is published on a section.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) client_id: String,
    pub(super) publication: Publication,
}

#[derive(Debug, Clone)]
pub(super) struct Measured {
    pub(super) sent: SentCounts,
    pub(super) nacks: u64,
    pub(super) key_frame_requests: u64,
    pub(super) acknowledged: u64,
    pub(super) reported_lost: u64,
    pub(super) audio_latency: Histogram<u32>,
    pub(super) video_latency: Histogram<u32>,
    /// Media of streams that nobody spoke of.
    pub(super) unplaced: u64,
    /// Of transports before this one, see [`Transport::refused`].
    pub(super) refused: u64,
    /// In drain mode: all there is.
    pub(super) drained: (u64, u64),
}

pub(super) struct Connection {
    pub(super) transport: Transport,
    pub(super) outgoing: Vec<Outgoing>,
    pub(super) measured: Measured,
    /// Of tracks that ended.
    pub(super) past_integrity: Integrity,
    socket: usize,
    mode: ReceiveMode,
    began: Instant,
    incoming: Vec<Incoming>,
    streams: Streams,
    /// Something has to be asked for again, or given up; not before this.
    next_loss: Option<Instant>,
    mid_extension: u8,
    transport_cc_extension: u8,
    transport_sequence: u16,
    /// Of our reports.
    ssrc: u32,
    arrivals: Arrivals,
    opened: u32,
    next_report: Instant,
    next_tick: Instant,
}

impl Connection {
    pub(super) fn new(
        transport: Transport,
        socket: usize,
        mode: ReceiveMode,
        rng: &mut StdRng,
        now: Instant,
    ) -> Self {
        Self {
            transport,
            outgoing: Vec::new(),
            measured: Measured {
                sent: SentCounts::default(),
                nacks: 0,
                key_frame_requests: 0,
                acknowledged: 0,
                reported_lost: 0,
                audio_latency: latencies(),
                video_latency: latencies(),
                unplaced: 0,
                refused: 0,
                drained: (0, 0),
            },
            past_integrity: Integrity::default(),
            socket,
            mode,
            began: now,
            incoming: Vec::new(),
            streams: Streams::default(),
            next_loss: None,
            mid_extension: 0,
            transport_cc_extension: 0,
            transport_sequence: rng.random(),
            ssrc: rng.random(),
            arrivals: Arrivals::new(now),
            opened: 0,
            next_report: now + REPORT_EVERY.mul_f64(rng.random_range(0.2..1.0)),
            next_tick: now + FEEDBACK_EVERY,
        }
    }

    /// It is secured: from now on it reports, which nobody was late with before.
    pub(super) fn begin_reports(&mut self, now: Instant) {
        self.next_report = now + self.next_report.saturating_duration_since(self.began);
        self.next_tick = now + FEEDBACK_EVERY;
    }

    /// Goes on with what another connection has measured, and answers what that one carried.
    pub(super) fn follow(&mut self, former: Self) -> (Vec<Incoming>, Vec<Outgoing>) {
        self.measured = former.measured;
        self.measured.refused += former.transport.refused;
        self.past_integrity = former.past_integrity;
        for ended in &former.incoming {
            self.past_integrity.add(&ended.receiver.integrity);
        }
        (former.incoming, former.outgoing)
    }

    pub(super) fn incoming(&self) -> &[Incoming] {
        &self.incoming
    }

    pub(super) fn incoming_mut(&mut self) -> impl Iterator<Item = &mut Incoming> {
        self.incoming.iter_mut()
    }

    /// Ids of header extensions in what the server sends; feedback is given if it asked for any.
    pub(super) fn set_extensions(&mut self, mid: u8, transport_cc: u8) {
        self.mid_extension = mid;
        self.transport_cc_extension = transport_cc;
    }

    /// What the server sends from now on: mid, track and streams of each section. Answers what has
    /// ended.
    pub(super) fn set_incoming(
        &mut self,
        sections: Vec<(String, String, Setup)>,
        expected: impl Fn(&str) -> Option<TrackStamp>,
    ) -> Vec<Incoming> {
        let mut former = std::mem::take(&mut self.incoming);
        self.incoming.reserve_exact(sections.len());
        for (mid, sid, setup) in sections {
            let same = |it: &Incoming| it.mid == mid && it.sid == sid && it.receiver.setup == setup;
            let known = former.iter().position(same);
            let incoming = match known {
                Some(place) => former.swap_remove(place),
                None => {
                    let mut receiver = Receiver::new(setup, expected(&sid));
                    receiver.verified = self.mode == ReceiveMode::Full;
                    Incoming { receiver, mid, sid }
                }
            };
            self.incoming.push(incoming);
        }
        self.streams.clear();
        for (place, incoming) in self.incoming.iter().enumerate() {
            let setup = incoming.receiver.setup;
            self.streams.insert(setup.ssrc, place, false);
            if let Some(ssrc) = setup.repair_ssrc {
                self.streams.insert(ssrc, place, true);
            }
        }
        for ended in &former {
            self.past_integrity.add(&ended.receiver.integrity);
        }
        former
    }

    /// Answers whether there is more to it than a packet that was counted: something to send or to say.
    pub(super) fn handle_datagram(
        &mut self,
        datagram: &mut [u8],
        outbox: &mut Outbox,
        now: Instant,
    ) -> bool {
        match self.transport.handle_datagram(datagram, now) {
            Arrived::Nothing => {
                for mut packet in self.transport.take_early() {
                    self.handle_datagram(&mut packet, outbox, now);
                }
            }
            Arrived::Rtp => {
                self.handle_rtp(datagram, now);
                return false;
            }
            Arrived::Rtcp(len) => self.handle_rtcp(&datagram[..len], outbox, now),
        }
        self.flush(outbox);
        true
    }

    fn handle_rtp(&mut self, packet: &mut [u8], now: Instant) {
        if self.mode == ReceiveMode::Drain {
            self.measured.drained.0 += 1;
            self.measured.drained.1 += packet.len() as u64;
            return;
        }
        let Some(header) = Header::parse(packet) else {
            self.measured.unplaced += 1;
            return;
        };
        if self.transport_cc_extension > 0
            && let Some(&[high, low]) = header
                .extension(packet, self.transport_cc_extension)
                .and_then(<[u8]>::first_chunk)
        {
            self.arrivals
                .handle_arrival(u16::from_be_bytes([high, low]), now);
        }
        let Some((index, is_repair)) = self.stream(&header, packet) else {
            self.measured.unplaced += 1;
            return;
        };
        let receiver = &mut self.incoming[index].receiver;
        self.opened = self.opened.wrapping_add(1);
        let verified = match self.mode {
            ReceiveMode::Sampled(_) => receiver.first_frame.is_none(),
            ReceiveMode::Full | ReceiveMode::Drain => true,
        };
        let sampled = match self.mode {
            ReceiveMode::Sampled(every) => self.opened.is_multiple_of(every.max(1)),
            ReceiveMode::Full | ReceiveMode::Drain => true,
        };
        let len = packet.len();
        if !verified && !sampled && !is_repair {
            receiver.handle_media(&header, len, now);
            self.note_loss(index);
            return;
        }
        let Some(opened) = self.transport.open_rtp(packet, header.len) else {
            return;
        };
        let Some(payload) = header.payload(&packet[..opened]) else {
            self.measured.unplaced += 1;
            return;
        };
        let (order, payload) = if is_repair {
            match receiver.handle_retransmission(payload, now) {
                Some(original) => original,
                None => return,
            }
        } else {
            (receiver.handle_media(&header, len, now), payload)
        };
        let began = self.began;
        let age = receiver.handle_payload(payload, &header, order, verified, began, now);
        self.note_loss(index);
        let latency = match self.incoming[index].receiver.setup.is_video() {
            true => &mut self.measured.video_latency,
            false => &mut self.measured.audio_latency,
        };
        if let Some(age) = age {
            note_latency(latency, age);
        }
    }

    /// By SSRC, as the description has it; else by mid (RFC 8843 section 9.2).
    fn stream(&mut self, header: &Header, packet: &[u8]) -> Option<(usize, bool)> {
        if let Some(known) = self.streams.get(header.ssrc) {
            return Some(known);
        }
        let mid = header
            .extension(packet, self.mid_extension)
            .filter(|_| self.mid_extension > 0)?;
        let named = |it: &Incoming| it.mid.as_bytes() == mid;
        let place = self.incoming.iter().position(named)?;
        let setup = &mut self.incoming[place].receiver.setup;
        let is_repair = setup.repair_payload_type == Some(header.payload_type);
        if is_repair {
            setup.repair_ssrc = Some(header.ssrc);
        } else {
            setup.ssrc = header.ssrc;
        }
        self.streams.insert(header.ssrc, place, is_repair);
        Some((place, is_repair))
    }

    /// Only the track of the packet that came: the others' timers are as they were, and out of the cache.
    fn note_loss(&mut self, index: usize) {
        let due = self.incoming[index].receiver.poll_timeout();
        self.next_loss = self.next_loss.into_iter().chain(due).min();
    }

    pub(super) fn next_loss(&self) -> Option<Instant> {
        self.next_loss
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let transport = self.transport.poll_timeout();
        if !self.transport.is_secured() {
            return transport;
        }
        let frames = self
            .outgoing
            .iter()
            .filter_map(|it| it.publication.poll_timeout());
        let ticks = match self.incoming.is_empty() {
            true => self.next_report,
            false => self.next_report.min(self.next_tick),
        };
        frames
            .chain(self.next_loss)
            .chain(transport)
            .chain([ticks])
            .min()
    }

    pub(super) fn handle_timeout(&mut self, outbox: &mut Outbox, now: Instant) {
        self.transport.handle_timeout(now);
        if self.transport.is_secured() {
            self.send_frames(outbox, now);
            self.ask(now);
            if self.next_tick <= now {
                self.next_tick = now + FEEDBACK_EVERY;
                self.tick(now);
            }
            if self.next_report <= now {
                self.next_report = now + REPORT_EVERY;
                self.report(now);
            }
        }
        self.flush(outbox);
    }

    fn send_frames(&mut self, outbox: &mut Outbox, now: Instant) {
        let mut uplink = Uplink {
            transport: &mut self.transport,
            outbox,
            socket: self.socket,
            transport_sequence: &mut self.transport_sequence,
            counts: &mut self.measured.sent,
        };
        for outgoing in &mut self.outgoing {
            outgoing.publication.handle_timeout(&mut uplink, now);
        }
    }

    /// Moves what the transport has to send.
    pub(super) fn flush(&mut self, outbox: &mut Outbox) {
        while let Some((to, datagram)) = self.transport.poll_transmit() {
            outbox.push(self.socket, to, &datagram);
        }
    }
}

#[cfg(test)]
mod tests;
