//! Clients that have keys and seal whatever they like: what it makes of the shard that serves them.
//!
//! A whole shard between real sockets, in virtual time: a publisher of every codec, somebody who takes all
//! there is and reports on it, and somebody who takes the least. What leaves is opened again.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use pipemesh_node_core::codec::Codec;
use pipemesh_node_core::router::LayerWish;
use pipemesh_node_core::rtcp;
use pipemesh_node_core::rtp::{Header, SequenceUnwrapper};
use pipemesh_node_core::track::Size;
use pipemesh_node_media::poll::Poller;
use pipemesh_node_media::srtp::{MasterKey, Opener, Profile, Sealer};
use pipemesh_node_media::udp::{Destination, Options, ReceiveBatch, UdpSocket};
use pipemesh_proto::ids::TrackId;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::command::{Command, DataRights, OpenSession, Origin, PublishSpec, Role, SessionKey};
use super::event::QUEUE;
use super::neighbours::Neighbours;
use super::{Event, Shard};
use crate::config::Limits;
use crate::fuzz::pieces;
use crate::mailbox;
use crate::session::dtls::Certificate;
use crate::session::handshake::{HandshakePool, Outlet};
use crate::session::ice::{Credentials, Path};
use crate::session::plan::{
    ConnectionPlan, Extensions, Feedback, PayloadType, ReceiveEncoding, ReceiveSection,
    RemoteTransport, SendSection,
};

const LONGEST: usize = 1_500;
const GENERATION: u64 = 1;
/// SSRCs that somebody may be sent under, or send under before anything is negotiated.
const SOURCES: usize = 64;

/// Ids of header extensions, the same for everybody.
const EXTENSIONS: Extensions = Extensions {
    mid: Some(1),
    rid: Some(2),
    repaired_rid: Some(3),
    audio_level: Some(7),
    transport_sequence: Some(4),
    absolute_send_time: None,
    absolute_capture_time: Some(6),
    dependency_descriptor: Some(5),
};

const ALL_FEEDBACK: Feedback = Feedback {
    nack: true,
    picture_loss: true,
    full_intra_request: true,
    transport_wide: true,
    estimated_maximum_bitrate: true,
};

/// What the publisher sends, by m-section: payload types as sent and repaired, and rids.
const TRACKS: [(Codec, u8, Option<u8>, &[&str]); 5] = [
    (Codec::Vp8, 96, Some(97), &["q", "h", "f"]),
    (Codec::Vp9, 98, Some(99), &[]),
    (Codec::Av1, 100, Some(101), &[]),
    (Codec::Red, 63, None, &[]),
    (Codec::H264, 102, Some(103), &[]),
];
const OPUS: PayloadType = PayloadType {
    codec: Codec::Opus,
    number: 111,
    repair: None,
};

const PUBLISHER: usize = 0;
const GOURMET: usize = 1;
const ASCETIC: usize = 2;

/// A piece says who sends it and when, then what is in it before it is sealed.
pub fn run(input: &[u8]) {
    let Some(mut stage) = Stage::new() else {
        return; // The machine is out of ports, which says nothing about the shard.
    };
    for piece in pieces(input).take(200) {
        let Some((&how, content)) = piece.split_first() else {
            continue;
        };
        stage.advance(how >> 3);
        match how & 7 {
            0..=2 => stage.send_rtp(content),
            3 => stage.send_rtcp(PUBLISHER, content),
            4 | 5 => stage.send_rtcp(GOURMET, content),
            6 => stage.send_rtcp(ASCETIC, content),
            _ => stage.control(content),
        }
        stage.settle();
    }
}

struct Stage {
    shard: Shard,
    now: Instant,
    clients: Vec<Client>,
    /// Of what the publisher sends.
    indices: BTreeMap<u32, SequenceUnwrapper>,
    batch: ReceiveBatch,
}

/// A client as the harness plays it.
struct Client {
    socket: UdpSocket,
    path: Path,
    sealer: Sealer,
    opener: Opener,
    events: mailbox::Receiver<Event>,
}

static POOL: LazyLock<HandshakePool> = LazyLock::new(|| {
    let outlet = Outlet {
        outputs: crossbeam_channel::bounded(1).0,
        wake: Box::new(|| {}),
    };
    let certificate = Arc::new(Certificate::generate().expect("keys can be made"));
    HandshakePool::start(1.try_into().expect("it is one"), certificate, vec![outlet])
        .expect("threads can be started")
});

fn bind() -> Option<UdpSocket> {
    let options = Options {
        receive_buffer: 1 << 19,
        send_buffer: 1 << 19,
    };
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0).into(), options).ok()
}

fn key(of: usize, from_client: bool) -> MasterKey {
    let byte = of as u8 * 2 + u8::from(from_client);
    MasterKey::new(Profile::AeadAes128Gcm, &[byte; 16], &[7; 12])
        .expect("lengths are the profile's")
}

