//! No text from outside makes the negotiation panic, and what is refused changes nothing; whatever
//! happens in whichever order, both sides agree on what is sent where.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::testing::{
    Client, accept, answer, check_answer, credentials, outgoing, publication, rng, sections,
    transport,
};
use super::*;

const OFFERS: [&str; 6] = [
    include_str!("../../../tests/golden/sdp/chromium_publisher/2_simulcast.offer.sdp"),
    include_str!("../../../tests/golden/sdp/chromium_single/2_publish_and_subscribe.offer.sdp"),
    include_str!("../../../tests/golden/sdp/firefox_publisher/2_simulcast.offer.sdp"),
    include_str!("../../../tests/golden/sdp/firefox_single/3_one_more_one_less.offer.sdp"),
    include_str!("../../../tests/golden/sdp/native_sdk/publisher.offer.sdp"),
    include_str!("../../../tests/golden/sdp/chromium_publisher/1_data.offer.sdp"),
];

/// A change to one line of a description.
#[derive(Debug, Clone)]
enum Mutation {
    Drop,
    Repeat,
    Move(prop::sample::Index),
    Truncate(prop::sample::Index),
    /// Puts text in place of a character.
    Put(prop::sample::Index, String),
    /// Takes a line from another description.
    Take(prop::sample::Index, prop::sample::Index),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let text = prop_oneof![
        "[ -~]{0,6}",
        Just("0".to_owned()),
        Just("-1".to_owned()),
        Just("256".to_owned()),
        Just("99999999999999999999".to_owned()),
        Just(";".to_owned()),
        Just("~".to_owned()),
        Just(" ".to_owned()),
        Just("ä\u{0}".to_owned()),
        Just("\r".to_owned()),
    ];
    prop_oneof![
        Just(Mutation::Drop),
        Just(Mutation::Repeat),
        any::<prop::sample::Index>().prop_map(Mutation::Move),
        any::<prop::sample::Index>().prop_map(Mutation::Truncate),
        (any::<prop::sample::Index>(), text).prop_map(|(place, text)| Mutation::Put(place, text)),
        any::<(prop::sample::Index, prop::sample::Index)>().prop_map(|(a, b)| Mutation::Take(a, b)),
    ]
}

fn mutate(lines: &mut Vec<String>, place: &prop::sample::Index, mutation: &Mutation) {
    if lines.is_empty() {
        return;
    }
    let index = place.index(lines.len());
    // Character boundaries: a description is text when it gets here.
    let boundary = |line: &str, place: &prop::sample::Index| {
        let boundaries: Vec<usize> = line.char_indices().map(|(at, _)| at).collect();
        if boundaries.is_empty() {
            0
        } else {
            *place.get(&boundaries)
        }
    };
    match mutation {
        Mutation::Drop => drop(lines.remove(index)),
        Mutation::Repeat => lines.insert(index, lines[index].clone()),
        Mutation::Move(to) => {
            let line = lines.remove(index);
            lines.insert(to.index(lines.len() + 1), line);
        }
        Mutation::Truncate(at) => {
            let at = boundary(&lines[index], at);
            lines[index].truncate(at);
        }
        Mutation::Put(at, text) => {
            let at = boundary(&lines[index], at);
            let next = lines[index][at..]
                .chars()
                .next()
                .map_or(at, |c| at + c.len_utf8());
            lines[index].replace_range(at..next, text);
        }
        Mutation::Take(from, line) => {
            let other: Vec<&str> = from.get(&OFFERS).lines().collect();
            lines.insert(index, (*line.get(&other)).to_owned());
        }
    }
}

fn busy_answerer() -> Answerer {
    let mut answerer = Answerer::new(transport(), &mut rng());
    for (name, kind) in [("pcam", MediaKind::Video), ("mic", MediaKind::Audio)] {
        let red = kind == MediaKind::Audio;
        answerer
            .announce(Publication {
                red,
                ..publication(name, kind, None)
            })
            .unwrap();
    }
    for (name, mime_type) in [("face", "video/VP8"), ("voice", "audio/red")] {
        answerer
            .add_outgoing(outgoing(name, mime_type, ""), &mut rng())
            .unwrap();
    }
    answerer
}

fn cases(count: u32) -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(count)
    }
}

