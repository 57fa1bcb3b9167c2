//! What leaves a shard: packets sealed into their subscriber's run, RTCP, and whatever else goes to a
//! connection's address.
//!
//! A packet's way ends here, so nothing in [`Wire::forward`] allocates, locks or logs. Knows no rooms,
//! tracks or wishes.

mod outbound;

use pipemesh_node_core::codec::Codec;
use pipemesh_node_core::codec::ids::Shift;
use pipemesh_node_core::drops::{DropReason, Drops};
use pipemesh_node_core::forward::continuity::Rewrite;
use pipemesh_node_core::router::{Burst, Forward, MAX_BURST, SubscriptionKey};
use pipemesh_node_core::rtcp::CompoundWriter;
use pipemesh_node_core::rtp::{HeaderWriter, OutgoingHeader};
use pipemesh_node_media::srtp::{Profile, Sealer};
use pipemesh_node_media::tcp::Streams;
use pipemesh_node_media::udp::{
    Destination, Egress, EgressOptions, EgressStats, FlushReport, MAX_DATAGRAM_LEN, Run, Slot,
    UdpSocket,
};

pub(crate) use outbound::Outbound;
use outbound::{Shape, level};

use crate::session::plan::{Extensions, PayloadType, SendSection};

/// Chunks of 24 KB in which datagrams wait for the end of the batch, one for each subscriber with
/// something to send. With fewer than subscribers of a packet its bursts fall apart into single
/// datagrams; they cost address space until they are used.
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
    run: Run,
}

/// How one subscription's packets are marked.
pub(crate) struct Outgoing {
    link: usize,
    ssrc: u32,
    codecs: Vec<PayloadType>,
    extensions: Extensions,
    repair: Option<Repairs>,
}

/// The retransmission stream of a subscription (RFC 4588): numbers of its own, never used twice.
struct Repairs {
    ssrc: u32,
    next_sequence: u64,
}

impl Outgoing {
    /// `first_repair` is the first number of the retransmission stream, with the rules of media's.
    pub(crate) fn new(link: usize, section: &SendSection, first_repair: u64) -> Self {
        Self {
            link,
            ssrc: section.ssrc,
            codecs: section.codecs.clone(),
            extensions: section.extensions,
            repair: section.repair_ssrc.map(|ssrc| Repairs {
                ssrc,
                next_sequence: first_repair,
            }),
        }
    }

    pub(crate) fn link(&self) -> usize {
        self.link
    }

    /// Which numbers are used up: SSRC and the first number that is not. `next` is media's.
    pub(crate) fn spent(&self, next: u64) -> impl Iterator<Item = (u32, u64)> + use<> {
        let repair = self
            .repair
            .as_ref()
            .map(|repair| (repair.ssrc, repair.next_sequence));
        [Some((self.ssrc, next)), repair].into_iter().flatten()
    }

    fn payload_type(&self, codec: Codec) -> Option<&PayloadType> {
        self.codecs.iter().find(|known| known.codec == codec)
    }
}

/// The sockets, runs and keys of one shard.
pub(crate) struct Wire {
    sockets: Vec<UdpSocket>,
    pub(crate) streams: Streams,
    egress: Egress,
    /// By connection index.
    links: Vec<Link>,
    /// By subscription index.
    outgoing: Vec<Option<Outgoing>>,
    drops: Drops,
    pending: FlushReport,
    pub(crate) forwarded: u64,
    pub(crate) repaired: u64,
}

