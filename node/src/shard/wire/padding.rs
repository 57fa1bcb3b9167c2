//! Padding that probes send: packets of a subscription's retransmission stream that hold nothing.
//!
//! The stream has numbers of its own, so that nothing of the media looks lost, and receivers throw the
//! padding away unseen (RFC 4588, RFC 3550 section 5.1).

use std::time::Instant;

use pipemesh_node_core::bandwidth::PacketKind;
use pipemesh_node_core::rtp::{HeaderWriter, OutgoingHeader};

use super::outgoing::datagram_len;
use super::stamp::Stamp;
use super::{Wire, reserve};

/// RTP counts padding in a byte.
const MAX_PADDING: usize = 255;

impl Wire {
    /// Sends about `size` bytes of padding to a connection. `false`: it cannot be sent any.
    pub(crate) fn pad(&mut self, connection: usize, size: usize, now: Instant) -> bool {
        let packet_len = datagram_len(MAX_PADDING);
        for _ in 0..size.div_ceil(packet_len) {
            if self.pad_once(connection, now).is_none() {
                return false;
            }
        }
        true
    }

    fn pad_once(&mut self, connection: usize, now: Instant) -> Option<()> {
        let Self {
            outgoing,
            links,
            egress,
            sockets,
            streams,
            pending,
            paced,
            ..
        } = self;
        let link = links.get_mut(connection)?;
        let shaping = link.shaping.as_deref_mut()?;
        let outgoing = outgoing.get_mut(shaping.padded?.index())?.as_mut()?;
        let timestamp = outgoing.last_timestamp?;
        let mut payload_types = outgoing.codecs.iter().flatten();
        let payload_type = payload_types.find_map(|codec| codec.repair)?;
        let repair = outgoing
            .repair
            .as_mut()
            .filter(|_| outgoing.link == connection)?;
        let (to, sealer) = (link.destination?, link.sealer.as_ref()?);
        let mut out = reserve(egress, sockets, streams, pending, &mut link.run, to)?;
        let header = OutgoingHeader {
            padding: true,
            marker: false,
            payload_type,
            sequence: repair.next_sequence as u16,
            timestamp,
            ssrc: repair.ssrc,
        };
        let stamp = Stamp::next(Some(shaping), &outgoing.extensions, now);
        let mut writer = HeaderWriter::new(&mut out, header)?;
        stamp.write(&mut writer, &outgoing.extensions, false);
        let header_len = writer.finish()?;
        let padding = out.get_mut(header_len..header_len + MAX_PADDING)?;
        padding.fill(0);
        *padding.last_mut()? = MAX_PADDING as u8;
        // From here on it leaves.
        let size = datagram_len(MAX_PADDING);
        stamp.spend(Some(shaping), size, PacketKind::Padding, now);
        let index = repair.next_sequence;
        repair.next_sequence += 1;
        let len = sealer.seal_rtp_patched(index, &mut out, header_len, MAX_PADDING, &[]);
        out.commit(len);
        paced.padding += 1;
        Some(())
    }
}
