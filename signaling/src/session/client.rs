//! What comes from the client. Nothing here is trusted: what is not allowed is refused, what makes
//! no sense is ignored, and nothing of it reaches the node unchecked.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use livekit_protocol::request_response::{Reason, Request as Subject};
use livekit_protocol::signal_request::Message as FromClient;
use livekit_protocol::signal_response::Message;
use livekit_protocol::simulate_scenario::Scenario;
use livekit_protocol::{
    AddTrackRequest, DisconnectReason, MuteTrackRequest, Pong, SessionDescription, SignalTarget,
    SubscriptionPermission, SyncState, TrackInfo, TrackPublishedResponse, TrickleRequest,
    UpdateLocalAudioTrack, UpdateParticipantMetadata, UpdateParticipantRequest,
    UpdateTrackSettings,
};
use pipemesh_proto::node::session_request::Request;
use pipemesh_proto::node::{self as contract, CloseReason, ConnectionLayout, ConnectionRole};

use super::link::Asked;
use super::publications::{Added, MAX_FEATURES, MAX_SIDE};
use super::{Fate, Phase, Session};
use crate::auth::RESERVED_ATTRIBUTES;
use crate::livekit::wish::Settings;
use crate::livekit::{message, track};

/// LiveKit's limits, in bytes.
pub(crate) const MAX_NAME: usize = 256;
pub(crate) const MAX_METADATA: usize = 512 << 10;
pub(crate) const MAX_ATTRIBUTES: usize = 64 << 10;

/// Entries of a publisher's permission.
const MAX_PERMISSIONS: usize = 10_000;

/// How loud a simulated speaker is.
const SIMULATED_LEVEL: f32 = 0.9;

impl Session {
    pub(crate) fn handle_client(&mut self, message: FromClient, now: Instant) {
        match message {
            // Whatever becomes of the session: without an answer a client takes its connection to be lost.
            FromClient::Ping(_) if self.phase != Phase::Ended => {
                self.outbox.say(Message::Pong(self.unix_ms(now)));
            }
            FromClient::PingReq(ping) if self.phase != Phase::Ended => {
                self.outbox.say(Message::PongResp(Pong {
                    last_ping_timestamp: ping.timestamp,
                    timestamp: self.unix_ms(now),
                }));
            }
            // A client that was told to join anew says goodbye to the old session; that ends nothing.
            FromClient::Leave(_) if self.phase == Phase::Moving => self.handle_gone(now),
            _ if !self.is_served() => {}
            FromClient::Offer(offer) => self.handle_offer(offer),
            FromClient::Answer(answer) => self.handle_answer(answer),
            FromClient::Trickle(trickle) => self.handle_trickle(&trickle),
            FromClient::AddTrack(request) => self.handle_add_track(&request),
            FromClient::Mute(mute) => self.handle_mute(mute),
            FromClient::Subscription(update) => {
                let tracks = &update.participant_tracks;
                let tracks = tracks.iter().flat_map(|of| &of.track_sids);
                let tracks = update.track_sids.iter().chain(tracks);
                let (link, outbox) = (&mut self.link, &mut self.outbox);
                self.subscriptions
                    .choose(tracks, update.subscribe, link, outbox);
            }
            FromClient::TrackSetting(settings) => self.handle_settings(&settings),
            FromClient::Leave(_) => self.end(Some(CloseReason::Left), Fate::Remove),
            FromClient::SubscriptionPermission(permission) => self.handle_permission(permission),
            FromClient::SyncState(state) => self.handle_sync_state(&state, now),
            FromClient::Simulate(simulate) => self.handle_simulate(simulate.scenario, now),
            // Answered above, or nobody is there to answer.
            FromClient::Ping(_) | FromClient::PingReq(_) => {}
            FromClient::UpdateMetadata(update) => self.handle_metadata(update, now),
            FromClient::UpdateAudioTrack(update) => self.handle_audio_track(update),
            FromClient::UpdateVideoTrack(update) => {
                let size = (update.width, update.height);
                if size.0.max(size.1) > MAX_SIDE {
                    let request = Subject::UpdateVideoTrack(update);
                    return self.respond(
                        0,
                        Reason::LimitExceeded,
                        "the video is too large",
                        request,
                    );
                }
                let resize = |track: &mut TrackInfo| (track.width, track.height) = size;
                let known = self.publications.update(&update.track_sid, resize);
                self.tell_update(known, Subject::UpdateVideoTrack(update));
            }
            // Superseded by update_video_track; the node sees what is sent.
            #[expect(deprecated, reason = "old clients send it")]
            FromClient::UpdateLayers(_) => {}
            // Data tracks and blobs are not offered, so nobody has any.
            FromClient::PublishDataTrackRequest(request) => {
                let request = Subject::PublishDataTrack(request);
                self.respond(
                    0,
                    Reason::NotAllowed,
                    "data tracks are not supported",
                    request,
                );
            }
            FromClient::UnpublishDataTrackRequest(_)
            | FromClient::UpdateDataSubscription(_)
            | FromClient::StoreDataBlobRequest(_)
            | FromClient::GetDataBlobRequest(_) => {}
        }
    }