proptest! {
    #![proptest_config(cases(1500))]

    #[test]
    fn mutated_offers_are_answered_or_refused(
        offer in prop::sample::select(OFFERS.to_vec()),
        mutations in prop::collection::vec((any::<prop::sample::Index>(), mutation()), 1..12),
    ) {
        let mut lines: Vec<String> = offer.lines().map(str::to_owned).collect();
        for (place, mutation) in &mutations {
            mutate(&mut lines, place, mutation);
        }
        let mutated = lines.join("\r\n") + "\r\n";
        let mut answerer = busy_answerer();
        let before = answerer.clone();
        match answerer.handle_offer(&mutated, || credentials(1)) {
            Ok(answer) => prop_assert_eq!(sections(&mutated).len(), sections(&answer.sdp).len()),
            Err(_) => prop_assert_eq!(&answerer, &before),
        }
        let _ = answerer.handle_offer(offer, || credentials(2));
    }

    #[test]
    fn mutated_answers_are_taken_or_refused(
        mutations in prop::collection::vec((any::<prop::sample::Index>(), mutation()), 1..6),
    ) {
        let mut offerer = Offerer::new(transport(), &mut rng());
        for (name, mime_type) in [("face", "video/VP8"), ("voice", "audio/red")] {
            offerer.add_outgoing(outgoing(name, mime_type, ""), &mut rng()).unwrap();
        }
        let offer = offerer.poll_offer().unwrap();
        let mut lines: Vec<String> = accept(&offer.sdp, 0).lines().map(str::to_owned).collect();
        for (place, mutation) in &mutations {
            mutate(&mut lines, place, mutation);
        }
        let before = offerer.clone();
        if offerer.handle_answer(offer.id, &lines.join("\r\n")).is_err() {
            prop_assert_eq!(&offerer, &before);
        }
        offerer.poll_offer();
    }

    #[test]
    fn any_text_is_answered_or_refused(text in "(([a-z]=)?[ -~]{0,40}(\r\n|\n)){0,20}") {
        let mut answerer = busy_answerer();
        let _ = answerer.handle_offer(&text, || credentials(1));
    }
}

/// What a user of a connection may do next.
#[derive(Debug, Clone)]
enum Step {
    Add(u8),
    Remove(u8),
    Announce(u8),
    /// Offer and answer, or answer and offer.
    Exchange,
    /// A section more, as asked for or not.
    Grow(bool),
    Publish(u8),
    /// A section stops sending, or receiving.
    Stop(prop::sample::Index),
    RestartIce,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..12u8).prop_map(Step::Add),
        3 => (0..12u8).prop_map(Step::Remove),
        1 => (0..4u8).prop_map(Step::Announce),
        4 => Just(Step::Exchange),
        2 => any::<bool>().prop_map(Step::Grow),
        1 => (0..4u8).prop_map(Step::Publish),
        1 => any::<prop::sample::Index>().prop_map(Step::Stop),
        1 => Just(Step::RestartIce),
    ];
    prop::collection::vec(step, 1..60)
}

fn numbered(number: u8) -> Outgoing {
    let formats = ["video/VP8", "audio/opus", "video/VP9", "audio/red"];
    outgoing(
        &number.to_string(),
        formats[usize::from(number) % formats.len()],
        "",
    )
}

