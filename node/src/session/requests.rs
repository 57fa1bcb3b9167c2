//! Each request of signaling, carried out or refused by name.

use std::collections::BTreeSet;
use std::time::Instant;

use pipemesh_node_core::router::LayerWish;
use pipemesh_node_core::track::Size;
use pipemesh_proto::ids::TrackId;
use pipemesh_proto::node::session_event::Event as Told;
use pipemesh_proto::node::session_request::Request;
use pipemesh_proto::node::{
    self as contract, AddTrack, AnswerCreated, ClientAnswer, ClientOffer, Code, ConnectionRole,
    Done,
};

use super::ice::Credentials;
use super::sdp::{Exchange, Msid, Outgoing, Publication, SdpError, TrackError, codec_of_mime_type};
use super::{Effect, Far, Published, Refusal, Session, data_rights, media_kind};
use crate::pipe::Elsewhere;
use crate::shard::{Command, Role};

/// Nodes over which a room can spread and still be heard everywhere.
const MAX_NODES: usize = 1024;
/// Longest data packet signaling may send, what a data channel takes.
const MAX_PACKET: usize = super::sctp::MAX_MESSAGE;

impl Session {
    /// Carries a request out; exactly one event answers it.
    pub(crate) fn handle_request(&mut self, request_id: u64, request: Request, now: Instant) {
        let outcome = match request {
            Request::Offer(offer) => return self.handle_offer(request_id, &offer, now),
            Request::Close(close) => return self.close(request_id, close.reason(), ""),
            Request::Open(_) | Request::Attach(_) => {
                Err(Refusal::invalid("open and attach only begin a stream"))
            }
            Request::Answer(answer) => self.handle_answer(&answer),
            Request::Trickle(trickle) => check_candidate(&trickle.candidate),
            Request::AddTrack(track) => self.add_track(track),
            Request::RemoveTrack(remove) => self.remove_track(&remove.track_id),
            Request::Subscribe(subscribe) => self.subscribe(subscribe, now),
            Request::Unsubscribe(unsubscribe) => self.unsubscribe(&unsubscribe.track_id, now),
            Request::MuteTrack(mute) => self.mute_track(&mute.track_id, mute.muted),
            Request::RestartIce(restart) => self.restart_ice(restart.connection()),
            Request::SendData(data) => self.send_data(data),
            Request::HearNodes(hear) => self.hear_nodes(&hear.node_ids),
            Request::Configure(configure) => {
                let (session, rights) = (self.identity.key, data_rights(configure.data));
                self.identity.open.data = configure.data;
                self.command(Command::SetDataRights { session, rights });
                Ok(())
            }
        };
        match outcome {
            Ok(()) => self.answer(request_id, Told::Done(Done {})),
            Err(refusal) => self.refuse(request_id, refusal),
        }
    }