    pub(super) fn handle_offer(&mut self, offer: SessionDescription) {
        let offer = contract::ClientOffer {
            sdp: offer.sdp,
            offer_id: offer.id,
        };
        self.negotiation.client_offer = Some(offer.clone());
        self.negotiation.sections = None;
        self.link.ask(Asked::Offer, Request::Offer(offer));
    }

    fn handle_answer(&mut self, answer: SessionDescription) {
        let Some(offer) = &self.negotiation.offer else {
            return;
        };
        // Older SDKs do not echo the id. An answer to an older offer is overtaken by the newer one.
        if answer.id != 0 && answer.id != offer.offer_id {
            return;
        }
        let answer = contract::ClientAnswer {
            sdp: answer.sdp,
            offer_id: offer.offer_id,
        };
        self.negotiation.offer = None;
        self.negotiation.answer = Some(answer.clone());
        self.link.ask(Asked::Answer, Request::Answer(answer));
    }

    fn handle_trickle(&mut self, trickle: &TrickleRequest) {
        #[derive(serde::Deserialize)]
        struct Candidate {
            candidate: String,
        }
        let connection = match (trickle.target(), self.layout) {
            (SignalTarget::Subscriber, ConnectionLayout::Dual) => ConnectionRole::Subscriber,
            _ => ConnectionRole::Publisher,
        };
        let candidate = match serde_json::from_str::<Candidate>(&trickle.candidate_init) {
            Ok(candidate) => candidate.candidate,
            Err(_) if trickle.r#final => String::new(),
            Err(_) => return,
        };
        let trickle = contract::Trickle {
            connection: connection.into(),
            candidate,
        };
        self.link.ask(Asked::Other, Request::Trickle(trickle));
    }

    pub(super) fn handle_add_track(&mut self, request: &AddTrackRequest) {
        let asked = || Subject::AddTrack(request.clone());
        if !self.rights.may_publish(request.source) {
            let text = "no permission to publish this source";
            return self.respond(0, Reason::NotAllowed, text, asked());
        }
        match self
            .publications
            .add(request, &self.client, &mut self.track_ids)
        {
            Added::New(info, ask) => {
                self.ask_about_track(Request::AddTrack(*ask));
                self.say_published(&request.cid, *info);
            }
            Added::Known(info) => self.say_published(&request.cid, *info),
            Added::Queued => self.respond(0, Reason::Queued, "", asked()),
            Added::Refused(reason, text) => self.respond(0, reason, &text, asked()),
        }
    }

    /// Asks for something whose answer is about one of our tracks.
    pub(super) fn ask_about_track(&mut self, request: Request) {
        let asked = match &request {
            Request::AddTrack(add) => {
                let id = add.track_id.parse();
                id.map_or(Asked::Other, Asked::AddTrack)
            }
            _ => Asked::Other,
        };
        self.link.ask(asked, request);
    }

    fn say_published(&mut self, cid: &str, info: TrackInfo) {
        self.outbox
            .say(Message::TrackPublished(TrackPublishedResponse {
                cid: cid.to_owned(),
                track: Some(info),
            }));
    }

