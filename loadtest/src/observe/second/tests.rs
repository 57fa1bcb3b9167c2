//! What looks at a participant are worth, second by second.

use pipemesh_loadtest_client::stats::{FrameCounts, Gap, LayerChange};

use super::*;
use crate::metrics::Registry;

const SECOND: Duration = Duration::from_secs(1);

/// A participant that is looked at once a second.
struct Bench {
    registry: Registry,
    meters: Meters,
    seconds: Seconds,
    stats: Stats,
    at: Duration,
    /// Somebody's outage: who, from when until when, and why.
    outage: Option<(&'static str, Duration, Duration, Cause)>,
    told: Vec<Measurement>,
}

impl Bench {
    /// Subscribed to one track at the beginning.
    fn new(is_video: bool) -> Self {
        let registry = Registry::new();
        let meters = Meters::of(&registry);
        let mut seconds = Seconds::default();
        seconds.subscribe("TR_1", Duration::ZERO);
        let stats = Stats {
            remote: vec![RemoteTrack::new("TR_1", is_video)],
            ..Stats::default()
        };
        Self {
            registry,
            meters,
            seconds,
            stats,
            at: Duration::ZERO,
            outage: None,
            told: Vec::new(),
        }
    }

    /// With the track received since it was subscribed to.
    fn flowing(is_video: bool) -> Self {
        let mut bench = Self::new(is_video);
        bench.stats.tracks.push(Track {
            sid: "TR_1".to_owned(),
            is_video,
            verified: true,
            first_packet: Some(Duration::from_millis(20)),
            first_frame: Some(Duration::from_millis(50)),
            ..Track::default()
        });
        bench
    }

    fn track(&mut self) -> &mut Track {
        self.stats.tracks.last_mut().unwrap()
    }

    fn look(&mut self) {
        self.at += SECOND;
        let outage = self.outage;
        let outage = |identity: &str, from: Duration, until: Duration| {
            let (who, began, ended, cause) = outage?;
            let is_it = who == identity && began <= until && from <= ended;
            is_it.then_some(cause)
        };
        self.told = self
            .seconds
            .handle(&self.stats, SECOND, self.at, &outage, &self.meters);
    }

    /// Values, and for rates their weights, of one metric.
    fn values(&self, metric: &'static str) -> Vec<(f64, f64)> {
        let id = self.registry.builtin(metric);
        let told = self.told.iter().filter(|it| it.metric == id);
        told.map(|it| (it.value, it.weight)).collect()
    }

