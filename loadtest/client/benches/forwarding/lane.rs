//! Floor and reference, measured: their receivers, and whoever sends to the reference. Reads as the load
//! generator does: looks, and sleeps.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::Context;
use hdrhistogram::Histogram;
use pipemesh_node_media::poll::{Poller, Token};
use pipemesh_node_media::srtp::{Opener, Sealer};
use pipemesh_node_media::udp::{
    Destination, Egress, EgressOptions, MAX_DATAGRAM_LEN, MAX_SEGMENTS, ReceiveBatch, Run,
    UdpSocket,
};

use crate::process::{self, Process};
use crate::server::{self, Header, Kind, Schedule};
use crate::{Figure, Pace, Shape};

/// As the load generator's.
pub(crate) const POLL_EVERY: Duration = Duration::from_micros(150);
/// One packet in so many is opened.
pub(crate) const VERIFIED: u64 = 23;

struct Receiver {
    socket: UdpSocket,
    opener: Opener,
    /// The last number, extended; none before the first packet.
    last: Option<u64>,
    first: u64,
    packets: u64,
}

pub(crate) fn measure(kind: Kind, shape: Shape, pace: Pace) -> anyhow::Result<Figure> {
    let mut process = Process::serve(&server::arguments(kind, shape), true)?;
    let port: u16 = process.answer()?.parse()?;
    let mut lane = Lane::new(shape, (kind == Kind::Reference).then_some(port))?;
    let ports: Vec<String> = lane
        .receivers
        .iter()
        .map(|receiver| receiver.socket.local_addr().port().to_string())
        .collect();
    process.tell(&ports.join(" "))?;
    lane.run(Instant::now() + pace.warm_up)?;
    lane.reset();
    let (cpu, own, began) = (process.cpu()?, process::cpu("self")?, Instant::now());
    lane.run(began + pace.window)?;
    let (cpu, elapsed) = (process.cpu()? - cpu, began.elapsed());
    let own = process::cpu("self")? - own;
    lane.figure(cpu, own, elapsed)
}

struct Lane {
    receivers: Vec<Receiver>,
    header: Header,
    poller: Poller,
    batch: ReceiveBatch,
    publisher: Option<Publisher>,
    seen: u64,
    verified: u64,
    refused: u64,
    /// Times that packets carry count from here.
    origin: Instant,
    /// Microseconds from the publisher to a receiver, of packets that were opened.
    latency: Histogram<u32>,
}

impl Lane {
    fn new(shape: Shape, reference: Option<u16>) -> anyhow::Result<Self> {
        let poller = Poller::new()?;
        let mut receivers = Vec::new();
        for number in 0..shape.receivers_in_all() {
            let socket = server::bind()?;
            poller.register(&socket, Token(number as u32))?;
            receivers.push(Receiver {
                socket,
                opener: Opener::new(&server::master(false, number)?, 1),
                last: None,
                first: 0,
                packets: 0,
            });
        }
        let origin = Instant::now();
        let publisher = reference.map(|port| Publisher::new(shape, port, origin));
        Ok(Self {
            receivers,
            header: Header::of(shape),
            poller,
            batch: ReceiveBatch::new(),
            publisher: publisher.transpose()?,
            seen: 0,
            verified: 0,
            refused: 0,
            origin,
            latency: Histogram::new(3)?,
        })
    }

    fn run(&mut self, until: Instant) -> anyhow::Result<()> {
        while Instant::now() < until {
            if let Some(publisher) = &mut self.publisher {
                publisher.send(Instant::now());
            }
            std::thread::sleep(POLL_EVERY);
            loop {
                let ready = self.poller.wait(Some(Duration::ZERO))?;
                let numbers: Vec<usize> = ready.iter().map(|it| it.token.0 as usize).collect();
                if numbers.is_empty() {
                    break;
                }
                numbers.into_iter().try_for_each(|it| self.receive(it))?;
            }
        }
        Ok(())
    }

