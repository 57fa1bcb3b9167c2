//! Bandwidth and allocation together: a subscriber behind a path that is narrow, changes, loses,
//! reorders.

mod path;
mod sim;

use std::time::Duration;

use path::link::Link;
use path::{Camera, Viewer, share};
use pipemesh_node_core::units::{Bitrate, DataSize};
use sim::{Rng, with_seeds};

fn kbps(rate: u64) -> Bitrate {
    Bitrate::from_kbps(rate)
}

fn cameras(count: usize) -> Vec<Camera> {
    (0..count).map(|_| Camera::standard()).collect()
}

fn three_cameras(seed: u64, capacity: u64) -> Viewer {
    Viewer::new(seed, cameras(3), Link::new(kbps(capacity)))
}

const SECOND: Duration = Duration::from_secs(1);

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[test]
fn three_cameras_on_one_megabit_are_steady() {
    with_seeds(8, |seed| {
        let mut viewer = three_cameras(seed, 1000);
        viewer.run(15 * SECOND);
        viewer.forget();
        viewer.run(60 * SECOND);
        assert!(viewer.encodings().iter().all(Option::is_some));
        assert!(viewer.switches <= 2, "{} switches", viewer.switches);
        assert_eq!(viewer.audio_lost(), 0);
        assert!(viewer.worst_queue < millis(200), "{:?}", viewer.worst_queue);
        let freeze = viewer.longest_freeze();
        assert!(freeze < millis(300), "{freeze:?}");
        // Looking for more costs little.
        let share = viewer.padding.as_bytes() * 100 / viewer.media.as_bytes();
        assert!(share < 5, "{share} % padding");
    });
}

#[test]
fn a_limit_is_kept_within_a_second_and_its_end_found_within_ten() {
    with_seeds(8, |seed| {
        let mut viewer = three_cameras(seed, 20_000);
        viewer.run(10 * SECOND);
        assert!(viewer.is_full(), "{:?}", viewer.encodings());
        viewer.forward.capacity = kbps(500);
        viewer.run(SECOND);
        assert!(
            viewer.bandwidth.target() < kbps(500),
            "{:?}",
            viewer.bandwidth.target()
        );
        viewer.run(5 * SECOND);
        viewer.forget();
        viewer.run(14 * SECOND);
        assert!(viewer.worst_queue < millis(250), "{:?}", viewer.worst_queue);
        assert_eq!(viewer.audio_lost(), 0);
        viewer.forward.capacity = kbps(20_000);
        viewer.run(10 * SECOND);
        assert!(viewer.is_full(), "{:?}", viewer.encodings());
    });
}

#[test]
fn three_megabits_half_a_megabit_and_three_again() {
    with_seeds(8, |seed| {
        let mut viewer = three_cameras(seed, 3_000);
        viewer.run(20 * SECOND);
        let used = viewer.used();
        assert!(used > kbps(1_500), "{used:?}");
        viewer.forward.capacity = kbps(500);
        viewer.run(SECOND);
        assert!(
            viewer.bandwidth.target() < kbps(500),
            "{:?}",
            viewer.bandwidth.target()
        );
        viewer.run(14 * SECOND);
        viewer.forward.capacity = kbps(3_000);
        viewer.run(10 * SECOND);
        assert!(
            viewer.used() > used.scale(0.8),
            "{:?} of {used:?}",
            viewer.used()
        );
    });
}

#[test]
fn a_path_that_changes_all_the_time_starves_nobody() {
    with_seeds(8, |seed| {
        let mut viewer = three_cameras(seed, 3_000);
        viewer.forward.longest_queue = millis(1_000);
        let mut rng = Rng(seed + 100);
        viewer.run(10 * SECOND);
        viewer.forget();
        for _ in 0..30 {
            viewer.forward.capacity = kbps(300 + rng.below(2_700));
            viewer.run(millis(2_000 + rng.below(3_000)));
        }
        // A path that falls to a tenth overflows before anybody can hear of it.
        let audio: u64 = viewer.cameras.iter().map(|camera| camera.audio.sent).sum();
        assert!(
            viewer.audio_lost() * 100 < audio,
            "{} of {audio}",
            viewer.audio_lost()
        );
        for camera in &viewer.cameras {
            let gap = camera.audio.longest_gap(viewer.now);
            assert!(gap < millis(700), "{gap:?}");
        }
        let freeze = viewer.longest_freeze();
        assert!(freeze < millis(2_000), "{freeze:?}");
    });
}

