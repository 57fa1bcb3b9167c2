//! The mesh, and tokens for it.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use livekit_token::{AccessToken, VideoGrants};
use pipemesh_loadtest_client::stats::Stats;
use pipemesh_loadtest_client::{Audio, Generator, Join, Layout, Media, Participant, Video};

/// For every single wait.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

const KEY: &str = "devkey";
const SECRET: &str = "secret";

/// A mesh of its own. Ends with its handle.
pub(crate) struct Mesh {
    process: Child,
    url: String,
    pub(crate) generator: Generator,
}

impl Mesh {
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    /// With more arguments.
    pub(crate) fn with(arguments: &[&str]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_pipemesh-dev"))
            .args(["--http-listen", "127.0.0.1:0"])
            .args(["--operator-listen", "127.0.0.1:0"])
            .args(["--media-port", "0"])
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = process.stdout.take().unwrap();
        let mut lines = BufReader::new(output).lines().map(Result::unwrap);
        let url = lines.find_map(|line| line.strip_prefix("ready: ").map(str::to_owned));
        Self {
            process,
            url: url.expect("it says that it is ready"),
            generator: Generator::start(1).unwrap(),
        }
    }

    pub(crate) fn join(&self, room: &str, identity: &str, layout: Layout) -> Join {
        join(&self.url, room, identity, layout)
    }

    /// Joins, and waits for media and data.
    pub(crate) async fn enter(&self, join: Join) -> Participant {
        let participant = self.generator.join(join).await.unwrap();
        participant.connected(PATIENCE).await.unwrap();
        participant
    }
}

pub(crate) fn join(url: &str, room: &str, identity: &str, layout: Layout) -> Join {
    let grants = VideoGrants {
        room_join: true,
        room: room.to_owned(),
        ..Default::default()
    };
    let token = AccessToken::with_api_key(KEY, SECRET)
        .with_identity(identity)
        .with_grants(grants)
        .to_jwt()
        .unwrap();
    let seed = identity
        .bytes()
        .fold(7, |seed, byte| seed * 31 + u64::from(byte));
    println!("{identity}: seed {seed}");
    Join {
        seed,
        ..Join::new(url, token, layout)
    }
}

/// Publishes a camera and a voice.
pub(crate) async fn show(participant: &Participant, camera: Video) {
    for (name, media) in [
        ("camera", Media::Video(camera)),
        ("voice", Media::Audio(Audio::default())),
    ] {
        participant.publish(name, media, PATIENCE).await.unwrap();
    }
}

/// What holds whatever the network does: nothing foreign, damaged or torn came, nothing was hidden, and every
/// packet was authentic and came once, but for those that the network itself repeated, and audio, which comes
/// again as it was, that was on its way when it was asked for.
pub(crate) fn assert_sound(stats: &Stats) {
    assert_eq!(stats.integrity.errors(), 0, "{stats:#?}");
    let audio = stats.tracks.iter().filter(|track| !track.is_video);
    let asked: u64 = audio.map(|track| track.asked).sum();
    let repeated = stats.down.duplicated + asked;
    assert!(stats.refused <= repeated, "{stats:#?}");
}

impl Drop for Mesh {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
