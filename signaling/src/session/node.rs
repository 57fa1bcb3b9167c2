//! What comes from the node: answers, media that starts and stops, connections that come and go.

use std::collections::BTreeMap;
use std::time::Instant;

use livekit_protocol::leave_request::Action;
use livekit_protocol::participant_info::State;
use livekit_protocol::request_response::Reason;
use livekit_protocol::signal_response::Message;
use livekit_protocol::{
    DisconnectReason, MediaSectionsRequirement, TrackSubscribed, TrackUnpublishedResponse,
};
use pipemesh_proto::node::session_event::Event;
use pipemesh_proto::node::session_request::Request;
use pipemesh_proto::node::{
    self as contract, CloseReason, Code, ConnectionLayout, ConnectionRole, ConnectionState,
    SessionEvent,
};

use super::link::Asked;
use super::{CONNECT_LIMIT, FIRST_SOCKET, Fate, MEDIA_GRACE, Phase, Session, Socket};
use crate::livekit::message;
use crate::rooms::record::Presence;

/// Speakers at a time that are remembered for clients that resume. More are told and forgotten.
const MAX_SPEAKERS: usize = 256;

/// What is being negotiated, to be said again to a client or a node that may not have heard it.
#[derive(Debug, Default)]
pub(super) struct Negotiation {
    /// The node's offer that the client has not answered.
    pub(super) offer: Option<contract::OfferCreated>,
    /// The client's answer that the node has not acknowledged.
    pub(super) answer: Option<contract::ClientAnswer>,
    /// The client's offer that the node has not answered.
    pub(super) client_offer: Option<contract::ClientOffer>,
    /// Sections the client was asked for; its next offer settles it.
    pub(super) sections: Option<contract::SectionsNeeded>,
    /// Who speaks, as far as clients are told.
    speakers: BTreeMap<String, contract::Speaker>,
}

impl Session {
    pub(crate) fn handle_node(&mut self, event: SessionEvent, now: Instant) {
        let asked = match event.request_id {
            0 => None,
            id => self.link.answered(id),
        };
        let Some(event) = event.event else {
            // An event of a later contract.
            return;
        };
        match self.phase {
            Phase::Opening | Phase::Open | Phase::Moving => {}
            Phase::Rejoining | Phase::Elsewhere | Phase::Ended => return,
        }
        match event {
            Event::Opened(_) => self.handle_opened(now),
            Event::Done(_) => self.handle_done(asked.as_ref()),
            Event::Refused(refused) => self.handle_refused(asked, &refused, now),
            Event::AnswerCreated(created) => self.handle_answer_created(created, now),
            Event::OfferCreated(created) => self.handle_offer_created(created, now),
            Event::SectionsNeeded(needed) => self.handle_sections_needed(needed),
            Event::TrackStarted(started) => {
                if self.publications.handle_started(&started) {
                    self.publish_tracks();
                }
            }
            Event::TrackLayers(layers) => {
                if self.publications.handle_layers(&layers) {
                    self.publish_tracks();
                }
            }
            Event::TrackEnded(ended) => self.handle_track_ended(&ended.track_id),
            Event::TrackSubscribed(subscribed) => self.handle_track_subscribed(subscribed),
            Event::TrackDemandChanged(demand) => self.handle_demand(demand),
            Event::SubscriptionPaused(changed) => {
                let (track, paused) = (&changed.track_id, changed.paused);
                self.subscriptions
                    .handle_paused(track, paused, &mut self.outbox);
            }
            Event::SubscriptionEnded(ended) => {
                self.subscriptions.handle_ended(&ended.track_id, &self.link)
            }
            Event::ConnectionChanged(changed) => self.handle_connection(changed, now),
            Event::SpeakersChanged(changed) => self.handle_speakers(changed.speakers),
            Event::QualityChanged(changed) => self.handle_quality(changed.participants),
            Event::Closed(closed) => self.handle_closed(closed.reason(), now),
            // The answer to an attach, which the driver waits for.
            Event::Snapshot(_) => {}
        }
    }

    /// The stream to the node broke; it is being restored.
    pub(crate) fn handle_node_broken(&mut self) {
        self.link.break_off();
    }