#[test]
fn loss_without_congestion_takes_nothing() {
    with_seeds(8, |seed| {
        let mut viewer = three_cameras(seed, 8_000);
        viewer.forward.loss = 5;
        viewer.run(15 * SECOND);
        assert!(viewer.is_full(), "{:?}", viewer.encodings());
        viewer.forget();
        viewer.run(30 * SECOND);
        assert_eq!(viewer.switches, 0);
    });
}

#[test]
fn reordering_repetition_and_jitter_change_nothing() {
    with_seeds(8, |seed| {
        let mut viewer = three_cameras(seed, 8_000);
        viewer.forward.reordered = 5;
        viewer.forward.repeated = 5;
        viewer.forward.jitter = millis(15);
        viewer.back.jitter = millis(30);
        viewer.back.reordered = 5;
        viewer.back.repeated = 5;
        viewer.run(15 * SECOND);
        assert!(viewer.is_full(), "{:?}", viewer.encodings());
        viewer.forget();
        viewer.run(30 * SECOND);
        assert_eq!(viewer.switches, 0);
    });
}

#[test]
fn feedback_that_gets_lost_is_not_loss() {
    with_seeds(8, |seed| {
        let mut viewer = three_cameras(seed, 8_000);
        viewer.feedback_loss = 15;
        viewer.run(20 * SECOND);
        assert!(viewer.is_full(), "{:?}", viewer.encodings());
        viewer.forget();
        viewer.run(30 * SECOND);
        assert_eq!(viewer.switches, 0);
    });
}

#[test]
fn other_intervals_and_long_ways_are_as_good() {
    for (interval, delay) in [(50, 5), (250, 20), (100, 150)] {
        with_seeds(5, |seed| {
            let mut viewer = three_cameras(seed, 8_000);
            viewer.feedback_interval = interval;
            viewer.forward.delay = millis(delay);
            viewer.back.delay = millis(delay);
            viewer.run(15 * SECOND);
            assert!(viewer.is_full(), "{:?}", viewer.encodings());
            viewer.forward.capacity = kbps(1_000);
            viewer.run(millis(1_500));
            assert!(viewer.bandwidth.target() < kbps(1_000));
            viewer.run(10 * SECOND);
            viewer.forget();
            viewer.run(20 * SECOND);
            assert!(viewer.switches <= 2, "{}", viewer.switches);
            viewer.forward.capacity = kbps(8_000);
            viewer.run(12 * SECOND);
            assert!(viewer.is_full(), "{:?}", viewer.encodings());
        });
    }
}

#[test]
fn a_path_that_drops_instead_of_queueing_is_kept_to() {
    with_seeds(8, |seed| {
        let mut viewer = three_cameras(seed, 1_000);
        viewer.forward.longest_queue = millis(30);
        viewer.run(20 * SECOND);
        viewer.forget();
        let (sent, dropped) = (viewer.media, viewer.forward.dropped);
        viewer.run(60 * SECOND);
        let packets = (viewer.media.saturating_sub(sent)).as_bytes() / 600;
        let lost = (viewer.forward.dropped - dropped) * 100 / packets;
        assert!(lost < 5, "{lost} %");
        assert!(viewer.encodings().iter().filter(|e| e.is_some()).count() >= 2);
    });
}

#[test]
fn nothing_is_probed_for_nobody_and_the_estimate_waits() {
    with_seeds(6, |seed| {
        let mut viewer = three_cameras(seed, 8_000);
        viewer.run(10 * SECOND);
        let estimate = viewer.bandwidth.estimate();
        for camera in &mut viewer.cameras {
            camera.visible = false;
        }
        viewer.run(SECOND);
        viewer.forget();
        viewer.run(60 * SECOND);
        assert_eq!(viewer.padding, DataSize::ZERO);
        let now = viewer.bandwidth.estimate();
        assert!(
            now <= estimate && now > estimate.scale(0.95),
            "{now:?} {estimate:?}"
        );
        for camera in &mut viewer.cameras {
            camera.visible = true;
        }
        viewer.run(2 * SECOND);
        assert!(viewer.is_full(), "{:?}", viewer.encodings());
    });
}

#[test]
fn without_feedback_less_and_less_is_sent() {
    with_seeds(6, |seed| {
        let mut viewer = three_cameras(seed, 8_000);
        viewer.run(10 * SECOND);
        viewer.mute_feedback = true;
        viewer.run(millis(900));
        assert!(viewer.bandwidth.target() < kbps(4_500));
        viewer.run(5 * SECOND);
        assert!(viewer.bandwidth.target() < kbps(100));
        viewer.mute_feedback = false;
        viewer.run(10 * SECOND);
        assert!(viewer.is_full(), "{:?}", viewer.encodings());
    });
}

