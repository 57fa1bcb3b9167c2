//! The session's state in the words of the contract.

use pipemesh_node_core::quality::Quality;
use pipemesh_proto::ids::{ParticipantId, TrackId};
use pipemesh_proto::node::{
    self as contract, ConnectionQuality, ConnectionRole, ParticipantQuality, PublishedTrack,
    Snapshot,
};

use super::Session;
use super::sdp::SectionsNeeded;
use crate::shard::{ConnectionState, Role, Speaker};

impl Session {
    /// What a signaling process that takes the session over has to know.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let speaker = |(participant, level): (&ParticipantId, &f32)| contract::Speaker {
            participant_id: participant.to_string(),
            level: *level,
            active: true,
        };
        let track = |published: &super::Published| PublishedTrack {
            announced: Some(published.announced.clone()),
            started: published
                .started
                .as_ref()
                .map(|(started, layers)| contract::TrackStarted {
                    layers: layers.clone(),
                    ..started.clone()
                }),
            demand: published.demand(),
        };
        Snapshot {
            open: Some(self.identity.open.clone()),
            connections: self.connections(),
            tracks: self.published.values().map(track).collect(),
            subscriptions: (self.subscriptions.values())
                .map(|subscribe| (**subscribe).clone())
                .collect(),
            outstanding_offer: self.outstanding.clone(),
            speakers: self.speakers.iter().map(speaker).collect(),
            opened: Some(self.identity.opened.clone()),
            paused_tracks: self.paused.iter().map(ToString::to_string).collect(),
        }
    }

    /// For inspection. What each subscription is being sent its shard knows.
    pub(crate) fn summary(&self, attached: bool, shard: u32) -> contract::SessionSummary {
        let started = self
            .published
            .values()
            .filter_map(|published| published.started.as_ref());
        contract::SessionSummary {
            session_id: self.identity.session.to_string(),
            participant_id: self.identity.participant.to_string(),
            identity: self.identity.open.identity.clone(),
            region: self.identity.open.region.clone(),
            shard,
            attached,
            connections: self.connections(),
            tracks: started.map(|(started, _)| started.clone()).collect(),
            subscriptions: (self.subscriptions.iter())
                .map(|(track, subscribe)| contract::SubscriptionSummary {
                    track_id: track.to_string(),
                    wish: subscribe.wish,
                    paused: self.paused.contains(track),
                    ..contract::SubscriptionSummary::default()
                })
                .collect(),
        }
    }

    /// The tracks that the session is subscribed to.
    pub(crate) fn subscribed(&self) -> Vec<TrackId> {
        self.subscriptions.keys().cloned().collect()
    }

    fn connections(&self) -> Vec<contract::ConnectionChanged> {
        self.connections
            .iter()
            .map(|(role, state)| connection(*role, *state))
            .collect()
    }
}

pub(super) fn connection(role: Role, state: ConnectionState) -> contract::ConnectionChanged {
    let role = match role {
        Role::Publisher => ConnectionRole::Publisher,
        Role::Subscriber => ConnectionRole::Subscriber,
    };
    let state = match state {
        ConnectionState::New => contract::ConnectionState::New,
        ConnectionState::Connected => contract::ConnectionState::Connected,
        ConnectionState::Interrupted => contract::ConnectionState::Interrupted,
        ConnectionState::Failed => contract::ConnectionState::Failed,
        ConnectionState::Closed => contract::ConnectionState::Closed,
    };
    contract::ConnectionChanged {
        connection: role.into(),
        state: state.into(),
    }
}

pub(super) fn speaker(speaker: &Speaker) -> contract::Speaker {
    contract::Speaker {
        participant_id: speaker.participant.to_string(),
        level: speaker.level,
        active: speaker.active,
    }
}

pub(super) fn quality(
    (participant, quality, score): &(ParticipantId, Quality, f32),
) -> ParticipantQuality {
    let quality = match quality {
        Quality::Excellent => ConnectionQuality::Excellent,
        Quality::Good => ConnectionQuality::Good,
        Quality::Poor => ConnectionQuality::Poor,
        Quality::Lost => ConnectionQuality::Lost,
    };
    ParticipantQuality {
        participant_id: participant.to_string(),
        quality: quality.into(),
        score: *score,
    }
}

pub(super) fn sections(needed: SectionsNeeded) -> contract::SectionsNeeded {
    contract::SectionsNeeded {
        audio: needed.audio as u32,
        video: needed.video as u32,
    }
}
