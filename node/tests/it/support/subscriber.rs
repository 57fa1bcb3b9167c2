//! A client that receives packet by packet, and keeps every one.

use pipemesh_proto::node::session_request::Request;
use pipemesh_proto::node::{
    ConnectionLayout, ConnectionRole, ConnectionState, LayerWish, OfferCreated, Open, RestartIce,
};

use super::camera::Mark;
use super::control::{self, Session, Signaling};
use super::recording::Recorded;
use super::sdp::{self, Sent};
use super::wire::{Received, RtpPacket, Wire};

pub(crate) struct Subscriber {
    pub(crate) session: Session,
    pub(crate) wire: Wire,
}

impl Subscriber {
    pub(crate) async fn join(signaling: &Signaling, room: &str, name: &str) -> Self {
        Self::join_over(Wire::new().await, signaling, room, name).await
    }

    pub(crate) async fn join_over(
        wire: Wire,
        signaling: &Signaling,
        room: &str,
        name: &str,
    ) -> Self {
        let open = control::participant(name, room, ConnectionLayout::Dual);
        Self::join_as(wire, signaling, open).await
    }

    /// `open`: with two connections.
    pub(crate) async fn join_as(wire: Wire, signaling: &Signaling, open: Open) -> Self {
        let session = signaling.open(open).await;
        let mut subscriber = Self { session, wire };
        let offer = subscriber.negotiate().await;
        subscriber.wire.connect(sdp::remote(&offer.sdp));
        subscriber.connected().await;
        subscriber
    }

    pub(crate) async fn connected(&mut self) {
        self.wire.connected().await;
        let (role, state) = (ConnectionRole::Subscriber, ConnectionState::Connected);
        self.session.connection(role, state).await;
    }

    /// Accepts the node's next offer.
    pub(crate) async fn negotiate(&mut self) -> OfferCreated {
        let offer = self.session.next_offer().await;
        let answer = sdp::answer(self.wire.local(), &offer.sdp);
        self.session.accept(offer.offer_id, answer).await;
        offer
    }

    /// Subscribes, and accepts the offer that follows.
    pub(crate) async fn subscribe(&mut self, track: &str, wish: LayerWish) -> Sent {
        self.session.subscribe(track, wish).await;
        let offer = self.negotiate().await;
        sent(&offer, track)
    }

    /// The same for a track of another node, published by this session there.
    pub(crate) async fn subscribe_at(
        &mut self,
        track: &str,
        origin: (&str, &str),
        wish: LayerWish,
    ) -> Sent {
        self.session.subscribe_at(track, origin, wish).await;
        let offer = self.negotiate().await;
        sent(&offer, track)
    }

    /// Unsubscribes, and accepts the offer that follows.
    pub(crate) async fn unsubscribe(&mut self, track: &str) {
        self.session.unsubscribe(track).await;
        self.negotiate().await;
    }

    /// Goes on from another port, as after a change of network.
    pub(crate) async fn change_port(&mut self) {
        let consents = self.wire.received().consents;
        self.wire.change_port().await;
        self.wire.answered_since(consents).await;
    }

    /// Signaling has ICE restarted, and the client goes along, from another port.
    pub(crate) async fn restart_ice(&mut self) {
        let restart = RestartIce {
            connection: ConnectionRole::Subscriber.into(),
        };
        self.session.done(Request::RestartIce(restart)).await;
        self.wire.restart();
        self.wire.change_port().await;
        let consents = self.wire.received().consents;
        let offer = self.negotiate().await;
        self.wire.connect(sdp::remote(&offer.sdp));
        self.wire.answered_since(consents).await;
    }

    /// What has come under an SSRC, in the order it was sent in.
    pub(crate) fn recorded(&self, ssrc: u32) -> Vec<Recorded> {
        let received = self.wire.received();
        let of_stream = received.rtp.iter().filter(|packet| packet.ssrc == ssrc);
        let mut recorded: Vec<_> = of_stream.map(record).collect();
        recorded.sort_by_key(|packet| packet.index);
        recorded
    }

    /// Waits for the end of a camera's frame.
    pub(crate) async fn frame(&self, ssrc: u32, encoding: u8, frame: u32) {
        let is_it = |packet: &&RtpPacket| {
            packet.ssrc == ssrc && packet.marker && {
                let mark = Mark::read(&packet.payload);
                (mark.encoding, mark.frame) == (encoding, frame)
            }
        };
        let what = format!("frame {frame} of encoding {encoding}");
        let look = |received: &Received| received.rtp.iter().rev().find(is_it).map(drop);
        self.wire.until(&what, look).await;
    }
}

/// The stream that an offer says a track is sent as.
pub(crate) fn sent(offer: &OfferCreated, track: &str) -> Sent {
    let mut mids = offer.mid_to_track.iter();
    let (mid, _) = mids
        .find(|(_, carried)| *carried == track)
        .unwrap_or_else(|| panic!("{track} is not in {:?}", offer.mid_to_track));
    sdp::streams(&offer.sdp)[mid]
}

fn record(packet: &RtpPacket) -> Recorded {
    Recorded {
        index: packet.index,
        timestamp: packet.timestamp,
        mark: Mark::read(&packet.payload),
    }
}
