//! Connectivity checks: arbitrary bytes, and bytes with the signature of somebody who has the
//! password.

use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use pipemesh_node::session::ice::{Credentials, IceAgent, Path};
use rand::SeedableRng;
use rand::rngs::StdRng;

const PASSWORD: &str = "passwordpasswordpassword";

pub fn run(input: &[u8]) {
    let mut now = Instant::now();
    let mut agent = IceAgent::new(Credentials {
        ufrag: "node".to_owned(),
        password: PASSWORD.to_owned(),
    });
    let mut rng = StdRng::seed_from_u64(1);
    for (number, piece) in super::pieces(input).take(64).enumerate() {
        let Some((&how, message)) = piece.split_first() else {
            continue;
        };
        let message = match how & 1 {
            0 => message.to_vec(),
            _ => sign(message),
        };
        if how & 2 != 0 {
            agent.set_remote("client", PASSWORD, now);
        }
        if how & 4 != 0 {
            agent.restart(Credentials {
                ufrag: format!("node{}", how >> 5),
                password: PASSWORD.to_owned(),
            });
        }
        let _ = IceAgent::local_ufrag(&message);
        let path = Path {
            socket: 0,
            remote: ([192, 0, 2, how >> 3], number as u16 + 1).into(),
        };
        if how & 8 != 0 {
            agent.handshake_answered();
        }
        if IceAgent::asker(&message).is_some() {
            let _ = agent.handle_answer(&message, path);
        } else if let Ok((_, reply)) = agent.handle_binding(&message, path, how & 16 != 0, now) {
            let sent = reply.map_or(0, |reply| reply.bytes().len());
            assert!(sent <= message.len(), "it amplifies");
        }
        while agent.poll_transmit(1, &mut rng).is_some() {}
        now += Duration::from_secs(u64::from(how >> 4));
        agent.handle_timeout(now);
        assert!(std::iter::from_fn(|| agent.poll_event()).count() < 32);
        assert!(agent.selected().is_none_or(|path| agent.is_proven(path)));
    }
}

/// Completes a message: length, MESSAGE-INTEGRITY (RFC 8489 section 14.5).
fn sign(message: &[u8]) -> Vec<u8> {
    const INTEGRITY: usize = 24;
    const HEADER: usize = 20;
    let mut signed = message[..message.len().min(1200)].to_vec();
    signed.resize(signed.len().max(HEADER).next_multiple_of(4), 0);
    let length = (signed.len() + INTEGRITY - HEADER) as u16;
    signed[..2].copy_from_slice(&[0, 1]);
    signed[2..4].copy_from_slice(&length.to_be_bytes());
    signed[4..8].copy_from_slice(&[0x21, 0x12, 0xA4, 0x42]);
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, PASSWORD.as_bytes());
    let tag = hmac::sign(&key, &signed);
    signed.extend([0, 8, 0, 20]);
    signed.extend(tag.as_ref());
    signed
}