/// Nothing is said of audio, which takes all that the lowest estimate allows.
#[test]
fn the_picture_comes_back_after_an_outage_however_much_the_audio_takes() {
    with_seeds(8, |seed| {
        for outage in [1, 3, 10, 40] {
            let mut viewer = Viewer::new(seed, cameras(1), Link::new(kbps(8_000)));
            viewer.audio_is_unnumbered = true;
            viewer.audio_size = 300;
            viewer.run(10 * SECOND);
            assert!(viewer.is_full(), "{:?}", viewer.encodings());
            (viewer.forward.is_cut, viewer.back.is_cut) = (true, true);
            viewer.run(outage * SECOND);
            (viewer.forward.is_cut, viewer.back.is_cut) = (false, false);
            viewer.run(4 * SECOND);
            viewer.forget();
            viewer.run(4 * SECOND);
            let freeze = viewer.longest_freeze();
            assert!(freeze < millis(500), "{outage} s: {freeze:?}");
            assert!(viewer.is_full(), "{outage} s: {:?}", viewer.encodings());
        }
    });
}

/// A client has moved: what the former path lost while the move went unseen says nothing of the new one.
#[test]
fn a_new_path_is_begun_anew() {
    with_seeds(8, |seed| {
        let mut viewer = three_cameras(seed, 8_000);
        viewer.run(10 * SECOND);
        assert!(viewer.is_full(), "{:?}", viewer.encodings());
        (viewer.forward.is_cut, viewer.back.is_cut) = (true, true);
        viewer.run(millis(2_500));
        assert!(viewer.bandwidth.target() < kbps(600));
        (viewer.forward.is_cut, viewer.back.is_cut) = (false, false);
        viewer.forward.delay += millis(60);
        viewer.bandwidth.path_changed(viewer.now);
        assert_eq!(viewer.bandwidth.target(), kbps(1_000));
        viewer.run(2 * SECOND);
        viewer.forget();
        viewer.run(6 * SECOND);
        let freeze = viewer.longest_freeze();
        assert!(freeze < millis(500), "{freeze:?}");
        assert!(viewer.is_full(), "{:?}", viewer.encodings());
    });
}

#[test]
fn a_new_path_that_is_narrow_is_known_soon() {
    with_seeds(8, |seed| {
        let mut viewer = three_cameras(seed, 8_000);
        viewer.run(10 * SECOND);
        viewer.forward.capacity = kbps(500);
        viewer.bandwidth.path_changed(viewer.now);
        viewer.run(SECOND);
        assert!(viewer.bandwidth.target() < kbps(500));
        viewer.run(2 * SECOND);
        viewer.forget();
        viewer.run(10 * SECOND);
        assert!(viewer.worst_queue < millis(250), "{:?}", viewer.worst_queue);
        assert_eq!(viewer.audio_lost(), 0);
    });
}

#[test]
fn a_longer_way_is_not_taken_for_a_queue() {
    with_seeds(8, |seed| {
        let mut viewer = three_cameras(seed, 8_000);
        viewer.run(15 * SECOND);
        assert!(viewer.is_full(), "{:?}", viewer.encodings());
        viewer.forward.delay += millis(150);
        viewer.run(8 * SECOND);
        assert!(viewer.is_full(), "{:?}", viewer.encodings());
        viewer.forward.delay -= millis(150);
        viewer.forget();
        viewer.run(10 * SECOND);
        assert_eq!(viewer.switches, 0);
    });
}

#[test]
fn packets_that_come_in_turns_are_not_a_queue() {
    with_seeds(8, |seed| {
        let mut viewer = three_cameras(seed, 8_000);
        viewer.forward.turn = millis(40);
        viewer.run(15 * SECOND);
        assert!(viewer.is_full(), "{:?}", viewer.encodings());
        viewer.forget();
        viewer.run(30 * SECOND);
        assert!(viewer.switches <= 1, "{}", viewer.switches);
    });
}

#[test]
fn a_narrow_path_is_known_soon() {
    with_seeds(8, |seed| {
        let mut viewer = Viewer::new(seed, cameras(2), Link::new(kbps(300)));
        viewer.run(3 * SECOND);
        viewer.forget();
        viewer.run(20 * SECOND);
        assert!(viewer.worst_queue < millis(200), "{:?}", viewer.worst_queue);
        assert_eq!(viewer.audio_lost(), 0);
    });
}

