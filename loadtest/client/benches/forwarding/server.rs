//! The servers that the node is compared with. Each is this program started once more.

use std::io::{BufRead, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use pipemesh_node_media::poll::{Poller, Token};
use pipemesh_node_media::srtp::{MasterKey, Opener, Profile, Sealer};
use pipemesh_node_media::udp::{
    Destination, Egress, EgressOptions, MAX_DATAGRAM_LEN, MAX_SEGMENTS, Options, ReceiveBatch, Run,
    UdpSocket,
};

use crate::Shape;

/// RFC 3550 section 5.1.
const FIXED_HEADER_LEN: usize = 12;
/// With one header extension: a transport-wide number, as packets have that are reported on.
const NUMBERED_HEADER_LEN: usize = 20;
const PROFILE: Profile = Profile::AeadAes128Gcm;

/// As many messages as one system call takes: what is sealed is sent while it is in the cache.
const CHUNKS: u32 = 64;

const BUFFERS: Options = Options {
    receive_buffer: 4 << 20,
    send_buffer: 4 << 20,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Floor,
    Reference,
    Echo,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Reference => "reference",
            Self::Echo => "echo",
        }
    }
}

/// What a server is started with.
pub(crate) fn arguments(kind: Kind, shape: Shape) -> Vec<String> {
    let numbers = [
        shape.rooms,
        shape.receivers,
        shape.bursts_per_second as usize,
        shape.burst,
        shape.payload,
        shape.is_video.into(),
    ];
    let numbers = numbers.iter().map(ToString::to_string);
    [kind.name().to_owned()]
        .into_iter()
        .chain(numbers)
        .collect()
}

/// The key of a publisher (its room's number) or a receiver.
pub(crate) fn master(is_publisher: bool, number: usize) -> anyhow::Result<MasterKey> {
    let mut key = [u8::from(is_publisher); 16];
    key[..8].copy_from_slice(&(number as u64).to_be_bytes());
    Ok(MasterKey::new(PROFILE, &key, &[7; 12])?)
}

pub(crate) fn bind() -> anyhow::Result<UdpSocket> {
    Ok(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0).into(), BUFFERS)?)
}

/// A packet's header, as the node's receivers get it: pictures are reported on, sound is not.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Header {
    is_numbered: bool,
}

impl Header {
    pub(crate) fn of(shape: Shape) -> Self {
        Self {
            is_numbered: shape.is_video,
        }
    }

    pub(crate) fn len(self) -> usize {
        if self.is_numbered {
            NUMBERED_HEADER_LEN
        } else {
            FIXED_HEADER_LEN
        }
    }

    pub(crate) fn write(self, out: &mut [u8], index: u64, number: u16, timestamp: u32, ssrc: u32) {
        out[..2].copy_from_slice(&[0x80, 96]);
        out[2..4].copy_from_slice(&(index as u16).to_be_bytes());
        out[4..8].copy_from_slice(&timestamp.to_be_bytes());
        out[8..12].copy_from_slice(&ssrc.to_be_bytes());
        if self.is_numbered {
            let [high, low] = number.to_be_bytes();
            out[0] |= 0x10;
            out[12..20].copy_from_slice(&[0xBE, 0xDE, 0, 1, 0x51, high, low, 0]);
        }
    }
}