fn track(number: usize) -> TrackId {
    format!("TR_{number}").parse().expect("it is an id")
}

impl Stage {
    fn new() -> Option<Self> {
        let now = Instant::now();
        let poller = Poller::new().ok()?;
        let neighbours = Neighbours::connect(&[poller.waker()]).0.pop()?;
        let shard = Shard::new(
            vec![bind()?],
            neighbours,
            POOL.handle(0),
            Limits::NONE,
            Arc::default(),
            StdRng::seed_from_u64(1),
            now,
        );
        let mut stage = Self {
            shard,
            now,
            clients: Vec::new(),
            indices: BTreeMap::new(),
            batch: ReceiveBatch::new(),
        };
        for number in [PUBLISHER, GOURMET, ASCETIC] {
            stage.open(number)?;
        }
        stage.publish();
        stage.subscribe(GOURMET, LayerWish::default());
        stage.subscribe(
            ASCETIC,
            LayerWish {
                spatial_layers: 1,
                ..LayerWish::default()
            },
        );
        stage.settle();
        Some(stage)
    }

    fn command(&mut self, command: Command) {
        self.shard.handle_command(command, self.now);
    }

    /// A session with one connection, whose client has proved itself and has keys.
    fn open(&mut self, number: usize) -> Option<()> {
        let (events, told) = mailbox::channel(QUEUE);
        let socket = bind()?;
        let credentials = Credentials {
            ufrag: format!("a{number}"),
            password: "password".repeat(3),
        };
        self.command(Command::Open(OpenSession {
            key: SessionKey(number as u64),
            room: "RM_r".parse().expect("it is an id"),
            participant: format!("PA_{number}").parse().expect("it is an id"),
            identity: number.to_string(),
            anonymous: false,
            may_pause: number == GOURMET,
            loudest_microphones: 0,
            rights: DataRights::default(),
            connections: vec![(Role::Publisher, credentials)],
            events,
        }));
        let path = Path {
            socket: 0,
            remote: socket.local_addr(),
        };
        self.shard.paths.insert(path, number);
        self.shard.connections[number].opener = Some(Opener::new(&key(number, true), SOURCES));
        let link = self.shard.wire.link(number);
        link.sealer = Some(Sealer::new(&key(number, false)));
        link.destination = Some(Destination {
            socket: path.socket,
            addr: path.remote,
        });
        self.shard.begin_reports(number, self.now);
        self.clients.push(Client {
            socket,
            path,
            sealer: Sealer::new(&key(number, true)),
            opener: Opener::new(&key(number, false), SOURCES),
            events: told,
        });
        Some(())
    }

    fn publish(&mut self) {
        let mut receive = Vec::new();
        for (number, (codec, payload_type, repair, rids)) in TRACKS.into_iter().enumerate() {
            let encodings = rids.len().max(1);
            self.command(Command::Publish {
                session: SessionKey(PUBLISHER as u64),
                track: track(number),
                generation: GENERATION,
                spec: PublishSpec {
                    is_video: codec.is_video(),
                    speaks: !codec.is_video(),
                    nack: true,
                    muted: false,
                    encodings: encodings as u8,
                    sizes: vec![Size::default(); encodings],
                },
            });
            let named = PayloadType {
                codec,
                number: payload_type,
                repair,
            };
            let opus = (codec == Codec::Red).then_some(OPUS);
            let rid = |place: usize| ReceiveEncoding {
                rid: rids.get(place).map(ToString::to_string),
                ..ReceiveEncoding::default()
            };
            receive.push(ReceiveSection {
                mid: number.to_string(),
                track: track(number),
                codecs: [Some(named), opus].into_iter().flatten().collect(),
                extensions: EXTENSIONS,
                encodings: (0..encodings).map(rid).collect(),
                feedback: ALL_FEEDBACK,
            });
        }
        self.apply(PUBLISHER, receive, Vec::new());
    }

    fn subscribe(&mut self, client: usize, wish: LayerWish) {
        let takes_all = client == GOURMET;
        let mut send = Vec::new();
        for (number, (codec, payload_type, repair, _)) in TRACKS.into_iter().enumerate() {
            self.wish(client, number, wish);
            let named = PayloadType {
                codec,
                number: payload_type,
                repair: repair.filter(|_| takes_all),
            };
            let codecs = match codec {
                Codec::Red if takes_all => vec![named, OPUS],
                Codec::Red => vec![OPUS],
                _ => vec![named],
            };
            send.push(SendSection {
                mid: number.to_string(),
                track: track(number),
                ssrc: 0x100 + number as u32,
                repair_ssrc: named.repair.map(|_| 0x200 + number as u32),
                codecs,
                extensions: if takes_all {
                    EXTENSIONS
                } else {
                    Extensions::default()
                },
                feedback: if takes_all {
                    ALL_FEEDBACK
                } else {
                    Feedback::default()
                },
            });
        }
        self.apply(client, Vec::new(), send);
    }

