use super::*;
use crate::drops::DropReason;
use crate::rtcp::SenderInfo;
use crate::rtp::{HeaderWriter, OutgoingHeader};

type TestRouter = Router<u32, u32>;

fn start() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "an origin for virtual time")]
    Instant::now()
}

fn microphone(participant: u32) -> TrackSpec<u32, u32> {
    TrackSpec {
        room: 1,
        participant,
        is_video: false,
        speaks: true,
        nack: false,
        muted: false,
        encodings: 1,
        sizes: vec![Size::default()],
    }
}

fn audio(sequence: u16, timestamp: u32) -> Vec<u8> {
    let mut packet = vec![0; 12];
    let header = OutgoingHeader {
        padding: false,
        marker: false,
        payload_type: 111,
        sequence,
        timestamp,
        ssrc: 5,
    };
    HeaderWriter::new(&mut packet, header)
        .unwrap()
        .finish()
        .unwrap();
    packet.extend_from_slice(&sequence.to_be_bytes());
    packet
}

fn deliver(
    router: &mut TestRouter,
    track: TrackKey,
    packet: &[u8],
    level: u8,
    now: Instant,
) -> Result<Vec<(SubscriptionKey, Rewrite)>, DropReason> {
    let media = Media {
        codec: Codec::Opus,
        header: Header::parse(packet).unwrap(),
        packet,
        audio_level: Some(level),
        dependency: None,
        repaired: false,
        in_place: true,
    };
    let _ = router.handle_media(Source { track, encoding: 0 }, media, now)?;
    let forwarded = forward(router, now).map_err(|left| left.reason)?;
    Ok(forwarded
        .into_iter()
        .map(|(key, forward)| (key, forward.rewrite))
        .collect())
}

/// A publisher that never stops losing, and subscribers that come and go while it sends no key frame.
#[test]
fn timers_do_not_pile_up() {
    let start = start();
    let mut router = TestRouter::new(start);
    let spec = TrackSpec {
        is_video: true,
        nack: true,
        ..microphone(1)
    };
    let track = router.publish(spec, start);
    let mut most = 0;
    for millis in 0..60_000u64 {
        let now = start + Duration::from_millis(millis);
        router.handle_timeout(now);
        while router.poll_output().is_some() {}
        // Every third packet is lost, and some more now and then.
        let sequence = millis * 3 / 2 + millis / 100;
        let packet = audio(sequence as u16, 0);
        let media = Media {
            codec: Codec::H264,
            header: Header::parse(&packet).unwrap(),
            packet: &packet,
            audio_level: None,
            dependency: None,
            repaired: false,
            in_place: true,
        };
        let _ = router.handle_media(Source { track, encoding: 0 }, media, now);
        let _ = forward(&mut router, now);
        let wish = LayerWish::default();
        let viewer = router.subscribe(track, wish, Codec::H264, 0, now);
        router.unsubscribe(viewer.unwrap(), now);
        most = most.max(router.agenda.timers.pending());
    }
    assert!(most < 10, "{most} timers for one track");
}

fn forward(
    router: &mut TestRouter,
    now: Instant,
) -> Result<Vec<(SubscriptionKey, Forward)>, LeftBehind> {
    let mut forwarded = Vec::new();
    router.forward(now, |burst| {
        while let Some(key) = burst.next_subscriber() {
            let forwards = burst.forwards();
            forwarded.extend(forwards.iter().map(|forward| (key, *forward)));
        }
    })?;
    Ok(forwarded)
}

fn gather(router: &mut TestRouter, track: TrackKey, packet: &[u8], now: Instant) -> Gathered {
    let media = Media {
        codec: Codec::Opus,
        header: Header::parse(packet).unwrap(),
        packet,
        audio_level: None,
        dependency: None,
        repaired: false,
        in_place: true,
    };
    router
        .handle_media(Source { track, encoding: 0 }, media, now)
        .unwrap()
}