/// Runs a server until its input ends.
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<()> {
    let [kind, numbers @ ..] = arguments else {
        bail!("which server?");
    };
    let numbers: Vec<usize> = numbers
        .iter()
        .map(|text| Ok(text.parse()?))
        .collect::<anyhow::Result<_>>()?;
    let &[rooms, receivers, rate, burst, payload, is_video] = numbers.as_slice() else {
        bail!("six numbers say what is sent");
    };
    let shape = Shape {
        name: "",
        rooms,
        receivers,
        bursts_per_second: rate as u32,
        burst,
        payload,
        is_video: is_video == 1,
    };
    let socket = bind()?;
    println!("{}", socket.local_addr().port());
    std::io::stdout().flush()?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    let ports: Vec<u16> = line
        .split_whitespace()
        .map(|port| Ok(port.parse()?))
        .collect::<anyhow::Result<_>>()?;
    std::thread::spawn(|| {
        let _ = std::io::stdin().lock().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    match kind.as_str() {
        "floor" => floor(Server::new(socket, &ports, Header::of(shape))?, shape),
        "reference" => reference(Server::new(socket, &ports, Header::of(shape))?, shape),
        "echo" => echo(socket),
        other => bail!("{other} is no server"),
    }
}

/// What both forwarders have: receivers, each with a key and a run.
struct Server {
    sockets: [UdpSocket; 1],
    egress: Egress,
    header: Header,
    receivers: Vec<Receiver>,
}

struct Receiver {
    to: Destination,
    sealer: Sealer,
    run: Run,
    ssrc: u32,
    /// Transport-wide.
    number: u16,
}

impl Server {
    fn new(socket: UdpSocket, ports: &[u16], header: Header) -> anyhow::Result<Self> {
        let receivers = ports.iter().enumerate().map(|(number, port)| {
            Ok(Receiver {
                to: Destination {
                    socket: 0,
                    addr: SocketAddr::from((Ipv4Addr::LOCALHOST, *port)),
                },
                sealer: Sealer::new(&master(false, number)?),
                run: Run::default(),
                ssrc: number as u32,
                number: 0,
            })
        });
        Ok(Self {
            sockets: [socket],
            egress: Egress::new(EgressOptions {
                sockets: 1,
                chunks: CHUNKS,
                max_segments: MAX_SEGMENTS,
            }),
            header,
            receivers: receivers.collect::<anyhow::Result<_>>()?,
        })
    }

    /// Seals a packet for one receiver. A full socket waits for the next flush, as in the node.
    fn send(&mut self, receiver: usize, index: u64, timestamp: u32, payload: &[u8]) {
        let Self {
            sockets,
            egress,
            header,
            receivers,
        } = self;
        let receiver = &mut receivers[receiver];
        if egress.is_exhausted() {
            let _ = egress.flush(sockets);
        }
        let Some(mut out) = egress.reserve(&mut receiver.run, receiver.to, MAX_DATAGRAM_LEN) else {
            return;
        };
        header.write(&mut out, index, receiver.number, timestamp, receiver.ssrc);
        receiver.number = receiver.number.wrapping_add(1);
        let len = receiver
            .sealer
            .seal_rtp_patched(index, &mut out, header.len(), 0, payload);
        out.commit(len);
    }

    fn flush(&mut self) {
        let _ = self.egress.flush(&self.sockets);
    }
}

/// When a room's bursts are due: evenly, the rooms staggered over the interval.
pub(crate) struct Schedule {
    next: Vec<Instant>,
    interval: Duration,
}

impl Schedule {
    pub(crate) fn new(shape: Shape, now: Instant) -> Self {
        let interval = Duration::from_secs(1) / shape.bursts_per_second;
        let offset = |room: usize| interval * room as u32 / shape.rooms as u32;
        Self {
            next: (0..shape.rooms).map(|room| now + offset(room)).collect(),
            interval,
        }
    }

    /// A room that is due.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<usize> {
        let room = self.next.iter().position(|at| *at <= now)?;
        self.next[room] += self.interval;
        Some(room)
    }

    fn until_next(&self, now: Instant) -> Duration {
        let next = self.next.iter().min().copied().unwrap_or(now);
        next.saturating_duration_since(now)
    }
}

fn floor(mut server: Server, shape: Shape) -> anyhow::Result<()> {
    let payload = vec![0x55; shape.payload];
    let mut indices = vec![0u64; shape.rooms];
    let mut schedule = Schedule::new(shape, Instant::now());
    loop {
        std::thread::sleep(schedule.until_next(Instant::now()));
        let now = Instant::now();
        while let Some(room) = schedule.pop(now) {
            let first = room * shape.receivers;
            for receiver in first..first + shape.receivers {
                for packet in 0..shape.burst as u64 {
                    server.send(receiver, indices[room] + packet, 0, &payload);
                }
            }
            indices[room] += shape.burst as u64;
        }
        server.flush();
    }
}

fn reference(mut server: Server, shape: Shape) -> anyhow::Result<()> {
    let mut openers = (0..shape.rooms)
        .map(|room| Ok(Opener::new(&master(true, room)?, 1)))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let header_len = server.header.len();
    let mut batch = ReceiveBatch::new();
    let mut poller = Poller::new()?;
    poller.register(&server.sockets[0], Token(0))?;
    loop {
        poller.wait(None)?;
        let received = server.sockets[0].receive(&mut batch)?;
        if received == 0 {
            continue;
        }
        let mut packets: Vec<(usize, u64, &[u8])> = Vec::with_capacity(64);
        for (_, datagram) in batch.datagrams() {
            let ssrc = datagram.get(8..12).context("a header")?;
            let room = u32::from_be_bytes(ssrc.try_into()?) as usize;
            let opener = openers.get_mut(room).context("a room")?;
            if let Ok(opened) = opener.open_rtp(datagram, header_len) {
                packets.push((room, opened.index, &datagram[..opened.len]));
            }
        }
        for burst in packets.chunk_by(|a, b| a.0 == b.0) {
            let first = burst[0].0 * shape.receivers;
            for receiver in first..first + shape.receivers {
                for (_, index, packet) in burst {
                    let timestamp = u32::from_be_bytes(packet[4..8].try_into()?);
                    server.send(receiver, *index, timestamp, &packet[header_len..]);
                }
            }
        }
        server.flush();
    }
}

/// Sends back what comes.
fn echo(socket: UdpSocket) -> anyhow::Result<()> {
    let mut batch = ReceiveBatch::new();
    let mut poller = Poller::new()?;
    poller.register(&socket, Token(0))?;
    let mut egress = Egress::new(EgressOptions {
        sockets: 1,
        chunks: CHUNKS,
        max_segments: MAX_SEGMENTS,
    });
    let sockets = [socket];
    loop {
        poller.wait(None)?;
        sockets[0].receive(&mut batch)?;
        for (addr, datagram) in batch.datagrams() {
            let to = Destination { socket: 0, addr };
            let mut run = Run::default();
            if let Some(mut out) = egress.reserve(&mut run, to, MAX_DATAGRAM_LEN) {
                out[..datagram.len()].copy_from_slice(datagram);
                out.commit(datagram.len());
            }
        }
        let _ = egress.flush(&sockets);
    }
}
