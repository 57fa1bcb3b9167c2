//! What webhooks are told of a room: what one write to the store has changed.
//!
//! Pure. Whoever's write it was tells it, and tells only what the store has confirmed: of all processes
//! exactly one has written a version, so each change is told once.

use livekit_protocol::{ParticipantInfo, TrackInfo, WebhookEvent};

use super::record::Member;

/// What follows from a record that became another one; `None`: there is none.
pub(super) fn of(before: Option<&Member>, after: Option<&Member>) -> Vec<WebhookEvent> {
    let same = |before: &&Member| after.is_some_and(|after| after.id == before.id);
    let (stays, goes) = match before {
        Some(before) if same(&before) => (Some(before), None),
        before => (None, before),
    };
    let mut news = Vec::new();
    if let Some(gone) = goes {
        tracks(&mut news, gone, &gone.info.tracks, &[]);
        let name = match (gone.joined, gone.is_in()) {
            (true, _) => Some("participant_left"),
            (false, true) => Some("participant_connection_aborted"),
            // No node let them in.
            (false, false) => None,
        };
        news.extend(name.map(|name| participant(name, gone)));
    }
    if let Some(after) = after {
        if after.joined && !stays.is_some_and(|before| before.joined) {
            news.push(participant("participant_joined", after));
        }
        let before = stays.map_or(&[][..], |before| &before.info.tracks);
        tracks(&mut news, after, before, &after.info.tracks);
    }
    news
}

fn tracks(
    news: &mut Vec<WebhookEvent>,
    member: &Member,
    before: &[TrackInfo],
    after: &[TrackInfo],
) {
    let lacks =
        |tracks: &[TrackInfo], track: &TrackInfo| tracks.iter().all(|it| it.sid != track.sid);
    let ended = before.iter().filter(|track| lacks(after, track));
    let begun = after.iter().filter(|track| lacks(before, track));
    let named = [
        ("track_unpublished", ended.collect::<Vec<_>>()),
        ("track_published", begun.collect()),
    ];
    for (name, tracks) in named {
        for track in tracks {
            news.push(WebhookEvent {
                event: name.to_owned(),
                // Who it is, as LiveKit says it; how they are is told by what is about them.
                participant: Some(ParticipantInfo {
                    sid: member.info.sid.clone(),
                    identity: member.info.identity.clone(),
                    name: member.info.name.clone(),
                    ..Default::default()
                }),
                track: Some(track.clone()),
                ..Default::default()
            });
        }
    }
}

fn participant(name: &str, member: &Member) -> WebhookEvent {
    WebhookEvent {
        event: name.to_owned(),
        participant: Some(member.info.clone()),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use pipemesh_topology::store;
    use prost::Message;

    use super::*;
    use crate::rooms::record::{MemberRecord, Presence};

    fn member(sid: &str, presence: Presence, joined: bool, tracks: &[&str]) -> Member {
        let track = |sid: &&str| TrackInfo {
            sid: (*sid).to_owned(),
            ..Default::default()
        };
        let record = MemberRecord {
            info: Some(ParticipantInfo {
                sid: sid.to_owned(),
                identity: "ann".to_owned(),
                tracks: tracks.iter().map(track).collect(),
                ..Default::default()
            }),
            session: "s".to_owned(),
            node: "n".to_owned(),
            presence: presence.into(),
            permission: None,
            process: String::new(),
            joined,
            holding: 1,
        };
        let stored = store::Member {
            identity: "ann".parse().unwrap(),
            version: 1,
            body: record.encode_to_vec().into(),
        };
        Member::decode(&stored).unwrap()
    }

    #[test]
    fn each_change_is_one_event() {
        use Presence::{Away, Here, Joining, Rejoining};
        let check = |before: Option<Member>, after: Option<Member>, expected: &[&str]| {
            let news = of(before.as_ref(), after.as_ref());
            let names = news.iter().map(|event| {
                let subject = match (&event.track, &event.participant) {
                    (Some(track), _) => &track.sid,
                    (None, Some(participant)) => &participant.sid,
                    (None, None) => panic!("{event:?}"),
                };
                format!("{} {subject}", event.event)
            });
            assert_eq!(names.collect::<Vec<_>>(), expected, "{before:?} {after:?}");
        };
        let is = |presence, joined, tracks: &[&str]| Some(member("PA_1", presence, joined, tracks));
        let other = |joined| Some(member("PA_2", Joining, joined, &[]));
        check(None, is(Joining, false, &[]), &[]);
        check(is(Joining, false, &[]), is(Here, false, &[]), &[]);
        check(
            is(Here, false, &[]),
            is(Here, true, &[]),
            &["participant_joined PA_1"],
        );
        check(is(Here, true, &[]), is(Away, true, &[]), &[]);
        check(
            is(Here, true, &[]),
            is(Here, true, &["TR_1"]),
            &["track_published TR_1"],
        );
        check(
            is(Here, true, &["TR_1"]),
            is(Here, true, &["TR_2"]),
            &["track_unpublished TR_1", "track_published TR_2"],
        );
        check(
            is(Here, true, &["TR_1"]),
            None,
            &["track_unpublished TR_1", "participant_left PA_1"],
        );
        // Media never came.
        check(
            is(Here, false, &[]),
            None,
            &["participant_connection_aborted PA_1"],
        );
        // A node refused them.
        check(is(Joining, false, &[]), None, &[]);
        // They come back as who they were.
        check(
            is(Here, true, &["TR_1"]),
            is(Rejoining, true, &["TR_1"]),
            &["track_unpublished TR_1"],
        );
        check(is(Rejoining, true, &["TR_1"]), is(Joining, true, &[]), &[]);
        check(is(Rejoining, true, &[]), None, &["participant_left PA_1"]);
        // Somebody else takes the identity.
        check(
            is(Here, true, &[]),
            other(false),
            &["participant_left PA_1"],
        );
    }
}