    /// The stream stands again, and this is what the node has.
    pub(crate) fn handle_snapshot(&mut self, snapshot: contract::Snapshot, now: Instant) {
        match self.phase {
            Phase::Open | Phase::Moving => self.link.restore(),
            Phase::Rejoining => {
                self.link.restore();
                return self.link.close(CloseReason::Moved);
            }
            Phase::Opening | Phase::Elsewhere | Phase::Ended => return,
        }
        let (requests, changed) = self.publications.reconcile(&snapshot.tracks);
        for request in requests {
            self.ask_about_track(request);
        }
        if changed {
            self.publish_tracks();
        }
        for demand in snapshot.tracks.into_iter().filter_map(|track| track.demand) {
            self.handle_demand(demand);
        }
        self.subscriptions.reconcile(
            &snapshot.subscriptions,
            &snapshot.paused_tracks,
            &mut self.link,
            &mut self.outbox,
        );
        self.hearing.reconcile(&mut self.link);
        for connection in snapshot.connections {
            self.handle_connection(connection, now);
        }
        if let Some(offer) = self.negotiation.client_offer.clone() {
            self.link.ask(Asked::Offer, Request::Offer(offer));
        }
        let outstanding = snapshot.outstanding_offer;
        let answered = self.negotiation.answer.clone();
        match (outstanding, answered) {
            (Some(offer), Some(answer)) if offer.offer_id == answer.offer_id => {
                self.link.ask(Asked::Answer, Request::Answer(answer));
            }
            (Some(offer), _) => {
                let known = self.negotiation.offer.as_ref().map(|known| known.offer_id);
                if known != Some(offer.offer_id) {
                    self.handle_offer_created(offer, now);
                }
            }
            (None, _) => {
                self.negotiation.offer = None;
                self.negotiation.answer = None;
            }
        }
        let silent = std::mem::take(&mut self.negotiation.speakers).into_values();
        let silent = silent.map(|speaker| contract::Speaker {
            active: false,
            level: 0.0,
            ..speaker
        });
        self.handle_speakers(silent.chain(snapshot.speakers).collect());
    }

    /// The node, or what it knew of the session, is gone.
    pub(crate) fn handle_node_lost(&mut self, now: Instant) {
        match self.phase {
            Phase::Open | Phase::Moving => {
                self.rejoin(DisconnectReason::StateMismatch, None, now);
            }
            Phase::Opening => self.end(None, Fate::Remove),
            Phase::Rejoining | Phase::Elsewhere | Phase::Ended => {}
        }
    }

    /// Says to a client what it has to react to and may not have heard.
    pub(super) fn say_negotiation(&mut self) {
        if let Some(offer) = self.negotiation.offer.clone() {
            self.outbox.say(message::offer(offer));
        }
        if let Some(needed) = self.negotiation.sections {
            self.say_sections(needed);
        }
    }

    pub(super) fn say_active_speakers(&mut self) {
        let speakers: Vec<_> = self.negotiation.speakers.values().cloned().collect();
        if !speakers.is_empty() {
            self.outbox.say(message::speakers(speakers));
        }
    }

    fn handle_opened(&mut self, now: Instant) {
        if self.phase != Phase::Opening {
            return;
        }
        self.phase = Phase::Open;
        self.socket = Socket::Awaited(Some(now + FIRST_SOCKET));
        self.deadlines.connect = Some(now + CONNECT_LIMIT);
        self.set_presence(Presence::Here);
        self.set_state(State::Joined);
    }

    fn handle_done(&mut self, asked: Option<&Asked>) {
        if asked == Some(&Asked::Answer) {
            self.negotiation.answer = None;
        }
    }

    fn handle_refused(&mut self, asked: Option<Asked>, refused: &contract::Refused, now: Instant) {
        let (code, text) = (refused.code(), &refused.message);
        match asked {
            Some(Asked::Open) => return self.end(None, Fate::Remove),
            Some(Asked::AddTrack(id)) => {
                tracing::warn!(?code, text, track = %id, "the node refused a track");
                self.handle_track_ended(id.as_str());
                let track_sid = id.to_string();
                let unpublished = TrackUnpublishedResponse { track_sid };
                self.outbox.say(Message::TrackUnpublished(unpublished));
            }
            Some(Asked::Subscribe(id)) => {
                tracing::debug!(?code, text, track = %id, "the node refused a subscription");
                self.subscriptions
                    .handle_refused(&id, code, &self.link, &mut self.outbox);
            }
            // What was negotiated before goes on. A client that cannot do without what it offered
            // notices that no answer comes, and joins anew.
            Some(Asked::Offer) => {
                tracing::warn!(?code, text, "the node refused the client's offer");
                self.negotiation.client_offer = None;
                self.respond(0, Reason::InvalidRequest, &format!("offer: {text}"), None);
            }
            Some(Asked::Answer) => {
                tracing::warn!(?code, text, "the node refused the client's answer");
                self.negotiation.answer = None;
                self.respond(0, Reason::InvalidRequest, &format!("answer: {text}"), None);
            }
            // There is nothing to restart yet: the offer that is outstanding will do.
            Some(Asked::RestartIce) => self.say_negotiation(),
            Some(Asked::Other) | None => tracing::debug!(?code, text, "the node refused"),
        }
        if code == Code::Internal {
            self.rejoin(DisconnectReason::StateMismatch, None, now);
        }
    }

    fn handle_answer_created(&mut self, created: contract::AnswerCreated, now: Instant) {
        let asked = self.negotiation.client_offer.as_ref();
        if asked.is_some_and(|offer| offer.offer_id == created.offer_id) {
            self.negotiation.client_offer = None;
        }
        self.tell_before(created.mid_to_track.values(), now);
        self.outbox.say(message::answer(created));
    }