    #[track_caller]
    fn tells(&self, metric: &'static str, expected: &[(f64, f64)]) {
        let values = self.values(metric);
        let close = |a: f64, b: f64| (a - b).abs() < 1e-6;
        let same = values.len() == expected.len()
            && values
                .iter()
                .zip(expected)
                .all(|(a, b)| close(a.0, b.0) && close(a.1, b.1));
        assert!(same, "{metric}: {values:?}, not {expected:?}");
    }
}

#[test]
fn loss_is_a_share_of_what_was_expected_in_the_second() {
    let mut bench = Bench::flowing(true);
    for (packets, lost, recovered, loss, residual) in [
        (100, 0, 0, (0.0, 100.0), (0.0, 100.0)),
        (198, 2, 0, (2.0, 100.0), (2.0, 100.0)),
        (298, 2, 5, (5.0, 100.0), (0.0, 100.0)),
    ] {
        let track = bench.track();
        (track.packets, track.lost, track.recovered) = (packets, lost, recovered);
        bench.look();
        bench.tells("rtc_packet_loss", &[loss]);
        bench.tells("rtc_residual_loss", &[residual]);
    }
    // Nothing was expected: no share of it.
    bench.look();
    bench.tells("rtc_packet_loss", &[]);
}

#[test]
fn a_track_that_gives_nothing_gives_zeros_as_long_as_it_should_give_something() {
    let mut bench = Bench::new(true);
    bench.look();
    bench.tells("rtc_bitrate_received", &[(0.0, 1.0)]);
    bench.stats.remote[0].muted = true;
    bench.look();
    bench.tells("rtc_bitrate_received", &[]);
    let mut bench = Bench::flowing(true);
    bench.track().frames.decoded = 30;
    bench.look();
    bench.tells("rtc_fps", &[(30.0, 1.0)]);
    bench.look();
    bench.tells("rtc_fps", &[(0.0, 1.0)]);
    bench.seconds.wish("TR_1", None, bench.at);
    bench.look();
    bench.tells("rtc_fps", &[]);
}

#[test]
fn firsts_count_from_subscribing_and_are_told_once() {
    let mut bench = Bench::flowing(false);
    bench.look();
    bench.tells("rtc_time_to_first_packet", &[(20.0, 1.0)]);
    bench.tells("rtc_time_to_first_frame", &[(50.0, 1.0)]);
    bench.look();
    bench.tells("rtc_time_to_first_packet", &[]);
}

#[test]
fn a_freeze_that_lasts_is_frozen_every_second_and_told_when_it_ends() {
    let mut bench = Bench::flowing(true);
    bench.track().frames.decoded = 30;
    bench.look();
    bench.tells("rtc_freeze_ratio", &[(0.0, 1.0)]);
    bench.track().silence = Some(Duration::from_millis(900));
    bench.look();
    bench.tells("rtc_freeze_ratio", &[(0.9, 1.0)]);
    bench.track().silence = Some(Duration::from_millis(1_900));
    bench.look();
    bench.tells("rtc_freeze_ratio", &[(1.0, 1.0)]);
    bench.tells("rtc_freezes", &[]);
    let gap = Gap {
        at: bench.at + Duration::from_millis(990),
        lasted: Duration::from_secs(2),
    };
    let track = bench.track();
    track.silence = Some(Duration::from_millis(10));
    track.frames = FrameCounts {
        decoded: 40,
        freezes: 1,
        frozen: Duration::from_secs(2),
        ..FrameCounts::default()
    };
    track.gaps = vec![gap];
    bench.look();
    bench.tells("rtc_freezes", &[(1.0, 1.0)]);
    bench.tells("rtc_freeze_duration", &[(2_000.0, 1.0)]);
    bench.tells("rtc_media_gap", &[(2_000.0, 1.0)]);
}

#[test]
fn a_gap_that_never_ends_is_told_when_the_session_does() {
    let mut bench = Bench::flowing(false);
    bench.track().silence = Some(Duration::from_secs(7));
    bench.look();
    bench.tells("rtc_media_gap", &[]);
    bench.told = bench.seconds.end(&bench.meters);
    bench.tells("rtc_media_gap", &[(7_000.0, 1.0)]);
    bench.tells("rtc_tracks_missing", &[(0.0, 1.0)]);
}

#[test]
fn silence_on_purpose_is_no_gap() {
    for quiet in [
        |bench: &mut Bench| bench.stats.remote[0].muted = true,
        |bench: &mut Bench| bench.stats.remote[0].paused = true,
        |bench: &mut Bench| bench.seconds.wish("TR_1", None, SECOND),
    ] {
        let mut bench = Bench::flowing(true);
        bench.track().silence = Some(Duration::from_secs(7));
        quiet(&mut bench);
        bench.look();
        bench.told = bench.seconds.end(&bench.meters);
        bench.tells("rtc_media_gap", &[]);
    }
}

#[test]
fn a_track_that_never_came_is_missing_unless_nobody_wanted_it() {
    let mut bench = Bench::new(true);
    bench.look();
    assert_eq!(bench.seconds.wanted(&bench.stats), (1, 0));
    bench.told = bench.seconds.end(&bench.meters);
    bench.tells("rtc_tracks_missing", &[(1.0, 1.0)]);
    let mut bench = Bench::new(true);
    bench.seconds.wish("TR_1", None, SECOND);
    bench.look();
    assert_eq!(bench.seconds.wanted(&bench.stats), (0, 0));
    bench.told = bench.seconds.unsubscribe("TR_1", &bench.meters);
    bench.tells("rtc_tracks_missing", &[(0.0, 1.0)]);
}

#[test]
fn a_receiver_that_is_made_anew_begins_at_zero() {
    let mut bench = Bench::flowing(true);
    let track = bench.track();
    (track.packets, track.frames.decoded) = (1_000, 300);
    bench.look();
    bench.tells("rtc_packets_received", &[(1_000.0, 1.0)]);
    let track = bench.track();
    (track.packets, track.frames.decoded) = (10, 3);
    track.first_packet = Some(Duration::from_millis(1_500));
    bench.look();
    bench.tells("rtc_packets_received", &[(10.0, 1.0)]);
    bench.tells("rtc_frames_received", &[(3.0, 1.0)]);
}

#[test]
fn what_was_received_before_it_was_subscribed_to_again_is_not_counted_again() {
    let mut bench = Bench::flowing(true);
    bench.track().packets = 1_000;
    bench.look();
    bench.seconds.unsubscribe("TR_1", &bench.meters);
    bench.track().ended = true;
    bench.seconds.subscribe("TR_1", bench.at);
    bench.look();
    bench.tells("rtc_packets_received", &[]);
    bench.tells("rtc_time_to_first_packet", &[]);
}

#[test]
fn a_track_that_its_publisher_took_away_gives_nothing_more() {
    let mut bench = Bench::flowing(true);
    bench.look();
    bench.stats.remote.clear();
    bench.track().ended = true;
    for _ in 0..=RETURNS_WITHIN.as_secs() {
        bench.tells("rtc_tracks_missing", &[]);
        bench.look();
    }
    bench.tells("rtc_tracks_missing", &[(0.0, 1.0)]);
    bench.look();
    bench.tells("rtc_bitrate_received", &[]);
    assert_eq!(bench.seconds.wanted(&bench.stats), (0, 0));
}

#[test]
fn a_layer_is_switched_when_it_comes_and_wrong_if_it_does_not() {
    let mut bench = Bench::flowing(true);
    bench.look();
    bench.seconds.wish("TR_1", Some(2), bench.at);
    let came = bench.at + Duration::from_millis(300);
    let track = bench.track();
    track.layer = Some(2);
    track.layers.push(LayerChange { at: came, layer: 2 });
    bench.look();
    bench.tells("rtc_layer_switch_duration", &[(300.0, 1.0)]);
    bench.look();
    bench.tells("rtc_layer_switch_duration", &[]);
    bench.seconds.wish("TR_1", Some(0), bench.at);
    for _ in 0..3 {
        bench.look();
        bench.tells("rtc_layer_mismatch", &[]);
    }
    bench.look();
    bench.tells("rtc_layer_mismatch", &[(1.0, 1.0)]);
    bench.track().layer = Some(0);
    bench.look();
    bench.tells("rtc_layer_mismatch", &[(0.0, 1.0)]);
}

#[test]
fn a_path_is_named_by_where_both_ends_are() {
    let place = |node: &str, region: &str| Place {
        node: node.to_owned(),
        region: region.to_owned(),
    };
    for (publisher, subscriber, expected) in [
        (place("a", "eu"), place("a", "eu"), "same_node"),
        (place("a", "eu"), place("b", "eu"), "cross_node"),
        (place("a", "eu"), place("c", "us"), "cross_region"),
        (place("", ""), place("a", "eu"), ""),
    ] {
        assert_eq!(Path::between(&publisher, &subscriber).name(), expected);
    }
}

#[test]
fn what_is_published_counts_unasked_for_who_is_sent_everything() {
    let mut bench = Bench::flowing(true);
    bench.seconds = Seconds {
        is_auto: true,
        ..Seconds::default()
    };
    bench.track().packets = 50;
    bench.look();
    bench.tells("rtc_packets_received", &[(50.0, 1.0)]);
}

#[test]
fn who_only_counts_packets_misses_no_tracks() {
    let mut bench = Bench::new(true);
    bench.seconds.drains = true;
    bench.stats.drained_packets = 70;
    bench.look();
    bench.tells("rtc_packets_received", &[(70.0, 1.0)]);
    bench.tells("rtc_bitrate_received", &[]);
    bench.told = bench.seconds.end(&bench.meters);
    bench.tells("rtc_tracks_missing", &[]);
}

impl Bench {
    /// The connection is gone, and the track with it.
    fn loses(&mut self) {
        self.track().ended = true;
    }