#[test]
fn a_subscriber_is_shown_all_that_has_gathered_before_the_next() {
    let now = start();
    let mut router = TestRouter::new(now);
    let track = router.publish(microphone(1), now);
    let mut subscribe = |first| {
        router
            .subscribe(track, LayerWish::default(), Codec::Opus, first, now)
            .unwrap()
    };
    let (alice, bob) = (subscribe(10), subscribe(20));
    for packet in 0..3 {
        assert_eq!(
            gather(&mut router, track, &audio(packet, 0), now),
            Gathered::Open
        );
    }
    let seen: Vec<_> = forward(&mut router, now)
        .unwrap()
        .into_iter()
        .map(|(key, forward)| (key, forward.packet, forward.rewrite.sequence))
        .collect();
    assert_eq!(
        seen,
        [
            (alice, 0, 10),
            (alice, 1, 11),
            (alice, 2, 12),
            (bob, 0, 20),
            (bob, 1, 21),
            (bob, 2, 22)
        ]
    );
    assert!(!router.has_gathered());
    assert_eq!(forward(&mut router, now), Ok(vec![]));
}

/// Whatever gathers is still in the cache when it is forwarded, also while the cache is small.
#[test]
fn what_gathers_is_bounded_and_kept() {
    let now = start();
    for size in [14usize, 300, 1400] {
        let mut router = TestRouter::new(now);
        let track = router.publish(microphone(1), now);
        router
            .subscribe(track, LayerWish::default(), Codec::Opus, 0, now)
            .unwrap();
        let (mut gathered, mut forwarded) = (0, 0);
        for number in 0..500u16 {
            let mut packet = audio(number, 0);
            packet.resize(size, 7);
            gathered += 1;
            // Longer than the history, so that the ring goes round without growing.
            let now = now + Duration::from_millis(400) * u32::from(number);
            if gather(&mut router, track, &packet, now) == Gathered::Full {
                assert!(gathered <= MAX_BURST);
                let shown = forward(&mut router, now).unwrap();
                assert_eq!(shown.len(), gathered);
                forwarded += shown.len();
                gathered = 0;
            }
        }
        assert!(forwarded > 480, "{size}: {forwarded}");
    }
}

#[test]
fn what_gathered_under_a_former_ssrc_does_not_go_on_under_the_next() {
    let now = start();
    let mut router = TestRouter::new(now);
    let track = router.publish(microphone(1), now);
    router
        .subscribe(track, LayerWish::default(), Codec::Opus, 5, now)
        .unwrap();
    let _ = gather(&mut router, track, &audio(60_000, 0), now);
    router.restart(Source { track, encoding: 0 }, now);
    let _ = gather(&mut router, track, &audio(3, 0), now);
    let shown = forward(&mut router, now).unwrap();
    assert_eq!((shown.len(), shown[0].1.rewrite.sequence), (1, 5));
}

#[test]
fn a_resent_packet_is_the_packet_that_was_sent() {
    let now = start();
    let mut router = TestRouter::new(now);
    let track = router.publish(microphone(1), now);
    let key = router
        .subscribe(track, LayerWish::default(), Codec::Opus, 77, now)
        .unwrap();
    let first = audio(1000, 5000);
    let sent = deliver(&mut router, track, &first, 127, now).unwrap();
    deliver(&mut router, track, &audio(1001, 5960), 127, now).unwrap();
    assert_eq!(
        sent,
        [(
            key,
            Rewrite {
                sequence: 77,
                timestamp: 5000,
                ..Rewrite::default()
            }
        )]
    );
    let repair = router
        .handle_loss(key, 77, Duration::from_millis(50), now)
        .unwrap();
    assert_eq!((repair.packet, repair.rewrite), (&first[..], sent[0].1));
    let again = |router: &mut TestRouter, number, now| {
        let repair = router.handle_loss(key, number, Duration::from_millis(50), now);
        repair.map(|_| ())
    };
    assert_eq!(again(&mut router, 79, now), Err(DropReason::NotKept));
    assert_eq!(again(&mut router, 77, now), Err(DropReason::Limit));
    let later = now + Duration::from_millis(50);
    assert_eq!(again(&mut router, 77, later), Ok(()));
}

