//! What the difference of two looks at a participant is worth.
//!
//! Pure: snapshots and times in, measurements out. Every stream that was subscribed to gives a value for
//! each second, also if nothing came.

use std::collections::BTreeMap;
use std::time::Duration;

use pipemesh_loadtest_client::stats::{Gap, Sent, Stats, Track};
use pipemesh_loadtest_client::{Join, Place, ReceiveMode, RemoteTrack};

use super::meters::Meters;
use super::mos::mos;
use super::outages::Cause;
use crate::metrics::MetricId;

/// Media that does not come for so long is missed by people.
const MEDIA_GAP: Duration = Duration::from_millis(500);
/// A layer that was asked for may take so long before another one counts as wrong.
const LAYER_GRACE: Duration = Duration::from_secs(3);
/// A publisher who joins anew takes his tracks away for so long. Whose is known to be away has longer.
const RETURNS_WITHIN: Duration = Duration::from_secs(5);

/// What one value is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) enum Kind {
    #[default]
    None,
    Audio,
    Video,
}

/// Which way media took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) enum Path {
    #[default]
    Unknown,
    SameNode,
    CrossNode,
    CrossRegion,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct About {
    pub(super) kind: Kind,
    pub(super) path: Path,
    /// 0 is the lowest.
    pub(super) layer: Option<u8>,
    /// Of a gap.
    pub(super) cause: Option<Cause>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Measurement {
    pub(super) metric: MetricId,
    pub(super) about: About,
    pub(super) value: f64,
    pub(super) weight: f64,
}

/// A subscription as its user sees it.
#[derive(Debug, Clone)]
struct Subscription {
    /// Since the participant began to join.
    since: Duration,
    /// Of the publisher.
    identity: String,
    /// Since when nobody publishes it.
    absent: Option<Duration>,
    before: Track,
    /// The layer that is wanted, since when, and whether its coming was told.
    wish: Option<(u8, Duration, bool)>,
    off: bool,
    told_packet: bool,
    told_frame: bool,
    /// Media should flow, and does not.
    silence: Option<(About, Duration)>,
}

/// Keeps the last look at one participant.
#[derive(Debug, Default)]
pub(super) struct Seconds {
    subscriptions: BTreeMap<String, Subscription>,
    /// Everything that is published is sent to it unasked.
    is_auto: bool,
    /// Nothing is known of what it receives but how much.
    drains: bool,
    sent: Sent,
    data: (u64, u64),
    /// Numbered data messages that were expected, and those whose absence was told.
    numbered: (u64, u64),
    errors: u64,
    drained: (u64, u64),
}

impl Path {
    pub(super) fn between(publisher: &Place, subscriber: &Place) -> Self {
        if publisher.node.is_empty() || subscriber.node.is_empty() {
            return Self::Unknown;
        }
        match () {
            () if publisher.node == subscriber.node => Self::SameNode,
            () if publisher.region == subscriber.region => Self::CrossNode,
            () => Self::CrossRegion,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Unknown => "",
            Self::SameNode => "same_node",
            Self::CrossNode => "cross_node",
            Self::CrossRegion => "cross_region",
        }
    }
}

impl Seconds {
    pub(super) fn of(join: &Join) -> Self {
        Self {
            is_auto: join.auto_subscribe,
            drains: join.mode == ReceiveMode::Drain,
            ..Self::default()
        }
    }

    pub(super) fn subscribe(&mut self, sid: &str, at: Duration) {
        self.subscriptions
            .entry(sid.to_owned())
            .or_insert(Subscription {
                since: at,
                identity: String::new(),
                absent: None,
                before: Track::default(),
                wish: None,
                off: false,
                told_packet: false,
                told_frame: false,
                silence: None,
            });
    }

    pub(super) fn wish(&mut self, sid: &str, layer: Option<u8>, at: Duration) {
        if let Some(subscription) = self.subscriptions.get_mut(sid) {
            subscription.off = layer.is_none();
            subscription.wish = layer.map(|layer| (layer, at, false));
        }
    }

    /// Ends a subscription, with what there is to say of it.
    pub(super) fn unsubscribe(&mut self, sid: &str, meters: &Meters) -> Vec<Measurement> {
        let ended = self.subscriptions.remove(sid);
        ended
            .into_iter()
            .flat_map(|it| it.end(self.drains, meters))
            .collect()
    }

    /// Ends all of them.
    pub(super) fn end(&mut self, meters: &Meters) -> Vec<Measurement> {
        let ended = std::mem::take(&mut self.subscriptions).into_values();
        ended.flat_map(|it| it.end(self.drains, meters)).collect()
    }

    /// Of the tracks that are wanted: how many, and how many have come.
    pub(super) fn wanted(&self, stats: &Stats) -> (usize, usize) {
        let wanted = self.subscriptions.iter().filter(|(_, it)| !it.off);
        let has_come = |sid: &str, it: &Subscription| {
            let mut tracks = stats.tracks.iter().filter(|track| belongs(track, sid, it));
            it.told_packet || tracks.any(|track| track.first_packet.is_some())
        };
        let received = wanted.clone().filter(|(sid, it)| has_come(sid, it));
        (wanted.count(), received.count())
    }

    /// `elapsed`: since the last look. `at`: since the participant began to join. `outage`: why somebody,
    /// or the participant itself, was away between two such times.
    pub(super) fn handle(
        &mut self,
        stats: &Stats,
        elapsed: Duration,
        at: Duration,
        outage: &dyn Fn(&str, Duration, Duration) -> Option<Cause>,
        meters: &Meters,
    ) -> Vec<Measurement> {
        let mut told = Tell {
            meters,
            outage,
            told: Vec::new(),
            elapsed: elapsed.as_secs_f64().max(0.001),
        };
        if self.is_auto {
            stats
                .remote
                .iter()
                .for_each(|it| self.subscribe(&it.sid, at));
        }
        let mut gone = Vec::new();
        for (sid, subscription) in self.subscriptions.iter_mut().filter(|_| !self.drains) {
            let remote = stats.remote.iter().find(|it| it.sid == *sid);
            let track = current(stats, sid, subscription);
            let before = former(stats, sid, subscription, track);
            told.track(subscription, remote, (track, before), &stats.place, at);
            match remote {
                Some(remote) => {
                    subscription.identity.clone_from(&remote.identity);
                    subscription.absent = None;
                }
                None if track.is_none_or(|track| track.ended) => {
                    let since = *subscription.absent.get_or_insert(at);
                    let began = at.saturating_sub(RETURNS_WITHIN);
                    let is_away = outage(&subscription.identity, began, at).is_some();
                    if since <= began && !is_away {
                        gone.push(sid.clone());
                    }
                }
                None => {}
            }
        }
        for sid in gone {
            let ended = self.subscriptions.remove(&sid);
            // Its publisher took it away: it is not missing.
            let ended = ended.filter(|it| it.told_packet);
            told.told
                .extend(ended.into_iter().flat_map(|it| it.end(false, meters)));
        }
        let before = std::mem::replace(&mut self.sent, stats.sent);
        told.sent(&before, &stats.sent);
        let drained = (stats.drained_packets, stats.drained_bytes);
        let (packets, bytes) = std::mem::replace(&mut self.drained, drained);
        told.count(
            meters.rtc_packets_received,
            About::default(),
            drained.0 - packets,
        );
        told.count(meters.data_received, About::default(), drained.1 - bytes);
        let (sent, received) =
            std::mem::replace(&mut self.data, (stats.data.sent, stats.data.received));
        told.count(
            meters.rtc_data_msgs_sent,
            About::default(),
            stats.data.sent - sent,
        );
        told.count(
            meters.rtc_data_msgs_received,
            About::default(),
            stats.data.received - received,
        );
        let (expected, missing) = (stats.data.expected, stats.data.missing);
        let (before, told_missing) = self.numbered;
        // One that came late after all was told already.
        let lost = missing.saturating_sub(told_missing);
        self.numbered = (expected, told_missing + lost);
        if expected > before {
            let (lost, expected) = (lost as f64, (expected - before) as f64);
            told.add(meters.rtc_data_loss, About::default(), lost, expected);
        }
        let errors = stats.integrity.errors();
        let before = std::mem::replace(&mut self.errors, errors);
        // Zero is told too: a threshold on it has to see that somebody looked.
        told.add(
            meters.rtc_integrity_errors,
            About::default(),
            errors.saturating_sub(before) as f64,
            1.0,
        );
        if let Some(round_trip) = stats.round_trip {
            told.add(meters.rtc_rtt, About::default(), millis(round_trip), 1.0);
        }
        told.told
    }
}

/// The track of a subscription; one that ended before is none of it.
fn current<'a>(stats: &'a Stats, sid: &str, subscription: &Subscription) -> Option<&'a Track> {
    let mut tracks = stats.tracks.iter();
    tracks.rfind(|it| belongs(it, sid, subscription))
}

