//! What leaves a shard: packets sealed into their subscriber's run, RTCP, and whatever else goes to a
//! connection's address.
//!
//! A packet's way ends here, so nothing in [`Wire::forward`] allocates, locks or logs. Knows no rooms,
//! tracks or wishes.

mod outbound;
mod outgoing;
mod padding;
mod repeats;
mod shaping;
mod stamp;

use std::time::Instant;

use pipemesh_node_core::bandwidth::PacketKind;
use pipemesh_node_core::drops::{DropReason, Drops};
use pipemesh_node_core::forward::continuity::Rewrite;
use pipemesh_node_core::router::{Burst, Forward, MAX_BURST, SubscriptionKey};
use pipemesh_node_core::rtcp::CompoundWriter;
use pipemesh_node_media::prefetch::prefetch;
use pipemesh_node_media::srtp::Sealer;
use pipemesh_node_media::tcp::Streams;
use pipemesh_node_media::udp::{
    Destination, Egress, EgressOptions, EgressStats, FlushReport, MAX_DATAGRAM_LEN, Run, Slot,
    UdpSocket,
};

pub(crate) use outbound::Outbound;
use outbound::level;
pub(crate) use outgoing::Outgoing;
use shaping::PacerStats;
pub(crate) use shaping::{Shaping, Waiting};

use crate::session::plan::Extensions;

/// Chunks of 24 KB in which datagrams wait for the end of the batch, one for each subscriber with
/// something to send; they cost address space until they are used.
const CHUNKS: u32 = 1024;

/// Most datagrams to one client in one system call's message. A burst of 16 full packets is 20 KB, which
/// thin links queue without loss; more would be a little cheaper and lose more at once.
const MAX_SEGMENTS: usize = 16;

/// Longest RTCP packet we make, before sealing: fits every path.
const MAX_RTCP_LEN: usize = 1_150;

/// The sending side of one connection, as little as the packet path needs. Same index as the connection.
#[derive(Default)]
pub(crate) struct Link {
    /// Where to send; none before the first check and after consent has expired.
    pub(crate) destination: Option<Destination>,
    /// None until the client's certificate is verified.
    pub(crate) sealer: Option<Sealer>,
    /// None: the client reports nothing of its bandwidth, and is sent everything at once.
    pub(crate) shaping: Option<Box<Shaping>>,
    run: Run,
}

/// From one packet's copy to the next: room for any payload, in whole cache lines.
const DRAFT_LEN: usize = MAX_DATAGRAM_LEN.next_multiple_of(64);

/// The sockets, runs and keys of one shard.
pub(crate) struct Wire {
    sockets: Vec<UdpSocket>,
    pub(crate) streams: Streams,
    egress: Egress,
    /// By connection index.
    links: Vec<Link>,
    /// By subscription index.
    outgoing: Vec<Option<Outgoing>>,
    /// Room for the copies of a burst's packets, between bursts.
    drafts: Vec<u8>,
    /// Connections of which something waits since it was last asked.
    delayed: Vec<usize>,
    drops: Drops,
    pending: FlushReport,
    pub(crate) forwarded: u64,
    pub(crate) repaired: u64,
    pub(crate) paced: PacerStats,
    /// What was sent to whom, for tests without sockets.
    #[cfg(test)]
    pub(crate) overheard: Option<Vec<Overheard>>,
}

/// A packet that a subscriber is sent.
#[cfg(test)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Overheard {
    pub(crate) to: SubscriptionKey,
    /// The publisher's.
    pub(crate) header: pipemesh_node_core::rtp::Header,
    pub(crate) rewrite: Rewrite,
}

impl Wire {
    pub(crate) fn new(sockets: Vec<UdpSocket>) -> Self {
        let options = EgressOptions {
            // Tests in virtual time have none, and send nothing.
            sockets: sockets.len().max(1),
            chunks: CHUNKS,
            max_segments: MAX_SEGMENTS,
        };
        Self {
            egress: Egress::new(options),
            sockets,
            streams: Streams::default(),
            links: Vec::new(),
            outgoing: Vec::new(),
            drafts: Vec::new(),
            delayed: Vec::new(),
            drops: Drops::default(),
            pending: FlushReport::default(),
            forwarded: 0,
            repaired: 0,
            paced: PacerStats::default(),
            #[cfg(test)]
            overheard: None,
        }
    }

