//! A line between two nodes that carries two thirds of what people want: layers wait, and sound and the lowest
//! layers do not notice. The line is the kernel's token bucket, in a network namespace of the test's own.

use std::process::Command;
use std::time::Duration;

use pipemesh_loadtest_client::stats::{Stats, Track};
use pipemesh_loadtest_client::{
    Audio, Generator, Join, LayerWish, Layout, Media, Participant, Video,
};
use tokio::time::{Instant, sleep};

use crate::figures;
use crate::mesh::{Mesh, PATIENCE, Signaling};
use crate::people::token;
use crate::process::Build;

const NAME: &str = "bottleneck::what_a_line_has_no_room_for_waits";
/// Set for the test that runs in the namespace.
const INSIDE: &str = "PIPEMESH_IN_NAMESPACE";

const ROOM: &str = "hall";
/// Of each the highest layer, the lowest and sound cross: 1.9 Mbit/s, 15 in all.
const PUBLISHERS: usize = 8;
const LINE: &str = "10mbit";
/// What waits on the line before it drops.
const QUEUE: &str = "100ms";
/// For the line to be found out, and for what is seen then.
const SETTLES: Duration = Duration::from_secs(8);
const WATCHED: Duration = Duration::from_secs(10);
/// From the end of the shortage until all is as before: some four seconds for each.
const BACK: Duration = Duration::from_secs(60);

#[test]
fn what_a_line_has_no_room_for_waits() {
    if std::env::var_os(INSIDE).is_some() {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        return runtime.enable_all().build().unwrap().block_on(inside());
    }
    // Without root there is none.
    let may = Command::new("unshare").args(["--net", "true"]).output();
    if !may.is_ok_and(|may| may.status.success()) {
        return eprintln!("SKIPPED: {NAME}: no network namespace can be made");
    }
    let itself = std::env::current_exe().unwrap();
    let status = Command::new("unshare")
        .args(["--net", "--"])
        .arg(itself)
        .args(["--exact", NAME, "--nocapture"])
        .env(INSIDE, "1")
        .status();
    assert!(status.unwrap().success());
}

async fn inside() {
    run("ip link set lo up");
    let nodes = [("node-a", "eu"), ("node-b", "us")];
    let mesh = Mesh::start_in(Build::This, &nodes, &["eu", "us"], &[], &[]).await;
    mesh.until_one_ring(&nodes.map(|(id, _)| id)).await;
    let (here, there) = (&mesh.signaling[0], &mesh.signaling[1]);
    let generator = Generator::start(1).unwrap();
    let mut publishers = Vec::new();
    for number in 0..PUBLISHERS {
        let publisher = join(&generator, here, &format!("publisher-{number}"), false).await;
        let voice = Media::Audio(Audio::default());
        publisher.publish("voice", voice, PATIENCE).await.unwrap();
        let camera = Media::Video(Video::simulcast());
        publisher.publish("camera", camera, PATIENCE).await.unwrap();
        publishers.push(publisher);
    }
    let high = watch(&generator, there, "high", 2).await;
    let low = watch(&generator, there, "low", 0).await;
    let before = [seen(&high).await, seen(&low).await];

    let served = mesh.nodes[1].says("the node serves; clients are told the media addresses");
    // As `host:port`, and the key behind it.
    let pipes = served.await["pipes"].to_string();
    let (_, port) = pipes.split_once(':').unwrap();
    narrow(port.split(|it: char| !it.is_ascii_digit()).next().unwrap());
    sleep(SETTLES).await;
    let begin = [seen(&high).await, seen(&low).await];
    sleep(WATCHED).await;
    let end = [seen(&high).await, seen(&low).await];
    for (begin, end) in before.iter().zip(&end) {
        let lost = |stats: &Stats| sum(stats, |it| !it.is_video, |it| it.lost);
        assert_eq!(
            lost(end) - lost(begin),
            0,
            "packets of sound of {}",
            end.identity
        );
    }
    let lost = |stats: &Stats| sum(stats, |it| it.is_video, |it| it.lost);
    assert_eq!(
        lost(&end[1]) - lost(&before[1]),
        0,
        "packets of the lowest layers"
    );
    let flows = |index: usize, is_video: bool| {
        let of = |stats: &Stats| sum(stats, |it| it.is_video == is_video, |it| it.packets);
        of(&end[index]) - of(&begin[index])
    };
    let voices = WATCHED.as_millis() as u64 / 20 * PUBLISHERS as u64;
    figures::count("line_packets_of_sound", flows(0, false));
    assert!(flows(0, false) > voices * 9 / 10, "all are heard");
    assert!(flows(1, true) > 0);
    // Everybody is still seen, and not everybody in full.
    let full = |stats: &Stats| cameras(stats).filter(|it| it.layer == Some(2)).count();
    figures::count("line_full_pictures", full(&end[0]) as u64);
    assert!(full(&end[0]) < PUBLISHERS);
    for (begin, end) in cameras(&begin[0]).zip(cameras(&end[0])) {
        assert!(end.packets > begin.packets, "{} is seen", end.identity);
    }

    run("tc qdisc del dev lo root");
    let widened = Instant::now();
    let all = |stats: &Stats| cameras(stats).all(|it| it.layer == Some(2));
    high.until("all are seen in full", BACK, all).await.unwrap();
    figures::time("line_full_pictures_again", widened.elapsed());
}