#[test]
fn what_is_not_forwarded_is_said_why() {
    let now = start();
    let mut router = TestRouter::new(now);
    let track = router.publish(microphone(1), now);
    router
        .subscribe(track, LayerWish::default(), Codec::Opus, 0, now)
        .unwrap();
    let packet = audio(1, 0);
    assert_eq!(
        deliver(&mut router, track, &packet, 127, now)
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        deliver(&mut router, track, &packet, 127, now),
        Err(DropReason::Replayed)
    );
    router.set_muted(track, true, now);
    assert_eq!(
        deliver(&mut router, track, &audio(2, 960), 127, now),
        Err(DropReason::Muted)
    );
    router.set_muted(track, false, now);
    let after = deliver(&mut router, track, &audio(3, 1920), 127, now).unwrap();
    assert_eq!(after[0].1.sequence, 1, "a mute leaves no gap");
    router.unpublish(track);
    assert_eq!(
        deliver(&mut router, track, &audio(4, 2880), 127, now),
        Err(DropReason::UnknownSource)
    );
    // A key is not given out again.
    let next = router.publish(microphone(1), now);
    assert_ne!(next, track);
    assert_eq!(
        deliver(&mut router, track, &audio(5, 0), 127, now),
        Err(DropReason::UnknownSource)
    );
}

/// A retransmission has an SSRC and a replay window of its own, and names whatever number it likes.
#[test]
fn what_was_sent_on_is_never_sent_on_again_however_long_ago() {
    let mut now = start();
    let mut router = TestRouter::new(now);
    let track = router.publish(microphone(1), now);
    router
        .subscribe(track, LayerWish::default(), Codec::Opus, 9, now)
        .unwrap();
    let mut send = |sequence: u16, repaired| {
        let packet = audio(sequence, u32::from(sequence) * 960);
        now += Duration::from_millis(20);
        let media = Media {
            codec: Codec::Opus,
            header: Header::parse(&packet).unwrap(),
            packet: &packet,
            audio_level: None,
            dependency: None,
            repaired,
            in_place: true,
        };
        let _ = router.handle_media(Source { track, encoding: 0 }, media, now)?;
        Ok(forward(&mut router, now).unwrap().len())
    };
    let is_lost = |sequence: u16| sequence % 100 == 50;
    for sequence in (1..=6_000).filter(|sequence| !is_lost(*sequence)) {
        assert_eq!(send(sequence, false), Ok(1));
    }
    for sequence in 1..=6_000 {
        let is_new = is_lost(sequence) && sequence > 6_000 - 4_096;
        let expected = match is_new {
            true => Ok(1),
            false => Err(DropReason::Replayed),
        };
        let outcome = send(sequence, true);
        // What is late and was missed goes on only if its place is still known.
        let is_forgotten = is_new && sequence < 5_000;
        assert!(
            outcome == expected || is_forgotten && outcome == Ok(0),
            "{sequence}"
        );
    }
    // No number is far ahead that is sent again: what comes by itself goes on.
    assert_eq!(send(25_000, true), Err(DropReason::UnknownSource));
    assert_eq!(send(6_001, false), Ok(1));
}

