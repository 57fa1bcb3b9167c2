//! A client whose camera is sent packet by packet.

use std::time::{Duration, Instant};

use pipemesh_node_core::rtcp::{Message, Messages};
use pipemesh_proto::node::{ConnectionLayout, ConnectionRole, ConnectionState};
use rand::rngs::StdRng;

use super::camera::{Encoding, Packet};
use super::control::{self, Session, Signaling};
use super::sdp::{self, Remote, Section, VP8, VP8_REPAIR, extension};
use super::wire::{Outgoing, Wire};

/// Between the frames of a recording, whenever they are sent.
const FRAME: Duration = Duration::from_millis(33);

pub(crate) struct Publisher {
    pub(crate) session: Session,
    pub(crate) wire: Wire,
    sections: Vec<Section>,
    rids: Vec<String>,
    encodings: Vec<Encoding>,
    begun: Instant,
    last: Duration,
    /// How often it has changed its SSRCs.
    generation: u32,
    remote: Option<Remote>,
}

impl Publisher {
    /// Joins with a camera of these encodings; none: one without a rid.
    pub(crate) async fn join(
        signaling: &Signaling,
        room: &str,
        name: &str,
        rids: &[&str],
        random: &mut StdRng,
    ) -> Self {
        let wire = Wire::new().await;
        Self::join_over(wire, signaling, room, name, rids, random).await
    }

    pub(crate) async fn join_over(
        wire: Wire,
        signaling: &Signaling,
        room: &str,
        name: &str,
        rids: &[&str],
        random: &mut StdRng,
    ) -> Self {
        let open = control::participant(name, room, ConnectionLayout::Single);
        let mut session = signaling.open(open).await;
        session
            .add_track(control::camera(&track(name), "camera"))
            .await;
        let encodings = (0..rids.len().max(1)).map(|number| Encoding::new(number as u8, random));
        let mut publisher = Self {
            session,
            wire,
            sections: vec![Section::camera("camera", rids)],
            rids: rids.iter().map(ToString::to_string).collect(),
            encodings: encodings.collect(),
            begun: Instant::now(),
            last: Duration::ZERO,
            generation: 0,
            remote: None,
        };
        publisher.offer().await;
        publisher.wire.connected().await;
        let connected = ConnectionState::Connected;
        let role = ConnectionRole::Publisher;
        publisher.session.connection(role, connected).await;
        publisher
    }

    /// From now on its packets are so many bytes longer.
    pub(crate) fn fill(&mut self, bytes: usize) {
        self.encodings
            .iter_mut()
            .for_each(|encoding| encoding.fill(bytes));
    }

    /// From now on it has a microphone as well; answers its track and mid.
    pub(crate) async fn add_microphone(&mut self) -> (String, String) {
        let (track, mid) = ("TR_microphone".to_owned(), self.sections.len().to_string());
        let announced = control::microphone(&track, "microphone");
        self.session.add_track(announced).await;
        self.sections.push(Section::microphone("microphone"));
        self.offer().await;
        (track, mid)
    }

    /// Offers what it sends, and checks the end that the answer names.
    pub(crate) async fn offer(&mut self) {
        let offer = sdp::offer(self.wire.local(), &self.sections);
        let answer = self.session.offer(&offer).await;
        let remote = sdp::remote(&answer.sdp);
        self.wire.connect(remote.clone());
        self.remote = Some(remote);
    }

    /// The node's end, as it was last told.
    pub(crate) fn remote(&self) -> &Remote {
        self.remote.as_ref().expect("it has made an offer")
    }

    /// The SSRC of an encoding, and that of its retransmissions.
    pub(crate) fn ssrc(encoding: u8) -> u32 {
        0x1000 + u32::from(encoding)
    }

    pub(crate) fn repair_ssrc(encoding: u8) -> u32 {
        0x2000 + u32::from(encoding)
    }

    /// From now on it sends under other SSRCs.
    pub(crate) fn change_ssrcs(&mut self) {
        self.generation += 1;
        self.encodings
            .iter_mut()
            .for_each(Encoding::restart_rollover);
    }

    /// How often the node has asked for a key frame of the first encoding.
    pub(crate) fn key_frames_asked(&self) -> usize {
        let received = self.wire.received();
        let messages = received.rtcp.iter();
        let messages = messages.flat_map(|packet| Messages::new(&packet.compound));
        let requests = messages.filter(|message| match message {
            Message::PictureLoss { media_ssrc } => *media_ssrc == Self::ssrc(0),
            _ => false,
        });
        requests.count()
    }

    /// Sends a frame of every encoding; answers how many packets that were.
    pub(crate) fn send_frames(&mut self, are_key: bool) -> usize {
        self.advance();
        let mut packets = 0;
        for encoding in 0..self.encodings.len() as u8 {
            for packet in self.make_frame(encoding, are_key) {
                self.send(encoding, packet);
                packets += 1;
            }
        }
        packets
    }

    /// The next frame's moment has come.
    pub(crate) fn advance(&mut self) {
        self.last = self.begun.elapsed().max(self.last + FRAME);
    }

    /// The network swallows so many packets of an encoding.
    pub(crate) fn skip(&mut self, encoding: u8, packets: u64) {
        self.encodings[usize::from(encoding)].skip(packets);
    }

    /// A frame of one encoding, not sent.
    pub(crate) fn make_frame(&mut self, encoding: u8, is_key: bool) -> Vec<Packet> {
        self.encodings[usize::from(encoding)].frame(self.last, is_key)
    }

    pub(crate) fn send(&self, encoding: u8, packet: Packet) {
        self.wire.send(self.outgoing(encoding, packet));
    }

    /// A packet as it is sent.
    pub(crate) fn outgoing(&self, encoding: u8, packet: Packet) -> Outgoing {
        Outgoing {
            ssrc: Self::ssrc(encoding) + (self.generation << 16),
            index: packet.index,
            payload_type: VP8,
            marker: packet.marker,
            timestamp: packet.timestamp,
            extensions: self.names(encoding, extension::RID),
            payload: packet.payload,
            padding: 0,
        }
    }

    /// Sends a packet as the `index`th retransmission of its encoding (RFC 4588).
    pub(crate) fn repair(&self, encoding: u8, index: u64, packet: Packet) {
        let original = packet.index as u16;
        self.wire.send(Outgoing {
            ssrc: Self::repair_ssrc(encoding),
            index,
            payload_type: VP8_REPAIR,
            marker: packet.marker,
            timestamp: packet.timestamp,
            extensions: self.names(encoding, extension::REPAIRED_RID),
            payload: [&original.to_be_bytes()[..], &packet.payload].concat(),
            padding: 0,
        });
    }

    /// What names an encoding; browsers stop sending it when they have got a report.
    fn names(&self, encoding: u8, rid_id: u8) -> Vec<(u8, Vec<u8>)> {
        let rid = self.rids.get(usize::from(encoding));
        let rid = rid.map(|rid| (rid_id, rid.clone().into_bytes()));
        let mid = (extension::MID, b"0".to_vec());
        [Some(mid), rid].into_iter().flatten().collect()
    }
}

/// What a publisher's camera is called.
pub(crate) fn track(name: &str) -> String {
    format!("TR_{name}")
}