    fn handle_offer(&mut self, request_id: u64, offer: &ClientOffer, now: Instant) {
        let mut restarted = None;
        let (shard, mut rng) = (self.identity.shard, self.rng());
        let answer = self.publisher.handle_offer(&offer.sdp, || {
            let credentials = Credentials::generate(shard, &mut rng);
            restarted = Some(credentials.clone());
            credentials
        });
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => return self.refuse(request_id, error.into()),
        };
        if let Some(credentials) = restarted {
            let (session, role) = (self.identity.key, Role::Publisher);
            self.command(Command::RestartIce {
                session,
                role,
                credentials,
            });
        }
        let created = AnswerCreated {
            sdp: answer.sdp,
            offer_id: offer.offer_id,
            mid_to_track: answer.exchange.mid_to_track.clone().into_iter().collect(),
        };
        self.sections_needed = None;
        self.answer(request_id, Told::AnswerCreated(created));
        self.follow(answer.exchange);
        self.apply(Role::Publisher);
        if self.subscriber.is_none() {
            self.negotiate(now);
        }
    }

    fn handle_answer(&mut self, answer: &ClientAnswer) -> Result<(), Refusal> {
        let Some(offerer) = &mut self.subscriber else {
            return Err(Refusal::new(
                Code::ConnectionState,
                "the session has one connection, on which the client makes the offers",
            ));
        };
        let Some(exchange) = offerer.handle_answer(answer.offer_id, &answer.sdp)? else {
            return Ok(()); // to an older offer
        };
        self.outstanding = None;
        self.follow(exchange);
        self.apply(Role::Subscriber);
        // What changed while the client was answering.
        self.offer_at = None;
        self.offer();
        Ok(())
    }

    /// Starts and ends the tracks that an exchange did.
    fn follow(&mut self, exchange: Exchange) {
        for track in &exchange.ended {
            self.end_track(track, true);
        }
        for started in exchange.started {
            self.start_track(started);
        }
        for track in &exchange.unsupported {
            let participant = &self.identity.participant;
            tracing::debug!(%participant, %track, "the client has no codec for a track it is to be sent");
        }
    }

    fn add_track(&mut self, announced: AddTrack) -> Result<(), Refusal> {
        let track = track_id(&announced.track_id)?;
        if announced.client_track_id.is_empty() {
            return Err(Refusal::invalid("client_track_id is empty"));
        }
        let kind = media_kind(announced.kind())
            .ok_or_else(|| Refusal::invalid("kind is neither audio nor video"))?;
        let publication = Publication {
            track: track.clone(),
            client_track: announced.client_track_id.clone(),
            kind,
            // What is not served cannot be chosen.
            codecs: announced
                .codecs
                .iter()
                .filter_map(|mime| codec_of_mime_type(mime))
                .collect(),
            rids: announced
                .layers
                .iter()
                .map(|layer| layer.rid.clone())
                .collect(),
            stereo: announced.stereo,
            dtx: announced.dtx,
            red: announced.red,
        };
        let started = self.publisher.announce(publication)?;
        self.published.insert(
            track,
            Published {
                announced,
                started: None,
                demand: None,
            },
        );
        if let Some(started) = started {
            self.start_track(started);
            self.apply(Role::Publisher);
        }
        Ok(())
    }

    fn remove_track(&mut self, id: &str) -> Result<(), Refusal> {
        let track = track_id(id)?;
        if !self.publisher.withdraw(&track) {
            return Err(unknown(&track));
        }
        self.end_track(&track, false);
        self.published.remove(&track);
        self.apply(Role::Publisher);
        Ok(())
    }

    fn subscribe(&mut self, subscribe: contract::Subscribe, now: Instant) -> Result<(), Refusal> {
        let track = track_id(&subscribe.track_id)?;
        let elsewhere = self.elsewhere(&subscribe)?;
        if self.subscriptions.contains_key(&track) {
            // What is not known yet is wished for once it is.
            let far = self.elsewhere.get(&track);
            if far.is_none_or(|far| far.generation.is_some()) {
                self.wish(&track, &subscribe);
            }
        } else if let Some(elsewhere) = elsewhere {
            let far = Far {
                session: elsewhere.session.clone(),
                generation: None,
            };
            self.elsewhere.insert(track.clone(), far);
            self.effects.push(Effect::Want(track.clone(), elsewhere));
        } else {
            self.begin_subscription(&track, &subscribe, now)?;
        }
        self.subscriptions.insert(track, Box::new(subscribe));
        Ok(())
    }

    /// Where a track is published, if that is not here.
    fn elsewhere(&self, subscribe: &contract::Subscribe) -> Result<Option<Elsewhere>, Refusal> {
        let own = &self.identity.opened.node_id;
        let Some(origin) = subscribe
            .origin
            .as_ref()
            .filter(|origin| !origin.node_id.is_empty() && origin.node_id != *own)
        else {
            return Ok(None);
        };
        if !self.identity.has_pipes {
            let message = format!(
                "the track is on node {}: this one has no pipes",
                origin.node_id
            );
            return Err(Refusal::new(Code::Unimplemented, message));
        }
        let node = origin.node_id.parse().map_err(|error| {
            Refusal::invalid(format!("origin.node_id {:?} {error}", origin.node_id))
        })?;
        let session = origin.session_id.parse().map_err(|error| {
            Refusal::invalid(format!("origin.session_id {:?} {error}", origin.session_id))
        })?;
        Ok(Some(Elsewhere {
            node,
            session,
            room: self.identity.room.clone(),
        }))
    }

    /// Has a track that is known negotiated and sent.
    pub(super) fn begin_subscription(
        &mut self,
        track: &TrackId,
        subscribe: &contract::Subscribe,
        now: Instant,
    ) -> Result<(), Refusal> {
        self.add_outgoing(track, subscribe)?;
        self.negotiate(now);
        self.wish(track, subscribe);
        Ok(())
    }

    fn wish(&mut self, track: &TrackId, subscribe: &contract::Subscribe) {
        let session = self.identity.key;
        self.command(Command::Subscribe {
            session,
            track: track.clone(),
            origin: self.tracks.get(track).map(|entry| entry.origin),
            wish: layer_wish(subscribe.wish.unwrap_or_default()),
        });
    }

    fn hear_nodes(&mut self, nodes: &[String]) -> Result<(), Refusal> {
        if !self.identity.has_pipes {
            return Err(Refusal::new(
                Code::Unimplemented,
                "this node has no pipes to others",
            ));
        }
        if nodes.len() > MAX_NODES {
            let message = format!(
                "node_ids has {}, at most {MAX_NODES} are heard",
                nodes.len()
            );
            return Err(Refusal::new(Code::Limit, message));
        }
        let own = &self.identity.opened.node_id;
        let mut others = BTreeSet::new();
        for node in nodes.iter().filter(|node| *node != own) {
            let id = node.parse().map_err(|error| {
                Refusal::invalid(format!("node_ids has {node:?}, which {error}"))
            })?;
            others.insert(id);
        }
        self.effects.push(Effect::Hear(others));
        Ok(())
    }

    fn add_outgoing(
        &mut self,
        track: &TrackId,
        asked: &contract::Subscribe,
    ) -> Result<(), Refusal> {
        let entry = self
            .tracks
            .get(track)
            .filter(|entry| entry.room == self.identity.room);
        let entry = entry.ok_or_else(|| unknown(track))?;
        if entry.session == self.identity.session {
            return Err(Refusal::invalid(
                "a session cannot subscribe to its own track",
            ));
        }
        let msid = Msid::new(&asked.msid_stream, &asked.msid_track)
            .map_err(|error| Refusal::invalid(format!("msid_stream or msid_track: {error}")))?;
        let red = !self.identity.open.without_red;
        let outgoing = Outgoing {
            track: track.clone(),
            format: entry.format,
            msid,
            red,
        };
        let rng = &mut self.rng();
        match &mut self.subscriber {
            Some(offerer) => offerer.add_outgoing(outgoing, rng)?,
            None => self.publisher.add_outgoing(outgoing, rng)?,
        }
        Ok(())
    }

    fn unsubscribe(&mut self, id: &str, now: Instant) -> Result<(), Refusal> {
        let track = track_id(id)?;
        if self.subscriptions.remove(&track).is_none() {
            return Err(unknown(&track));
        }
        self.unwant(&track);
        let session = self.identity.key;
        self.command(Command::Unsubscribe {
            session,
            track: track.clone(),
        });
        self.remove_outgoing(&track, now);
        Ok(())
    }

    fn mute_track(&mut self, id: &str, muted: bool) -> Result<(), Refusal> {
        let track = track_id(id)?;
        let Some(published) = self.published.get_mut(&track) else {
            return Err(unknown(&track));
        };
        published.announced.muted = muted;
        let session = self.identity.key;
        self.command(Command::SetMuted {
            session,
            track,
            muted,
        });
        Ok(())
    }

    fn restart_ice(&mut self, connection: ConnectionRole) -> Result<(), Refusal> {
        let mut rng = self.rng();
        let (ConnectionRole::Subscriber, Some(offerer)) = (connection, &mut self.subscriber) else {
            return Err(Refusal::new(
                Code::ConnectionState,
                "the client restarts this connection by its own offer",
            ));
        };
        let credentials = Credentials::generate(self.identity.shard, &mut rng);
        offerer.restart(credentials.clone());
        let (session, role) = (self.identity.key, Role::Subscriber);
        self.command(Command::RestartIce {
            session,
            role,
            credentials,
        });
        self.offer_at = None;
        self.offer();
        Ok(())
    }

    fn send_data(&mut self, data: contract::SendData) -> Result<(), Refusal> {
        if data.packet.len() > MAX_PACKET {
            return Err(Refusal::new(
                Code::Limit,
                format!(
                    "the packet has {} bytes, at most {MAX_PACKET} are sent",
                    data.packet.len()
                ),
            ));
        }
        let session = self.identity.key;
        self.command(Command::SendData {
            session,
            packet: data.packet,
            reliable: data.reliable,
        });
        Ok(())
    }
}