    /// The track comes over another one.
    fn comes_back(&mut self, first_packet: Duration) {
        let track = self.track().clone();
        self.stats.tracks.push(Track {
            sid: track.sid,
            is_video: track.is_video,
            verified: true,
            first_packet: Some(first_packet),
            ..Track::default()
        });
    }

    fn cause(&self) -> Option<Cause> {
        let id = self.registry.builtin("rtc_media_gap");
        let gap = self.told.iter().find(|it| it.metric == id);
        gap.expect("a gap").about.cause
    }
}

#[test]
fn an_outage_is_silent_and_what_came_before_it_is_counted_once() {
    let mut bench = Bench::flowing(true);
    (bench.track().packets, bench.track().frames.decoded) = (100, 30);
    bench.look();
    bench.tells("rtc_packets_received", &[(100.0, 1.0)]);
    // Some more before the loss, which a look sees.
    (bench.track().packets, bench.track().frames.decoded) = (140, 42);
    bench.loses();
    bench.track().silence = Some(Duration::from_millis(600));
    bench.look();
    bench.tells("rtc_packets_received", &[(40.0, 1.0)]);
    bench.tells("rtc_frames_received", &[(12.0, 1.0)]);
    bench.tells("rtc_freeze_ratio", &[(0.6, 1.0)]);
    bench.track().silence = Some(Duration::from_millis(1_600));
    bench.look();
    bench.tells("rtc_packets_received", &[]);
    bench.tells("rtc_bitrate_received", &[(0.0, 1.0)]);
    bench.tells("rtc_fps", &[(0.0, 1.0)]);
    bench.tells("rtc_freeze_ratio", &[(1.0, 1.0)]);
    bench.comes_back(bench.at + SECOND / 2);
    (bench.track().packets, bench.track().frames.decoded) = (7, 2);
    bench.look();
    bench.tells("rtc_packets_received", &[(7.0, 1.0)]);
    bench.tells("rtc_frames_received", &[(2.0, 1.0)]);
    bench.tells("rtc_time_to_first_packet", &[]);
    assert_eq!(bench.seconds.wanted(&bench.stats), (1, 1));
}

#[test]
fn what_came_before_an_outage_between_two_looks_is_counted_too() {
    let mut bench = Bench::flowing(true);
    bench.track().packets = 100;
    bench.look();
    (bench.track().packets, bench.track().frames.decoded) = (130, 9);
    bench.loses();
    bench.comes_back(bench.at + SECOND / 2);
    (bench.track().packets, bench.track().frames.decoded) = (20, 4);
    bench.look();
    bench.tells("rtc_packets_received", &[(30.0, 1.0), (20.0, 1.0)]);
    bench.tells("rtc_frames_received", &[(9.0, 1.0), (4.0, 1.0)]);
    bench.look();
    bench.tells("rtc_packets_received", &[]);
}

#[test]
fn what_began_and_ended_between_two_looks_has_come() {
    let mut bench = Bench::flowing(true);
    (bench.track().packets, bench.track().frames.decoded) = (30, 9);
    bench.loses();
    bench.comes_back(bench.at);
    (bench.track().first_packet, bench.track().first_frame) = (None, None);
    bench.stats.remote[0].muted = true;
    assert_eq!(bench.seconds.wanted(&bench.stats), (1, 1));
    bench.look();
    bench.tells("rtc_time_to_first_packet", &[(20.0, 1.0)]);
    bench.tells("rtc_time_to_first_frame", &[(50.0, 1.0)]);
    bench.tells("rtc_packets_received", &[(30.0, 1.0)]);
    bench.look();
    bench.tells("rtc_time_to_first_packet", &[]);
    bench.tells("rtc_packets_received", &[]);
    assert_eq!(bench.seconds.wanted(&bench.stats), (1, 1));
}

#[test]
fn a_track_whose_publisher_is_away_is_waited_for() {
    let mut bench = Bench::flowing(true);
    bench.look();
    let remote = std::mem::take(&mut bench.stats.remote);
    bench.loses();
    bench.outage = Some(("", bench.at, 20 * SECOND, Cause::NodeDown));
    for _ in 0..15 {
        bench.look();
        bench.tells("rtc_tracks_missing", &[]);
    }
    bench.stats.remote = remote;
    bench.comes_back(bench.at);
    bench.track().packets = 5;
    bench.look();
    bench.tells("rtc_packets_received", &[(5.0, 1.0)]);
    bench.tells("rtc_time_to_first_packet", &[]);
}

#[test]
fn a_gap_has_the_cause_of_who_was_away_meanwhile() {
    let gap = |bench: &Bench| Gap {
        at: bench.at + SECOND / 2,
        lasted: SECOND,
    };
    for (began, ended, expected) in [
        (SECOND, 5 * SECOND, Cause::NodeDown),
        (2 * SECOND, 5 * SECOND, Cause::Unknown),
        (Duration::ZERO, SECOND / 4, Cause::Unknown),
    ] {
        let mut bench = Bench::flowing(true);
        bench.look();
        bench.outage = Some(("", began, ended, Cause::NodeDown));
        bench.track().gaps = vec![gap(&bench)];
        bench.look();
        assert_eq!(bench.cause(), Some(expected), "{began:?} to {ended:?}");
    }
    // One that does not end.
    let mut bench = Bench::flowing(false);
    bench.outage = Some(("", SECOND / 2, 5 * SECOND, Cause::Migrate));
    bench.track().silence = Some(SECOND);
    bench.look();
    bench.told = bench.seconds.end(&bench.meters);
    assert_eq!(bench.cause(), Some(Cause::Migrate));
}

#[test]
fn a_gap_is_a_layers_if_it_ends_with_the_layer_that_was_asked_for() {
    for (wished, came, expected) in [(2, 2, Cause::Layer), (1, 2, Cause::Unknown)] {
        let mut bench = Bench::flowing(true);
        bench.look();
        bench.seconds.wish("TR_1", Some(wished), bench.at);
        let at = bench.at + Duration::from_millis(900);
        let track = bench.track();
        track.layer = Some(came);
        track.layers.push(LayerChange { at, layer: came });
        track.gaps = vec![Gap {
            at,
            lasted: Duration::from_millis(800),
        }];
        bench.look();
        assert_eq!(bench.cause(), Some(expected));
    }
}

#[test]
fn how_speech_sounds_is_estimated_where_latency_is_known() {
    let ms = Duration::from_millis;
    let mut bench = Bench::flowing(false);
    bench.track().packets = 50;
    bench.look();
    // Media of files, for example.
    bench.tells("rtc_mos", &[]);
    let track = bench.track();
    (track.packets, track.lost, track.jitter) = (95, 5, ms(10));
    track.latencies = vec![ms(30), ms(50)];
    bench.look();
    let told = bench.values("rtc_mos");
    // A tenth of that second's packets were lost.
    assert!(
        matches!(told[..], [(mos, 1.0)] if (3.4..3.45).contains(&mos)),
        "{told:?}"
    );
    bench.track().latencies.clear();
    bench.look();
    bench.tells("rtc_mos", &[]);
    let mut bench = Bench::flowing(true);
    bench.track().latencies = vec![ms(30)];
    bench.look();
    bench.tells("rtc_mos", &[]);
}

#[test]
fn data_that_did_not_come_is_a_share_of_what_was_expected() {
    let mut bench = Bench::new(true);
    bench.look();
    bench.tells("rtc_data_loss", &[]);
    for (expected, missing, told) in [
        (10, 0, &[(0.0, 10.0)][..]),
        (30, 5, &[(5.0, 20.0)]),
        (30, 5, &[]),
        // Two came late: that they were missing was told.
        (40, 3, &[(0.0, 10.0)]),
        (50, 7, &[(2.0, 10.0)]),
    ] {
        (bench.stats.data.expected, bench.stats.data.missing) = (expected, missing);
        bench.look();
        bench.tells("rtc_data_loss", told);
    }
}
