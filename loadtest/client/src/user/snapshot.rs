//! What the participant has seen, as a snapshot.

use std::time::{Duration, Instant};

use livekit_protocol::leave_request::Action;

use super::{MAX_FINISHED, User};
use crate::connection::{Connection, Incoming};
use crate::media::publication::Publication as Sending;
use crate::stats::{Counts, Gap, Integrity, Left, Publication, Sent, Stats, Track};
use crate::transport::data::Reliability;

impl User {
    pub(super) fn finish(&mut self, incoming: &Incoming) {
        if incoming.receiver.first_packet.is_some() {
            if self.finished.len() == MAX_FINISHED {
                self.forgotten.add(&self.finished.remove(0));
            }
            let track = self.track(incoming);
            self.finished.push(Track {
                ended: true,
                ..track
            });
        }
    }

    fn track(&self, incoming: &Incoming) -> Track {
        let receiver = &incoming.receiver;
        let (counts, remote) = (receiver.counts(), self.remote.get(&incoming.sid));
        let since = |at| self.since_began(at);
        Track {
            sid: incoming.sid.clone(),
            identity: remote.map_or(String::new(), |it| it.identity.clone()),
            name: remote.map_or(String::new(), |it| it.name.clone()),
            is_video: receiver.setup.is_video(),
            packets: counts.received,
            bytes: receiver.bytes,
            duplicates: counts.duplicates,
            reordered: counts.reordered,
            recovered: counts.recovered,
            lost: counts.lost,
            missing: receiver.missing() as u64,
            asked: counts.asked,
            jitter: receiver.jitter(),
            frames: receiver.frames(),
            key_frame_requests: receiver.key_frame_requests,
            layer: receiver.layer(),
            layers: receiver.layers.clone(),
            integrity: receiver.integrity,
            first_packet: receiver.first_packet.map(since),
            first_frame: receiver.first_frame.map(since),
            last_packet: receiver.last_packet(),
            longest_pause: receiver.longest_pause,
            ended: false,
            verified: receiver.verified,
            silence: None,
            latencies: Vec::new(),
            gaps: Vec::new(),
        }
    }

    pub(crate) fn stats(&mut self) -> Stats {
        let current = self.connections.iter().flat_map(Connection::incoming);
        let current: Vec<Track> = current.map(|it| self.track(it)).collect();
        let mut tracks = self.finished.clone();
        tracks.extend(current);
        let mut integrity = Integrity::default();
        for connection in &self.connections {
            integrity.add(&connection.past_integrity);
            connection
                .incoming()
                .iter()
                .for_each(|it| integrity.add(&it.receiver.integrity));
        }
        let mut times = self.times;
        times.first_packet = tracks.iter().filter_map(|it| it.first_packet).min();
        times.first_frame = tracks.iter().filter_map(|it| it.first_frame).min();
        let downlink = &self.connections[self.connections.len() - 1];
        let measured = &downlink.measured;
        let mut stats = Stats {
            identity: self.identity.clone(),
            sid: self.sid.clone(),
            connected: self.is_connected(),
            data_open: self.connections.iter().all(|connection| {
                let transport = &connection.transport;
                [Reliability::Reliable, Reliability::Lossy].map(|how| transport.is_data_open(how))
                    == [true; 2]
            }),
            left: self.left.map(left),
            failures: self.failures,
            failure: self.failure.clone(),
            times,
            reconnects: self.reconnects,
            rejoins: self.rejoins,
            connects: self.connects,
            tracks,
            published: self
                .published
                .iter()
                .map(|it| Publication {
                    name: it.name.clone(),
                    sid: it.sid().unwrap_or_default().to_owned(),
                    active: it.active,
                    packets: self
                        .outgoing(&it.name)
                        .map(Sending::packets)
                        .unwrap_or_default(),
                })
                .collect(),
            remote: self.remote.values().cloned().collect(),
            place: self.place.clone(),
            me: self.me.clone(),
            answers: self.answers.clone(),
            forgotten: self.forgotten,
            others: self.others.values().cloned().collect(),
            sent: Sent::default(),
            data: self.data.clone(),
            audio_latency: measured.audio_latency.clone(),
            video_latency: measured.video_latency.clone(),
            integrity,
            refused: self
                .connections
                .iter()
                .map(|it| it.measured.refused + it.transport.refused)
                .sum(),
            unplaced: self.connections.iter().map(|it| it.measured.unplaced).sum(),
            drained_packets: measured.drained.0,
            drained_bytes: measured.drained.1,
            round_trip: downlink.transport.ice().round_trip(),
            up: Counts::default(),
            down: Counts::default(),
        };
        stats.sent = self.sent();
        stats
    }

    /// A snapshot with what came since the last of these.
    pub(crate) fn observe(&mut self, now: Instant) -> Stats {
        let mut stats = self.stats();
        let began = self.began;
        for connection in &mut self.connections {
            for incoming in connection.incoming_mut() {
                let (latencies, gaps) = incoming.receiver.take_recent();
                let mut tracks = stats.tracks.iter_mut();
                if let Some(track) = tracks.rfind(|it| it.sid == incoming.sid && !it.ended) {
                    track.silence = incoming.receiver.silence(now);
                    track.latencies = latencies;
                    let gap = |(ended, lasted): (Instant, Duration)| Gap {
                        at: ended.saturating_duration_since(began),
                        lasted,
                    };
                    track.gaps = gaps.into_iter().map(gap).collect();
                }
            }
        }
        for (sid, receiver) in &self.lost {
            if let Some(track) = stats.tracks.iter_mut().rfind(|it| it.sid == *sid) {
                track.silence = receiver.silence(now);
            }
        }
        stats
    }

    fn sent(&mut self) -> Sent {
        let uplink = &mut self.connections[0];
        let (measured, counts) = (&uplink.measured, uplink.measured.sent);
        let mut sent = Sent {
            packets: counts.packets,
            numbered: counts.numbered,
            bytes: counts.bytes,
            repairs: counts.repairs,
            frames: counts.frames,
            late_frames: counts.late,
            key_frame_requests: measured.key_frame_requests,
            nacks: measured.nacks,
            acknowledged: measured.acknowledged,
            reported_lost: measured.reported_lost,
            fraction_lost: 0.0,
            round_trip: None,
        };
        for outgoing in &mut uplink.outgoing {
            let (round_trip, lost) = outgoing.publication.reported();
            sent.round_trip = sent.round_trip.max(round_trip);
            sent.fraction_lost = sent.fraction_lost.max(lost);
        }
        sent
    }
}

fn left(action: Action) -> Left {
    match action {
        Action::Disconnect => Left::Over,
        Action::Resume => Left::Resume,
        Action::Reconnect => Left::Rejoin,
    }
}