    pub(crate) fn sockets(&self) -> &[UdpSocket] {
        &self.sockets
    }

    pub(crate) fn link(&mut self, connection: usize) -> &mut Link {
        if connection >= self.links.len() {
            self.links.resize_with(connection + 1, Link::default);
        }
        &mut self.links[connection]
    }

    pub(crate) fn set_outgoing(&mut self, key: SubscriptionKey, outgoing: Outgoing) {
        if key.index() >= self.outgoing.len() {
            self.outgoing.resize_with(key.index() + 1, || None);
        }
        self.outgoing[key.index()] = Some(outgoing);
    }

    pub(crate) fn take_outgoing(&mut self, key: SubscriptionKey) -> Option<Outgoing> {
        self.outgoing.get_mut(key.index())?.take()
    }

    /// Seals a burst's packets for everybody who gets them. `extensions` are those of the publisher's
    /// section.
    pub(crate) fn forward(&mut self, burst: &mut Burst<'_>, extensions: &Extensions, now: Instant) {
        #[cfg(test)]
        if let Some(overheard) = &mut self.overheard {
            return overhear(burst, overheard);
        }
        let encoding = burst.source().encoding;
        let mut packets = [const { None }; MAX_BURST];
        let mut sequences = [0; MAX_BURST];
        let mut count = 0;
        let places = packets.iter_mut().zip(&mut sequences);
        for ((place, sequence), packet) in places.zip(burst.packets()) {
            *sequence = packet.sequence;
            *place = Outbound::new(
                packet.codec,
                &packet.header,
                packet.bytes,
                Some(packet.padded),
                packet.ids,
                extensions,
            );
            count += 1;
        }
        let packets = &mut packets[..count];
        level(packets);
        let mut drafts = std::mem::take(&mut self.drafts);
        // For a single one a copy costs more than it saves.
        if burst.upcoming(1).is_some() {
            drafts.resize(MAX_BURST * DRAFT_LEN, 0);
            let drafts = drafts.chunks_exact_mut(DRAFT_LEN);
            for (packet, draft) in packets.iter_mut().zip(drafts) {
                if let Some(packet) = packet {
                    packet.copy_to(draft);
                }
            }
        }
        let from = Origin {
            encoding,
            sequences: &sequences[..count],
        };
        while let Some(key) = burst.next_subscriber() {
            self.fetch_places(burst, packets.len());
            if let Some(next) = self.forward_to(key, burst.forwards(), packets, from, now) {
                burst.take_back(key, next);
            }
            self.fetch_keys(burst);
        }
        self.drafts = drafts;
    }

    /// What will be needed of the subscribers whose turn comes is asked for while others are served. It
    /// lies in four places, each of which says where the next is, so it comes in four steps; and in two
    /// parts, since a processor waits when it is asked for more than some twenty lines of memory at a time.
    #[inline]
    fn fetch_places(&self, burst: &Burst<'_>, packets: usize) {
        if let Some((key, place)) = burst.upcoming(3) {
            prefetch(place);
            self.outgoing
                .get(key.index())
                .into_iter()
                .for_each(prefetch);
        }
        self.upcoming_link(burst, 2).into_iter().for_each(prefetch);
        if let Some(shaping) = self.upcoming_shaping(burst, 1) {
            shaping.prefetch();
        }
        if let Some(shaping) = self.upcoming_shaping(burst, 0) {
            shaping.prefetch_notes(packets);
        }
    }

    /// Asks for what a report of a connection's client is about, in three steps: before one comes, before it
    /// is opened, and when it has been.
    #[inline]
    pub(super) fn fetch_link(&self, connection: usize) {
        self.links.get(connection).into_iter().for_each(prefetch);
    }

    #[inline]
    pub(super) fn fetch_report(&self, connection: usize) {
        if let Some(shaping) = self.shaping(connection) {
            shaping.prefetch_report();
        }
    }

    #[inline]
    pub(super) fn fetch_reported(&self, connection: usize) {
        if let Some(shaping) = self.shaping(connection) {
            shaping.prefetch_reported();
        }
    }

    #[inline]
    pub(super) fn shaping(&self, connection: usize) -> Option<&Shaping> {
        self.links.get(connection)?.shaping.as_deref()
    }

