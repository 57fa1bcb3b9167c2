//! Messages to clients, built in one place.

use livekit_protocol::leave_request::Action;
use livekit_protocol::participant_info::State;
use livekit_protocol::request_response::{Reason, Request};
use livekit_protocol::signal_request;
use livekit_protocol::signal_response::Message;
use livekit_protocol::{
    ConnectionQuality, ConnectionQualityInfo, ConnectionQualityUpdate, DisconnectReason,
    LeaveRequest, ParticipantInfo, ParticipantUpdate, RequestResponse, ServerInfo,
    SessionDescription, SpeakerInfo, SpeakersChanged, server_info,
};
use pipemesh_proto::node;

use super::client::Client;
use crate::session::Farewell;

/// What we say we are compatible with: SDKs turn features on by it. Must be at least 1.8 (remote
/// procedure calls), must not be 0.15.1 (dynacast is turned off), and stays below 1.13.7 as long as
/// simulcast of SVC codecs is not supported.
pub(crate) const COMPATIBLE_VERSION: &str = "1.9.0";

/// The newest client protocol whose messages we know.
pub(crate) const PROTOCOL: i32 = 17;

pub(crate) fn server_info(region: &str, node: &str) -> ServerInfo {
    ServerInfo {
        edition: server_info::Edition::Standard.into(),
        version: COMPATIBLE_VERSION.to_owned(),
        protocol: PROTOCOL,
        region: region.to_owned(),
        node_id: node.to_owned(),
        ..Default::default()
    }
}

pub(crate) fn update(participants: Vec<ParticipantInfo>) -> Message {
    Message::Update(ParticipantUpdate { participants })
}

/// The last that is said of a participant: who they were, without what they published.
pub(crate) fn gone(info: &ParticipantInfo) -> ParticipantInfo {
    ParticipantInfo {
        state: State::Disconnected.into(),
        tracks: Vec::new(),
        is_publisher: false,
        version: info.version + 1,
        ..info.clone()
    }
}

pub(crate) fn leave(client: &Client, reason: DisconnectReason, action: Action) -> Message {
    let leave = if client.supports_leave_action() {
        LeaveRequest {
            reason: reason.into(),
            action: action.into(),
            ..Default::default()
        }
    } else {
        LeaveRequest {
            can_reconnect: action != Action::Disconnect,
            reason: reason.into(),
            ..Default::default()
        }
    };
    Message::Leave(leave)
}

/// The last that is said to a client whose session has ended.
pub(crate) fn farewell(client: &Client, farewell: Farewell) -> Message {
    let (reason, action) = match farewell {
        Farewell::Rejoin => (DisconnectReason::StateMismatch, Action::Reconnect),
        Farewell::Resume => (DisconnectReason::ServerShutdown, Action::Resume),
        Farewell::Replaced => (DisconnectReason::DuplicateIdentity, Action::Disconnect),
    };
    leave(client, reason, action)
}

/// What became of a request, for clients that can be told.
pub(crate) fn response(
    client: &Client,
    request_id: u32,
    reason: Reason,
    text: &str,
    request: Option<Request>,
) -> Option<Message> {
    let supported = match reason {
        Reason::Ok => client.supports_ok_response(),
        _ => client.supports_request_response(),
    };
    supported.then(|| {
        Message::RequestResponse(RequestResponse {
            request_id,
            reason: reason.into(),
            message: text.to_owned(),
            request,
        })
    })
}

pub(crate) fn answer(created: node::AnswerCreated) -> Message {
    Message::Answer(SessionDescription {
        r#type: "answer".to_owned(),
        sdp: created.sdp,
        id: created.offer_id,
        mid_to_track_id: created.mid_to_track.into_iter().collect(),
    })
}

pub(crate) fn offer(created: node::OfferCreated) -> Message {
    Message::Offer(SessionDescription {
        r#type: "offer".to_owned(),
        sdp: created.sdp,
        id: created.offer_id,
        mid_to_track_id: created.mid_to_track.into_iter().collect(),
    })
}

pub(crate) fn speakers(speakers: impl IntoIterator<Item = node::Speaker>) -> Message {
    let speakers = speakers.into_iter().map(|speaker| SpeakerInfo {
        sid: speaker.participant_id,
        level: speaker.level,
        active: speaker.active,
    });
    Message::SpeakersChanged(SpeakersChanged {
        speakers: speakers.collect(),
    })
}