    fn wish(&mut self, client: usize, number: usize, wish: LayerWish) {
        self.command(Command::Subscribe {
            session: SessionKey(client as u64),
            track: track(number),
            origin: Some(Origin {
                shard: 0,
                generation: GENERATION,
            }),
            wish,
        });
    }

    fn apply(&mut self, client: usize, receive: Vec<ReceiveSection>, send: Vec<SendSection>) {
        let remote = RemoteTransport {
            ufrag: "client".to_owned(),
            password: "password".repeat(3),
            fingerprints: Vec::new(),
        };
        self.command(Command::Apply {
            session: SessionKey(client as u64),
            role: Role::Publisher,
            plan: Box::new(ConnectionPlan {
                remote,
                receive,
                send,
                data: None,
            }),
        });
    }

    /// Milliseconds at first, then longer and longer.
    fn advance(&mut self, step: u8) {
        let millis = match step {
            0..24 => u64::from(step),
            _ => 50 << (step - 24),
        };
        self.now += Duration::from_millis(millis);
    }

    fn send_rtp(&mut self, content: &[u8]) {
        let content = &content[..content.len().min(LONGEST)];
        let Some(header) = Header::parse(content) else {
            return; // Nobody can seal it.
        };
        if rtcp::is_rtcp(content) {
            return;
        }
        let index = self.indices.entry(header.ssrc).or_default();
        let index = index.unwrap(header.sequence);
        let mut packet = content.to_vec();
        packet.resize(content.len() + Profile::MAX_OVERHEAD, 0);
        let payload = &content[header.header_len()..];
        let sealer = &self.clients[PUBLISHER].sealer;
        let len = sealer.seal_rtp(index, &mut packet, header.header_len(), payload);
        packet.truncate(len);
        self.deliver(PUBLISHER, packet);
    }

    fn send_rtcp(&mut self, client: usize, content: &[u8]) {
        let content = &content[..content.len().min(LONGEST)];
        if content.len() < rtcp::MIN_LEN || !rtcp::is_rtcp(content) || content[0] >> 6 != 2 {
            return;
        }
        let mut packet = content.to_vec();
        packet.resize(content.len() + Profile::MAX_OVERHEAD, 0);
        let sealer = &mut self.clients[client].sealer;
        let len = sealer.seal_rtcp(&mut packet, content.len());
        packet.truncate(len.expect("few packets"));
        self.deliver(client, packet);
    }

    fn deliver(&mut self, client: usize, mut packet: Vec<u8>) {
        let path = self.clients[client].path;
        self.shard.handle_datagram(path, &mut packet, self.now);
    }

    /// What signaling passes on of clients.
    fn control(&mut self, content: &[u8]) {
        let &[what, number, spatial_layers, width, rate, ..] = content else {
            return;
        };
        let number = usize::from(number) % TRACKS.len();
        let session = SessionKey(PUBLISHER as u64);
        match what & 3 {
            0 => self.command(Command::SetMuted {
                session,
                track: track(number),
                muted: spatial_layers & 1 != 0,
            }),
            _ => {
                let view = Size {
                    width: u32::from(width) * 8,
                    height: u32::from(width) * 4,
                };
                let wish = LayerWish {
                    paused: rate == 0,
                    view,
                    frames_per_second: u32::from(rate),
                    priority: u32::from(what >> 4),
                    spatial_layers,
                };
                let client = if what & 4 == 0 { GOURMET } else { ASCETIC };
                self.wish(client, number, wish);
            }
        }
    }

    /// The rest of a turn of the shard, and what came of it.
    fn settle(&mut self) {
        self.shard.forward(self.now);
        self.shard.handle_timeouts(self.now);
        self.shard.handle_router_output();
        self.shard.send_data(self.now);
        let _ = self.shard.wire.flush();
        for client in &mut self.clients {
            while client.events.try_recv().is_some() {}
            client.open_all(&mut self.batch);
        }
        assert!(self.shard.sessions.iter().all(|(_, it)| !it.is_stuck));
        let inbound = &self.shard.connections[PUBLISHER].inbound;
        assert!(inbound.media_sources().count() <= inbound.max_streams());
    }
}

impl Client {
    /// Everything that it was sent is whole, under its keys, and under a number of its own.
    fn open_all(&mut self, batch: &mut ReceiveBatch) {
        loop {
            let received = self.socket.receive(batch);
            let received = received.expect("it is bound");
            for (_, datagram) in batch.datagrams() {
                if rtcp::is_rtcp(datagram) {
                    self.opener.open_rtcp(datagram).expect("it is new and ours");
                } else {
                    let header = Header::parse(datagram).expect("we write RTP");
                    let opened = self.opener.open_rtp(datagram, header.header_len());
                    let len = opened.expect("it is new and ours").len;
                    assert!(header.payload(&datagram[..len]).is_some());
                }
            }
            if received < ReceiveBatch::CAPACITY {
                return;
            }
        }
    }
}
