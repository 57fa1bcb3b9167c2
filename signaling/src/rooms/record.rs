//! A participant as the store keeps them, and as others see them.

use std::collections::BTreeMap;

use livekit_protocol::{ParticipantInfo, SubscriptionPermission, TrackInfo, participant_info};
use pipemesh_proto::ids::{NodeId, ParticipantId, ProcessId, SessionId, TrackId};
use pipemesh_topology::{Identity, store};
use prost::Message;

use crate::livekit::track::client_track_id;

/// How surely somebody is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum Presence {
    /// Claimed, but not in yet: nobody sees them, unless they come back.
    Joining = 0,
    /// In, with a connection to us.
    Here = 1,
    /// In, but the connection to us is lost; media may flow.
    Away = 2,
    /// Told to join anew. Their tracks are gone, they themselves are not yet.
    Rejoining = 3,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct MemberRecord {
    #[prost(message, optional, tag = "1")]
    pub(crate) info: Option<ParticipantInfo>,
    #[prost(string, tag = "2")]
    pub(crate) session: String,
    #[prost(string, tag = "3")]
    pub(crate) node: String,
    #[prost(enumeration = "Presence", tag = "4")]
    pub(crate) presence: i32,
    /// Who may receive what they publish; everybody everything if absent.
    #[prost(message, optional, tag = "5")]
    pub(crate) permission: Option<SubscriptionPermission>,
    /// The signaling process that serves them.
    #[prost(string, tag = "6")]
    pub(crate) process: String,
    /// Their media has connected, in this session or in one before that they came back from.
    #[prost(bool, tag = "7")]
    pub(crate) joined: bool,
    /// Who holds the session, by lot: another one after each claim, be it of the same process. A version that
    /// lets nobody take a session over does not say.
    #[prost(fixed64, tag = "8")]
    pub(crate) holding: u64,
}

/// A record that was read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Member {
    pub(crate) identity: Identity,
    /// The store's version of the record, not the one that clients are told.
    pub(crate) version: u64,
    pub(crate) id: ParticipantId,
    pub(crate) session: SessionId,
    pub(crate) node: NodeId,
    /// Who serves them; a version that keeps no lease does not say.
    pub(crate) process: Option<ProcessId>,
    pub(crate) presence: Presence,
    pub(crate) joined: bool,
    pub(crate) holding: u64,
    /// As others are told.
    pub(crate) info: ParticipantInfo,
    permission: Option<SubscriptionPermission>,
    /// What they published before they were told to join anew.
    former: Vec<TrackInfo>,
}

impl Member {
    /// `None` for a record that makes no sense, which no session would write.
    pub(crate) fn decode(stored: &store::Member) -> Option<Self> {
        let record = MemberRecord::decode(stored.body.clone()).ok()?;
        let presence = record.presence();
        let mut info = record.info?;
        let former = match presence {
            Presence::Rejoining => std::mem::take(&mut info.tracks),
            Presence::Joining | Presence::Here | Presence::Away => Vec::new(),
        };
        Some(Self {
            identity: stored.identity.clone(),
            version: stored.version,
            id: info.sid.parse().ok()?,
            session: record.session.parse().ok()?,
            node: record.node.parse().ok()?,
            process: record.process.parse().ok(),
            presence,
            // A version that does not say so says that they are active.
            joined: record.joined || info.state() == participant_info::State::Active,
            holding: record.holding,
            info,
            permission: record.permission,
            former,
        })
    }

    /// The record as it is written by a process that goes on with the session.
    pub(crate) fn held_by(&self, process: &str, holding: u64) -> MemberRecord {
        MemberRecord {
            info: Some(self.info.clone()),
            session: self.session.to_string(),
            node: self.node.to_string(),
            presence: self.presence.into(),
            permission: self.permission.clone(),
            process: process.to_owned(),
            joined: self.joined,
            holding,
        }
    }

    /// Enough of them to say later that they left.
    pub(crate) fn remnant(&self) -> Self {
        let info = ParticipantInfo {
            sid: self.info.sid.clone(),
            identity: self.info.identity.clone(),
            version: self.info.version,
            kind: self.info.kind,
            ..Default::default()
        };
        Self {
            identity: self.identity.clone(),
            version: self.version,
            id: self.id.clone(),
            session: self.session.clone(),
            node: self.node.clone(),
            process: None,
            presence: self.presence,
            joined: self.joined,
            holding: self.holding,
            info,
            permission: None,
            former: Vec::new(),
        }
    }