impl Wire {
    pub(crate) fn new(sockets: Vec<UdpSocket>) -> Self {
        let options = EgressOptions {
            sockets: sockets.len(),
            chunks: CHUNKS,
            max_segments: MAX_SEGMENTS,
        };
        Self {
            egress: Egress::new(options),
            sockets,
            streams: Streams::default(),
            links: Vec::new(),
            outgoing: Vec::new(),
            drops: Drops::default(),
            pending: FlushReport::default(),
            forwarded: 0,
            repaired: 0,
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
    pub(crate) fn forward(&mut self, burst: &mut Burst<'_>, extensions: &Extensions) {
        let mut packets = [const { None }; MAX_BURST];
        let mut count = 0;
        for (place, packet) in packets.iter_mut().zip(burst.packets()) {
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
        while let Some((key, forwards)) = burst.next_subscriber() {
            if let Err(reason) = self.forward_to(key, forwards, packets) {
                forwards.iter().for_each(|_| self.drops.count(reason));
            }
        }
    }

    /// Seals a burst's packets for one subscriber.
    fn forward_to(
        &mut self,
        key: SubscriptionKey,
        forwards: &[Forward],
        packets: &[Option<Outbound<'_>>],
    ) -> Result<(), DropReason> {
        let Self {
            outgoing,
            links,
            egress,
            sockets,
            streams,
            drops,
            pending,
            forwarded,
            ..
        } = self;
        let Some(Some(outgoing)) = outgoing.get(key.index()) else {
            return Ok(());
        };
        let Some(link) = links.get_mut(outgoing.link) else {
            return Ok(());
        };
        let (Some(to), Some(sealer)) = (link.destination, &link.sealer) else {
            return Err(DropReason::NoKeys);
        };
        for Forward { packet, rewrite } in forwards {
            let Some(Some(packet)) = packets.get(*packet) else {
                drops.count(DropReason::Malformed);
                continue;
            };
            let emptied = rewrite.is_filler.then(|| packet.emptied());
            let packet = emptied.as_ref().unwrap_or(packet);
            let Some(shape) = Shape::new(outgoing, packet, rewrite.shift) else {
                drops.count(DropReason::UnknownPayloadType);
                continue;
            };
            let Some(mut out) = reserve(egress, sockets, streams, pending, &mut link.run, to)
            else {
                drops.count(DropReason::QueueFull);
                continue;
            };
            let header = OutgoingHeader {
                padding: packet.padding,
                marker: packet.marker || rewrite.ends_picture,
                payload_type: shape.payload_type.number,
                sequence: rewrite.sequence as u16,
                timestamp: rewrite.timestamp,
                ssrc: outgoing.ssrc,
            };
            let header_len = write_header(
                &mut out,
                header,
                packet,
                &outgoing.extensions,
                rewrite.shift,
            );
            let Some(header_len) = header_len.filter(|len| {
                len + shape.payload.len() + Profile::MAX_OVERHEAD <= MAX_DATAGRAM_LEN
            }) else {
                drops.count(DropReason::Limit);
                continue;
            };
            let rest = shape.begin(&mut out[header_len..]);
            let patched_len = shape.payload.len() - rest.len();
            let len =
                sealer.seal_rtp_patched(rewrite.sequence, &mut out, header_len, patched_len, rest);
            out.commit(len);
            *forwarded += 1;
        }
        Ok(())
    }

    /// Seals a packet that was sent before for the subscriber's retransmission stream.
    pub(crate) fn repair(&mut self, key: SubscriptionKey, rewrite: Rewrite, packet: &Outbound<'_>) {
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
            return;
        };
        let emptied = rewrite.is_filler.then(|| packet.emptied());
        let packet = emptied.as_ref().unwrap_or(packet);
        let Some(shape) = Shape::new(outgoing, packet, rewrite.shift) else {
            return;
        };
        let (Some(number), Some(repair)) = (shape.payload_type.repair, &mut outgoing.repair) else {
            return;
        };
        let Some(link) = links.get_mut(outgoing.link) else {
            return;
        };
        let (Some(to), Some(sealer)) = (link.destination, &link.sealer) else {
            return;
        };
        let Some(mut out) = reserve(egress, sockets, streams, pending, &mut link.run, to) else {
            return self.drops.count(DropReason::QueueFull);
        };
        let header = OutgoingHeader {
            padding: packet.padding,
            marker: packet.marker || rewrite.ends_picture,
            payload_type: number,
            sequence: repair.next_sequence as u16,
            timestamp: rewrite.timestamp,
            ssrc: repair.ssrc,
        };
        const ORIGINAL_SEQUENCE_LEN: usize = 2;
        let overhead = ORIGINAL_SEQUENCE_LEN + Profile::MAX_OVERHEAD;
        let header_len = write_header(
            &mut out,
            header,
            packet,
            &outgoing.extensions,
            rewrite.shift,
        );
        let Some(header_len) =
            header_len.filter(|len| len + shape.payload.len() + overhead <= MAX_DATAGRAM_LEN)
        else {
            return self.drops.count(DropReason::Limit);
        };
        let index = repair.next_sequence;
        repair.next_sequence += 1;
        let (original, space) = out[header_len..].split_at_mut(ORIGINAL_SEQUENCE_LEN);
        original.copy_from_slice(&(rewrite.sequence as u16).to_be_bytes());
        let rest = shape.begin(space);
        let patched_len = ORIGINAL_SEQUENCE_LEN + shape.payload.len() - rest.len();
        let len = sealer.seal_rtp_patched(index, &mut out, header_len, patched_len, rest);
        out.commit(len);
        self.repaired += 1;
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
        let Some(link) = links.get_mut(connection) else {
            return;
        };
        let (Some(to), Some(sealer)) = (link.destination, &mut link.sealer) else {
            return;
        };
        let Some(mut out) = reserve(egress, sockets, streams, pending, &mut link.run, to) else {
            return self.drops.count(DropReason::QueueFull);
        };
        let mut writer = CompoundWriter::new(&mut out[..MAX_RTCP_LEN]);
        write(&mut writer);
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
            return;
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

    pub(crate) fn drops(&self) -> &Drops {
        &self.drops
    }

    pub(crate) fn stats(&self) -> &EgressStats {
        self.egress.stats()
    }
}

/// Space in a run; when the pool is exhausted, what waits is sent first.
fn reserve<'a>(
    egress: &'a mut Egress,
    sockets: &[UdpSocket],
    streams: &mut Streams,
    pending: &mut FlushReport,
    run: &mut Run,
    to: Destination,
) -> Option<Slot<'a>> {
    if egress.is_exhausted() {
        let report = egress.flush(sockets);
        egress.flush_streams(streams);
        pending.gso_lost = pending.gso_lost | report.gso_lost;
    }
    egress.reserve(run, to, MAX_DATAGRAM_LEN)
}

fn write_header(
    out: &mut [u8],
    header: OutgoingHeader,
    packet: &Outbound<'_>,
    extensions: &Extensions,
    shift: Shift,
) -> Option<usize> {
    let mut writer = HeaderWriter::new(out, header)?;
    packet.write_extensions(&mut writer, extensions, shift);
    writer.finish()
}

#[cfg(test)]
mod tests;
