//! A participant with a microphone.

use pipemesh_proto::node::{ConnectionLayout, ConnectionRole, ConnectionState};

use super::control::{self, Session, microphone, participant};
use super::sdp::{self, OPUS, Section, extension};
use super::wire::{Outgoing, Wire};

/// 20 ms of audio.
const TICKS: u32 = 960;

/// Publishes one track, `TR_<name>`.
pub(crate) struct Talker {
    pub(crate) session: Session,
    pub(crate) wire: Wire,
    /// Packets so far.
    pub(crate) index: u64,
}

impl Talker {
    pub(crate) const SSRC: u32 = 7;

    pub(crate) async fn join(signaling: &control::Signaling, name: &str) -> Self {
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

    /// Sends a second of audio at once: levels, in -dBov, count, not when they come.
    pub(crate) fn talk(&mut self, level: u8) {
        for _ in 0..50 {
            self.index += 1;
            self.send(self.index, level);
        }
    }

    /// Sends a packet, for the first time or again: it is the same each time.
    pub(crate) fn send(&self, index: u64, level: u8) {
        self.wire.send(Outgoing {
            ssrc: Self::SSRC,
            index,
            payload_type: OPUS,
            timestamp: index as u32 * TICKS,
            extensions: vec![
                (extension::MID, b"0".to_vec()),
                (extension::AUDIO_LEVEL, vec![0x80 | level]),
            ],
            payload: vec![0x78; 80],
            ..Outgoing::default()
        });
    }
}
