//! Who speaks, as everybody in the room is told.

use pipemesh_proto::node::session_event::Event;
use pipemesh_proto::node::{ConnectionLayout, ConnectionRole, ConnectionState, Speaker};

use crate::support::control::{self, Session, microphone, participant};
use crate::support::node::TestNode;
use crate::support::sdp::{self, OPUS, Section, extension};
use crate::support::wire::{Outgoing, Wire};

/// 20 ms of audio.
const TICKS: u32 = 960;
/// In -dBov (RFC 6464).
const SPEECH: u8 = 10;
const SILENCE: u8 = 127;

/// A participant with a microphone.
struct Talker {
    session: Session,
    wire: Wire,
    index: u64,
}

impl Talker {
    async fn join(signaling: &control::Signaling, name: &str) -> Self {
        let open = participant(name, "room", ConnectionLayout::Single);
        let mut session = signaling.open(open).await;
        let track = microphone(&format!("TR_{name}"), "microphone");
        session.add_track(track).await;
        let wire = Wire::new().await;
        let offer = sdp::offer(wire.local(), &[Section::microphone("microphone")]);
        let answer = session.offer(&offer).await;
        wire.connect(sdp::remote(&answer.sdp));
        wire.connected().await;
        let (role, state) = (ConnectionRole::Publisher, ConnectionState::Connected);
        session.connection(role, state).await;
        Self {
            session,
            wire,
            index: 0,
        }
    }

    /// Sends a second of audio at once: levels count, not when they come.
    fn talk(&mut self, level: u8) {
        for _ in 0..50 {
            self.index += 1;
            self.wire.send(Outgoing {
                ssrc: 7,
                index: self.index,
                payload_type: OPUS,
                timestamp: self.index as u32 * TICKS,
                extensions: vec![
                    (extension::MID, b"0".to_vec()),
                    (extension::AUDIO_LEVEL, vec![0x80 | level]),
                ],
                payload: vec![0x78; 80],
                ..Outgoing::default()
            });
        }
    }
}

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