fn belongs(track: &Track, sid: &str, subscription: &Subscription) -> bool {
    track.sid == sid && (!track.ended || track.first_packet >= Some(subscription.since))
}

/// What came last of a track that was negotiated anew since the last look.
fn former<'a>(
    stats: &'a Stats,
    sid: &str,
    subscription: &Subscription,
    current: Option<&Track>,
) -> Option<&'a Track> {
    let current = current?;
    let mut ended = stats.tracks.iter().filter(|it| it.sid == sid && it.ended);
    match subscription.before.first_packet {
        first @ Some(_) if current.first_packet == first => None,
        first @ Some(_) => ended.find(|it| it.first_packet == first),
        // It began and ended between two looks.
        None if !current.ended && !subscription.told_packet => {
            ended.rfind(|it| it.first_packet >= Some(subscription.since))
        }
        None => None,
    }
}

impl Subscription {
    /// Which of its gaps ended with the first frame of a layer that was asked for.
    fn asked_for(&self, track: &Track, gap: &Gap) -> bool {
        let came = |layer: u8| {
            let mut layers = track.layers.iter();
            layers.any(|it| it.at == gap.at && it.layer == layer)
        };
        let began = gap.at.saturating_sub(gap.lasted + LAYER_GRACE);
        self.wish
            .is_some_and(|(layer, asked, _)| came(layer) && (began..=gap.at).contains(&asked))
    }