    fn handle_mute(&mut self, mute: MuteTrackRequest) {
        let Some(changed) = self.publications.set_muted(&mute.sid, mute.muted) else {
            return self.respond(0, Reason::NotFound, "no such track", Subject::Mute(mute));
        };
        let request = contract::MuteTrack {
            track_id: mute.sid,
            muted: mute.muted,
        };
        self.ask_about_track(Request::MuteTrack(request));
        if changed {
            self.publish_tracks();
        }
    }

    fn handle_settings(&mut self, update: &UpdateTrackSettings) {
        let settings = Settings::from(update);
        let (link, outbox) = (&mut self.link, &mut self.outbox);
        self.subscriptions
            .set(&update.track_sids, settings, link, outbox);
    }

    fn handle_permission(&mut self, permission: SubscriptionPermission) {
        // Everybody may receive everything: that is also what no permission says.
        let mut permission = (!permission.all_participants).then_some(permission);
        if let Some(permission) = &mut permission {
            let entries = &permission.track_permissions;
            let tracks = entries.iter().map(|entry| entry.track_sids.len());
            if entries.len() + tracks.sum::<usize>() > MAX_PERMISSIONS {
                // What is not understood must not leave more open than what is.
                permission.track_permissions.clear();
                let text = "too many subscription permissions: nobody may subscribe";
                self.respond(0, Reason::LimitExceeded, text, None);
            }
        }
        if self.record.permission != permission {
            self.record.permission = permission;
            self.record_changed = true;
        }
    }

    /// What the client believes after it came back. If it publishes what we do not know, it has to
    /// join anew.
    pub(super) fn handle_sync_state(&mut self, state: &SyncState, now: Instant) {
        let known = |published: &TrackPublishedResponse| {
            let track = published.track.as_ref();
            track.is_some_and(|track| self.publications.is_known(&track.sid))
        };
        if !state.publish_tracks.iter().all(known) {
            tracing::info!("the client publishes what we do not know; it has to join anew");
            let close = Some(CloseReason::Moved);
            return self.rejoin(DisconnectReason::StateMismatch, close, now);
        }
        let (link, outbox) = (&mut self.link, &mut self.outbox);
        let disabled = UpdateTrackSettings {
            disabled: true,
            ..Default::default()
        };
        let disabled = Settings::from(&disabled);
        self.subscriptions
            .set(&state.track_sids_disabled, disabled, link, outbox);
        if let Some(update) = &state.subscription {
            let tracks = update
                .participant_tracks
                .iter()
                .flat_map(|of| &of.track_sids);
            let tracks = update.track_sids.iter().chain(tracks);
            self.subscriptions
                .choose(tracks, update.subscribe, link, outbox);
        }
        self.synced();
    }

    fn handle_metadata(&mut self, update: UpdateParticipantMetadata, now: Instant) {
        let id = update.request_id;
        let asked = Subject::UpdateMetadata(update.clone());
        if !self.rights.update_own_metadata {
            let text = "does not have permission to update own metadata";
            return self.respond(id, Reason::NotAllowed, text, asked);
        }
        let update = UpdateParticipantRequest {
            name: update.name,
            metadata: update.metadata,
            attributes: update.attributes,
            ..Default::default()
        };
        match self.update(update, now) {
            Ok(()) => self.respond(id, Reason::Ok, "", asked),
            Err(text) => self.respond(id, Reason::LimitExceeded, text, asked),
        }
    }