    fn receive(&mut self, number: usize) -> anyhow::Result<()> {
        let receiver = &mut self.receivers[number];
        receiver.socket.receive(&mut self.batch)?;
        for (_, datagram) in self.batch.datagrams() {
            let sequence = datagram.get(2..4).context("a header")?;
            let sequence = u16::from_be_bytes(sequence.try_into()?);
            let extended = match receiver.last {
                None => {
                    receiver.first = sequence.into();
                    sequence.into()
                }
                Some(last) => {
                    last.saturating_add_signed(i64::from(sequence.wrapping_sub(last as u16) as i16))
                }
            };
            receiver.last = receiver.last.max(Some(extended));
            receiver.packets += 1;
            self.seen += 1;
            if self.seen.is_multiple_of(VERIFIED) {
                if receiver
                    .opener
                    .open_rtp(datagram, self.header.len())
                    .is_err()
                {
                    self.refused += 1;
                    continue;
                }
                self.verified += 1;
                if self.publisher.is_some()
                    && let Some(sent) = datagram[self.header.len()..].first_chunk()
                {
                    let now = self.origin.elapsed().as_micros() as u64;
                    self.latency.record(now - u64::from_be_bytes(*sent))?;
                }
            }
        }
        Ok(())
    }

    fn reset(&mut self) {
        for receiver in &mut self.receivers {
            receiver.first = receiver.last.map_or(0, |last| last + 1);
            receiver.packets = 0;
        }
        self.verified = 0;
        self.latency.reset();
    }

    fn figure(&self, cpu: Duration, own: Duration, elapsed: Duration) -> anyhow::Result<Figure> {
        anyhow::ensure!(self.refused == 0, "{} packets are forged", self.refused);
        let packets: u64 = self.receivers.iter().map(|it| it.packets).sum();
        let sent = self.receivers.iter();
        let sent: u64 = sent
            .filter_map(|it| Some((it.last? + 1).saturating_sub(it.first)))
            .sum();
        anyhow::ensure!(packets > 0, "nothing came");
        Ok(Figure {
            microseconds: cpu.as_secs_f64() * 1e6 / packets as f64,
            per_second: packets as f64 / elapsed.as_secs_f64(),
            utilisation: cpu.as_secs_f64() / elapsed.as_secs_f64(),
            loss: 1.0 - packets as f64 / sent.max(packets) as f64,
            verified: self.verified,
            latency: (!self.latency.is_empty()).then(|| {
                let at = |quantile| self.latency.value_at_quantile(quantile);
                (at(0.5), at(0.99))
            }),
            per_message: 0.0,
            reader: own.as_secs_f64() / elapsed.as_secs_f64(),
        })
    }
}

/// Sends every room's packets to a server.
pub(crate) struct Publisher {
    sockets: [UdpSocket; 1],
    egress: Egress,
    to: Destination,
    rooms: Vec<(Sealer, Run, u64)>,
    schedule: Schedule,
    shape: Shape,
    header: Header,
    /// Begins with the time.
    payload: Vec<u8>,
    origin: Instant,
}

impl Publisher {
    pub(crate) fn new(shape: Shape, port: u16, origin: Instant) -> anyhow::Result<Self> {
        let rooms = (0..shape.rooms).map(|room| {
            let sealer = Sealer::new(&server::master(true, room)?);
            Ok((sealer, Run::default(), 0))
        });
        Ok(Self {
            sockets: [server::bind()?],
            egress: Egress::new(EgressOptions {
                sockets: 1,
                chunks: 256,
                max_segments: MAX_SEGMENTS,
            }),
            to: Destination {
                socket: 0,
                addr: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            },
            rooms: rooms.collect::<anyhow::Result<_>>()?,
            schedule: Schedule::new(shape, Instant::now() + Duration::from_millis(200)),
            shape,
            header: Header::of(shape),
            payload: vec![0x55; shape.payload],
            origin,
        })
    }

    pub(crate) fn send(&mut self, now: Instant) {
        while let Some(room) = self.schedule.pop(now) {
            let (sealer, run, index) = &mut self.rooms[room];
            let time = self.origin.elapsed().as_micros() as u64;
            self.payload[..8].copy_from_slice(&time.to_be_bytes());
            for _ in 0..self.shape.burst {
                let Some(mut out) = self.egress.reserve(run, self.to, MAX_DATAGRAM_LEN) else {
                    return;
                };
                self.header
                    .write(&mut out, *index, *index as u16, *index as u32, room as u32);
                let header_len = self.header.len();
                let len = sealer.seal_rtp_patched(*index, &mut out, header_len, 0, &self.payload);
                out.commit(len);
                *index += 1;
            }
        }
        let _ = self.egress.flush(&self.sockets);
    }
}