pub(crate) fn quality(
    client: &Client,
    participants: impl IntoIterator<Item = node::ParticipantQuality>,
) -> Message {
    let updates = participants.into_iter().filter_map(|participant| {
        let quality = match participant.quality() {
            node::ConnectionQuality::Unspecified => return None,
            node::ConnectionQuality::Excellent => ConnectionQuality::Excellent,
            node::ConnectionQuality::Good => ConnectionQuality::Good,
            node::ConnectionQuality::Poor => ConnectionQuality::Poor,
            node::ConnectionQuality::Lost if client.supports_quality_lost() => {
                ConnectionQuality::Lost
            }
            node::ConnectionQuality::Lost => ConnectionQuality::Poor,
        };
        Some(ConnectionQualityInfo {
            participant_sid: participant.participant_id,
            quality: quality.into(),
            score: participant.score,
        })
    });
    Message::ConnectionQuality(ConnectionQualityUpdate {
        updates: updates.collect(),
    })
}

/// What a client's message is called in metrics and logs.
pub(crate) fn request_name(message: &signal_request::Message) -> &'static str {
    use signal_request::Message;
    match message {
        Message::Offer(_) => "offer",
        Message::Answer(_) => "answer",
        Message::Trickle(_) => "trickle",
        Message::AddTrack(_) => "add_track",
        Message::Mute(_) => "mute",
        Message::Subscription(_) => "subscription",
        Message::TrackSetting(_) => "track_setting",
        Message::Leave(_) => "leave",
        #[expect(deprecated, reason = "old clients send it")]
        Message::UpdateLayers(_) => "update_layers",
        Message::SubscriptionPermission(_) => "subscription_permission",
        Message::SyncState(_) => "sync_state",
        Message::Simulate(_) => "simulate",
        Message::Ping(_) | Message::PingReq(_) => "ping",
        Message::UpdateMetadata(_) => "update_metadata",
        Message::UpdateAudioTrack(_) => "update_audio_track",
        Message::UpdateVideoTrack(_) => "update_video_track",
        Message::PublishDataTrackRequest(_)
        | Message::UnpublishDataTrackRequest(_)
        | Message::UpdateDataSubscription(_) => "data_track",
        Message::StoreDataBlobRequest(_) | Message::GetDataBlobRequest(_) => "data_blob",
    }
}

/// What a message to a client is called in metrics and logs.
pub(crate) fn response_name(message: &Message) -> &'static str {
    match message {
        Message::Join(_) => "join",
        Message::Answer(_) => "answer",
        Message::Offer(_) => "offer",
        Message::Trickle(_) => "trickle",
        Message::Update(_) => "update",
        Message::TrackPublished(_) => "track_published",
        Message::Leave(_) => "leave",
        Message::Mute(_) => "mute",
        Message::SpeakersChanged(_) => "speakers_changed",
        Message::RoomUpdate(_) => "room_update",
        Message::ConnectionQuality(_) => "connection_quality",
        Message::StreamStateUpdate(_) => "stream_state_update",
        Message::SubscribedQualityUpdate(_) => "subscribed_quality_update",
        Message::SubscriptionPermissionUpdate(_) => "subscription_permission_update",
        Message::RefreshToken(_) => "refresh_token",
        Message::TrackUnpublished(_) => "track_unpublished",
        Message::Pong(_) | Message::PongResp(_) => "pong",
        Message::Reconnect(_) => "reconnect",
        Message::SubscriptionResponse(_) => "subscription_response",
        Message::RequestResponse(_) => "request_response",
        Message::TrackSubscribed(_) => "track_subscribed",
        Message::RoomMoved(_) => "room_moved",
        Message::MediaSectionsRequirement(_) => "media_sections_requirement",
        Message::SubscribedAudioCodecUpdate(_) => "subscribed_audio_codec_update",
        Message::PublishDataTrackResponse(_)
        | Message::UnpublishDataTrackResponse(_)
        | Message::DataTrackSubscriberHandles(_) => "data_track",
        Message::StoreDataBlobResponse(_) | Message::GetDataBlobResponse(_) => "data_blob",
    }
}

#[cfg(test)]
mod tests {
    use livekit_protocol::ClientInfo;

    use super::*;

    fn client(protocol: i32) -> Client {
        let info = ClientInfo {
            protocol,
            ..Default::default()
        };
        Client::new(info, "")
    }

    #[test]
    fn old_clients_are_only_told_whether_to_come_back() {
        let check = |protocol, action, expected: (bool, Action)| {
            let Message::Leave(leave) =
                leave(&client(protocol), DisconnectReason::StateMismatch, action)
            else {
                panic!()
            };
            assert_eq!(
                (leave.can_reconnect, leave.action()),
                expected,
                "{protocol} {action:?}"
            );
        };
        check(12, Action::Reconnect, (true, Action::Disconnect));
        check(12, Action::Disconnect, (false, Action::Disconnect));
        check(13, Action::Reconnect, (false, Action::Reconnect));
    }

    #[test]
    fn success_is_reported_to_those_who_know_it() {
        let told = |protocol, reason| {
            let request = Request::Mute(Default::default());
            response(&client(protocol), 1, reason, "", Some(request)).is_some()
        };
        assert!(!told(14, Reason::Ok) && told(15, Reason::Ok));
        assert!(told(9, Reason::NotFound));
    }
}
