//! What leaves a shard: packets sealed into their subscriber's run, RTCP, and whatever else goes to a
//! connection's address.
//!
//! A packet's way ends here, so nothing in [`Wire::forward`] allocates, locks or logs. Knows no rooms,
//! tracks or wishes.

use pipemesh_node_core::codec::{Codec, red, vp8};
use pipemesh_node_core::drops::{DropReason, Drops};
use pipemesh_node_core::forward::continuity::Rewrite;
use pipemesh_node_core::router::SubscriptionKey;
use pipemesh_node_core::rtcp::CompoundWriter;
use pipemesh_node_core::rtp::{Header, HeaderWriter, OutgoingHeader};
use pipemesh_node_media::srtp::{Profile, Sealer};
use pipemesh_node_media::udp::{
    Destination, Egress, EgressOptions, EgressStats, FlushReport, MAX_DATAGRAM_LEN, Run, Slot,
    UdpSocket,
};

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

/// Most header extensions a forwarded packet carries on.
const MAX_CARRIED: usize = 2;

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

/// A packet to be forwarded, taken apart once for all its subscribers.
#[derive(Clone, Copy)]
pub(crate) struct Outbound<'a> {
    codec: Codec,
    marker: bool,
    payload: &'a [u8],
    /// Of redundant audio.
    red: Option<red::Layout>,
    /// Header extensions that go on: which, and the value.
    carried: [Option<(Carried, &'a [u8])>; MAX_CARRIED],
    /// A value that only the two-byte form of header extensions can carry.
    is_long: bool,
}

#[derive(Clone, Copy)]
enum Carried {
    CaptureTime,
    DependencyDescriptor,
}

impl Carried {
    fn id(self, extensions: &Extensions) -> Option<u8> {
        match self {
            Self::CaptureTime => extensions.absolute_capture_time,
            Self::DependencyDescriptor => extensions.dependency_descriptor,
        }
    }
}

impl<'a> Outbound<'a> {
    /// `extensions` are those of the publisher's section. `None`: the packet is malformed.
    pub(crate) fn new(
        codec: Codec,
        header: &Header,
        packet: &'a [u8],
        extensions: &Extensions,
    ) -> Option<Self> {
        let value = |kind: Carried| {
            let value = header.extension(packet, kind.id(extensions)?)?;
            Some((kind, value))
        };
        let carried = [
            value(Carried::CaptureTime),
            value(Carried::DependencyDescriptor),
        ];
        let is_long = carried
            .iter()
            .flatten()
            .any(|(_, value)| !(1..=16).contains(&value.len()));
        let payload = header.payload(packet)?;
        let red = (codec == Codec::Red)
            .then(|| red::Layout::parse(payload))
            .flatten();
        Some(Self {
            codec,
            marker: header.marker,
            payload,
            red,
            carried,
            is_long,
        })
    }
}

/// What one receiver gets of a packet: as which payload type, and what differs at its beginning.
struct Shape<'a> {
    payload_type: PayloadType,
    payload: &'a [u8],
    change: Change<'a>,
}

/// How the first bytes of a payload differ from the publisher's.
#[derive(Clone, Copy)]
enum Change<'a> {
    Nothing,
    Vp8(&'a vp8::Descriptor, vp8::Shift),
    /// The receiver's payload type for the blocks inside.
    Red(red::Layout, u8),
}

impl<'a> Shape<'a> {
    /// `None`: the receiver cannot be sent this codec. Redundant audio is reduced to its newest block
    /// for those that do not take it.
    fn new(
        outgoing: &Outgoing,
        packet: &Outbound<'a>,
        vp8: Option<&'a vp8::Descriptor>,
        shift: vp8::Shift,
    ) -> Option<Self> {
        let opus = outgoing.payload_type(Codec::Opus);
        match (outgoing.payload_type(packet.codec), packet.red, opus) {
            (Some(payload_type), Some(layout), Some(opus)) => Some(Self {
                payload_type: *payload_type,
                payload: packet.payload,
                change: Change::Red(layout, opus.number),
            }),
            (Some(payload_type), _, _) => Some(Self {
                payload_type: *payload_type,
                payload: packet.payload,
                change: vp8
                    .filter(|_| !shift.is_zero())
                    .map_or(Change::Nothing, |descriptor| Change::Vp8(descriptor, shift)),
            }),
            (None, Some(layout), Some(opus)) => Some(Self {
                payload_type: *opus,
                payload: packet.payload.get(usize::from(layout.primary)..)?,
                change: Change::Nothing,
            }),
            (None, _, _) => None,
        }
    }

    /// Writes what differs into `out`, and answers the rest of the payload.
    fn begin(&self, out: &mut [u8]) -> &'a [u8] {
        let changed = match self.change {
            Change::Nothing => 0,
            Change::Vp8(descriptor, _) => descriptor.len,
            Change::Red(layout, _) => layout.headers,
        };
        let Some((head, rest)) = self.payload.split_at_checked(usize::from(changed)) else {
            return self.payload;
        };
        let space = &mut out[..head.len()];
        space.copy_from_slice(head);
        match self.change {
            Change::Nothing => {}
            Change::Vp8(descriptor, shift) => descriptor.apply(shift, space),
            Change::Red(layout, payload_type) => layout.set_payload_type(payload_type, space),
        }
        rest
    }
}