    fn end(self, drains: bool, meters: &Meters) -> Vec<Measurement> {
        let measurement = |metric, about, value| Measurement {
            metric,
            about,
            value,
            weight: 1.0,
        };
        let mut told = Vec::new();
        if !drains {
            let missing = f64::from(u8::from(!self.told_packet && !self.off));
            told.push(measurement(
                meters.rtc_tracks_missing,
                About::default(),
                missing,
            ));
        }
        if let Some((about, silence)) = self.silence {
            told.push(measurement(meters.rtc_media_gap, about, millis(silence)));
        }
        told
    }
}

struct Tell<'a> {
    meters: &'a Meters,
    outage: &'a dyn Fn(&str, Duration, Duration) -> Option<Cause>,
    told: Vec<Measurement>,
    elapsed: f64,
}

impl Tell<'_> {
    fn add(&mut self, metric: MetricId, about: About, value: f64, weight: f64) {
        self.told.push(Measurement {
            metric,
            about,
            value,
            weight,
        });
    }

    fn count(&mut self, metric: MetricId, about: About, count: u64) {
        if count > 0 {
            self.add(metric, about, count as f64, 1.0);
        }
    }

    fn sent(&mut self, before: &Sent, now: &Sent) {
        let meters = self.meters;
        let about = About::default();
        self.count(meters.rtc_packets_sent, about, now.packets - before.packets);
        self.count(meters.rtc_frames_sent, about, now.frames - before.frames);
        self.count(meters.data_sent, about, now.bytes - before.bytes);
        self.count(meters.rtc_nacks_received, about, now.nacks - before.nacks);
        let requests = now.key_frame_requests - before.key_frame_requests;
        self.count(meters.rtc_plis_received, about, requests);
        if now.packets > 0 {
            let bits = (now.bytes - before.bytes) as f64 * 8.0 / self.elapsed;
            self.add(meters.rtc_bitrate_sent, about, bits, 1.0);
        }
    }

    fn track(
        &mut self,
        subscription: &mut Subscription,
        remote: Option<&RemoteTrack>,
        (track, former): (Option<&Track>, Option<&Track>),
        place: &Place,
        at: Duration,
    ) {
        let flows = !subscription.off && remote.is_some_and(|it| !it.muted && !it.paused);
        let Some(track) = track else {
            // Not negotiated: it gives nothing, which is a value.
            let kind = match remote.map(|it| it.is_video) {
                Some(true) => Kind::Video,
                Some(false) => Kind::Audio,
                None => return,
            };
            let about = About {
                kind,
                ..About::default()
            };
            if flows {
                self.add(self.meters.rtc_bitrate_received, about, 0.0, 1.0);
            }
            return;
        };
        let about = About {
            kind: if track.is_video {
                Kind::Video
            } else {
                Kind::Audio
            },
            path: remote.map_or(Path::Unknown, |it| Path::between(&it.place, place)),
            layer: track.layer.filter(|_| track.is_video),
            cause: None,
        };
        if let Some(former) = former {
            self.firsts(subscription, former, about);
            self.counted(&subscription.before, former, about);
            self.framed(&subscription.before, former, about);
        }
        if track.first_packet != subscription.before.first_packet {
            // It was negotiated anew, and counts from the beginning.
            subscription.before = Track::default();
        }
        self.firsts(subscription, track, about);
        self.packets(&subscription.before, track, about, flows);
        let silence = track
            .silence
            .filter(|silence| flows && *silence > MEDIA_GAP);
        let identity = remote.map_or("", |it| it.identity.as_str());
        subscription.silence = silence.map(|lasted| {
            let cause = (self.outage)(identity, at.saturating_sub(lasted), at);
            let cause = Some(cause.unwrap_or(Cause::Unknown));
            (About { cause, ..about }, lasted)
        });
        if track.is_video && track.verified {
            self.frames(&subscription.before, track, about, flows, silence);
        }
        if track.is_video && flows {
            self.layers(subscription, track, about, at);
        }
        if flows {
            for gap in &track.gaps {
                let away = (self.outage)(identity, gap.at.saturating_sub(gap.lasted), gap.at);
                let cause = away.unwrap_or(match subscription.asked_for(track, gap) {
                    true => Cause::Layer,
                    false => Cause::Unknown,
                });
                let about = About {
                    cause: Some(cause),
                    ..about
                };
                self.add(self.meters.rtc_media_gap, about, millis(gap.lasted), 1.0);
            }
        }
        subscription.before = Track {
            latencies: Vec::new(),
            gaps: Vec::new(),
            ..track.clone()
        };
    }

    fn firsts(&mut self, subscription: &mut Subscription, track: &Track, about: About) {
        let after = |first: Duration| millis(first.saturating_sub(subscription.since));
        if let (false, Some(first)) = (subscription.told_packet, track.first_packet) {
            subscription.told_packet = true;
            self.add(
                self.meters.rtc_time_to_first_packet,
                about,
                after(first),
                1.0,
            );
        }
        if let (false, Some(first)) = (subscription.told_frame, track.first_frame) {
            subscription.told_frame = true;
            self.add(
                self.meters.rtc_time_to_first_frame,
                about,
                after(first),
                1.0,
            );
        }
    }

    /// What is counted of a track; answers the bytes of it.
    fn counted(&mut self, before: &Track, track: &Track, about: About) -> u64 {
        let meters = self.meters;
        let since = |part: fn(&Track) -> u64| part(track).saturating_sub(part(before));
        let (packets, lost, recovered) = (
            since(|it| it.packets),
            since(|it| it.lost),
            since(|it| it.recovered),
        );
        let bytes = since(|it| it.bytes);
        self.count(meters.rtc_packets_received, about, packets);
        self.count(meters.data_received, about, bytes);
        self.count(meters.rtc_rtx_received, about, recovered);
        self.count(
            meters.rtc_packets_duplicated,
            about,
            since(|it| it.duplicates),
        );
        self.count(
            meters.rtc_packets_reordered,
            about,
            since(|it| it.reordered),
        );
        self.count(meters.rtc_nacks_sent, about, since(|it| it.asked));
        let expected = packets + lost;
        if expected > 0 {
            self.add(
                meters.rtc_packet_loss,
                about,
                (lost + recovered) as f64,
                expected as f64,
            );
            self.add(
                meters.rtc_residual_loss,
                about,
                lost as f64,
                expected as f64,
            );
        }
        bytes
    }

    fn packets(&mut self, before: &Track, track: &Track, about: About, flows: bool) {
        let meters = self.meters;
        let bytes = self.counted(before, track, about);
        if flows || bytes > 0 {
            let bits = bytes as f64 * 8.0 / self.elapsed;
            self.add(meters.rtc_bitrate_received, about, bits, 1.0);
        }
        if track.packets > 0 {
            self.add(meters.rtc_jitter, about, millis(track.jitter), 1.0);
        }
        for latency in &track.latencies {
            self.add(meters.rtc_e2e_latency, about, millis(*latency), 1.0);
        }
        let count = track.latencies.len() as u32;
        let one_way = track.latencies.iter().sum::<Duration>().checked_div(count);
        if let Some(one_way) = one_way.filter(|_| !track.is_video) {
            let since = |part: fn(&Track) -> u64| part(track).saturating_sub(part(before));
            let (packets, lost) = (since(|it| it.packets), since(|it| it.lost));
            let share = lost as f64 / (packets + lost).max(1) as f64;
            let mos = mos(one_way, track.jitter, share);
            self.add(meters.rtc_mos, about, mos, 1.0);
        }
    }

    /// What is counted of a track's frames; answers those that could be shown.
    fn framed(&mut self, before: &Track, track: &Track, about: About) -> u64 {
        let meters = self.meters;
        let since = |part: fn(&Track) -> u64| part(track).saturating_sub(part(before));
        let decoded = since(|it| it.frames.decoded);
        self.count(
            meters.rtc_plis_sent,
            about,
            since(|it| it.key_frame_requests),
        );
        self.count(meters.rtc_frames_received, about, decoded);
        self.count(
            meters.rtc_frames_incomplete,
            about,
            since(|it| it.frames.dropped),
        );
        decoded
    }

    /// `silence`: since when nothing was shown although it should be.
    fn frames(
        &mut self,
        before: &Track,
        track: &Track,
        about: About,
        flows: bool,
        silence: Option<Duration>,
    ) {
        let meters = self.meters;
        let (then, now) = (&before.frames, &track.frames);
        let since = |now: u64, then: u64| now.saturating_sub(then);
        let decoded = self.framed(before, track, about);
        // Nothing came yet, and nothing did before: that is no freeze.
        if !flows || (now.decoded == 0 && silence.is_none()) {
            return;
        }
        self.add(meters.rtc_fps, about, decoded as f64 / self.elapsed, 1.0);
        let freezes = since(now.freezes, then.freezes);
        let frozen = now.frozen.saturating_sub(then.frozen);
        if freezes > 0 {
            self.count(meters.rtc_freezes, about, freezes);
            let mean = millis(frozen) / freezes as f64;
            self.add(meters.rtc_freeze_duration, about, mean, 1.0);
        }
        // A freeze is told when it ends; one that lasts is frozen all the same.
        let share = frozen.max(silence.unwrap_or_default()).as_secs_f64();
        let share = share.min(self.elapsed);
        self.add(meters.rtc_freeze_ratio, about, share, self.elapsed);
    }

    fn layers(
        &mut self,
        subscription: &mut Subscription,
        track: &Track,
        about: About,
        at: Duration,
    ) {
        let Some((layer, asked, told)) = &mut subscription.wish else {
            return;
        };
        // It may have been there when it was asked for.
        let mut since = track
            .layers
            .iter()
            .filter(|it| it.layer == *layer && it.at >= *asked);
        if !*told {
            if let Some(came) = since.next() {
                *told = true;
                let took = millis(came.at.saturating_sub(*asked));
                self.told.push(Measurement {
                    metric: self.meters.rtc_layer_switch_duration,
                    about,
                    value: took,
                    weight: 1.0,
                });
            } else {
                *told = track.layer == Some(*layer);
            }
        }
        if at.saturating_sub(*asked) > LAYER_GRACE
            && let Some(received) = track.layer
        {
            let wrong = f64::from(u8::from(received != *layer));
            self.told.push(Measurement {
                metric: self.meters.rtc_layer_mismatch,
                about,
                value: wrong * self.elapsed,
                weight: self.elapsed,
            });
        }
    }
}

pub(crate) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

#[cfg(test)]
mod tests;
