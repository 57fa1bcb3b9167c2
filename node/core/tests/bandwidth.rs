//! Bandwidth and allocation together: a subscriber behind a path that is narrow, changes, loses,
//! reorders.

mod path;
mod sim;

use std::time::Duration;

use path::link::Link;
use path::{Camera, Viewer};
use pipemesh_node_core::units::Bitrate;
use sim::with_seeds;

fn kbps(rate: u64) -> Bitrate {
    Bitrate::from_kbps(rate)
}

fn three_cameras(seed: u64, capacity: u64) -> Viewer {
    let cameras = (0..3).map(|_| Camera::standard()).collect();
    Viewer::new(seed, cameras, Link::new(kbps(capacity)))
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn three_cameras_on_one_megabit_are_steady() {
    with_seeds(10, |seed| {
        let mut viewer = three_cameras(seed, 1000);
        viewer.run(15 * SECOND);
        viewer.forget();
        viewer.run(60 * SECOND);
        assert!(viewer.encodings().iter().all(Option::is_some));
        assert!(viewer.switches <= 2, "{} switches", viewer.switches);
        assert_eq!(viewer.audio_lost(), 0);
        assert!(
            viewer.worst_queue < Duration::from_millis(200),
            "{:?}",
            viewer.worst_queue
        );
        for camera in &viewer.cameras {
            assert!(camera.video.longest_gap < Duration::from_millis(300));
        }
    });
}

#[test]
fn a_limit_is_kept_within_a_second_and_its_end_found_within_ten() {
    with_seeds(10, |seed| {
        let mut viewer = three_cameras(seed, 8_000);
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
        assert!(
            viewer.worst_queue < Duration::from_millis(250),
            "{:?}",
            viewer.worst_queue
        );
        assert_eq!(viewer.audio_lost(), 0);
        viewer.forward.capacity = kbps(8_000);
        viewer.run(10 * SECOND);
        assert!(viewer.is_full(), "{:?}", viewer.encodings());
    });
}
