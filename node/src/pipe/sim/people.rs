//! Who is in the rooms: what they publish, what they want of others, and what they get.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::time::{Duration, Instant};

use pipemesh_node_core::router::LayerWish;
use pipemesh_proto::ids::{ParticipantId, RoomId, SessionId, TrackId};

use super::media::{Encoder, LAYERS};
use crate::shard::SessionKey;
use crate::shard::alone::Alone;

/// A receiver asks for what it misses after so long, …
const ASK_AFTER: Duration = Duration::from_millis(60);
/// … and for a key frame when it still does.
const GIVE_UP_AFTER: Duration = Duration::from_millis(800);
/// A picture that stands for so long needs a key frame.
const FROZEN_AFTER: Duration = Duration::from_millis(1_200);
/// What was sent is remembered for so long.
const REMEMBERED: Duration = Duration::from_secs(6);

/// A person, wherever they are connected.
pub(super) struct Member {
    pub(super) id: ParticipantId,
    pub(super) room: RoomId,
    /// Where they live.
    pub(super) region: usize,
    pub(super) publishes: bool,
    pub(super) watches: bool,
    /// They want to be in the room.
    pub(super) is_here: bool,
    pub(super) is_muted: bool,
    pub(super) is_loud: bool,
    pub(super) speaks: bool,
    /// Of others' pictures; none: not at all.
    pub(super) layers: u8,
    pub(super) seat: Option<Seat>,
    /// Notices come in their order.
    pub(super) told_at: Option<Instant>,
}

/// Their session on a node.
pub(super) struct Seat {
    pub(super) node: usize,
    pub(super) key: SessionKey,
    pub(super) session: SessionId,
    pub(super) shard: u8,
    pub(super) camera: Option<Camera>,
    pub(super) wants: BTreeMap<TrackId, Want>,
}

/// What they publish.
pub(super) struct Camera {
    pub(super) audio_track: TrackId,
    pub(super) video_track: TrackId,
    pub(super) audio: Encoder,
    pub(super) video: Vec<Encoder>,
    /// Layers that anybody wants.
    pub(super) demand: u8,
    /// Packets of audio: when, and under which number.
    pub(super) audio_sent: VecDeque<(Instant, u32, u16)>,
    pub(super) video_sent_at: Option<Instant>,
}

impl Camera {
    pub(super) fn tracks(&self) -> [&TrackId; 2] {
        [&self.audio_track, &self.video_track]
    }

    pub(super) fn note_audio(&mut self, number: u16, now: Instant) {
        self.audio_sent.push_back((now, self.audio.ssrc, number));
        while self
            .audio_sent
            .front()
            .is_some_and(|(at, ..)| *at + REMEMBERED < now)
        {
            self.audio_sent.pop_front();
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// It is on another node and not known here yet.
    Asked,
    /// Under this generation.
    Has(u64),
    /// The node said that it has ended.
    Over,
}

/// A track of somebody else, as a session was told of it.
pub(super) struct Want {
    pub(super) publisher: usize,
    pub(super) node: usize,
    pub(super) of: SessionId,
    pub(super) is_video: bool,
    pub(super) state: State,
    pub(super) got: Got,
}

/// What came of a track.
#[derive(Default)]
pub(super) struct Got {
    /// As published.
    pub(super) packets: HashSet<(u32, u16)>,
    /// As numbered for the receiver.
    pub(super) numbers: HashSet<u64>,
    missing: BTreeMap<u64, Instant>,
    highest: Option<u64>,
    pub(super) frame_at: Option<Instant>,
    asked_at: Option<Instant>,
}

/// What is wrong with a packet that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wrong {
    Twice,
    SameNumber,
}

impl Got {
    pub(super) fn note(
        &mut self,
        packet: (u32, u16),
        number: u64,
        is_filler: bool,
        marker: bool,
        now: Instant,
    ) -> Option<Wrong> {
        self.missing.remove(&number);
        match self.highest {
            Some(highest) if number > highest => {
                for missed in (highest + 1..number).take(200) {
                    self.missing.insert(missed, now);
                }
                self.highest = Some(number);
            }
            Some(_) => {}
            None => self.highest = Some(number),
        }
        if marker {
            self.frame_at = Some(now);
        }
        if !self.numbers.insert(number) {
            return Some(Wrong::SameNumber);
        }
        (!is_filler && !self.packets.insert(packet)).then_some(Wrong::Twice)
    }

    /// What a receiver does about what it misses.
    pub(super) fn complain(
        &mut self,
        shard: &mut Alone,
        session: SessionKey,
        track: &TrackId,
        is_video: bool,
        now: Instant,
    ) {
        let mut is_torn = false;
        let missing = std::mem::take(&mut self.missing);
        for (number, since) in missing {
            if now < since + ASK_AFTER {
                self.missing.insert(number, since);
            } else if now >= since + GIVE_UP_AFTER {
                is_torn = is_video;
            } else if !shard.want_packet(
                session,
                track,
                number as u16,
                Duration::from_millis(40),
                now,
            ) {
                self.missing.insert(number, since);
            }
        }
        let last = self.frame_at.max(self.asked_at);
        let is_frozen = is_video && last.is_none_or(|at| at + FROZEN_AFTER < now);
        if is_torn || is_frozen {
            self.asked_at = Some(now);
            shard.want_key_frame(session, track, now);
        }
    }
}

impl Member {
    /// What they want of a picture, or of somebody's voice: all of it.
    pub(super) fn wish(&self, is_video: bool) -> LayerWish {
        if !is_video {
            return LayerWish::default();
        }
        LayerWish {
            paused: self.layers == 0,
            spatial_layers: self.layers.min(LAYERS),
            ..LayerWish::default()
        }
    }

    pub(super) fn camera_mut(&mut self) -> Option<&mut Camera> {
        self.seat.as_mut()?.camera.as_mut()
    }

    pub(super) fn camera(&self) -> Option<&Camera> {
        self.seat.as_ref()?.camera.as_ref()
    }
}

/// Nodes on which somebody of a room is.
pub(super) fn hosts(members: &[Member], room: &RoomId) -> BTreeSet<usize> {
    let seated = members.iter().filter(|member| member.room == *room);
    seated
        .filter_map(|member| Some(member.seat.as_ref()?.node))
        .collect()
}
