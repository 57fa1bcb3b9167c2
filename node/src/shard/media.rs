//! RTP and RTCP that arrive: opened once, placed among the client's tracks, given to the router.

use std::time::{Duration, Instant};

use pipemesh_node_core::drops::DropReason;
use pipemesh_node_core::router::{Gathered, SubscriptionKey};
use pipemesh_node_core::rtcp::{Message, Messages, ReportBlock};
use pipemesh_node_core::rtp::Header;
use pipemesh_node_core::stats::round_trip;
use pipemesh_node_media::srtp::OpenError;

use super::connection::Connection;
use super::counters::Counters;
use super::inbound::{self, Stream, Unplaced};
use super::remote::pass_on;
use super::wire::Outbound;
use super::{Shard, Timer};
use crate::session::plan::Extensions;

/// Until a receiver's round trip is known.
const ASSUMED_ROUND_TRIP: Duration = Duration::from_millis(100);
/// Packets that are looked for because of one RTCP packet, which could name six thousand. A receiver that
/// misses more has an outage, and asks again for what it still wants.
const MAX_ASKED: usize = 512;
/// Messages about bandwidth that are read of one RTCP packet. Each may lead to another allocation; clients
/// send one, or a few that together speak of many packets.
const MAX_REPORTED: usize = 8;
/// Two requests for one packet closer than this are one.
const SHORTEST_ROUND_TRIP: Duration = Duration::from_millis(10);

/// Who asks for packets again, and how long they take.
#[derive(Clone, Copy)]
struct Receiver {
    key: SubscriptionKey,
    /// Those of the publisher's section.
    extensions: Extensions,
    round_trip: Duration,
}

impl Shard {
    pub(super) fn handle_rtp(&mut self, index: usize, packet: &mut [u8], now: Instant) {
        if let Err(reason) = self.receive_rtp(index, packet, now) {
            self.drops.count(reason);
        }
    }

    fn receive_rtp(
        &mut self,
        index: usize,
        packet: &mut [u8],
        now: Instant,
    ) -> Result<(), DropReason> {
        let header = Header::parse(packet).ok_or(DropReason::Malformed)?;
        let connection = &mut self.connections[index];
        let opener = connection.opener.as_mut().ok_or(DropReason::NoKeys)?;
        let stream = connection
            .inbound
            .identify(&header, packet)
            .ok_or(DropReason::UnknownSource)?;
        let opened = match opener.open_rtp(packet, header.header_len()) {
            Ok(opened) => opened,
            Err(error) => {
                if error == OpenError::Replayed {
                    self.note_copy(index, &header, now);
                }
                return Err(drop_reason(error));
            }
        };
        let len = packet.len();
        let packet = &mut packet[..opened.len];

        self.note_arrival(index, &header, packet, len, now);
        self.note_source(index, header.ssrc, stream, opened.leapt, now);

        let Connection {
            inbound, ingress, ..
        } = &mut self.connections[index];
        let placed = inbound.place(stream, header.payload_type);
        let placed = match placed {
            Ok(placed) => placed,
            Err(Unplaced::UnknownSource) => return Err(DropReason::UnknownSource),
            Err(Unplaced::UnknownPayloadType) => {
                return self.leave_out(index, &header, DropReason::UnknownPayloadType, now);
            }
        };
        // Counted once it has proved authentic: nobody else uses a client's allowance up.
        if !ingress.admit(len, placed.codec.is_video(), now) {
            return self.leave_out(index, &header, DropReason::Limit, now);
        }
        let (header, packet) = match placed.repairs {
            None => (header, &*packet),
            Some((ssrc, payload_type)) => {
                let Some(start) = inbound::restore(packet, &header, ssrc, payload_type) else {
                    // Padding holds nothing, not even a number.
                    let is_padding = header.payload(packet).is_some_and(<[u8]>::is_empty);
                    return is_padding.then_some(()).ok_or(DropReason::Malformed);
                };
                let packet = &packet[start..];
                (Header::parse(packet).ok_or(DropReason::Malformed)?, packet)
            }
        };
        let media = placed.media(header, packet);
        let source = placed.source;
        let Self {
            router, neighbours, ..
        } = self;
        let gathered = match router.handle_media(source, media, now) {
            Err(DropReason::Limit) if !media.repaired => {
                return self.leave_out(index, &header, DropReason::Limit, now);
            }
            gathered => gathered?,
        };
        let elsewhere = pass_on(neighbours, source.encoding, packet, media.repaired);
        router.pass_on(source, header.sequence, elsewhere);
        if gathered == Gathered::Full {
            self.forward(now);
        }
        Ok(())
    }