    fn handle_offer_created(&mut self, created: contract::OfferCreated, now: Instant) {
        if self.layout != ConnectionLayout::Dual {
            return;
        }
        self.tell_before(created.mid_to_track.values(), now);
        self.negotiation.offer = Some(created.clone());
        if self.outbox.is_attached() {
            self.outbox.say(message::offer(created));
        }
    }

    fn handle_sections_needed(&mut self, needed: contract::SectionsNeeded) {
        if self.layout != ConnectionLayout::Single {
            return;
        }
        self.negotiation.sections = Some(needed);
        if self.outbox.is_attached() {
            self.say_sections(needed);
        }
    }

    fn say_sections(&mut self, needed: contract::SectionsNeeded) {
        let requirement = MediaSectionsRequirement {
            num_audios: needed.audio,
            num_videos: needed.video,
        };
        self.outbox
            .say(Message::MediaSectionsRequirement(requirement));
    }

    /// A client must know of a track before its media comes.
    fn tell_before<'a>(&mut self, tracks: impl IntoIterator<Item = &'a String>, now: Instant) {
        if let (Some(room), Some(myself), true) =
            (&self.room, &self.record.info, self.outbox.is_attached())
            && let Some(message) = self.updates.flush_for(tracks, room, myself, now)
        {
            self.outbox.say(message);
        }
    }

    pub(super) fn handle_track_ended(&mut self, track_id: &str) {
        let Some((_, next)) = self.publications.remove(track_id) else {
            return;
        };
        if self.info().tracks.iter().any(|track| track.sid == track_id) {
            self.publish_tracks();
        }
        if let Some(request) = next {
            self.handle_add_track(&request);
        }
    }

    fn handle_track_subscribed(&mut self, subscribed: contract::TrackSubscribed) {
        if self.publications.is_known(&subscribed.track_id)
            && self.client.supports_request_response()
        {
            let track_sid = subscribed.track_id;
            self.outbox
                .say(Message::TrackSubscribed(TrackSubscribed { track_sid }));
        }
    }

    fn handle_demand(&mut self, demand: contract::TrackDemandChanged) {
        if let Some(update) = self.publications.handle_demand(demand) {
            self.outbox.say(Message::SubscribedQualityUpdate(update));
        }
    }

    /// What is wanted of the client's tracks, to a client that may not have heard it.
    pub(super) fn say_demands(&mut self) {
        for update in self.publications.demands() {
            self.outbox.say(Message::SubscribedQualityUpdate(update));
        }
    }

    fn handle_connection(&mut self, changed: contract::ConnectionChanged, now: Instant) {
        let primary = match self.subscriber_primary {
            true => ConnectionRole::Subscriber,
            false => ConnectionRole::Publisher,
        };
        match changed.state() {
            ConnectionState::Connected => {
                self.deadlines.media = None;
                if changed.connection() == primary {
                    self.connected = true;
                    self.set_state(State::Active);
                }
            }
            ConnectionState::Failed => {
                self.deadlines.media.get_or_insert(now + MEDIA_GRACE);
            }
            ConnectionState::New | ConnectionState::Interrupted | ConnectionState::Closed => {}
        }
    }

    fn handle_speakers(&mut self, changed: Vec<contract::Speaker>) {
        let speakers = &mut self.negotiation.speakers;
        for speaker in &changed {
            if speaker.active && speakers.len() < MAX_SPEAKERS {
                speakers.insert(speaker.participant_id.clone(), speaker.clone());
            } else {
                speakers.remove(&speaker.participant_id);
            }
        }
        let (id, updates) = (self.id.as_str(), &self.updates);
        let known = |sid: &str| sid == id || updates.knows(sid);
        let told: Vec<contract::Speaker> = changed
            .into_iter()
            .filter(|speaker| known(&speaker.participant_id))
            .collect();
        if !told.is_empty() && self.outbox.is_attached() {
            self.outbox.say(message::speakers(told));
        }
    }

    fn handle_quality(&mut self, changed: Vec<contract::ParticipantQuality>) {
        let (id, updates) = (self.id.as_str(), &self.updates);
        let known = |sid: &str| sid == id || updates.knows(sid);
        let told: Vec<contract::ParticipantQuality> = changed
            .into_iter()
            .filter(|one| known(&one.participant_id))
            .collect();
        if !told.is_empty() && self.outbox.is_attached() {
            self.outbox.say(message::quality(&self.client, told));
        }
    }

    fn handle_closed(&mut self, reason: CloseReason, now: Instant) {
        tracing::info!(?reason, "the node closed the session");
        match (reason, self.phase) {
            (_, Phase::Opening) => self.end(None, Fate::Remove),
            (CloseReason::TakenOver, Phase::Moving) => self.handle_taken_over(),
            (CloseReason::TakenOver, _) => {
                self.say_leave(DisconnectReason::Migration, Action::Resume);
                self.link.break_off();
                self.await_successor(Phase::Elsewhere, now);
            }
            _ => self.rejoin(DisconnectReason::StateMismatch, None, now),
        }
    }
}