#[test]
fn two_subscribers_share_one_link() {
    with_seeds(6, |seed| {
        let first = three_cameras(seed, 0);
        let second = Viewer::at(
            first.start - SECOND,
            seed + 1_000,
            cameras(3),
            Link::new(kbps(0)),
        );
        let mut viewers = [first, second];
        let mut link = Link::new(kbps(4_000));
        let mut rng = Rng(seed);
        // One was there first.
        let (first, second) = viewers.split_at_mut(1);
        share(first, &mut link, &mut rng, 10 * SECOND);
        second[0].now = first[0].now;
        share(&mut viewers, &mut link, &mut rng, 30 * SECOND);
        viewers.iter_mut().for_each(Viewer::forget);
        share(&mut viewers, &mut link, &mut rng, 60 * SECOND);
        let sent: Vec<u64> = viewers.iter().map(|v| v.media.as_bytes() / 7_500).collect();
        assert!(
            sent.iter().min().unwrap() * 5 / 2 > *sent.iter().max().unwrap(),
            "{sent:?} kbit/s"
        );
        assert!(sent.iter().sum::<u64>() > 2_000, "{sent:?} kbit/s");
        for viewer in &viewers {
            assert!(viewer.worst_queue < millis(500), "{:?}", viewer.worst_queue);
            assert!(
                viewer.longest_freeze() < millis(1_000),
                "{:?}",
                viewer.longest_freeze()
            );
        }
        assert_eq!(link.dropped_audio, 0);
    });
}

/// Sends a camera that has one encoding, and nothing else that could be sent less of.
fn one_encoding(seed: u64, rate: u64, capacity: u64) -> Viewer {
    let mut link = Link::new(kbps(capacity));
    link.delay = millis(1);
    let mut viewer = Viewer::new(seed, vec![Camera::new(&[rate * 1_000])], link);
    viewer.back.delay = millis(1);
    viewer
}

#[test]
fn what_cannot_be_reduced_is_soon_sent_without_delay_on_a_free_path() {
    with_seeds(8, |seed| {
        let mut viewer = one_encoding(seed, 3_800, 1_000_000);
        viewer.run(SECOND);
        let estimate = viewer.bandwidth.estimate();
        assert!(estimate > kbps(4_000), "{estimate:?}");
        assert!(viewer.pacer_queue < millis(130), "{:?}", viewer.pacer_queue);
        assert_eq!(viewer.overflows, 0);
        viewer.forget();
        viewer.run(10 * SECOND);
        assert!(viewer.pacer_queue < millis(10), "{:?}", viewer.pacer_queue);
        let share = viewer.padding.as_bytes() * 100 / viewer.media.as_bytes();
        assert!(share < 3, "{share} % padding");
    });
}

#[test]
fn whoever_needs_much_has_it_in_two_seconds() {
    with_seeds(8, |seed| {
        let mut viewer = Viewer::new(seed, cameras(6), Link::new(kbps(1_000_000)));
        viewer.run(2 * SECOND);
        let estimate = viewer.bandwidth.estimate();
        assert!(estimate > kbps(10_000), "{estimate:?}");
        viewer.run(3 * SECOND);
        assert!(viewer.is_full(), "{:?}", viewer.encodings());
    });
}

#[test]
fn what_cannot_be_reduced_takes_what_there_is() {
    with_seeds(8, |seed| {
        let mut viewer = one_encoding(seed, 2_500, 2_000);
        viewer.run(20 * SECOND);
        let estimate = viewer.bandwidth.estimate();
        assert!(estimate < kbps(2_100), "{estimate:?}");
        assert_eq!(viewer.encodings(), [Some(0)]);
    });
}

#[test]
fn a_path_that_falls_to_a_tenth_freezes_nothing_for_a_second() {
    with_seeds(8, |seed| {
        let mut link = Link::new(kbps(3_000));
        link.longest_queue = millis(300);
        let mut viewer = Viewer::new(seed, cameras(1), link);
        viewer.run(5 * SECOND);
        viewer.forget();
        for capacity in [300, 3_000, 800, 300, 2_000, 400, 3_000, 300] {
            viewer.forward.capacity = kbps(capacity);
            viewer.run(3 * SECOND);
        }
        let freeze = viewer.longest_freeze();
        if viewer.log {
            eprintln!("{freeze:?}, {} audio lost", viewer.audio_lost());
        }
        assert!(freeze < SECOND, "{freeze:?}");
        // What the queue loses before anybody can hear of it.
        assert!(viewer.audio_lost() <= 40, "{} lost", viewer.audio_lost());
    });
}
