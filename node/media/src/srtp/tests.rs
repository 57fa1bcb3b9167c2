//! Vectors from the RFCs, which are given in session keys and so below the public interface. What
//! can be said through it is in `tests/srtp.rs`.

use super::cm::Cm;
use super::keys::SessionKeys;
use super::secret::Secret;
use super::{OpenError, Opened, Opener, PacketId, Profile, Sealer};

/// RFC 3711 appendix B.2: the keystream of SSRC 0 and index 0, whose last blocks lie more than a
/// megabyte behind the first.
#[test]
fn rfc_3711_b2() {
    let key = hex::decode("2b7e151628aed2a6abf7158809cf4f3c").unwrap();
    let salt = hex::decode("f0f1f2f3f4f5f6f7f8f9fafbfcfd").unwrap();
    let cm = Cm::new(&key, &[0; 20], salt.first_chunk().unwrap());
    let mut stream = vec![0; 16 * 0xff02];
    cm.keystream(PacketId { ssrc: 0, index: 0 })
        .apply_in_place(&mut stream);
    let check = |block: usize, expected: &str| {
        assert_eq!(
            hex::encode(&stream[16 * block..][..16]),
            expected,
            "block {block:#x}"
        );
    };
    check(0x0000, "e03ead0935c95e80e166b16dd92b4eb4");
    check(0x0001, "d23513162b02d0f72a43a2fe4a5f97ab");
    check(0x0002, "41e95b3bb0a2e8dd477901e4fca894c0");
    check(0xfeff, "ec8cdf7398607cb0f2d21675ea9ea1e4");
    check(0xff00, "362b7c3c6773516318a077d7fc5073ae");
    check(0xff01, "6a2cc3787889374fbeb4c81b17ba6c44");

    // The same stream in uneven pieces, in place and not.
    let mut pieces = vec![0; 1000];
    let mut keystream = cm.keystream(PacketId { ssrc: 0, index: 0 });
    keystream.apply_in_place(&mut pieces[..7]);
    keystream.apply(&[0; 30], &mut pieces[7..]);
    keystream.apply(&[0; 963], &mut pieces[37..]);
    assert_eq!(pieces, stream[..1000]);
}

/// The keys of RFC 7714 sections 16 and 17; GCM has no authentication key.
fn rfc_7714_keys(profile: Profile) -> SessionKeys {
    let mut cipher = Secret([0; 32]);
    for (value, byte) in (0..).zip(&mut cipher.0[..profile.key_len()]) {
        *byte = value;
    }
    let mut salt = Secret([0; 14]);
    salt.0[..12].copy_from_slice(b"Quid pro quo");
    SessionKeys {
        cipher,
        auth: Secret([0; 20]),
        salt,
    }
}

/// RFC 7714 sections 16.1 and 16.2, the payload patched up to every possible byte.
#[test]
fn rfc_7714_16() {
    let header = hex::decode("8040f17b8041f8d35501a0b2").unwrap();
    let payload = b"Gallia est omnis divisa in partes tres";
    let check = |profile, expected: &str| {
        let keys = rfc_7714_keys(profile);
        let sealer = Sealer::from_session_keys(profile, &keys);
        let mut packet = Vec::new();
        for patched in 0..=payload.len() {
            packet = [&header, &payload[..patched], &[0xee; 64]].concat();
            let len =
                sealer.seal_rtp_patched(0xf17b, &mut packet, 12, patched, &payload[patched..]);
            packet.truncate(len);
            assert_eq!(packet[..12], header);
            assert_eq!(
                hex::encode(&packet[12..]),
                expected,
                "{profile:?}, {patched} patched"
            );
        }
        let opened = Opener::from_session_keys(profile, &keys).open_rtp(&mut packet, 12);
        assert_eq!(
            opened,
            Ok(Opened {
                leapt: false,
                len: 50,
                index: 0xf17b
            })
        );
        assert_eq!(packet[12..50], payload[..]);
    };
    check(
        Profile::AeadAes128Gcm,
        "f24de3a3fb34de6cacba861c9d7e4bcabe633bd50d294e6f42a5f47a51c7d19b36de3adf8833\
         899d7f27beb16a9152cf765ee4390cce",
    );
    check(
        Profile::AeadAes256Gcm,
        "32b1de78a822fe12ef9f78fa332e33aab18012389a58e2f3b50b2a0276ffae0f1ba63799b87b\
         7aa3db36dfffd6b0f9bb7878d7a76c13",
    );
}

/// RFC 7714 sections 17.1 and 17.2 with 128 bits, and the same with 256; section 17.3, which is
/// authenticated but not encrypted, is refused.
#[test]
fn rfc_7714_17() {
    let plain = hex::decode(
        "81c8000d4d6172734e5450314e545032525450200000042a0000e9304c756e61\
         deadbeefdeadbeefdeadbeefdeadbeefdeadbeef",
    )
    .unwrap();
    let check = |profile, expected: &str| {
        let keys = rfc_7714_keys(profile);
        let mut sealer = Sealer::from_session_keys(profile, &keys);
        sealer.resume_rtcp_at(0x5d4);
        let mut packet = [&plain[..], &[0; Profile::MAX_OVERHEAD]].concat();
        let len = sealer.seal_rtcp(&mut packet, plain.len()).unwrap();
        assert_eq!(hex::encode(&packet[..len]), expected, "{profile:?}");

        let opened = Opener::from_session_keys(profile, &keys).open_rtcp(&mut packet[..len]);
        assert_eq!(opened, Ok(plain.len()));
        assert_eq!(packet[..plain.len()], plain);
    };
    check(
        Profile::AeadAes128Gcm,
        "81c8000d4d61727363e94885dcdab67ca727d7662f6b7e997ff5c0f76c06f32dc676a5f1730d6fda\
         4ce09b4686303ded0bb9275bc84aa45896cf4d2fc5abf87245d9eade800005d4",
    );
    check(
        Profile::AeadAes256Gcm,
        "81c8000d4d617273d50ae4d1f5ce5d304ba297e47d470c282c3ece5dbffe0a50a2eaa5c1110555be\
         8415f658c61de0476f1b6fad1d1eb30c4446839f57ff6f6cb26ac3be800005d4",
    );

    let mut unencrypted = hex::decode(
        "81c8000d4d6172734e5450314e545032525450200000042a0000e9304c756e61\
         deadbeefdeadbeefdeadbeefdeadbeefdeadbeef841dd9683dd78ec92ae58790125f62b3000005d4",
    )
    .unwrap();
    let keys = rfc_7714_keys(Profile::AeadAes128Gcm);
    let opened =
        Opener::from_session_keys(Profile::AeadAes128Gcm, &keys).open_rtcp(&mut unencrypted);
    assert_eq!(opened, Err(OpenError::Authentication));
}

/// A connection is made on one thread and served on another.
#[test]
fn sealer_and_opener_are_send() {
    fn check<T: Send>() {}
    check::<Sealer>();
    check::<Opener>();
}