    /// A packet of a client's is dropped on purpose: nobody asks for it, or misses it.
    #[cold]
    fn leave_out(
        &mut self,
        index: usize,
        header: &Header,
        reason: DropReason,
        now: Instant,
    ) -> Result<(), DropReason> {
        if let Some((_, source)) = self.connections[index].inbound.media_source(header.ssrc) {
            if !self.router.is_torn(source) {
                self.forward(now);
            }
            self.router.leave_out(source, header.sequence, now);
        }
        Err(reason)
    }

    /// A packet of which one came before, as far as anybody can tell who has not opened it. No more follows from
    /// it than how long somebody takes to answer.
    #[cold]
    fn note_copy(&mut self, index: usize, header: &Header, now: Instant) {
        if let Some((_, source)) = self.connections[index].inbound.media_source(header.ssrc) {
            self.router.handle_copy(source, header.sequence, now);
        }
    }

    /// What feedback to the client is made from: numbers of packets, else the times of their sending.
    /// `len` is that of the datagram.
    #[inline]
    fn note_arrival(
        &mut self,
        index: usize,
        header: &Header,
        packet: &[u8],
        len: usize,
        now: Instant,
    ) {
        let connection = &mut self.connections[index];
        if let Some(id) = connection.inbound.transport_sequence()
            && let Some(&[high, low]) = header.extension(packet, id).and_then(<[u8]>::first_chunk)
        {
            connection
                .arrivals
                .handle_arrival(u16::from_be_bytes([high, low]), now);
        } else if let Some(incoming) = &mut connection.incoming
            && let Some(id) = connection.inbound.absolute_send_time()
            && let Some(&stamp) = header.extension(packet, id).and_then(<[u8]>::first_chunk)
        {
            incoming.handle_packet(stamp, len as u16, now);
        } else {
            return;
        }
        if !std::mem::replace(&mut connection.feedback_due, true) {
            let timer = Timer::Feedback(index, connection.key);
            self.timers.set(now + super::reports::FEEDBACK_EVERY, timer);
        }
    }

    /// What an SSRC is found to carry is remembered; numbers that `leapt` begin anew.
    #[inline]
    fn note_source(&mut self, index: usize, ssrc: u32, stream: Stream, leapt: bool, now: Instant) {
        let is_bound = self.connections[index].inbound.is_bound(ssrc);
        if !is_bound {
            // What came under a former SSRC goes on before its numbers end.
            self.forward(now);
        }
        if leapt {
            self.begin_anew(index, ssrc, now);
        }
        if !is_bound && let Some(bound) = self.connections[index].inbound.bind(ssrc, stream) {
            self.handle_bound(index, &[bound], now);
        }
    }

    /// So much was missed of a source that its sequence numbers do not say any more how much.
    fn begin_anew(&mut self, index: usize, ssrc: u32, now: Instant) {
        let source = self.connections[index].inbound.media_source(ssrc);
        if let Some((_, source)) = source {
            self.forward(now);
            self.router.restart(source, now);
        }
    }

    /// Sends on what has gathered.
    pub(super) fn forward(&mut self, now: Instant) {
        if !self.router.has_gathered() {
            return;
        }
        let Self {
            router,
            wire,
            publishers,
            serving,
            drops,
            ..
        } = self;
        let forwarded = router.forward(now, |burst| {
            let publisher = publishers.get(burst.source().track.index());
            let Some(Some(publisher)) = publisher else {
                return drops.add(DropReason::UnknownSource, burst.packets().count());
            };
            *serving = publisher.session;
            wire.forward(burst, &publisher.extensions, now);
        });
        self.watch_waiting(now);
        if let Err(left) = forwarded {
            self.drops.add(left.reason, left.packets);
        }
    }

