//! What a simulated participant has seen: a snapshot, as plain values.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

pub use super::impairment::Counts;
pub use super::media::frames::FrameCounts;
use super::user::{Person, Place, RemoteTrack};

/// Longer latencies are noted as this.
const LONGEST: Duration = Duration::from_secs(60);

/// Latencies in microseconds, to two digits: a kilobyte, and more only once there are long ones.
pub(super) fn latencies() -> Histogram<u32> {
    Histogram::new(2).expect("two digits are sound")
}

pub(super) fn note_latency(latencies: &mut Histogram<u32>, latency: Duration) {
    let latency = latency.clamp(Duration::from_micros(1), LONGEST);
    let noted = latencies.record(latency.as_micros() as u64);
    noted.expect("there is room for a minute");
}

/// What must not happen. All zero, or the server is wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Integrity {
    /// Payload of another track, participant or room than the stream's.
    pub foreign: u64,
    /// Payload that was changed on its way.
    pub damaged: u64,
    /// Media of a track that signaling has not spoken of, for two seconds.
    pub unannounced: u64,
    /// A change of layers that does not begin with a key frame.
    pub torn_switches: u64,
    /// Packets of two frames under one timestamp, or of one under two.
    pub mixed_frames: u64,
    /// Something is missing, and the sequence numbers hide it.
    pub hidden_losses: u64,
    /// Not from us: somebody else publishes in the room. No error.
    pub unstamped: u64,
}

impl Integrity {
    /// Everything that is an error.
    #[must_use]
    pub fn errors(&self) -> u64 {
        let Self {
            foreign,
            damaged,
            unannounced,
            torn_switches,
            mixed_frames,
            hidden_losses,
            unstamped: _,
        } = *self;
        foreign + damaged + unannounced + torn_switches + mixed_frames + hidden_losses
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.foreign += other.foreign;
        self.damaged += other.damaged;
        self.unannounced += other.unannounced;
        self.torn_switches += other.torn_switches;
        self.mixed_frames += other.mixed_frames;
        self.hidden_losses += other.hidden_losses;
        self.unstamped += other.unstamped;
    }
}

/// From then on frames of this layer were decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerChange {
    /// Since the participant began to join.
    pub at: Duration,
    /// 0 is the lowest.
    pub layer: u8,
}

/// How long joining took, since its beginning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JoinTimes {
    /// The join response.
    pub signal: Option<Duration>,
    /// The first check that was answered, of the slower connection.
    pub ice: Option<Duration>,
    /// The last DTLS handshake that was completed.
    pub dtls: Option<Duration>,
    pub first_packet: Option<Duration>,
    /// Decoded, of any track.
    pub first_frame: Option<Duration>,
}

/// Media should have come, and did not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// Its end, since the participant began to join.
    pub at: Duration,
    pub lasted: Duration,
}

/// One track that is received.
#[derive(Debug, Clone, Default)]
pub struct Track {
    pub sid: String,
    /// Of the publisher. Empty: signaling has not spoken of it.
    pub identity: String,
    pub name: String,
    pub is_video: bool,
    pub packets: u64,
    pub bytes: u64,
    pub duplicates: u64,
    pub reordered: u64,
    /// Came because they were asked for again.
    pub recovered: u64,
    /// Given up, a second after they were missed.
    pub lost: u64,
    /// Missed just now.
    pub missing: u64,
    /// Asked for again, each time counted.
    pub asked: u64,
    pub jitter: Duration,
    pub frames: FrameCounts,
    pub key_frame_requests: u64,
    /// Received now, and when which was.
    pub layer: Option<u8>,
    pub layers: Vec<LayerChange>,
    pub integrity: Integrity,
    pub first_packet: Option<Duration>,
    pub first_frame: Option<Duration>,
    pub last_packet: Option<Instant>,
    /// The longest time between two packets.
    pub longest_pause: Duration,
    /// It is not received any more.
    pub ended: bool,
    /// Every packet of it is looked at: frames, freezes and gaps between frames are known.
    pub verified: bool,
    /// Nothing came for so long; of video, no frame that could be shown.
    pub silence: Option<Duration>,
    /// One-way, of some of the packets since the participant was last observed; none in other snapshots.
    pub latencies: Vec<Duration>,
    /// Of more than 500 ms, since then.
    pub gaps: Vec<Gap>,
}

impl Track {
    /// Share of packets that did not come at first.
    #[must_use]
    pub fn loss(&self) -> f64 {
        share(self.lost + self.recovered, self.packets + self.lost)
    }

    /// Share of packets that did not come at all.
    #[must_use]
    pub fn residual_loss(&self) -> f64 {
        share(self.lost, self.packets + self.lost)
    }
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

/// What is left of tracks that are not listed any more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Forgotten {
    pub audio: Totals,
    pub video: Totals,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    pub packets: u64,
    pub bytes: u64,
    pub lost: u64,
    pub frames: u64,
}

impl Forgotten {
    pub(super) fn add(&mut self, track: &Track) {
        match track.is_video {
            true => self.video.add(track),
            false => self.audio.add(track),
        }
    }
}

