//! Packets under a connection's keys: arbitrary bytes, and bytes that were sealed properly.

use pipemesh_node_core::rtp::Header;
use pipemesh_node_media::srtp::{MasterKey, Opener, Profile, Sealer};

const PROFILES: [Profile; 3] = [
    Profile::AeadAes128Gcm,
    Profile::AeadAes256Gcm,
    Profile::AesCm128HmacSha1_80,
];

pub fn run(input: &[u8]) {
    let Some((&choice, input)) = input.split_first() else {
        return;
    };
    let profile = PROFILES[usize::from(choice) % PROFILES.len()];
    let (key, salt) = (vec![7; profile.key_len()], vec![9; profile.salt_len()]);
    let master = MasterKey::new(profile, &key, &salt).expect("lengths are the profile's");
    let (mut opener, mut sealer) = (Opener::new(&master, 2), Sealer::new(&master));
    for piece in super::pieces(input).take(64) {
        let mut packet = piece.to_vec();
        if let Some(header) = Header::parse(piece) {
            let forged = opener.open_rtp(&mut packet, header.header_len());
            assert!(forged.is_err(), "nobody knows the key");
        }
        assert!(opener.open_rtcp(&mut piece.to_vec()).is_err());
        // The same bytes from somebody who has it.
        if piece.len() > 1500 {
            continue;
        }
        if let Some(header) = Header::parse(piece) {
            let len = header.header_len();
            let mut sealed = piece.to_vec();
            sealed.resize(piece.len() + Profile::MAX_OVERHEAD, 0);
            let index = u64::from(header.sequence);
            let sealed_len = sealer.seal_rtp(index, &mut sealed, len, &piece[len..]);
            sealed.truncate(sealed_len);
            if let Ok(opened) = opener.open_rtp(&mut sealed, len) {
                assert_eq!(&sealed[..opened.len], piece);
            }
        }
        if piece.len() >= 8 {
            let mut sealed = piece.to_vec();
            sealed.resize(piece.len() + Profile::MAX_OVERHEAD, 0);
            let sealed_len = sealer.seal_rtcp(&mut sealed, piece.len());
            sealed.truncate(sealed_len.expect("few packets"));
            let len = opener
                .open_rtcp(&mut sealed)
                .expect("it is authentic and new");
            assert_eq!(&sealed[..len], piece);
        }
    }
    assert!(opener.rollover_counters().count() <= 2 + 1024);
}