#[test]
fn what_could_not_be_sent_is_not_missed() {
    let mut now = start();
    let mut router = TestRouter::new(now);
    let track = router.publish(microphone(1), now);
    let key = router
        .subscribe(track, LayerWish::default(), Codec::Opus, 9, now)
        .unwrap();
    let mut heard = Vec::new();
    for sequence in 0..10_u16 {
        // Packets come early and late; what they were recorded at is what counts.
        now += Duration::from_millis(if sequence % 2 == 0 { 5 } else { 35 });
        let packet = audio(sequence, u32::from(sequence) * 960);
        let media = Media {
            codec: Codec::Opus,
            header: Header::parse(&packet).unwrap(),
            packet: &packet,
            audio_level: None,
            dependency: None,
            repaired: false,
            in_place: true,
        };
        let source = Source { track, encoding: 0 };
        let _ = router.handle_media(source, media, now).unwrap();
        router
            .forward(now, |burst| {
                while let Some(to) = burst.next_subscriber() {
                    let forwards = burst.forwards();
                    assert_eq!(to, key);
                    let rewrite = forwards[0].rewrite;
                    match sequence {
                        3 | 4 => burst.take_back(key, rewrite.sequence),
                        _ => heard.push((rewrite.sequence, rewrite.timestamp / 960)),
                    }
                }
            })
            .unwrap();
    }
    let numbers: Vec<u64> = heard.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, (9..17).collect::<Vec<_>>());
    let times: Vec<u32> = heard.iter().map(|(_, time)| *time).collect();
    assert_eq!(times, [0, 1, 2, 5, 6, 7, 8, 9]);
}

#[test]
fn a_sender_report_carries_the_publishers_clock_in_the_subscribers_timestamps() {
    let now = start();
    let mut router = TestRouter::new(now);
    let track = router.publish(microphone(1), now);
    let source = Source { track, encoding: 0 };
    let key = router
        .subscribe(track, LayerWish::default(), Codec::Opus, 0, now)
        .unwrap();
    deliver(&mut router, track, &audio(1, 48_000), 127, now).unwrap();
    assert_eq!(router.sender_report(key, now), None);
    let info = SenderInfo {
        ntp: 100 << 32,
        rtp: 48_000,
        packets: 9,
        octets: 9,
    };
    router.handle_sender_report(source, info, Codec::Opus, now);
    let later = now + Duration::from_millis(1500);
    let expected = SenderInfo {
        ntp: 101 << 32 | 1 << 31,
        rtp: 48_000 + 72_000,
        packets: 1,
        octets: 2,
    };
    assert_eq!(router.sender_report(key, later), Some(expected));
    let report = router.receiver_report(source, 5, later).unwrap().block;
    assert_eq!((report.last_report, report.delay), (100 << 16, 98_304));
}

#[test]
fn a_publisher_is_told_what_the_line_lost_and_not_what_was_left_out() {
    let now = start();
    let mut router = TestRouter::new(now);
    let track = router.publish(microphone(1), now);
    let source = Source { track, encoding: 0 };
    for sequence in 0..100 {
        match sequence % 10 {
            1 => {}
            2..6 => router.leave_out(source, sequence, now),
            _ => {
                let packet = audio(sequence, u32::from(sequence) * 960);
                deliver(&mut router, track, &packet, 127, now).unwrap();
            }
        }
    }
    let report = router.receiver_report(source, 5, now).unwrap();
    assert_eq!((report.expected, report.block.total_lost), (100, 10));
    assert_eq!(report.block.fraction_lost, 25);
}

