//! A connection's RTCP: what the server says of what we send, and what we say of what it sends.

use std::time::{Duration, Instant};

use super::{Connection, ReceiveMode};
use crate::media::sender::Uplink;
use crate::outbox::Outbox;
use crate::wire::rtcp::{self, Message};
use crate::wire::transport_cc;

/// Until ICE has measured it.
const ASSUMED_ROUND_TRIP: Duration = Duration::from_millis(100);

/// Blocks that one receiver report holds.
const BLOCKS: usize = 31;

impl Connection {
    pub(super) fn handle_rtcp(&mut self, compound: &[u8], outbox: &mut Outbox, now: Instant) {
        let Self {
            transport,
            outgoing,
            measured,
            incoming,
            streams,
            transport_sequence,
            ..
        } = self;
        let socket = self.socket;
        rtcp::read(compound, |message| match message {
            Message::SenderReport { ssrc, ntp } => {
                if let Some((place, false)) = streams.get(ssrc) {
                    incoming[place].receiver.handle_sender_report(ntp, now);
                }
            }
            Message::Block(block) => {
                outgoing
                    .iter_mut()
                    .for_each(|it| it.publication.handle_report(&block, now));
            }
            Message::Nack { media, lost } => {
                measured.nacks += lost.iter().count() as u64;
                let mut uplink = Uplink {
                    transport,
                    outbox,
                    socket,
                    transport_sequence,
                    counts: &mut measured.sent,
                };
                for it in outgoing.iter_mut() {
                    it.publication.handle_nack(media, &lost, &mut uplink);
                }
            }
            Message::KeyFrame { media } => {
                let mut publications = outgoing.iter_mut().map(|it| &mut it.publication);
                let asked = publications.any(|it| it.handle_key_frame_request(media));
                measured.key_frame_requests += u64::from(asked);
            }
            Message::TransportWide(body) => {
                if let Some(covered) = transport_cc::read(body) {
                    measured.acknowledged += u64::from(covered.received);
                    measured.reported_lost += u64::from(covered.lost);
                }
            }
        });
    }

    /// Asks for what is missing.
    pub(super) fn ask(&mut self, now: Instant) {
        let round_trip = self
            .transport
            .ice()
            .round_trip()
            .unwrap_or(ASSUMED_ROUND_TRIP);
        let mut compound = Vec::new();
        for incoming in &mut self.incoming {
            let lost = incoming.receiver.handle_timeout(round_trip, now);
            if !lost.is_empty() {
                rtcp::write_nack(
                    &mut compound,
                    self.ssrc,
                    incoming.receiver.setup.ssrc,
                    &lost,
                );
            }
        }
        let due = self.incoming.iter();
        self.next_loss = due.filter_map(|it| it.receiver.poll_timeout()).min();
        self.send_rtcp(compound);
    }

    /// Asks for a key frame although nothing is missing.
    pub(crate) fn request_key_frame(&mut self, sid: &str) {
        let mut compound = Vec::new();
        for incoming in self.incoming.iter_mut().filter(|it| it.sid == sid) {
            incoming.receiver.key_frame_requests += 1;
            rtcp::write_picture_loss(&mut compound, self.ssrc, incoming.receiver.setup.ssrc);
        }
        self.send_rtcp(compound);
    }

    pub(super) fn tick(&mut self, now: Instant) {
        let mut compound = Vec::new();
        let verified = self.mode == ReceiveMode::Full;
        for incoming in &mut self.incoming {
            if incoming.receiver.wants_key_frame(verified, now) {
                rtcp::write_picture_loss(&mut compound, self.ssrc, incoming.receiver.setup.ssrc);
            }
        }
        if let (Some(body), Some(first)) = (self.arrivals.poll_feedback(), self.incoming.first()) {
            let media = first.receiver.setup.ssrc;
            rtcp::write_transport_wide(&mut compound, self.ssrc, media, &body);
        }
        self.send_rtcp(compound);
    }

    pub(super) fn report(&mut self, now: Instant) {
        let mut compound = Vec::new();
        for outgoing in &mut self.outgoing {
            let reports = outgoing.publication.reports(now);
            reports
                .iter()
                .for_each(|it| rtcp::write_sender_report(&mut compound, it));
        }
        let receivers = self.incoming.iter_mut().map(|it| &mut it.receiver);
        let blocks: Vec<_> = receivers.filter_map(|it| it.report(now)).collect();
        self.send_rtcp(compound);
        for blocks in blocks.chunks(BLOCKS) {
            let mut compound = Vec::new();
            rtcp::write_receiver_report(&mut compound, self.ssrc, blocks);
            self.send_rtcp(compound);
        }
    }

    fn send_rtcp(&mut self, compound: Vec<u8>) {
        if !compound.is_empty() {
            self.transport.send_rtcp(compound);
        }
    }
}
