//! RTCP that the shard sends: reports in both directions, feedback and requests to publishers. And what
//! reports say of a session's connection.

use std::time::{Duration, Instant};

use pipemesh_node_core::quality::{self, Quality, Sample};
use pipemesh_node_core::router::Source;
use pipemesh_node_core::rtcp::{MAX_BLOCKS, MAX_FEEDBACK_LEN, ReportBlock, SenderInfo};
use rand::Rng;

use super::command::Role;
use super::counters::Counters;
use super::event::ConnectionState;
use super::session::LinkReports;
use super::{Shard, Timer};

/// Sender and receiver reports. The rate of RFC 3550 for sessions of this bandwidth is higher; one a
/// second is what browsers do themselves.
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// Feedback on what arrived. A sender's estimate needs several in a round trip; each costs a packet.
pub(super) const FEEDBACK_EVERY: Duration = Duration::from_millis(50);
/// Connection quality is judged over this long. Shorter flickers, longer explains a frozen picture too
/// late.
const JUDGE_EVERY: Duration = Duration::from_secs(5);
/// Judgements of a room are told together: in one of a thousand people they would be a million events
/// in those five seconds otherwise.
const TELL_QUALITY_AFTER: Duration = Duration::from_secs(1);

/// Lost packets that are asked for in one packet, which holds them even if no two of them are neighbours.
const LOST_PER_PACKET: usize = 256;

/// Empty between reports; here to keep its memory.
#[derive(Default)]
pub(super) struct Scratch {
    sources: Vec<(u32, Source)>,
    blocks: Vec<ReportBlock>,
    infos: Vec<(u32, SenderInfo)>,
    lost: Vec<u16>,
}

impl Shard {
    /// Reports go out every second from now on, at a random phase.
    pub(super) fn begin_reports(&mut self, index: usize, now: Instant) {
        let phase = REPORT_EVERY.mul_f64(self.rng.random_range(0.2..1.0));
        let key = self.connections[index].key;
        self.timers.set(now + phase, Timer::Reports(index, key));
    }

    pub(super) fn send_reports(&mut self, index: usize, now: Instant) {
        let connection = &self.connections[index];
        if connection.opener.is_none() {
            return;
        }
        self.serving = Some(connection.session);
        self.timers
            .set(now + REPORT_EVERY, Timer::Reports(index, connection.key));
        self.report_on_received(index, now);
        self.report_on_sent(index, now);
    }

    fn report_on_received(&mut self, index: usize, now: Instant) {
        let connection = &self.connections[index];
        let (ssrc, session) = (connection.ssrc, connection.session);
        let mut sources = std::mem::take(&mut self.scratch.sources);
        sources.extend(connection.inbound.media_sources());
        let mut blocks = std::mem::take(&mut self.scratch.blocks);
        let (mut lost, mut expected) = (0.0, 0.0);
        for (ssrc, source) in sources.drain(..) {
            if let Some(report) = self.router.receiver_report(source, ssrc, now) {
                let block = report.block;
                expected += report.expected as f32;
                lost += report.expected as f32 * f32::from(block.fraction_lost) / 256.0;
                let rate = self.clock_rate(index, source);
                let jitter = Duration::from_secs_f64(f64::from(block.jitter) / f64::from(rate));
                self.sessions[session]
                    .link
                    .note(block.fraction_lost, None, jitter);
                blocks.push(block);
            }
        }
        // All of them share a path: a source of few packets says little of it.
        if let Some(incoming) = &mut self.connections[index].incoming
            && expected > 0.0
        {
            incoming.handle_loss(lost / expected, now);
        }
        for blocks in blocks.chunks(MAX_BLOCKS) {
            self.wire.rtcp(index, |writer| {
                writer.receiver_report(ssrc, blocks);
            });
        }
        blocks.clear();
        (self.scratch.sources, self.scratch.blocks) = (sources, blocks);
    }

    fn report_on_sent(&mut self, index: usize, now: Instant) {
        /// 28 bytes each: a packet holds them with room to spare.
        const REPORTS_PER_PACKET: usize = 32;
        let connection = &self.connections[index];
        let sections = &connection.send;
        let wanted = &self.sessions[connection.session].wanted;
        let mut infos = std::mem::take(&mut self.scratch.infos);
        infos.extend(sections.iter().filter_map(|section| {
            let key = wanted.get(&section.track)?.subscription?;
            Some((section.ssrc, self.router.sender_report(key, now)?))
        }));
        for reports in infos.chunks(REPORTS_PER_PACKET) {
            self.wire.rtcp(index, |writer| {
                for (ssrc, info) in reports {
                    writer.sender_report(*ssrc, *info, &[]);
                }
            });
        }
        infos.clear();
        self.scratch.infos = infos;
    }