    /// Whether a node has let them in.
    pub(crate) fn is_in(&self) -> bool {
        self.presence != Presence::Joining
    }

    /// Whether this is what a session wrote while that claim held it.
    pub(crate) fn is_held_by(&self, (session, holding): (&str, u64)) -> bool {
        self.session.as_str() == session && self.holding == holding
    }

    /// Whether this process serves them.
    pub(crate) fn is_served_by(&self, process: &str) -> bool {
        self.process.as_ref().map_or("", ProcessId::as_str) == process
    }

    /// Whether they are in the room: from when a node has let them in, and while they come back.
    pub(crate) fn is_there(&self) -> bool {
        self.is_in() || self.joined
    }

    /// Whether others know of them.
    pub(crate) fn is_visible(&self) -> bool {
        let permission = self.info.permission.as_ref();
        self.is_there() && !permission.is_some_and(|rights| rights.hidden)
    }

    /// Whether they record the room or serve it, rather than take part.
    pub(crate) fn is_dependent(&self) -> bool {
        use participant_info::Kind;
        matches!(self.info.kind(), Kind::Agent | Kind::Egress)
    }

    pub(crate) fn is_recorder(&self) -> bool {
        #[expect(deprecated, reason = "what tokens grant")]
        let recorder = self
            .info
            .permission
            .as_ref()
            .is_some_and(|rights| rights.recorder);
        recorder
    }

    /// Their tracks by the client's ids, to be recognised when they come back.
    pub(crate) fn tracks_by_client_id(&self) -> BTreeMap<String, TrackId> {
        let tracks = self.info.tracks.iter().chain(&self.former);
        let known = tracks.filter_map(|track| {
            Some((client_track_id(track)?.to_owned(), track.sid.parse().ok()?))
        });
        known.collect()
    }

    /// Whether somebody may receive a track of theirs.
    pub(crate) fn permits(&self, track: &str, identity: &Identity, id: &ParticipantId) -> bool {
        let Some(permission) = &self.permission else {
            return true;
        };
        permission.all_participants
            || permission.track_permissions.iter().any(|to| {
                let addressed = match to.participant_identity.as_str() {
                    "" => to.participant_sid == id.as_str(),
                    addressed => addressed == identity.as_str(),
                };
                addressed && (to.all_tracks || to.track_sids.iter().any(|sid| sid == track))
            })
    }
}

#[cfg(test)]
mod tests {
    use livekit_protocol::TrackPermission;

    use super::*;

    fn member(permission: Option<SubscriptionPermission>) -> Member {
        let record = MemberRecord {
            info: Some(ParticipantInfo {
                sid: "PA_a".to_owned(),
                ..Default::default()
            }),
            session: "s".to_owned(),
            node: "n".to_owned(),
            presence: Presence::Here.into(),
            permission,
            process: String::new(),
            joined: false,
            holding: 0,
        };
        let stored = store::Member {
            identity: "alice".parse().unwrap(),
            version: 1,
            body: record.encode_to_vec().into(),
        };
        Member::decode(&stored).unwrap()
    }

    #[test]
    fn permission_is_given_by_identity_or_sid() {
        let to = |identity: &str, sid: &str, all_tracks, tracks: &[&str]| TrackPermission {
            participant_identity: identity.to_owned(),
            participant_sid: sid.to_owned(),
            all_tracks,
            track_sids: tracks.iter().map(|track| (*track).to_owned()).collect(),
        };
        let check = |permission: Option<SubscriptionPermission>, track, expected| {
            let (bob, id) = ("bob".parse().unwrap(), "PA_b".parse().unwrap());
            assert_eq!(
                member(permission.clone()).permits(track, &bob, &id),
                expected,
                "{permission:?}"
            );
        };
        let only = |to: TrackPermission| {
            Some(SubscriptionPermission {
                all_participants: false,
                track_permissions: vec![to],
            })
        };
        check(None, "TR_1", true);
        check(Some(SubscriptionPermission::default()), "TR_1", false);
        check(only(to("bob", "", true, &[])), "TR_1", true);
        check(only(to("bob", "", false, &["TR_1"])), "TR_1", true);
        check(only(to("bob", "", false, &["TR_2"])), "TR_1", false);
        check(only(to("", "PA_b", true, &[])), "TR_1", true);
        check(only(to("carol", "PA_b", true, &[])), "TR_1", false);
        let mut all = only(to("carol", "", true, &[]));
        all.as_mut().unwrap().all_participants = true;
        check(all, "TR_1", true);
    }
}
