//! Every input that a fuzzer found worth keeping, fed to its reader again: as it is, and damaged. What is
//! fed to whom, and what has to hold, is told in `fuzz/src`.
//!
//! `ROUNDS` says how often each is damaged, `SEED` how.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

#[path = "../fuzz/src/lib.rs"]
#[allow(unreachable_pub, reason = "a library of its own elsewhere")]
mod fuzz;

/// A name for a failure's report, and the bytes.
type Input = (String, Vec<u8>);

fn inputs(target: &str) -> Vec<Input> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let entries = std::fs::read_dir(corpus.join(target)).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "nothing was kept for {target}");
    let read = |path: &std::path::PathBuf| {
        let bytes = std::fs::read(path).unwrap();
        (path.display().to_string(), bytes)
    };
    paths.iter().map(read).collect()
}

fn feed(run: fn(&[u8]), name: &str, bytes: &[u8]) {
    let outcome = catch_unwind(AssertUnwindSafe(|| run(bytes)));
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(outcome.is_ok(), "{name}: {hex}");
}

#[test]
fn what_was_found_stays_mended() {
    for (target, run) in fuzz::TARGETS {
        for (name, bytes) in inputs(target) {
            feed(*run, &name, &bytes);
        }
    }
}

#[test]
fn damaged_inputs_hurt_nobody() {
    let variable = |name: &str| std::env::var(name).ok()?.parse().ok();
    let rounds = variable("ROUNDS").unwrap_or(50);
    let seed = variable("SEED").unwrap_or_else(rand::random);
    eprintln!("SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    for (target, run) in fuzz::TARGETS {
        let inputs = inputs(target);
        for (name, bytes) in &inputs {
            for _ in 0..rounds {
                let mut damaged = bytes.clone();
                let other = &inputs[random.random_range(0..inputs.len())].1;
                damage(&mut damaged, other, &mut random);
                feed(*run, name, &damaged);
            }
        }
    }
}

fn damage(bytes: &mut Vec<u8>, other: &[u8], random: &mut StdRng) {
    for _ in 0..random.random_range(1..=8) {
        if bytes.is_empty() {
            return bytes.push(random.random());
        }
        let at = random.random_range(0..bytes.len());
        match random.random_range(0..7) {
            0 => bytes[at] ^= 1 << random.random_range(0..8),
            1 => bytes[at] = random.random(),
            2 => bytes[at] = [0, 1, 0x7F, 0x80, 0xFE, 0xFF][random.random_range(0..6)],
            3 => bytes.truncate(at),
            4 => drop(bytes.drain(at..random.random_range(at..=bytes.len()))),
            5 => {
                let piece = bytes[at..random.random_range(at..=bytes.len())].to_vec();
                bytes.splice(at..at, piece);
            }
            _ => {
                let from = random.random_range(0..=other.len());
                let piece = &other[from..random.random_range(from..=other.len())];
                bytes.splice(at..at, piece.iter().copied());
            }
        }
        bytes.truncate(4096);
    }
}
