//! The sealer and the opener against each other, against another implementation, and against
//! packets that are not what they claim.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use pipemesh_node_media::srtp::{
    MasterKey, OpenError, Opened, Opener, Profile, RTP_REPLAY_WINDOW, Sealer, SourceIndex,
};
use proptest::prelude::*;
use rtc_srtp::context::Context;
use rtc_srtp::protection_profile::ProtectionProfile;

const PROFILES: [Profile; 3] = [
    Profile::AeadAes128Gcm,
    Profile::AeadAes256Gcm,
    Profile::AesCm128HmacSha1_80,
];

/// Key and salt bytes that differ everywhere.
fn key_bytes(profile: Profile) -> (Vec<u8>, Vec<u8>) {
    let bytes = |first: u8, len: usize| (0..len).map(|i| first.wrapping_add(7 * i as u8)).collect();
    (bytes(3, profile.key_len()), bytes(101, profile.salt_len()))
}

fn master(profile: Profile) -> MasterKey {
    let (key, salt) = key_bytes(profile);
    MasterKey::new(profile, &key, &salt).unwrap()
}

fn sealer(profile: Profile) -> Sealer {
    Sealer::new(&master(profile))
}

fn opener(profile: Profile) -> Opener {
    Opener::new(&master(profile), 4)
}

/// The other implementation, without its replay protection.
fn reference(profile: Profile) -> Context {
    let (key, salt) = key_bytes(profile);
    let theirs = match profile {
        Profile::AeadAes128Gcm => ProtectionProfile::AeadAes128Gcm,
        Profile::AeadAes256Gcm => ProtectionProfile::AeadAes256Gcm,
        Profile::AesCm128HmacSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
    };
    let crypto = rtc_crypto::default_provider().unwrap();
    Context::new(&key, &salt, theirs, None, None, crypto.crypto()).unwrap()
}

/// An RTP header with CSRCs and, if there are any, words of extension.
fn header(index: u64, ssrc: u32, csrcs: u8, extension_words: Option<u8>) -> Vec<u8> {
    let mut header = vec![0x80 | csrcs, 0x60];
    header[0] |= if extension_words.is_some() { 0x10 } else { 0 };
    header.extend((index as u16).to_be_bytes());
    header.extend(0x8041_f8d3_u32.to_be_bytes());
    header.extend(ssrc.to_be_bytes());
    header.extend((0..4 * csrcs).map(|i| i ^ 0x5a));
    if let Some(words) = extension_words {
        header.extend([0xbe, 0xde, 0, words]);
        for _ in 0..words {
            header.extend([0x12, 0xaa, 0xbb, 0xcc]);
        }
    }
    header
}

fn seal(sealer: &Sealer, index: u64, header: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut packet = header.to_vec();
    packet.resize(header.len() + payload.len() + Profile::MAX_OVERHEAD, 0);
    let len = sealer.seal_rtp(index, &mut packet, header.len(), payload);
    packet.truncate(len);
    packet
}

/// A packet with a header of 12 bytes and a payload that tells its index.
fn packet(sealer: &Sealer, ssrc: u32, index: u64) -> Vec<u8> {
    seal(
        sealer,
        index,
        &header(index, ssrc, 0, None),
        &index.to_be_bytes(),
    )
}

fn open(opener: &mut Opener, mut packet: Vec<u8>) -> Result<u64, OpenError> {
    let opened = opener.open_rtp(&mut packet, 12)?;
    assert_eq!(packet[12..opened.len], opened.index.to_be_bytes());
    Ok(opened.index)
}

fn compound(ssrc: u32, len: usize) -> Vec<u8> {
    let mut compound = vec![0x81, 0xc8, 0, (len / 4 - 1) as u8];
    compound.extend(ssrc.to_be_bytes());
    compound.extend((8..len).map(|i| i as u8));
    compound
}

fn seal_compound(sealer: &mut Sealer, compound: &[u8]) -> Vec<u8> {
    let mut packet = [compound, &[0; Profile::MAX_OVERHEAD]].concat();
    let len = sealer.seal_rtcp(&mut packet, compound.len()).unwrap();
    packet.truncate(len);
    packet
}