    /// The second part, when this subscriber's packets have been sealed.
    #[inline]
    fn fetch_keys(&self, burst: &Burst<'_>) {
        let link = self.upcoming_link(burst, 1);
        let sealer = link.and_then(|link| link.sealer.as_ref());
        sealer.into_iter().for_each(Sealer::prefetch);
    }

    #[inline]
    fn upcoming_shaping(&self, burst: &Burst<'_>, ahead: usize) -> Option<&Shaping> {
        self.upcoming_link(burst, ahead)?.shaping.as_deref()
    }

    #[inline]
    fn upcoming_link(&self, burst: &Burst<'_>, ahead: usize) -> Option<&Link> {
        let (key, _) = burst.upcoming(ahead)?;
        let outgoing = self.outgoing.get(key.index())?.as_ref()?;
        self.links.get(outgoing.link)
    }

    /// Seals a burst's packets for one subscriber, or lets them wait. If one can do neither, nor can those
    /// behind it: answers the first number that has not left and will not.
    fn forward_to(
        &mut self,
        key: SubscriptionKey,
        forwards: &[Forward],
        packets: &mut [Option<Outbound<'_>>],
        from: Origin<'_>,
        now: Instant,
    ) -> Option<u64> {
        let Self {
            outgoing,
            links,
            egress,
            sockets,
            streams,
            delayed,
            drops,
            pending,
            forwarded,
            paced,
            ..
        } = self;
        // Both are there for as long as the subscription is.
        let outgoing = outgoing.get_mut(key.index())?.as_mut()?;
        let link = links.get_mut(outgoing.link)?;
        let mut shaping = link.shaping.as_deref_mut();
        let (Some(to), Some(sealer)) = (link.destination, &link.sealer) else {
            drops.add(DropReason::NoKeys, forwards.len());
            let (dropped, next) = outgoing.withdraw(key, shaping);
            drops.add(DropReason::Congested, dropped);
            return Some(next);
        };
        if egress.is_ripe() {
            flush_early(egress, sockets, streams, pending);
        }
        for (done, forward) in forwards.iter().enumerate() {
            let rewrite = &forward.rewrite;
            let left = match packets.get_mut(forward.packet) {
                Some(Some(packet)) if may_leave(&mut shaping, packet.kind(), now) => {
                    let shaping = shaping.as_deref_mut();
                    match reserve(egress, sockets, streams, pending, &mut link.run, to) {
                        Some(mut out) => outgoing
                            .seal(&mut out, sealer, shaping, packet, rewrite, now)
                            .map(|len| {
                                out.commit(len);
                                *forwarded += 1;
                            }),
                        None => Err(DropReason::QueueFull),
                    }
                }
                Some(Some(packet)) => {
                    let sequence = from.sequences.get(forward.packet);
                    let waiting = Waiting {
                        since: now,
                        subscription: key,
                        codec: packet.codec,
                        encoding: from.encoding,
                        sequence: sequence.copied().unwrap_or_default(),
                        rewrite: *rewrite,
                    };
                    let shaping = shaping.as_deref_mut();
                    shaping.map_or(Ok(()), |shaping| {
                        shaping.wait(waiting)?;
                        paced.delayed += 1;
                        if !std::mem::replace(&mut shaping.is_listed, true) {
                            delayed.push(outgoing.link);
                        }
                        Ok(())
                    })
                }
                _ => Err(DropReason::Malformed),
            };
            let Err(reason) = left else {
                continue;
            };
            if rewrite.sequence < outgoing.next_unsent {
                // It came late: the receiver misses it already, and asks for it.
                drops.count(reason);
                continue;
            }
            drops.add(reason, forwards.len() - done);
            // Without this packet the rest of its frame is of no use.
            outgoing
                .last_timestamp
                .take_if(|last| *last == rewrite.timestamp);
            let (dropped, next) = outgoing.withdraw(key, shaping);
            drops.add(DropReason::Congested, dropped);
            return Some(next);
        }
        if let Some(shaping) = shaping
            && outgoing.repair.is_some()
        {
            shaping.padded = Some(key);
        }
        None
    }

    /// Seals a packet that has waited.
    pub(crate) fn send_waiting(
        &mut self,
        waiting: &Waiting,
        packet: &mut Outbound<'_>,
        now: Instant,
    ) -> Result<(), DropReason> {
        let Self {
            outgoing,
            links,
            egress,
            sockets,
            streams,
            pending,
            ..
        } = self;
        let Some(Some(outgoing)) = outgoing.get_mut(waiting.subscription.index()) else {
            return Err(DropReason::Gone);
        };
        let link = links.get_mut(outgoing.link).ok_or(DropReason::Gone)?;
        let (Some(to), Some(sealer)) = (link.destination, &link.sealer) else {
            return Err(DropReason::NoKeys);
        };
        let out = reserve(egress, sockets, streams, pending, &mut link.run, to);
        let mut out = out.ok_or(DropReason::QueueFull)?;
        let shaping = link.shaping.as_deref_mut();
        let len = outgoing.seal(&mut out, sealer, shaping, packet, &waiting.rewrite, now)?;
        out.commit(len);
        self.forwarded += 1;
        Ok(())
    }

    /// A connection of which something has waited since it was last listed.
    pub(crate) fn poll_delayed(&mut self) -> Option<usize> {
        let index = self.delayed.pop()?;
        if let Some(shaping) = &mut self.link(index).shaping {
            shaping.is_listed = false;
        }
        Some(index)
    }

    /// The frame that is under way will not be finished.
    pub(crate) fn forget_frame(&mut self, key: SubscriptionKey) {
        if let Some(Some(outgoing)) = self.outgoing.get_mut(key.index()) {
            outgoing.last_timestamp = None;
        }
    }

    /// Takes back what waits of a subscription and does not belong to the frame that is under way.
    /// Answers how many packets that were, and the first number that has not left and will not.
    pub(crate) fn withdraw(&mut self, key: SubscriptionKey) -> Option<(usize, u64)> {
        let outgoing = self.outgoing.get(key.index())?.as_ref()?;
        let shaping = self.links.get_mut(outgoing.link)?.shaping.as_deref_mut();
        Some(outgoing.withdraw(key, shaping))
    }

    /// A packet that has waited cannot be sent, so what waits behind it is of no use either: the same,
    /// the frame under way included. `None`: the receiver misses the packet already, and asks for it.
    pub(crate) fn give_up(&mut self, waiting: &Waiting) -> Option<(usize, u64)> {
        let outgoing = self.outgoing.get(waiting.subscription.index())?.as_ref()?;
        if waiting.rewrite.sequence < outgoing.next_unsent {
            return None;
        }
        self.forget_frame(waiting.subscription);
        self.withdraw(waiting.subscription)
    }

    /// Seals a packet that was sent before: for the subscriber's retransmission stream, or as it was where
    /// there is none.
    pub(crate) fn repair(
        &mut self,
        key: SubscriptionKey,
        rewrite: Rewrite,
        packet: &Outbound<'_>,
        now: Instant,
    ) -> Result<(), DropReason> {
        let Self {
            outgoing,
            links,
            egress,
            sockets,
            streams,
            pending,
            ..
        } = self;
        let Some(Some(outgoing)) = outgoing.get_mut(key.index()) else {
            return Err(DropReason::Gone);
        };
        let link = links.get_mut(outgoing.link).ok_or(DropReason::Gone)?;
        let (Some(to), Some(sealer)) = (link.destination, &link.sealer) else {
            return Err(DropReason::NoKeys);
        };
        let mut shaping = link.shaping.as_deref_mut();
        if let Some(shaping) = &mut shaping
            && packet.kind() == PacketKind::Video
            && !shaping.admits(PacketKind::Repair, now)
        {
            // The client asks again.
            return Err(DropReason::Congested);
        }
        let out = reserve(egress, sockets, streams, pending, &mut link.run, to);
        let mut out = out.ok_or(DropReason::QueueFull)?;
        let len = outgoing.seal_repair(&mut out, sealer, shaping, packet, &rewrite, now)?;
        out.commit(len);
        self.repaired += 1;
        Ok(())
    }

    /// Writes and seals an RTCP packet for a connection.
    pub(crate) fn rtcp(&mut self, connection: usize, write: impl FnOnce(&mut CompoundWriter<'_>)) {
        let Self {
            links,
            egress,
            sockets,
            streams,
            pending,
            ..
        } = self;
        let link = links.get_mut(connection);
        let known =
            link.and_then(|link| Some((link.destination?, link.sealer.as_mut()?, &mut link.run)));
        let Some((to, sealer, run)) = known else {
            return self.drops.count(DropReason::NoKeys);
        };
        let Some(mut out) = reserve(egress, sockets, streams, pending, run, to) else {
            return self.drops.count(DropReason::QueueFull);
        };
        let mut writer = CompoundWriter::new(&mut out[..MAX_RTCP_LEN]);
        write(&mut writer);
        self.drops.add(DropReason::Limit, writer.left_out());
        let len = writer.len();
        if len == 0 {
            return;
        }
        match sealer.seal_rtcp(&mut out, len) {
            Ok(len) => out.commit(len),
            // Two thousand years of reports.
            Err(_) => self.drops.count(DropReason::Limit),
        }
    }

    /// Sends a datagram as it is to a connection's address, or elsewhere.
    pub(crate) fn datagram(&mut self, connection: usize, to: Option<Destination>, bytes: &[u8]) {
        let Self {
            links,
            egress,
            sockets,
            streams,
            pending,
            ..
        } = self;
        let Some(link) = links.get_mut(connection) else {
            return self.drops.count(DropReason::UnknownAddress);
        };
        let Some(to) = to.or(link.destination) else {
            return self.drops.count(DropReason::UnknownAddress);
        };
        if bytes.len() > MAX_DATAGRAM_LEN {
            return self.drops.count(DropReason::Limit);
        }
        let Some(mut out) = reserve(egress, sockets, streams, pending, &mut link.run, to) else {
            return self.drops.count(DropReason::QueueFull);
        };
        out[..bytes.len()].copy_from_slice(bytes);
        out.commit(bytes.len());
    }

    /// Sends everything. The report covers flushes in between, too.
    pub(crate) fn flush(&mut self) -> FlushReport {
        let last = self.egress.flush(&self.sockets);
        self.egress.flush_streams(&mut self.streams);
        self.streams.flush();
        let before = std::mem::take(&mut self.pending);
        FlushReport {
            blocked: last.blocked,
            gso_lost: last.gso_lost | before.gso_lost,
        }
    }

    /// Connections whose bandwidth is estimated, and all that together in bit/s.
    pub(crate) fn estimates(&self) -> (u64, u64) {
        let links = self.links.iter().filter(|link| link.sealer.is_some());
        let shaped = links.filter_map(|link| link.shaping.as_deref());
        shaped
            .filter(|shaping| shaping.is_limiting())
            .fold((0, 0), |(count, sum), shaping| {
                (count + 1, sum + shaping.bandwidth.estimate().as_bps())
            })
    }

    pub(crate) fn drops(&self) -> &Drops {
        &self.drops
    }

    pub(crate) fn stats(&self) -> &EgressStats {
        self.egress.stats()
    }
}

/// Space in a run; when the pool is exhausted, what waits is sent first.
// What it answers is needed at once: passed through memory it would wait for all that was written before.
#[inline(always)]
fn reserve<'a>(
    egress: &'a mut Egress,
    sockets: &[UdpSocket],
    streams: &mut Streams,
    pending: &mut FlushReport,
    run: &mut Run,
    to: Destination,
) -> Option<Slot<'a>> {
    if egress.is_exhausted() {
        flush_early(egress, sockets, streams, pending);
    }
    egress.reserve(run, to, MAX_DATAGRAM_LEN)
}

