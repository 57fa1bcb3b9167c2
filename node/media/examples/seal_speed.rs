//! What a packet costs at the edge of the node, in CPU time of the thread that does it: sealing and
//! opening, and sending to readers that keep up.
//!
//! `cargo run --release -p pipemesh-node-media --example seal_speed`. Times are the best of several
//! rounds, so that other work on the machine counts little; they still compare only within one run.

#![allow(clippy::print_stdout, reason = "the figures are what it is for")]

use std::error::Error;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use pipemesh_node_media::srtp::{MasterKey, Opener, Profile, Sealer};
use pipemesh_node_media::thread::{cpu_time, pin_to_core};
use pipemesh_node_media::udp::{
    Destination, Egress, EgressOptions, MAX_SEGMENTS, Options, ReceiveBatch, Run, UdpSocket,
};

/// Subscribers of one packet. Each has its own key.
const CONNECTIONS: usize = 100;
const HEADER_LEN: usize = 20;
const PAYLOAD_LEN: usize = 1_180;
const ROUNDS: usize = 9;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Outcome<()> {
    println!(
        "per packet of {} bytes, {CONNECTIONS} keys",
        HEADER_LEN + PAYLOAD_LEN
    );
    for profile in [
        Profile::AeadAes128Gcm,
        Profile::AeadAes256Gcm,
        Profile::AesCm128HmacSha1_80,
    ] {
        let sealers = Sealers::new(profile)?;
        let seal = sealers.seal_speed(0);
        let patched = sealers.seal_speed(6);
        let in_place = sealers.seal_speed(PAYLOAD_LEN);
        let open = open_speed(profile)?;
        println!(
            "{profile:?}: seal {seal:.0} ns, first 6 bytes patched {patched:.0} ns, \
             copied and in place {in_place:.0} ns, open {open:.0} ns"
        );
    }
    println!("per datagram of 1216 bytes over loopback, to {CONNECTIONS} sockets that are read");
    for run_len in [1, 4, 10] {
        // In threads of their own: the sender stays on the core it pins itself to.
        let send = std::thread::spawn(move || egress_speed(run_len, None));
        let send = send.join().expect("the sender does not panic")?;
        let sealers = Sealers::new(Profile::AeadAes128Gcm)?;
        let both = std::thread::spawn(move || egress_speed(run_len, Some(sealers)));
        let both = both.join().expect("the sender does not panic")?;
        println!("run of {run_len}: send {send:.0} ns, seal and send {both:.0} ns");
    }
    Ok(())
}

fn master(profile: Profile, number: usize) -> Outcome<MasterKey> {
    let (key, salt) = (
        vec![number as u8; profile.key_len()],
        vec![7; profile.salt_len()],
    );
    Ok(MasterKey::new(profile, &key, &salt)?)
}

/// The best time of `ROUNDS`, in nanoseconds per unit of work.
fn best(units: usize, mut work: impl FnMut()) -> f64 {
    let times = (0..ROUNDS).map(|_| {
        let start = cpu_time();
        work();
        (cpu_time() - start).as_nanos() as f64 / units as f64
    });
    times.fold(f64::MAX, f64::min)
}

/// The sealers of all connections, and the payload they share.
struct Sealers {
    sealers: Vec<Sealer>,
    payload: Vec<u8>,
}

impl Sealers {
    fn new(profile: Profile) -> Outcome<Self> {
        let masters = (0..CONNECTIONS).map(|number| master(profile, number));
        let sealers = masters.map(|master| Ok(Sealer::new(&master?)));
        Ok(Self {
            sealers: sealers.collect::<Outcome<_>>()?,
            payload: vec![0x55; PAYLOAD_LEN],
        })
    }

    /// Writes a header and `patched` bytes of payload to `packet` and seals the rest behind them.
    fn seal(&self, connection: usize, index: u64, packet: &mut [u8], patched: usize) -> usize {
        packet[..4].copy_from_slice(&[0x90, 96, (index >> 8) as u8, index as u8]);
        packet[8..12].copy_from_slice(&(connection as u32).to_be_bytes());
        let (head, rest) = self.payload.split_at(patched);
        packet[HEADER_LEN..][..patched].copy_from_slice(head);
        self.sealers[connection].seal_rtp_patched(index, packet, HEADER_LEN, patched, rest)
    }

    fn seal_speed(&self, patched: usize) -> f64 {
        const PACKETS: usize = 500;
        let mut packets = vec![[0; 1_500]; CONNECTIONS];
        best(PACKETS * CONNECTIONS, || {
            for index in 0..PACKETS as u64 {
                for (connection, packet) in packets.iter_mut().enumerate() {
                    self.seal(connection, index, packet, patched);
                }
            }
        })
    }
}