/// A stream that skips and reorders: each step leaps ahead by up to a quarter of the sequence space,
/// and every third packet is a late one. Indices are never repeated.
fn erratic_stream() -> impl Strategy<Value = Vec<u64>> {
    let steps = prop::collection::vec((1..16_384_u64, 1..1_000_u64), 1..60);
    (0..32_768_u64, steps).prop_map(|(first, steps)| {
        let mut indices = vec![first];
        let mut highest = first;
        for (ahead, behind) in steps {
            let late = highest + ahead.saturating_sub(behind.min(ahead - 1));
            highest += ahead;
            indices.push(highest);
            if late != highest {
                indices.push(late);
            }
        }
        indices
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// What we seal, the reference opens, and the other way round; the bytes are the same.
    #[test]
    fn rtp_matches_the_reference(
        profile in prop::sample::select(&PROFILES[..]),
        ssrc: u32,
        indices in erratic_stream(),
        csrcs in 0..16_u8,
        extension_words in prop::option::of(0..20_u8),
        payload in prop::collection::vec(any::<u8>(), 0..1_400),
        patched in 0..32_usize,
    ) {
        let ours = sealer(profile);
        let mut opener = opener(profile);
        let (mut their_sealer, mut their_opener) = (reference(profile), reference(profile));
        for index in indices {
            let header = header(index, ssrc, csrcs, extension_words);
            let sealed = seal(&ours, index, &header, &payload);
            prop_assert_eq!(sealed.len(), header.len() + payload.len() + profile.rtp_overhead());

            let plain = [&header[..], &payload].concat();
            prop_assert_eq!(&their_sealer.encrypt_rtp(&plain).unwrap()[..], &sealed);
            prop_assert_eq!(&their_opener.decrypt_rtp(&sealed).unwrap()[..], &plain);

            // Any way of getting the payload there gives the same packet.
            let patched = patched.min(payload.len());
            for patched in [patched, payload.len()] {
                let mut packet = [&plain[..header.len() + patched], &[0; 2_000]].concat();
                let rest = &payload[patched..];
                let len = ours.seal_rtp_patched(index, &mut packet, header.len(), patched, rest);
                prop_assert_eq!(&packet[..len], &sealed);
                prop_assert!(packet[len..].iter().all(|byte| *byte == 0));
            }

            let mut packet = sealed;
            let opened = opener.open_rtp(&mut packet, header.len());
            let opened = opened.map(|Opened { len, index, .. }| (len, index));
            prop_assert_eq!(opened, Ok((plain.len(), index)));
            prop_assert_eq!(&packet[..plain.len()], &plain);
        }
    }

    #[test]
    fn rtcp_matches_the_reference(
        profile in prop::sample::select(&PROFILES[..]),
        ssrc: u32,
        words in prop::collection::vec(2..100_usize, 1..20),
    ) {
        let mut ours = sealer(profile);
        let mut opener = opener(profile);
        let (mut their_sealer, mut their_opener) = (reference(profile), reference(profile));
        for words in words {
            let plain = compound(ssrc, 4 * words);
            let mut sealed = seal_compound(&mut ours, &plain);
            prop_assert_eq!(sealed.len(), plain.len() + profile.rtcp_overhead());
            prop_assert_eq!(&their_sealer.encrypt_rtcp(&plain).unwrap()[..], &sealed);
            prop_assert_eq!(&their_opener.decrypt_rtcp(&sealed).unwrap()[..], &plain);
            prop_assert_eq!(opener.open_rtcp(&mut sealed), Ok(plain.len()));
            prop_assert_eq!(&sealed[..plain.len()], &plain);
        }
    }

    /// No bytes from the network make the opener panic or remember anything.
    #[test]
    fn noise_is_refused(
        profile in prop::sample::select(&PROFILES[..]),
        mut noise in prop::collection::vec(any::<u8>(), 0..200),
        header_len in 0..220_usize,
    ) {
        let mut opener = opener(profile);
        prop_assert!(opener.open_rtp(&mut noise.clone(), header_len).is_err());
        prop_assert!(opener.open_rtcp(&mut noise).is_err());
        prop_assert_eq!(opener.rollover_counters().chain(opener.rtcp_indices()).count(), 0);
    }
}

/// The packet and its tag that libsrtp's tests use: key derivation, cipher and HMAC at once.
#[test]
fn libsrtp_reference_packets() {
    let key = hex::decode("e1f97a0d3e018be0d64fa32c06de4139").unwrap();
    let salt = hex::decode("0ec675ad498afeebb6960b3aabe6").unwrap();
    let master = MasterKey::new(Profile::AesCm128HmacSha1_80, &key, &salt).unwrap();
    let mut sealer = Sealer::new(&master);

    let header = hex::decode("800f1234decafbadcafebabe").unwrap();
    let sealed = seal(&sealer, 0x1234, &header, &[0xab; 16]);
    assert_eq!(
        hex::encode(sealed),
        "800f1234decafbadcafebabe4e55dc4ce79978d88ca4d215949d2402b78d6acc99ea179b8dbb"
    );
    let compound = hex::decode("81c8000bcafebabeabababababababababababababababab").unwrap();
    assert_eq!(
        hex::encode(seal_compound(&mut sealer, &compound)),
        "81c8000bcafebabe7128035be487b9bdbef89041f977a5a880000001993e08cd54d6c1230798"
    );
}

#[test]
fn tampering_with_any_bit_is_noticed() {
    for profile in PROFILES {
        let header = header(77, 0xcafe, 2, Some(1));
        let sealed = seal(&sealer(profile), 77, &header, b"payload");
        for bit in 0..8 * sealed.len() {
            let mut packet = sealed.clone();
            packet[bit / 8] ^= 1 << (bit % 8);
            let mut opener = opener(profile);
            let opened = opener.open_rtp(&mut packet, header.len());
            assert_eq!(
                opened,
                Err(OpenError::Authentication),
                "{profile:?}, bit {bit}"
            );
            assert_eq!(opener.rollover_counters().count(), 0);
        }

        let sealed = seal_compound(&mut sealer(profile), &compound(0xcafe, 20));
        for bit in 0..8 * sealed.len() {
            let mut packet = sealed.clone();
            packet[bit / 8] ^= 1 << (bit % 8);
            let mut opener = opener(profile);
            let opened = opener.open_rtcp(&mut packet);
            assert_eq!(
                opened,
                Err(OpenError::Authentication),
                "{profile:?}, bit {bit}"
            );
            assert_eq!(opener.rtcp_indices().count(), 0);
        }
    }
}

#[test]
fn cut_packets_are_refused() {
    for profile in PROFILES {
        let sealed = packet(&sealer(profile), 1, 5);
        let shortest = 12 + profile.tag_len();
        for len in 0..sealed.len() {
            let expected = if len < shortest {
                OpenError::TooShort
            } else {
                OpenError::Authentication
            };
            let opened = opener(profile).open_rtp(&mut sealed.clone()[..len], 12);
            assert_eq!(opened, Err(expected), "{profile:?}, {len}");
        }
        let sealed = seal_compound(&mut sealer(profile), &compound(1, 16));
        for len in 0..sealed.len() {
            let expected = if len < 8 + profile.rtcp_overhead() {
                OpenError::TooShort
            } else {
                OpenError::Authentication
            };
            let opened = opener(profile).open_rtcp(&mut sealed.clone()[..len]);
            assert_eq!(opened, Err(expected), "{profile:?}, {len}");
        }
    }
}

#[test]
fn replays_are_refused() {
    for profile in PROFILES {
        let mut sealer = sealer(profile);
        let mut opener = opener(profile);
        let window = RTP_REPLAY_WINDOW as u64;
        let newest = 3 * window;
        for index in [newest, newest - 1, newest - window + 1] {
            assert_eq!(open(&mut opener, packet(&sealer, 1, index)), Ok(index));
            let again = open(&mut opener, packet(&sealer, 1, index));
            assert_eq!(again, Err(OpenError::Replayed));
        }
        let old = open(&mut opener, packet(&sealer, 1, newest - window));
        assert_eq!(old, Err(OpenError::Replayed));
        // Another source has its own window.
        assert_eq!(open(&mut opener, packet(&sealer, 2, newest)), Ok(newest));

        let sealed = seal_compound(&mut sealer, &compound(1, 16));
        assert_eq!(opener.open_rtcp(&mut sealed.clone()), Ok(16));
        assert_eq!(
            opener.open_rtcp(&mut sealed.clone()),
            Err(OpenError::Replayed)
        );
    }
}

/// A forged packet far ahead must not move the window, or it would shut out the real ones.
#[test]
fn forgeries_do_not_move_the_window() {
    for profile in PROFILES {
        let sealer = sealer(profile);
        let mut opener = opener(profile);
        assert_eq!(open(&mut opener, packet(&sealer, 1, 100)), Ok(100));
        for index in [101, 5_000, 30_000] {
            let mut forged = packet(&sealer, 1, index);
            *forged.last_mut().unwrap() ^= 1;
            assert_eq!(open(&mut opener, forged), Err(OpenError::Authentication));
        }
        for index in [99, 101] {
            assert_eq!(open(&mut opener, packet(&sealer, 1, index)), Ok(index));
        }
    }
}

#[test]
fn a_source_that_went_on_unheard_is_heard_again() {
    for profile in PROFILES {
        for missed in [40_000, 65_536, 65_000, 70_000, 100_000, 150_000, 230_000u64] {
            let (sealer, mut opener) = (sealer(profile), opener(profile));
            for index in 65_000..65_700 {
                assert_eq!(open(&mut opener, packet(&sealer, 7, index)), Ok(index));
            }
            let begin = 65_699 + missed;
            let mut lost = 0;
            while open(&mut opener, packet(&sealer, 7, begin + lost)) != Ok(begin + lost) {
                lost += 1;
                assert!(lost < 8, "{profile:?} {missed}");
            }
            for index in begin + lost + 1..begin + lost + 2_000 {
                assert_eq!(open(&mut opener, packet(&sealer, 7, index)), Ok(index));
            }
            // What it was before does not count any more.
            let old = open(&mut opener, packet(&sealer, 7, 65_699));
            assert!(old.is_err(), "{profile:?} {missed}");
        }
    }
}

#[test]
fn the_first_packet_may_come_after_a_rollover() {
    for profile in PROFILES {
        let (sealer, mut opener) = (sealer(profile), opener(profile));
        // 65,530 to 65,535 were lost.
        let opened = (65_536..65_540).map(|index| open(&mut opener, packet(&sealer, 7, index)));
        let opened: Vec<_> = opened.collect();
        assert_eq!(opened[1..], [Ok(65_537), Ok(65_538), Ok(65_539)]);
    }
}

#[test]
fn forgeries_cost_an_honest_source_nothing() {
    for profile in PROFILES {
        let (sealer, mut opener) = (sealer(profile), opener(profile));
        for index in 100..2_000u64 {
            let mut forged = packet(&sealer, 7, index + 30_000 * (index % 3));
            *forged.last_mut().unwrap() ^= 1;
            assert!(open(&mut opener, forged).is_err());
            assert_eq!(open(&mut opener, packet(&sealer, 7, index)), Ok(index));
        }
    }
}

/// A client may change its SSRCs as often as it likes, and come back to one.
#[test]
fn sources_without_end() {
    for profile in PROFILES {
        let mut sealer = sealer(profile);
        let mut opener = Opener::new(&master(profile), 2);
        const ROC: u64 = 3 << 16;
        opener.resume_rtp(SourceIndex {
            ssrc: 9,
            highest: ROC,
        });
        for ssrc in 10..100 {
            assert_eq!(open(&mut opener, packet(&sealer, ssrc, 7)), Ok(7));
            assert_eq!(open(&mut opener, packet(&sealer, ssrc, 8)), Ok(8));
            let mut sealed = seal_compound(&mut sealer, &compound(ssrc, 16));
            assert_eq!(opener.open_rtcp(&mut sealed), Ok(16));
        }
        for ssrc in 10..100 {
            let replayed = open(&mut opener, packet(&sealer, ssrc, 8));
            assert_eq!(replayed, Err(OpenError::Replayed), "{ssrc}");
            assert_eq!(open(&mut opener, packet(&sealer, ssrc, 9)), Ok(9), "{ssrc}");
        }
        // The rollover counter is not forgotten either.
        let next = ROC + 1;
        assert_eq!(open(&mut opener, packet(&sealer, 9, next)), Ok(next));
        // Nothing unauthenticated takes anybody's place.
        for ssrc in 200..300 {
            let mut forged = packet(&sealer, ssrc, 7);
            *forged.last_mut().unwrap() ^= 1;
            assert_eq!(open(&mut opener, forged), Err(OpenError::Authentication));
        }
        assert_eq!(opener.rollover_counters().count(), 91);
    }
}

/// What was negotiated after the handshake: all of it is heard, in whatever order it comes.
#[test]
fn sources_are_as_many_as_are_allowed() {
    const SOURCES: u32 = 12 * 3 * 2;
    for profile in PROFILES {
        let sealer = sealer(profile);
        let mut opener = Opener::new(&master(profile), 2);
        opener.allow_sources(SOURCES as usize);
        opener.allow_sources(1);
        for index in [7, 9, 8] {
            for ssrc in 0..SOURCES {
                let opened = open(&mut opener, packet(&sealer, ssrc, index));
                assert_eq!(opened, Ok(index), "{ssrc}");
            }
        }
    }
}

/// What a receiver can and cannot know about the rollover counter.
#[test]
fn rollover_counter_edges() {
    const WRAP: u64 = 1 << 16;
    for profile in PROFILES {
        let sealer = sealer(profile);
        let opens = |opener: &mut Opener, index: u64| {
            assert_eq!(
                open(opener, packet(&sealer, 1, index)),
                Ok(index),
                "{profile:?}"
            );
        };

        // The first packets are lost, then packets up to and over the wrap; then come late ones.
        let mut plain = opener(profile);
        opens(&mut plain, 30_000);
        opens(&mut plain, WRAP - 1);
        opens(&mut plain, WRAP + 10);
        opens(&mut plain, WRAP - 2);
        opens(&mut plain, WRAP);
        opens(&mut plain, 2 * WRAP - 32_767);
        opens(&mut plain, 2 * WRAP);

        // All packets around the wrap are lost, but fewer than half the sequence space.
        let mut lossy = opener(profile);
        opens(&mut lossy, WRAP - 100);
        opens(&mut lossy, WRAP + 32_600);
        opens(&mut lossy, 2 * WRAP + 32_600 - 32_768);

        // More than that: the receiver takes it for a packet of the rollover counter it knows, one
        // far too old, and keeps what it knew.
        let mut lost = opener(profile);
        opens(&mut lost, WRAP - 100);
        let beyond = open(&mut lost, packet(&sealer, 1, WRAP + 40_000));
        assert_eq!(beyond, Err(OpenError::Replayed));
        opens(&mut lost, WRAP + 10);

        // A sender that begins just before the wrap, its first packets late: the first to arrive
        // cannot be opened, but leaves nothing behind that would harm the others.
        let mut unlucky = opener(profile);
        let early = open(&mut unlucky, packet(&sealer, 1, WRAP + 3));
        assert_eq!(early, Err(OpenError::Authentication));
        opens(&mut unlucky, WRAP - 5);
        opens(&mut unlucky, WRAP + 3);
    }
}

#[test]
fn another_opener_and_sealer_continue() {
    const ROC: u64 = 9 << 16;
    for profile in PROFILES {
        let mut sealer = sealer(profile);
        let mut old = opener(profile);
        old.resume_rtp(SourceIndex {
            ssrc: 1,
            highest: ROC - 1,
        });
        assert_eq!(open(&mut old, packet(&sealer, 1, ROC)), Ok(ROC));
        let mut sealed = seal_compound(&mut sealer, &compound(1, 16));
        assert_eq!(old.open_rtcp(&mut sealed.clone()), Ok(16));

        let mut new = opener(profile);
        for source in old.rollover_counters() {
            assert_eq!(
                source,
                SourceIndex {
                    ssrc: 1,
                    highest: ROC
                }
            );
            new.resume_rtp(source);
        }
        for source in old.rtcp_indices() {
            new.resume_rtcp(source);
        }
        for seen in [ROC - 1, ROC] {
            let replayed = open(&mut new, packet(&sealer, 1, seen));
            assert_eq!(replayed, Err(OpenError::Replayed));
        }
        assert_eq!(new.open_rtcp(&mut sealed), Err(OpenError::Replayed));
        assert_eq!(open(&mut new, packet(&sealer, 1, ROC + 1)), Ok(ROC + 1));

        let mut resumed = Sealer::new(&master(profile));
        resumed.resume_rtcp_at(sealer.next_rtcp_index());
        let mut sealed = seal_compound(&mut resumed, &compound(1, 16));
        assert_eq!(new.open_rtcp(&mut sealed), Ok(16));
        resumed.resume_rtcp_at(0);
        assert_eq!(resumed.next_rtcp_index(), sealer.next_rtcp_index() + 1);
    }
}

#[test]
fn rtcp_indices_end() {
    let profile = Profile::AeadAes128Gcm;
    let mut sealer = sealer(profile);
    sealer.resume_rtcp_at((1 << 31) - 1);
    let mut last = seal_compound(&mut sealer, &compound(1, 16));
    assert_eq!(opener(profile).open_rtcp(&mut last), Ok(16));
    assert!(sealer.seal_rtcp(&mut [0; 64], 16).is_err());
    assert!(sealer.seal_rtcp(&mut [0; 64], 16).is_err());
}

#[test]
#[should_panic(expected = "would repeat the nonce")]
fn indices_beyond_48_bits_are_a_bug() {
    let index = 1 << 48;
    packet(&sealer(Profile::AeadAes128Gcm), 1, index);
}