    /// What arrived, or what follows for who cannot make anything of that.
    pub(super) fn send_feedback(&mut self, index: usize, now: Instant) {
        let connection = &mut self.connections[index];
        connection.feedback_due = false;
        let incoming = connection.incoming.as_mut();
        if let Some(rate) = incoming.and_then(|incoming| incoming.poll_report(now)) {
            let sources = connection.inbound.estimated_ssrcs();
            self.wire.rtcp(index, |writer| {
                writer.estimated_maximum_bitrate(connection.ssrc, sources, rate.as_bps());
            });
        }
        let mut body = [0; MAX_FEEDBACK_LEN];
        let len = connection.arrivals.feedback(&mut body);
        // Any of the connection's sources serves as the media SSRC.
        let media = connection
            .inbound
            .media_sources()
            .next()
            .map_or(0, |(ssrc, _)| ssrc);
        let ssrc = connection.ssrc;
        if len > 0 {
            self.wire.rtcp(index, |writer| {
                writer.transport_feedback(ssrc, media, &body[..len]);
            });
        }
    }

    pub(super) fn request_key_frame(&mut self, source: Source) {
        if self.request_remote_key_frame(source) {
            return;
        }
        let Some((index, media)) = self.publisher_of(source) else {
            return;
        };
        Counters::add(&self.counters.key_frame_requests, 1);
        let connection = &mut self.connections[index];
        let Some((_, section)) = connection.inbound.ssrc_of(source) else {
            return;
        };
        let feedback = section.plan.feedback;
        let sender = connection.ssrc;
        connection.intra_requests = connection.intra_requests.wrapping_add(1);
        let command = connection.intra_requests;
        self.wire.rtcp(index, |writer| {
            if feedback.picture_loss || !feedback.full_intra_request {
                writer.picture_loss(sender, media);
            } else {
                writer.full_intra_request(sender, media, command);
            }
        });
    }

    pub(super) fn request_packets(&mut self, source: Source) {
        let mut lost = std::mem::take(&mut self.scratch.lost);
        self.router.take_lost(source, &mut lost);
        if !self.request_remote_packets(source, &lost)
            && let Some((index, media)) = self.publisher_of(source)
            // It may have been agreed on at first, and not any more.
            && let Some((_, section)) = self.connections[index].inbound.ssrc_of(source)
            && section.plan.feedback.nack
        {
            Counters::add(&self.counters.nacks_sent, lost.len() as u64);
            let sender = self.connections[index].ssrc;
            for lost in lost.chunks(LOST_PER_PACKET) {
                self.wire.rtcp(index, |writer| {
                    writer.nack(sender, media, lost);
                });
            }
        }
        self.scratch.lost = lost;
    }

    /// The connection an encoding comes from, and its SSRC; `None` before its first packet.
    fn publisher_of(&self, source: Source) -> Option<(usize, u32)> {
        let session = self.publisher(source.track)?.session?;
        let index = self.sessions[session].connection(Role::Publisher)?;
        let (ssrc, _) = self.connections[index].inbound.ssrc_of(source)?;
        Some((index, ssrc))
    }

    fn clock_rate(&self, index: usize, source: Source) -> u32 {
        let section = self.connections[index].inbound.ssrc_of(source);
        let codec = section.and_then(|(_, section)| section.plan.codecs.first());
        codec.map_or(90_000, |codec| codec.codec.clock_rate())
    }

    // Quality.

    pub(super) fn begin_quality(&mut self, index: usize, now: Instant) {
        let key = self.sessions[index].key;
        self.timers
            .set(now + JUDGE_EVERY, Timer::Quality(index, key));
    }

    /// Judges a session's connection and tells its room if the level changed.
    pub(super) fn judge_quality(&mut self, index: usize, now: Instant) {
        let key = self.sessions[index].key;
        self.timers
            .set(now + JUDGE_EVERY, Timer::Quality(index, key));
        let states: Vec<ConnectionState> = self.sessions[index]
            .connections()
            .map(|connection| self.connections[connection].state)
            .collect();
        let session = &mut self.sessions[index];
        let link = std::mem::take(&mut session.link);
        session.link.round_trip = link.round_trip;
        let before = session.quality;
        let judged = if states.contains(&ConnectionState::Interrupted)
            || states.contains(&ConnectionState::Failed)
        {
            (Quality::Lost, 1.0)
        } else if link.any {
            let score = quality::score(link.sample());
            (
                quality::level(score, before.map_or(Quality::Excellent, |(level, _)| level)),
                score,
            )
        } else {
            return;
        };
        session.quality = Some(judged);
        if before.is_some_and(|(level, _)| level == judged.0) {
            return;
        }
        let judgement = (session.participant.clone(), judged.0, judged.1);
        let key = session.room;
        if let Some(room) = self.rooms.get_mut(&key) {
            if room.judged.is_empty() {
                self.timers
                    .set(now + TELL_QUALITY_AFTER, Timer::RoomQuality(key));
            }
            room.judged.push(judgement);
        }
    }
}

impl LinkReports {
    pub(super) fn note(&mut self, lost: u8, round_trip: Option<Duration>, jitter: Duration) {
        self.any = true;
        self.worst_loss = self.worst_loss.max(lost);
        self.worst_jitter = self.worst_jitter.max(jitter);
        if let Some(round_trip) = round_trip {
            // Smoothed as TCP does (RFC 6298).
            let before = self.round_trip.unwrap_or(round_trip);
            self.round_trip = Some((before * 7 + round_trip) / 8);
        }
    }

    fn sample(&self) -> Sample {
        Sample {
            loss: f32::from(self.worst_loss) / 256.0,
            round_trip: self.round_trip.unwrap_or_default(),
            jitter: self.worst_jitter,
        }
    }
}