    pub(super) fn handle_rtcp(&mut self, index: usize, packet: &mut [u8], now: Instant) {
        let Some(opener) = self.connections[index].opener.as_mut() else {
            return self.drops.count(DropReason::NoKeys);
        };
        self.wire.fetch_report(index);
        let len = match opener.open_rtcp(packet) {
            Ok(len) => len,
            Err(error) => return self.drops.count(drop_reason(error)),
        };
        if !self.connections[index]
            .ingress
            .admit(packet.len(), false, now)
        {
            return self.drops.count(DropReason::Limit);
        }
        self.wire.fetch_reported(index);
        let (mut may_ask, mut may_report) = (MAX_ASKED, MAX_REPORTED);
        let mut messages = Messages::new(&packet[..len]);
        for message in messages.by_ref() {
            match message {
                Message::SenderReport { ssrc, info, blocks } => {
                    // Those of retransmissions say nothing of use.
                    let source = self.connections[index].inbound.media_source(ssrc);
                    if let Some((section, source)) = source
                        && let Some(codec) = section.plan.codecs.first()
                    {
                        self.router
                            .handle_sender_report(source, info, codec.codec, now);
                        self.tell_report(source);
                    }
                    blocks.for_each(|block| self.handle_block(index, &block, now));
                }
                Message::ReceiverReport { blocks, .. } => {
                    blocks.for_each(|block| self.handle_block(index, &block, now));
                }
                Message::Nack { media_ssrc, lost } => {
                    let mut lost = lost;
                    let asked = lost.by_ref().take(may_ask);
                    may_ask -= self.handle_nack(index, media_ssrc, asked, now);
                    self.rtcp_drops.add(DropReason::Limit, lost.count());
                }
                Message::PictureLoss { media_ssrc } | Message::FullIntraRequest { media_ssrc } => {
                    match self.subscription_of(index, media_ssrc) {
                        Some(key) => self.router.handle_key_frame_request(key, now),
                        None => self.rtcp_drops.count(DropReason::UnknownSource),
                    }
                }
                Message::TransportFeedback { .. } | Message::EstimatedMaximumBitrate { .. }
                    if may_report == 0 =>
                {
                    self.rtcp_drops.count(DropReason::Limit);
                }
                Message::TransportFeedback { content } => {
                    may_report -= 1;
                    self.handle_transport_feedback(index, content, now);
                }
                Message::EstimatedMaximumBitrate { bits_per_second } => {
                    may_report -= 1;
                    self.handle_estimate(index, bits_per_second, now);
                }
                Message::Bye { .. } => {}
            }
        }
        if messages.is_malformed() {
            self.rtcp_drops.count(DropReason::Malformed);
        }
    }

    /// A receiver's view of what it is sent.
    fn handle_block(&mut self, index: usize, block: &ReportBlock, now: Instant) {
        let Some(key) = self.subscription_of(index, block.ssrc) else {
            return;
        };
        let round_trip = self
            .router
            .sender_report(key, now)
            .and_then(|info| round_trip(info.compact_ntp(), block));
        let session = &mut self.sessions[self.connections[index].session];
        session
            .link
            .note(block.fraction_lost, round_trip, Duration::ZERO);
        self.note_receiver_report(index, block.fraction_lost, round_trip, now);
    }

    /// Sends packets again; answers how many were asked for.
    fn handle_nack(
        &mut self,
        index: usize,
        ssrc: u32,
        lost: impl Iterator<Item = u16>,
        now: Instant,
    ) -> usize {
        let receiver = self.receiver(index, ssrc);
        let mut asked = 0;
        for sequence in lost {
            asked += 1;
            let repaired = receiver.and_then(|receiver| self.repair(&receiver, sequence, now));
            if let Err(reason) = repaired {
                self.rtcp_drops.count(reason);
            }
        }
        Counters::add(&self.counters.nacks_received, asked as u64);
        asked
    }

    /// Who asks, and for what.
    fn receiver(&self, index: usize, ssrc: u32) -> Result<Receiver, DropReason> {
        let key = self.subscription_of(index, ssrc);
        let key = key.ok_or(DropReason::UnknownSource)?;
        let published = self
            .subscriber(key)
            .and_then(|(_, track)| self.tracks.get(track));
        let publisher = published.and_then(|published| self.publisher(published.key));
        let connection = &self.connections[index];
        let round_trip = self.sessions[connection.session].link.round_trip;
        Ok(Receiver {
            key,
            extensions: publisher.ok_or(DropReason::Gone)?.extensions,
            round_trip: round_trip
                .unwrap_or(ASSUMED_ROUND_TRIP)
                .max(SHORTEST_ROUND_TRIP),
        })
    }

    fn repair(
        &mut self,
        receiver: &Receiver,
        sequence: u16,
        now: Instant,
    ) -> Result<(), DropReason> {
        let Receiver {
            key,
            extensions,
            round_trip,
        } = receiver;
        let repair = self.router.handle_loss(*key, sequence, *round_trip, now)?;
        let (codec, packet) = (repair.codec, repair.packet);
        let header = Header::parse(packet).ok_or(DropReason::Malformed)?;
        let payload = header.payload(packet);
        let ids = payload.and_then(|payload| codec.frame_ids(payload));
        let outbound = Outbound::new(codec, &header, packet, None, ids.as_ref(), extensions);
        let outbound = outbound.ok_or(DropReason::Malformed)?;
        self.wire.repair(*key, repair.rewrite, &outbound, now)
    }

    /// The subscription that a connection is sent under an SSRC.
    fn subscription_of(&self, index: usize, ssrc: u32) -> Option<SubscriptionKey> {
        let connection = &self.connections[index];
        let section = connection
            .send
            .iter()
            .find(|section| section.ssrc == ssrc)?;
        self.sessions[connection.session]
            .wanted
            .get(&section.track)?
            .subscription
    }
}

fn drop_reason(error: OpenError) -> DropReason {
    match error {
        OpenError::Authentication => DropReason::Unauthenticated,
        OpenError::Replayed => DropReason::Replayed,
        OpenError::TooShort => DropReason::Malformed,
    }
}