/// The sockets, runs and keys of one shard.
pub(crate) struct Wire {
    sockets: Vec<UdpSocket>,
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

    /// Seals a packet for one subscriber.
    pub(crate) fn forward(
        &mut self,
        key: SubscriptionKey,
        rewrite: Rewrite,
        vp8: Option<&vp8::Descriptor>,
        packet: &Outbound<'_>,
    ) {
        let Self {
            outgoing,
            links,
            egress,
            sockets,
            pending,
            ..
        } = self;
        let Some(Some(outgoing)) = outgoing.get(key.index()) else {
            return;
        };
        let Some(shape) = Shape::new(outgoing, packet, vp8, rewrite.vp8) else {
            return self.drops.count(DropReason::UnknownPayloadType);
        };
        let Some(link) = links.get_mut(outgoing.link) else {
            return;
        };
        let (Some(to), Some(sealer)) = (link.destination, &link.sealer) else {
            return self.drops.count(DropReason::NoKeys);
        };
        let Some(mut out) = reserve(egress, sockets, pending, &mut link.run, to) else {
            return self.drops.count(DropReason::QueueFull);
        };
        let header = OutgoingHeader {
            marker: packet.marker,
            payload_type: shape.payload_type.number,
            sequence: rewrite.sequence as u16,
            timestamp: rewrite.timestamp,
            ssrc: outgoing.ssrc,
        };
        let Some(header_len) = write_header(&mut out, header, packet, &outgoing.extensions) else {
            return self.drops.count(DropReason::Limit);
        };
        if header_len + shape.payload.len() + Profile::MAX_OVERHEAD > MAX_DATAGRAM_LEN {
            return self.drops.count(DropReason::Limit);
        }
        let rest = shape.begin(&mut out[header_len..]);
        let patched_len = shape.payload.len() - rest.len();
        let len =
            sealer.seal_rtp_patched(rewrite.sequence, &mut out, header_len, patched_len, rest);
        out.commit(len);
        self.forwarded += 1;
    }

    /// Seals a packet that was sent before for the subscriber's retransmission stream.
    pub(crate) fn repair(&mut self, key: SubscriptionKey, rewrite: Rewrite, packet: &Outbound<'_>) {
        let Self {
            outgoing,
            links,
            egress,
            sockets,
            pending,
            ..
        } = self;
        let Some(Some(outgoing)) = outgoing.get_mut(key.index()) else {
            return;
        };
        let vp8 = match packet.codec {
            Codec::Vp8 => vp8::Descriptor::parse(packet.payload),
            Codec::Opus | Codec::Red | Codec::Vp9 | Codec::H264 | Codec::Av1 => None,
        };
        let Some(shape) = Shape::new(outgoing, packet, vp8.as_ref(), rewrite.vp8) else {
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
        let Some(mut out) = reserve(egress, sockets, pending, &mut link.run, to) else {
            return self.drops.count(DropReason::QueueFull);
        };
        let header = OutgoingHeader {
            marker: packet.marker,
            payload_type: number,
            sequence: repair.next_sequence as u16,
            timestamp: rewrite.timestamp,
            ssrc: repair.ssrc,
        };
        const ORIGINAL_SEQUENCE_LEN: usize = 2;
        let overhead = ORIGINAL_SEQUENCE_LEN + Profile::MAX_OVERHEAD;
        let header_len = write_header(&mut out, header, packet, &outgoing.extensions);
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
            pending,
            ..
        } = self;
        let Some(link) = links.get_mut(connection) else {
            return;
        };
        let (Some(to), Some(sealer)) = (link.destination, &mut link.sealer) else {
            return;
        };
        let Some(mut out) = reserve(egress, sockets, pending, &mut link.run, to) else {
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
        let Some(mut out) = reserve(egress, sockets, pending, &mut link.run, to) else {
            return self.drops.count(DropReason::QueueFull);
        };
        out[..bytes.len()].copy_from_slice(bytes);
        out.commit(bytes.len());
    }

    /// Sends everything. The report covers flushes in between, too.
    pub(crate) fn flush(&mut self) -> FlushReport {
        let last = self.egress.flush(&self.sockets);
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
    pending: &mut FlushReport,
    run: &mut Run,
    to: Destination,
) -> Option<Slot<'a>> {
    if egress.is_exhausted() {
        let report = egress.flush(sockets);
        pending.gso_lost = pending.gso_lost | report.gso_lost;
    }
    egress.reserve(run, to, MAX_DATAGRAM_LEN)
}

fn write_header(
    out: &mut [u8],
    header: OutgoingHeader,
    packet: &Outbound<'_>,
    extensions: &Extensions,
) -> Option<usize> {
    let mut writer = HeaderWriter::new(out, header)?;
    for (kind, value) in packet.carried.iter().flatten() {
        if let Some(id) = kind.id(extensions) {
            writer.extension(id, value, packet.is_long || id > 14);
        }
    }
    writer.finish()
}
