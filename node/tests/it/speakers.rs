//! Who speaks, as everybody in the room is told.

use pipemesh_proto::node::session_event::Event;
use pipemesh_proto::node::{ConnectionLayout, Speaker};

use crate::support::control::{self, Session, participant};
use crate::support::node::TestNode;
use crate::support::talker::Talker;

/// In -dBov (RFC 6464).
const SPEECH: u8 = 10;
const SILENCE: u8 = 127;

/// Waits until a session is told that somebody began or ceased to speak.
async fn told(session: &mut Session, name: &str, active: bool) -> Speaker {
    let participant = format!("PA_{name}");
    let is_it = |s: &&Speaker| s.participant_id == participant && s.active == active;
    let find = |event: &Event| match event {
        Event::SpeakersChanged(changed) => changed.speakers.iter().find(is_it).cloned(),
        _ => None,
    };
    let what = format!("{name} to be active: {active}");
    session.event(&what, find).await
}

#[tokio::test]
async fn who_speaks_is_told_to_everybody_until_they_are_silent() {
    who_speaks_is_told_to_everybody_until_they_are_silent_on(TestNode::start().await).await;
}

pub(crate) async fn who_speaks_is_told_to_everybody_until_they_are_silent_on(node: TestNode) {
    let signaling = node.signaling().await;
    let mut ann = Talker::join(&signaling, "ann").await;
    let mut bob = Talker::join(&signaling, "bob").await;
    bob.talk(SILENCE);
    ann.talk(SPEECH);
    for session in [&mut ann.session, &mut bob.session] {
        let speaker = told(session, "ann", true).await;
        assert!((0.1..=1.0).contains(&speaker.level), "{speaker:?}");
    }
    // Whoever takes a session over sees who is speaking.
    ann.talk(SPEECH);
    let (session, snapshot) = signaling.attach("S_room_bob").await;
    bob.session = session;
    let speaking = snapshot.speakers.iter().map(|s| s.participant_id.as_str());
    assert_eq!(speaking.collect::<Vec<_>>(), ["PA_ann"]);
    ann.talk(SILENCE);
    told(&mut bob.session, "ann", false).await;
    // Silence is nothing to be told of.
    bob.talk(SPEECH);
    told(&mut ann.session, "bob", true).await;
    let Talker { mut session, .. } = bob;
    session.close().await;
    told(&mut ann.session, "bob", false).await;
    node.stop().await;
}

/// Ann speaks for as long as it takes that Bob, who comes later, is told.
pub(crate) async fn late_joiners_hear_who_speaks(signaling: &control::Signaling) {
    let mut ann = Talker::join(signaling, "ann").await;
    ann.talk(SPEECH);
    told(&mut ann.session, "ann", true).await;
    let open = participant("bob", "room", ConnectionLayout::Single);
    let mut bob = signaling.open(open).await;
    let speaker = told(&mut bob, "ann", true).await;
    assert!((0.1..=1.0).contains(&speaker.level), "{speaker:?}");
    told(&mut bob, "ann", false).await;
}

/// The same of somebody on another node, who speaks before and after Bob listens.
pub(crate) async fn who_speaks_is_told_on_other_nodes(
    here: &control::Signaling,
    there: &control::Signaling,
) {
    let mut ann = Talker::join(here, "ann").await;
    ann.talk(SPEECH);
    told(&mut ann.session, "ann", true).await;
    let open = participant("bob", "room", ConnectionLayout::Single);
    let mut bob = there.open(open).await;
    bob.hear(&["node-a"]).await;
    let speaker = told(&mut bob, "ann", true).await;
    assert!((0.1..=1.0).contains(&speaker.level), "{speaker:?}");
    told(&mut bob, "ann", false).await;
    // Who leaves is silent, and so is who was the last one there.
    let mut cyd = Talker::join(here, "cyd").await;
    ann.session.close().await;
    cyd.talk(SPEECH);
    told(&mut bob, "cyd", true).await;
    cyd.session.close().await;
    told(&mut bob, "cyd", false).await;
}