impl From<SdpError> for Refusal {
    fn from(error: SdpError) -> Self {
        Self::new(Code::SdpUnacceptable, error.to_string())
    }
}

impl From<TrackError> for Refusal {
    fn from(error: TrackError) -> Self {
        let code = match error {
            TrackError::Exists => Code::TrackExists,
            TrackError::Limit { .. } | TrackError::PayloadTypes => Code::Limit,
        };
        Self::new(code, error.to_string())
    }
}

fn track_id(text: &str) -> Result<TrackId, Refusal> {
    text.parse()
        .map_err(|error| Refusal::invalid(format!("track_id {text:?} {error}")))
}

fn unknown(track: &TrackId) -> Refusal {
    Refusal::new(Code::TrackNotFound, format!("there is no track {track}"))
}

fn layer_wish(wish: contract::LayerWish) -> LayerWish {
    LayerWish {
        paused: wish.paused,
        view: Size {
            width: wish.width,
            height: wish.height,
        },
        frames_per_second: wish.frames_per_second,
        priority: wish.priority,
        spatial_layers: wish.spatial_layers.min(u32::from(u8::MAX)) as u8,
    }
}

/// RFC 8839 section 5.1: `candidate:` and at least eight fields. Empty: there are no more.
fn check_candidate(candidate: &str) -> Result<(), Refusal> {
    let Some(fields) = candidate.strip_prefix("candidate:") else {
        return if candidate.is_empty() {
            Ok(())
        } else {
            Err(Refusal::invalid(
                "candidate does not begin with \"candidate:\"",
            ))
        };
    };
    if fields.split_ascii_whitespace().count() < 8 {
        return Err(Refusal::invalid("candidate has fewer than eight fields"));
    }
    Ok(())
}