    /// Changes what others are told of the participant, and what they may do; what is empty stays as it
    /// was. If it is too much nothing is changed.
    pub(super) fn update(
        &mut self,
        update: UpdateParticipantRequest,
        now: Instant,
    ) -> Result<(), &'static str> {
        let mut attributes = self.info().attributes.clone();
        merge_attributes(&mut attributes, update.attributes);
        check_limits(&update.name, &update.metadata, &attributes)?;
        if let Some(permission) = &update.permission {
            self.permit(permission);
        }
        let permission = self.rights.to_permission();
        self.change_info(|info| {
            if !update.name.is_empty() {
                info.name = update.name;
            }
            if !update.metadata.is_empty() {
                info.metadata = update.metadata;
            }
            info.attributes = attributes;
            info.permission = Some(permission);
        });
        self.updates.mark_self();
        self.tell(now);
        self.refresh_token(now);
        Ok(())
    }

    fn handle_audio_track(&mut self, update: UpdateLocalAudioTrack) {
        let features = update.features.clone();
        if features.len() > MAX_FEATURES {
            let request = Subject::UpdateAudioTrack(update);
            return self.respond(0, Reason::LimitExceeded, "too many features", request);
        }
        let set = |track: &mut TrackInfo| track::set_audio_features(track, features);
        let known = self.publications.update(&update.track_sid, set);
        self.tell_update(known, Subject::UpdateAudioTrack(update));
    }

    /// `known`: whether there is such a track, and whether others have to be told.
    fn tell_update(&mut self, known: Option<bool>, request: Subject) {
        match known {
            Some(true) => self.publish_tracks(),
            Some(false) => {}
            None => self.respond(0, Reason::NotFound, "no such track", request),
        }
    }

    fn handle_simulate(&mut self, scenario: Option<Scenario>, now: Instant) {
        match scenario {
            Some(Scenario::SpeakerUpdate(seconds)) => {
                let seconds = u64::try_from(seconds).unwrap_or(0).min(60);
                self.deadlines.speech = Some(now + Duration::from_secs(seconds));
                self.say_speech(true);
            }
            // As if this process or the node had died: not a word, and the session is unknown.
            Some(Scenario::NodeFailure(_) | Scenario::Migration(_)) => {
                self.end(Some(CloseReason::Moved), Fate::Remove);
            }
            Some(Scenario::ServerLeave(_)) => self.give_up(DisconnectReason::ServerShutdown),
            Some(Scenario::LeaveRequestFullReconnect(_)) => {
                self.rejoin(
                    DisconnectReason::ClientInitiated,
                    Some(CloseReason::Moved),
                    now,
                );
            }
            Some(Scenario::DisconnectSignalOnResume(_)) => {
                self.simulated.close_after_resume = true;
            }
            Some(Scenario::DisconnectSignalOnResumeNoMessages(_)) => {
                self.simulated.close_before_resume = true;
            }
            Some(Scenario::SwitchCandidateProtocol(_) | Scenario::SubscriberBandwidth(_))
            | None => {}
        }
    }

    pub(super) fn say_speech(&mut self, active: bool) {
        let speaker = contract::Speaker {
            participant_id: self.id.to_string(),
            level: if active { SIMULATED_LEVEL } else { 0.0 },
            active,
        };
        self.outbox.say(message::speakers([speaker]));
    }

    /// `request`: what this is about, if the protocol has it among what can be answered.
    pub(super) fn respond(
        &mut self,
        id: u32,
        reason: Reason,
        text: &str,
        request: impl Into<Option<Subject>>,
    ) {
        let request = request.into();
        if let Some(response) = message::response(&self.client, id, reason, text, request) {
            self.outbox.say(response);
        }
    }
}

/// Adds what is given, removes what is given empty. Reserved attributes stay as they are: a client
/// that sends back all it knows must not be refused.
pub(crate) fn merge_attributes(
    attributes: &mut HashMap<String, String>,
    update: HashMap<String, String>,
) {
    for (name, value) in update {
        if name.starts_with(RESERVED_ATTRIBUTES) {
            continue;
        }
        if value.is_empty() {
            attributes.remove(&name);
        } else {
            attributes.insert(name, value);
        }
    }
}

/// What is said of somebody has to fit.
pub(crate) fn check_limits(
    name: &str,
    metadata: &str,
    attributes: &HashMap<String, String>,
) -> Result<(), &'static str> {
    let size: usize = attributes
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    if name.len() > MAX_NAME {
        return Err("exceeds name length limit");
    }
    if metadata.len() > MAX_METADATA {
        return Err("exceeds metadata size limit");
    }
    if size > MAX_ATTRIBUTES {
        return Err("exceeds attributes size limit");
    }
    Ok(())
}
