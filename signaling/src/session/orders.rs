//! What the server API asks for: who may do so was checked by whoever took the request.

use std::time::Instant;

use livekit_protocol::signal_response::Message;
use livekit_protocol::{
    DisconnectReason, MuteRoomTrackRequest, MuteTrackRequest, ParticipantPermission,
    TrackUnpublishedResponse, UpdateParticipantRequest,
};
use pipemesh_proto::node::session_request::Request;
use pipemesh_proto::node::{self as contract, CloseReason, DataRights};

use super::link::Asked;
use super::{Fate, Phase, Session};
use crate::auth::Rights;
use crate::orders::{Answer, Leave, Outcome, What};

impl Session {
    pub(crate) fn handle_order(&mut self, what: What, now: Instant) -> Answer {
        match (self.phase, what) {
            (Phase::Ended, _) => Answer::of(Outcome::NobodyHere),
            (_, What::Leave(leave)) => self.handle_leave_order(leave),
            // Whoever comes back brings all of it along, as it was before.
            (Phase::Opening | Phase::Rejoining | Phase::Elsewhere, _) => {
                Answer::of(Outcome::Absent)
            }
            (Phase::Open | Phase::Moving, What::Mute(mute)) => self.handle_mute_order(mute),
            (Phase::Open | Phase::Moving, What::Update(update)) => {
                self.handle_update_order(update, now)
            }
            (Phase::Open | Phase::Moving, What::Subscriptions(update)) => {
                let tracks = &update.participant_tracks;
                let tracks = tracks.iter().flat_map(|of| &of.track_sids);
                let tracks = update.track_sids.iter().chain(tracks);
                let (link, outbox) = (&mut self.link, &mut self.outbox);
                self.subscriptions
                    .choose(tracks, update.subscribe, link, outbox);
                Answer::of(Outcome::Done)
            }
            (Phase::Open | Phase::Moving, What::Data(data)) => {
                let request = contract::SendData {
                    packet: data.packet,
                    reliable: data.reliable,
                };
                self.link.ask(Asked::Other, Request::SendData(request));
                Answer::of(Outcome::Done)
            }
        }
    }

    fn handle_leave_order(&mut self, leave: Leave) -> Answer {
        let (reason, close) = match leave.room_deleted {
            true => (DisconnectReason::RoomDeleted, CloseReason::RoomEnded),
            false => (DisconnectReason::ParticipantRemoved, CloseReason::Removed),
        };
        if matches!(self.phase, Phase::Rejoining | Phase::Elsewhere) {
            self.end(None, Fate::Remove);
        } else {
            self.say_leave(reason, livekit_protocol::leave_request::Action::Disconnect);
            self.end(Some(close), Fate::Remove);
        }
        Answer::of(Outcome::Done)
    }

    fn handle_mute_order(&mut self, mute: MuteRoomTrackRequest) -> Answer {
        let (sid, muted) = (mute.track_sid, mute.muted);
        let Some(changed) = self.publications.set_muted(&sid, muted) else {
            return Answer::of(Outcome::NoTrack);
        };
        let request = contract::MuteTrack {
            track_id: sid.clone(),
            muted,
        };
        self.ask_about_track(Request::MuteTrack(request));
        if changed {
            self.publish_tracks();
            self.updates.mark_self();
        }
        let track = self.publications.info(&sid).cloned();
        self.outbox
            .say(Message::Mute(MuteTrackRequest { sid, muted }));
        Answer {
            track,
            ..Answer::of(Outcome::Done)
        }
    }

    fn handle_update_order(&mut self, update: UpdateParticipantRequest, now: Instant) -> Answer {
        if let Err(text) = self.update(update, now) {
            return Answer::invalid(text);
        }
        Answer {
            info: Some(self.info().clone()),
            ..Answer::of(Outcome::Done)
        }
    }

    /// What is not permitted any more ends at once.
    pub(super) fn permit(&mut self, permission: &ParticipantPermission) {
        let before = std::mem::replace(&mut self.rights, Rights::of(permission));
        let rights = &self.rights;
        for id in self
            .publications
            .of_sources(|source| !rights.may_publish(source))
        {
            let track_id = id.to_string();
            let request = contract::RemoveTrack {
                track_id: track_id.clone(),
            };
            self.ask_about_track(Request::RemoveTrack(request));
            self.handle_track_ended(&track_id);
            let track_sid = track_id;
            let unpublished = TrackUnpublishedResponse { track_sid };
            self.outbox.say(Message::TrackUnpublished(unpublished));
        }
        let (may, exempt) = (self.rights.subscribe, self.rights.recorder);
        let (link, outbox) = (&mut self.link, &mut self.outbox);
        self.subscriptions.permit(may, exempt, link, outbox);
        if before.publish_data != self.rights.publish_data {
            let data = DataRights {
                send: self.rights.publish_data,
                receive: true,
            };
            let request = contract::Configure { data: Some(data) };
            self.link.ask(Asked::Other, Request::Configure(request));
        }
    }
}