fn open_speed(profile: Profile) -> Outcome<f64> {
    const PACKETS: usize = 10_000;
    let sealers = Sealers::new(profile)?;
    let mut sealed = vec![[0; HEADER_LEN + PAYLOAD_LEN + Profile::MAX_OVERHEAD]; PACKETS];
    let mut opener = Opener::new(&master(profile, 0)?, 16);
    let len = HEADER_LEN + PAYLOAD_LEN + profile.rtp_overhead();
    let mut times = Vec::new();
    for round in 0..ROUNDS {
        for (number, packet) in sealed.iter_mut().enumerate() {
            sealers.seal(0, (round * PACKETS + number) as u64, packet, 0);
        }
        let start = cpu_time();
        for packet in &mut sealed {
            opener.open_rtp(&mut packet[..len], HEADER_LEN)?;
        }
        times.push((cpu_time() - start).as_nanos() as f64 / PACKETS as f64);
    }
    Ok(times.into_iter().fold(f64::MAX, f64::min))
}

/// Sends runs of `run_len` to every reader, flushing once all have theirs.
fn egress_speed(run_len: usize, sealers: Option<Sealers>) -> Outcome<f64> {
    const DATAGRAMS_PER_ROUND: usize = 400;
    const DATAGRAM_LEN: usize = HEADER_LEN + PAYLOAD_LEN + 16;
    let bind = || {
        let options = Options {
            receive_buffer: 4 << 20,
            send_buffer: 4 << 20,
        };
        UdpSocket::bind((Ipv4Addr::LOCALHOST, 0).into(), options)
    };
    let sockets = [bind()?];
    let receivers = (0..CONNECTIONS)
        .map(|_| bind())
        .collect::<io::Result<Vec<_>>>()?;
    let destinations: Vec<_> = receivers
        .iter()
        .map(|receiver| Destination {
            socket: 0,
            addr: receiver.local_addr(),
        })
        .collect();
    let reader = Reader::start(receivers);
    pin_to_core(0)?;

    let mut egress = Egress::new(EgressOptions {
        sockets: 1,
        chunks: CONNECTIONS as u32,
        max_segments: MAX_SEGMENTS,
    });
    let mut runs: Vec<Run> = (0..CONNECTIONS).map(|_| Run::default()).collect();
    let mut index = 0;
    let mut times = Vec::new();
    for round in 1..=ROUNDS {
        let start = cpu_time();
        for _ in 0..DATAGRAMS_PER_ROUND / run_len {
            for (connection, (run, to)) in runs.iter_mut().zip(&destinations).enumerate() {
                for number in 0..run_len {
                    let mut slot = egress
                        .reserve(run, *to, DATAGRAM_LEN)
                        .ok_or("there are enough chunks")?;
                    if let Some(sealers) = &sealers {
                        sealers.seal(connection, index + number as u64, &mut slot, 0);
                    }
                    slot.commit(DATAGRAM_LEN);
                }
            }
            index += run_len as u64;
            let report = egress.flush(&sockets);
            assert!(report.blocked.is_empty(), "loopback takes everything");
        }
        let sent = DATAGRAMS_PER_ROUND / run_len * run_len * CONNECTIONS;
        times.push((cpu_time() - start).as_nanos() as f64 / sent as f64);
        reader.catch_up((round * sent) as u64);
    }
    reader.stop();
    Ok(times.into_iter().fold(f64::MAX, f64::min))
}

/// A thread that reads without ever sleeping: to wake one would be charged to the sender.
struct Reader {
    received: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<io::Result<()>>,
}

impl Reader {
    fn start(sockets: Vec<UdpSocket>) -> Self {
        let received = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (received, stop) = (received.clone(), stop.clone());
            move || {
                // On a machine with one core it shares that.
                let _ = pin_to_core(1);
                let mut batch = ReceiveBatch::new();
                while !stop.load(Ordering::Relaxed) {
                    for socket in &sockets {
                        socket.receive(&mut batch)?;
                        received.fetch_add(batch.datagrams().count() as u64, Ordering::Relaxed);
                    }
                }
                Ok(())
            }
        });
        Self {
            received,
            stop,
            thread,
        }
    }

    /// Waits until the reader has as many datagrams as were sent.
    fn catch_up(&self, sent: u64) {
        while self.received.load(Ordering::Relaxed) < sent {
            std::thread::yield_now();
        }
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        let outcome = self.thread.join().expect("the reader does not panic");
        outcome.expect("the sockets stay readable");
    }
}