/// Audio comes again under the number it had. It was lost all the same, unless it was only late.
#[test]
fn a_publisher_is_told_what_audio_it_had_to_send_again() {
    const ROUND_TRIP: u64 = 60;
    let start = start();
    let at = |millis| start + Duration::from_millis(millis);
    let mut router = TestRouter::new(start);
    let spec = TrackSpec {
        nack: true,
        ..microphone(1)
    };
    let track = router.publish(spec, start);
    let source = Source { track, encoding: 0 };
    // Nobody is asked for what nobody hears.
    router
        .subscribe(track, LayerWish::default(), Codec::Opus, 0, start)
        .unwrap();
    // Packet, when it comes: 2 is lost and sent again, 7 overtaken by those behind it.
    let asked_at = 3 * 20 + 10;
    let mut packets: Vec<(u16, u64)> = (0..12).map(|n| (n, u64::from(n) * 20)).collect();
    packets[2].1 = asked_at + ROUND_TRIP;
    packets[7].1 = 8 * 20 + 15;
    packets.sort_by_key(|(_, millis)| *millis);
    let mut asked = Vec::new();
    for (sequence, millis) in packets {
        while let Some(due) = router.poll_timeout().filter(|due| *due <= at(millis)) {
            router.handle_timeout(due);
            let mut lost = Vec::new();
            router.take_lost(source, &mut lost);
            asked.extend(lost);
        }
        let packet = audio(sequence, u32::from(sequence) * 960);
        deliver(&mut router, track, &packet, 127, at(millis)).unwrap();
    }
    assert_eq!(asked, [2, 7]);
    // As far as anybody can tell by now, until the answer comes to what needed none.
    let report = router.receiver_report(source, 5, at(230)).unwrap();
    assert_eq!((report.expected, report.block.total_lost), (12, 2));
    router.handle_copy(source, 7, at(8 * 20 + 10 + ROUND_TRIP));
    router.handle_copy(source, 7, at(240));
    router.handle_copy(source, 11, at(240));
    let report = router.receiver_report(source, 5, at(400)).unwrap();
    assert_eq!((report.expected, report.block.total_lost), (0, 1));
}

#[test]
fn who_speaks_is_told_and_ends_with_the_track() {
    let start = start();
    let mut router = TestRouter::new(start);
    let (alice, bob) = (
        router.publish(microphone(1), start),
        router.publish(microphone(2), start),
    );
    let mut now = start;
    let mut changes = Vec::new();
    for packet in 0..50 {
        now = start + Duration::from_millis(u64::from(packet) * 20);
        router.handle_timeout(now);
        deliver(
            &mut router,
            alice,
            &audio(packet, u32::from(packet) * 960),
            10,
            now,
        )
        .unwrap();
        deliver(
            &mut router,
            bob,
            &audio(packet, u32::from(packet) * 960),
            90,
            now,
        )
        .unwrap();
        while let Some(Output::SpeakersChanged(1, changed)) = router.poll_output() {
            changes.extend(changed);
        }
    }
    let expected = SpeakerChange {
        participant: 1,
        level: 0.375,
        active: true,
    };
    assert_eq!(changes, [expected]);
    assert_eq!(router.active_speakers(1), [expected]);
    router.unpublish(alice);
    let ended = SpeakerChange {
        participant: 1,
        level: 0.0,
        active: false,
    };
    assert_eq!(
        router.poll_output(),
        Some(Output::SpeakersChanged(1, vec![ended]))
    );
    router.unpublish(bob);
    router.handle_timeout(now + Duration::from_secs(1));
    assert_eq!(router.poll_output(), None);
    assert_eq!(router.len(), (0, 0, 0));
}

#[test]
fn what_is_not_heard_is_sent_to_nobody_and_goes_on_unbroken() {
    let start = start();
    let mut router = TestRouter::new(start);
    let track = router.publish(microphone(1), start);
    let screen = TrackSpec {
        speaks: false,
        ..microphone(2)
    };
    let screen = router.publish(screen, start);
    let wish = LayerWish::default();
    let listener = router.subscribe(track, wish, Codec::Opus, 100, start);
    let listener = listener.unwrap();
    let mut numbers = Vec::new();
    for packet in 0..60_u16 {
        let now = start + Duration::from_millis(u64::from(packet) * 20);
        router.handle_timeout(now);
        match packet {
            20 => router.set_heard(track, false, now),
            40 => router.set_heard(track, true, now),
            _ => {}
        }
        // What is no microphone is not silenced, whatever is said of it.
        router.set_heard(screen, false, now);
        assert_eq!(router.is_unheard(listener), (20..40).contains(&packet));
        let packet = audio(packet, u32::from(packet) * 960);
        let forwarded = deliver(&mut router, track, &packet, 30, now).unwrap();
        numbers.extend(forwarded.iter().map(|(_, rewrite)| rewrite.sequence));
    }
    // Its receiver does not take it for loss.
    assert_eq!(numbers, (100..140).collect::<Vec<_>>());
    let other = router.subscribe(screen, wish, Codec::Opus, 0, start);
    assert!(!router.is_unheard(other.unwrap()));
    let forwarded = deliver(&mut router, screen, &audio(0, 0), 30, start);
    assert_eq!(forwarded.unwrap().len(), 1);
}