async fn join(
    generator: &Generator,
    signaling: &Signaling,
    identity: &str,
    subscribes: bool,
) -> Participant {
    let url = format!("http://{}/", signaling.clients);
    let mut join = Join::new(url, token(ROOM, identity), Layout::Single);
    join.auto_subscribe = subscribes;
    let participant = generator.join(join).await.unwrap();
    participant.connected(PATIENCE).await.unwrap();
    participant
}

/// Sees everybody in this layer, and hears them.
async fn watch(
    generator: &Generator,
    signaling: &Signaling,
    identity: &str,
    layer: u8,
) -> Participant {
    let watcher = join(generator, signaling, identity, true).await;
    let known = |stats: &Stats| stats.remote.len() == PUBLISHERS * 2;
    let known = watcher
        .until("all are known", PATIENCE, known)
        .await
        .unwrap();
    for track in known.remote.iter().filter(|track| track.is_video) {
        watcher.wish_layer(&track.sid, LayerWish::Quality(layer));
    }
    let sees = move |stats: &Stats| {
        let seen = cameras(stats).filter(|it| it.layer == Some(layer));
        seen.count() == PUBLISHERS && stats.tracks.len() == PUBLISHERS * 2
    };
    watcher.until("all are seen", PATIENCE, sees).await.unwrap();
    watcher
}

async fn seen(watcher: &Participant) -> Stats {
    watcher.stats().await.unwrap()
}

fn cameras(stats: &Stats) -> impl Iterator<Item = &Track> {
    stats.tracks.iter().filter(|track| track.is_video)
}

fn sum(stats: &Stats, which: impl Fn(&Track) -> bool, what: impl Fn(&Track) -> u64) -> u64 {
    stats.tracks.iter().filter(|it| which(it)).map(what).sum()
}

/// What goes to this UDP port goes through a line of its own.
fn narrow(port: &str) {
    run("tc qdisc add dev lo root handle 1: htb default 1 r2q 1000");
    run("tc class add dev lo parent 1: classid 1:1 htb rate 10gbit");
    run("tc class add dev lo parent 1: classid 1:2 htb rate 10gbit");
    run(&format!(
        "tc qdisc add dev lo parent 1:2 handle 2: tbf rate {LINE} burst 16kb latency {QUEUE}"
    ));
    run(&format!(
        "tc filter add dev lo parent 1: protocol ip u32 match ip protocol 17 0xff match ip dport {port} 0xffff flowid 1:2"
    ));
}

fn run(command: &str) {
    let mut words = command.split(' ');
    let output = Command::new(words.next().unwrap()).args(words).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{command}: {output:?}");
}