impl Totals {
    pub fn add(&mut self, track: &Track) {
        self.packets += track.packets;
        self.bytes += track.bytes;
        self.lost += track.lost;
        self.frames += track.frames.decoded;
    }
}

/// What was sent, and what the server says of it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sent {
    pub packets: u64,
    /// Those that transport-wide feedback can speak of.
    pub numbered: u64,
    pub bytes: u64,
    /// Sent again because the server missed them.
    pub repairs: u64,
    pub frames: u64,
    /// Frames sent late: the generator did not keep up.
    pub late_frames: u64,
    /// Asked for by the server.
    pub key_frame_requests: u64,
    pub nacks: u64,
    /// By transport-wide feedback.
    pub acknowledged: u64,
    pub reported_lost: u64,
    /// Of the last receiver reports, the worst.
    pub fraction_lost: f64,
    pub round_trip: Option<Duration>,
}

/// Data messages.
#[derive(Debug, Clone)]
pub struct Data {
    pub sent: u64,
    /// Not sent: too much waited already.
    pub refused: u64,
    pub received: u64,
    pub bytes: u64,
    /// Of those that bear a number: how many there should have been, and how many of these did not come.
    pub expected: u64,
    pub missing: u64,
    /// One-way, in microseconds.
    pub latency: Histogram<u32>,
}

/// A track that the participant publishes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    pub name: String,
    /// Empty until the server has accepted it.
    pub sid: String,
    /// It was negotiated.
    pub active: bool,
    /// Packets sent, of each encoding from the lowest up.
    pub packets: Vec<u32>,
}

/// The server ended the session, or what is left of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    Over,
    Resume,
    Rejoin,
}

#[derive(Debug, Clone)]
pub struct Stats {
    pub identity: String,
    pub sid: String,
    /// Every connection has its keys.
    pub connected: bool,
    /// Data can be sent, and received.
    pub data_open: bool,
    pub left: Option<Left>,
    /// Connections that failed, and the last reason.
    pub failures: u64,
    pub failure: Option<String>,
    pub times: JoinTimes,
    /// How often it resumed, and how often it joined anew.
    pub reconnects: u64,
    pub rejoins: u64,
    /// How often ICE found a way: once for each connection, and after each restart.
    pub connects: u64,
    /// Received, now or before.
    pub tracks: Vec<Track>,
    /// What came of tracks that ended too long ago to be among them.
    pub forgotten: Forgotten,
    pub published: Vec<Publication>,
    /// What others publish, as signaling says.
    pub remote: Vec<RemoteTrack>,
    /// Where it is itself.
    pub place: Place,
    /// As others see it.
    pub me: Person,
    /// What the server said to requests, by their numbers: why it refused, or nothing.
    pub answers: BTreeMap<u32, Option<String>>,
    /// Who else is in the room. Shared: each of many may look at all of them every second.
    pub others: Vec<Arc<Person>>,
    pub sent: Sent,
    pub data: Data,
    /// One-way, in microseconds, of all packets that were looked at.
    pub audio_latency: Histogram<u32>,
    pub video_latency: Histogram<u32>,
    /// Over all tracks, those that ended included.
    pub integrity: Integrity,
    /// Datagrams that did not prove authentic, or that belong to nothing.
    pub refused: u64,
    pub unplaced: u64,
    /// Media in drain mode.
    pub drained_packets: u64,
    pub drained_bytes: u64,
    /// Of STUN.
    pub round_trip: Option<Duration>,
    /// What the impaired network did, to the server and from it.
    pub up: Counts,
    pub down: Counts,
}

/// Of somebody who has seen nothing.
impl Default for Stats {
    fn default() -> Self {
        Self {
            identity: String::new(),
            sid: String::new(),
            connected: false,
            data_open: false,
            left: None,
            failures: 0,
            failure: None,
            times: JoinTimes::default(),
            reconnects: 0,
            rejoins: 0,
            connects: 0,
            tracks: Vec::new(),
            forgotten: Forgotten::default(),
            published: Vec::new(),
            remote: Vec::new(),
            place: Place::default(),
            me: Person::default(),
            answers: BTreeMap::new(),
            others: Vec::new(),
            sent: Sent::default(),
            data: Data {
                sent: 0,
                refused: 0,
                received: 0,
                bytes: 0,
                expected: 0,
                missing: 0,
                latency: latencies(),
            },
            audio_latency: latencies(),
            video_latency: latencies(),
            integrity: Integrity::default(),
            refused: 0,
            unplaced: 0,
            drained_packets: 0,
            drained_bytes: 0,
            round_trip: None,
            up: Counts::default(),
            down: Counts::default(),
        }
    }
}

impl Stats {
    pub fn tracks_of<'a>(&'a self, identity: &'a str) -> impl Iterator<Item = &'a Track> {
        self.tracks
            .iter()
            .filter(move |track| track.identity == identity)
    }

    #[must_use]
    pub fn track(&self, sid: &str) -> Option<&Track> {
        // Of one that was received before, the last.
        self.tracks.iter().rfind(|track| track.sid == sid)
    }
}