/// A gateway's own receivers, and those it passes the track on to, say how much it is missed.
#[test]
fn what_is_missed_by_anybody_is_missed() {
    let start = start();
    let mut router = TestRouter::new(start);
    let track = router.publish(microphone(1), start);
    router.set_live(track, Default::default(), start);
    let said = |router: &mut TestRouter| {
        let outputs = std::iter::from_fn(|| router.poll_output());
        let changed = outputs.filter(|it| *it == Output::InterestChanged(track));
        (changed.count() > 0).then(|| router.interest(track).priority)
    };
    assert_eq!(said(&mut router), None);
    router.set_priority(track, 1);
    assert_eq!(said(&mut router), Some(1));
    router.set_priority(track, 1);
    assert_eq!(said(&mut router), None);
    let relay = |router: &mut TestRouter, priority| {
        let interest = relay::Interest {
            priority,
            ..relay::Interest::default()
        };
        let (port, alias) = (relay::Port(1), relay::Alias(1));
        router.relay(track, port, alias, interest, start);
    };
    relay(&mut router, 3);
    assert_eq!(said(&mut router), Some(3));
    router.set_priority(track, 0);
    assert_eq!(said(&mut router), None);
    relay(&mut router, 0);
    assert_eq!(said(&mut router), Some(0));
}

#[test]
fn what_is_not_heard_is_not_asked_for_and_its_level_is_measured_where_it_is_published() {
    let start = start();
    let (mut origin, mut taker) = (TestRouter::new(start), TestRouter::new(start));
    let here = origin.publish(microphone(1), start);
    let there = taker.publish(microphone(1), start);
    let (port, alias) = (relay::Port(1), relay::Alias(1));
    assert!(origin.relay(here, port, alias, relay::Interest::default(), start));
    taker.set_live(there, origin.live(here), start);
    taker.set_heard(there, false, start);
    let wish = LayerWish::default();
    taker.subscribe(there, wish, Codec::Opus, 0, start).unwrap();
    let mut passed = Vec::new();
    for packet in 0..30_u16 {
        let now = start + Duration::from_millis(u64::from(packet) * 20);
        match packet {
            10 => taker.set_heard(there, true, now),
            20 => taker.set_heard(there, false, now),
            _ => {}
        }
        // The origin learns at once what is used.
        origin.relay(here, port, alias, taker.interest(there), now);
        let bytes = audio(packet, u32::from(packet) * 960);
        deliver(&mut origin, here, &bytes, 30, now).unwrap();
        origin.pass_on(
            Source {
                track: here,
                encoding: 0,
            },
            packet,
            |_, _, stamp| {
                passed.push((packet, stamp));
                true
            },
        );
        taker.set_live(there, origin.live(here), now);
        if let Some((number, stamp)) = passed.last().filter(|(number, _)| *number == packet) {
            let source = Source {
                track: there,
                encoding: 0,
            };
            assert!(taker.accept(source, *stamp, now), "{number}");
            deliver(&mut taker, there, &bytes, 30, now).unwrap();
        }
    }
    let numbers: Vec<u16> = passed.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, (10..20).collect::<Vec<_>>());
    assert_eq!(origin.take_level(here).loudness(), Some(127 - 30));
    assert_eq!(origin.take_level(here).loudness(), None, "it was taken");
    assert_eq!(taker.take_level(there).loudness(), None);
    assert!(taker.active_speakers(1).is_empty());
}