/// Whether a packet is within its connection's budget.
#[inline]
fn may_leave(shaping: &mut Option<&mut Shaping>, kind: PacketKind, now: Instant) -> bool {
    shaping
        .as_deref_mut()
        .is_none_or(|shaping| shaping.admits(kind, now))
}

/// Sends before the end of the batch.
fn flush_early(
    egress: &mut Egress,
    sockets: &[UdpSocket],
    streams: &mut Streams,
    pending: &mut FlushReport,
) {
    let report = egress.flush(sockets);
    egress.flush_streams(streams);
    pending.gso_lost = pending.gso_lost | report.gso_lost;
}

/// Where packets of a burst come from: their encoding, and their numbers in its cache.
#[derive(Clone, Copy)]
struct Origin<'a> {
    encoding: u8,
    sequences: &'a [u64],
}

#[cfg(test)]
fn overhear(burst: &mut Burst<'_>, overheard: &mut Vec<Overheard>) {
    let headers: Vec<_> = burst.packets().map(|packet| packet.header).collect();
    while let Some(to) = burst.next_subscriber() {
        overheard.extend(burst.forwards().iter().map(|forward| Overheard {
            to,
            header: headers[forward.packet],
            rewrite: forward.rewrite,
        }));
    }
}

#[cfg(test)]
mod tests;