proptest! {
    #![proptest_config(cases(400))]

    /// After every exchange the client takes each section for what the node sends on it.
    #[test]
    fn a_client_that_offers_is_never_misled(steps in steps()) {
        let mut answerer = Answerer::new(transport(), &mut rng());
        let mut client = Client::default();
        let mut rng = rng();
        for step in steps {
            match step {
                Step::Add(number) => drop(answerer.add_outgoing(numbered(number), &mut rng)),
                Step::Remove(number) => {
                    answerer.remove_outgoing(&numbered(number).track);
                }
                Step::Announce(number) => {
                    let name = format!("p{number}");
                    let _ = answerer.announce(publication(&name, MediaKind::Video, None));
                }
                Step::Exchange => {
                    let answer = answer(&mut answerer, &client.offer());
                    client.handle_answer(&answer.sdp);
                    prop_assert_eq!(&answer.exchange.mid_to_track, &client.carried());
                    let sent = answer.exchange.plan.send.len();
                    prop_assert_eq!(sent, client.carried().len());
                }
                Step::Grow(video) => {
                    let kind = if video { MediaKind::Video } else { MediaKind::Audio };
                    client.add(kind, "recvonly", None);
                }
                Step::Publish(number) => {
                    client.add(MediaKind::Video, "sendonly", Some(&format!("p{number}")));
                }
                Step::Stop(index) => {
                    if let Some(section) = client.sections.get_mut(index.index(40)) {
                        section.direction = "inactive";
                    }
                }
                // The client sees no new credentials of its own.
                Step::RestartIce => {}
            }
        }
        // Once it has as many sections as are asked for, everything is sent.
        for _ in 0..4 {
            while let Some(needed) = answerer.poll_sections_needed() {
                (0..needed.audio).for_each(|_| client.add(MediaKind::Audio, "recvonly", None));
                (0..needed.video).for_each(|_| client.add(MediaKind::Video, "recvonly", None));
            }
            let offer = client.offer();
            let answer = answerer.handle_offer(&offer, || credentials(1)).unwrap();
            check_answer(&offer, &answer.sdp);
            client.handle_answer(&answer.sdp);
        }
        prop_assert_eq!(answerer.poll_sections_needed(), None);
        let plan = answerer.plan().unwrap();
        let tracks: BTreeMap<String, String> =
            plan.send.iter().map(|section| (section.mid.clone(), section.track.to_string())).collect();
        prop_assert_eq!(tracks, client.carried());
        let mut ssrcs: Vec<u32> =
            plan.send.iter().flat_map(|section| [Some(section.ssrc), section.repair_ssrc]).flatten().collect();
        let count = ssrcs.len();
        ssrcs.sort_unstable();
        ssrcs.dedup();
        prop_assert_eq!(ssrcs.len(), count);
    }

    /// The same where the node offers.
    #[test]
    fn a_client_that_answers_is_never_misled(steps in steps()) {
        let mut offerer = Offerer::new(transport(), &mut rng());
        let mut carried: BTreeMap<String, String> = BTreeMap::new();
        let mut numbers: BTreeMap<String, String> = BTreeMap::new();
        let mut outstanding: Option<Offer> = None;
        let mut rng = rng();
        let mut restarts = 0;
        for step in steps.into_iter().chain(vec![Step::Exchange; 12]) {
            match step {
                Step::Add(number) => drop(offerer.add_outgoing(numbered(number), &mut rng)),
                Step::Remove(number) => {
                    offerer.remove_outgoing(&numbered(number).track);
                }
                Step::RestartIce => {
                    restarts += 1;
                    offerer.restart(credentials(restarts));
                }
                // Every other half of an exchange.
                Step::Exchange => {
                    if let Some(offer) = offerer.poll_offer() {
                        check_offer(&offer, &mut carried, &mut numbers)?;
                        outstanding = Some(offer);
                    } else if let Some(offer) = outstanding.take() {
                        let answer = accept(&offer.sdp, restarts);
                        prop_assert!(offerer.handle_answer(offer.id, &answer).unwrap().is_some());
                    }
                }
                _ => {}
            }
        }
        prop_assert_eq!(offerer.poll_offer(), None);
        let sent = offerer.plan().unwrap().send;
        let sent: BTreeMap<_, _> = sent.iter().map(|s| (s.mid.clone(), s.track.to_string())).collect();
        prop_assert_eq!(sent, carried);
    }
}

/// Sections change hands only by way of being inactive, and payload types keep their meaning.
fn check_offer(
    offer: &Offer,
    carried: &mut BTreeMap<String, String>,
    numbers: &mut BTreeMap<String, String>,
) -> Result<(), TestCaseError> {
    for section in sections(&offer.sdp) {
        let mid = testing::lines(section, "a=mid:")[0];
        let track = testing::lines(section, "a=msid:PA_bob ").first().copied();
        match (track, carried.get(mid).map(String::as_str)) {
            (Some(new), Some(old)) => prop_assert_eq!(new, old, "mid {}", mid),
            (Some(new), None) => drop(carried.insert(mid.to_owned(), new.to_owned())),
            (None, _) => drop(carried.remove(mid)),
        }
        for attribute in ["a=rtpmap:", "a=fmtp:"] {
            for line in testing::lines(section, attribute) {
                let (number, meaning) = line.split_once(' ').unwrap();
                let key = format!("{attribute}{number}");
                let known = numbers.entry(key).or_insert_with(|| meaning.to_owned());
                prop_assert_eq!(known.as_str(), meaning);
            }
        }
    }
    Ok(())
}
