//! A participant with a microphone.

use pipemesh_proto::node::{AddTrack, ConnectionLayout, ConnectionRole, ConnectionState, Open};

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
        let track = microphone(&format!("TR_{name}"), "microphone");
        Self::join_as(signaling, open, track).await
    }

    /// `open`: with one connection.
    pub(crate) async fn join_as(
        signaling: &control::Signaling,
        open: Open,
        track: AddTrack,
    ) -> Self {
        let mut session = signaling.open(open).await;
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

    /// Sends the next 20 ms, which say in their payload which ones they are.
    pub(crate) fn go_on(&mut self, level: u8) {
        self.index += 1;
        self.send(self.index, level);
    }

    /// Which 20 ms those are.
    pub(crate) fn index_of(payload: &[u8]) -> u64 {
        let index = payload.last_chunk::<8>().expect("it is one of ours");
        u64::from_be_bytes(*index)
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
            payload: [&[0x78; 72][..], &index.to_be_bytes()].concat(),
            ..Outgoing::default()
        });
    }
}
