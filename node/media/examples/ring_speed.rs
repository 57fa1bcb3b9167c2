//! What a packet costs between two threads: into the ring, out of it, and a wake per batch.
//!
//! `cargo run --release -p pipemesh-node-media --example ring_speed`. CPU time of the thread that does
//! it, the best of several rounds; compares only within one run.

#![allow(clippy::print_stdout, reason = "the figures are what it is for")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pipemesh_node_media::poll::Poller;
use pipemesh_node_media::ring::ring;
use pipemesh_node_media::thread::cpu_time;

const CAPACITY: usize = 1 << 20;
const HEADER: [u8; 24] = [0x11; 24];
const BATCHES: usize = 20_000;
const ROUNDS: usize = 7;

fn main() {
    for len in [1200, 120] {
        println!("packets of {len} bytes, per packet");
        let copy = best(|| copy_speed(len));
        println!("copied and nothing else: {copy:.0} ns");
        for batch in [1, 4, 16] {
            let (push, read) = alone(len, batch);
            let crossing = best(|| crossing(len, batch));
            println!(
                "batch of {batch}: pushed {push:.0} ns, read {read:.0} ns; pushed to another thread \
                 that sleeps in between, its wake included, {crossing:.0} ns"
            );
        }
    }
}

fn best(mut measure: impl FnMut() -> f64) -> f64 {
    (0..ROUNDS).map(|_| measure()).fold(f64::MAX, f64::min)
}

fn per_packet(time: Duration, packets: usize) -> f64 {
    time.as_nanos() as f64 / packets as f64
}

/// The floor: the same bytes into memory as large as the ring.
fn copy_speed(len: usize) -> f64 {
    let mut memory = vec![0_u8; CAPACITY];
    let packet = vec![0x22; len];
    let packets = BATCHES * 4;
    let begun = cpu_time();
    let mut at = 0;
    for _ in 0..packets {
        if at + len > CAPACITY {
            at = 0;
        }
        memory[at..at + len].copy_from_slice(std::hint::black_box(&packet));
        at += len;
    }
    std::hint::black_box(&memory);
    per_packet(cpu_time() - begun, packets)
}

/// Both ends in one thread.
fn alone(len: usize, batch: usize) -> (f64, f64) {
    let packet = vec![0x22; len];
    let mut bests = (f64::MAX, f64::MAX);
    for _ in 0..ROUNDS {
        let (mut producer, mut consumer) = ring(CAPACITY);
        let (mut pushing, mut reading) = (Duration::ZERO, Duration::ZERO);
        // So many at once that looking at the clock costs little.
        let at_once = (256 / batch).max(1);
        let turns = BATCHES / at_once;
        for _ in 0..turns {
            let begun = cpu_time();
            for _ in 0..at_once {
                for _ in 0..batch {
                    producer.push(&HEADER, &packet).expect("there is room");
                }
                producer.publish();
            }
            let pushed = cpu_time();
            for _ in 0..at_once {
                let mut records = consumer.records();
                for record in records.by_ref().take(batch) {
                    std::hint::black_box(record[0]);
                }
                let position = records.position();
                consumer.release(position);
            }
            pushing += pushed - begun;
            reading += cpu_time() - pushed;
        }
        let packets = turns * at_once * batch;
        bests.0 = f64::min(bests.0, per_packet(pushing, packets));
        bests.1 = f64::min(bests.1, per_packet(reading, packets));
    }
    bests
}

/// Batches to a thread that waits at a poller for each; answers what the pushing one spends.
fn crossing(len: usize, batch: usize) -> f64 {
    const BATCHES: usize = 2_000;
    let (mut producer, mut consumer) = ring(CAPACITY);
    let mut poller = Poller::new().expect("there are descriptors");
    let waker = poller.waker();
    let is_over = Arc::new(AtomicBool::new(false));
    let over = Arc::clone(&is_over);
    let reader = std::thread::spawn(move || {
        while !over.load(Ordering::Acquire) || !consumer.is_empty() {
            let mut records = consumer.records();
            for record in records.by_ref() {
                std::hint::black_box(record[0]);
            }
            let position = records.position();
            consumer.release(position);
            poller
                .wait(Some(Duration::from_millis(10)))
                .expect("a poller that works");
        }
    });
    let packet = vec![0x22; len];
    let mut spent = Duration::ZERO;
    for _ in 0..BATCHES {
        let begun = cpu_time();
        for _ in 0..batch {
            // What the reader is too slow for is refused, which costs about the same.
            let _ = producer.push(&HEADER, &packet);
        }
        producer.publish();
        waker.wake();
        spent += cpu_time() - begun;
        // It falls asleep.
        std::thread::sleep(Duration::from_micros(50));
    }
    is_over.store(true, Ordering::Release);
    waker.wake();
    reader.join().expect("the reader does not panic");
    per_packet(spent, BATCHES * batch)
}
