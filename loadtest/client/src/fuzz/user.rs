//! All that a server says to a participant: what signaling carries, datagrams of anybody, and packets under
//! the keys of both.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use livekit_protocol::signal_response::Message as Response;
use livekit_protocol::{JoinResponse, SignalResponse};
use pipemesh_node_media::srtp::{MasterKey, MasterKeys, Profile, Sealer};
use prost::Message as _;

use super::pieces;
use crate::connection::ReceiveMode;
use crate::media::{Audio, Media, Video};
use crate::transport::dtls::Identity;
use crate::user::{Layout, Protocol, Setup, User, Wish};
use crate::wire::rtp::{Header, is_rtcp};

const SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 7);
const CAMERA: &str = "camera";

static IDENTITY: LazyLock<Arc<Identity>> = LazyLock::new(|| {
    let identity = Identity::generate(&[Profile::AeadAes128Gcm]);
    Arc::new(identity.expect("keys can be made"))
});

/// The first byte says how the participant joined. A piece says what comes, on which connection and when,
/// then what is in it.
pub fn user(input: &[u8]) {
    let Some((&how, input)) = input.split_first() else {
        return;
    };
    let mut server = Server::new(how);
    for piece in pieces(input).take(100) {
        let Some((&how, content)) = piece.split_first() else {
            continue;
        };
        server.step(how, content);
        server.collect();
    }
}

struct Server {
    user: User,
    now: Instant,
    sockets: usize,
    sealer: Sealer,
    highest: BTreeMap<u32, u64>,
}

fn key(byte: u8) -> MasterKey {
    let key = MasterKey::new(Profile::AeadAes128Gcm, &[byte; 16], &[byte; 12]);
    key.expect("lengths are the profile's")
}

impl Server {
    fn new(how: u8) -> Self {
        let now = Instant::now();
        let setup = Setup {
            layout: match how & 1 {
                0 => Layout::Single,
                _ => Layout::Dual,
            },
            protocol: match how & 2 {
                0 => Protocol::Udp,
                _ => Protocol::Tcp,
            },
            data: how & 4 != 0,
            mode: match how >> 4 & 3 {
                0 | 1 => ReceiveMode::Full,
                2 => ReceiveMode::Sampled(2),
                _ => ReceiveMode::Drain,
            },
            dynacast: how & 64 != 0,
            ipv4: true,
            seed: 1,
        };
        let mut user = User::new(setup, &IDENTITY, now, now);
        let sockets = User::sockets(setup.layout);
        if how & 8 != 0 {
            // As after a handshake.
            let keys = MasterKeys {
                local: key(1),
                remote: key(2),
            };
            (0..sockets).for_each(|socket| user.secure(socket, &keys, SERVER, now));
        }
        user.handle_signal(Response::Join(JoinResponse::default()), now);
        for (name, media) in [
            (CAMERA, Media::Video(Video::simulcast())),
            ("microphone", Media::Audio(Audio::default())),
        ] {
            let name = name.to_owned();
            user.handle_wish(Wish::Publish { name, media }, now);
        }
        Self {
            user,
            now,
            sockets,
            sealer: Sealer::new(&key(2)),
            highest: BTreeMap::new(),
        }
    }

    fn step(&mut self, how: u8, content: &[u8]) {
        let socket = usize::from(how >> 3 & 1) % self.sockets;
        self.now += Duration::from_millis(u64::from(how >> 4) * 10);
        let now = self.now;
        match how & 7 {
            0..=2 => {
                let response = SignalResponse::decode(content).ok();
                if let Some(message) = response.and_then(|response| response.message) {
                    self.user.handle_signal(message, now);
                }
            }
            3 => {
                let mut datagram = content.to_vec();
                self.user.handle_datagram(socket, &mut datagram, now);
            }
            4 | 5 => {
                if let Some(mut packet) = self.seal(content) {
                    self.user.handle_datagram(socket, &mut packet, now);
                }
            }
            6 => self.user.handle_way_lost(socket, now),
            _ => self.wish(content),
        }
        if self.user.poll_timeout().is_some_and(|at| at <= now) {
            self.user.handle_timeout(now);
        }
    }

    /// RTP or RTCP, if it begins like that.
    fn seal(&mut self, content: &[u8]) -> Option<Vec<u8>> {
        let content = &content[..content.len().min(1_400)];
        let mut packet = content.to_vec();
        packet.resize(content.len() + Profile::MAX_OVERHEAD, 0);
        let len = if is_rtcp(content) {
            content.get(..8)?;
            self.sealer.seal_rtcp(&mut packet, content.len()).ok()?
        } else {
            let header = Header::parse(content)?;
            let highest = self.highest.entry(header.ssrc).or_insert(0);
            let step = header.sequence.wrapping_sub(*highest as u16) as i16;
            let index = match *highest {
                0 => u64::from(header.sequence),
                highest => highest.saturating_add_signed(step.into()),
            };
            *highest = index.max(*highest);
            let payload = &content[header.len..];
            self.sealer
                .seal_rtp(index, &mut packet, header.len, payload)
        };
        packet.truncate(len);
        Some(packet)
    }

    fn wish(&mut self, content: &[u8]) {
        let value = content.first().copied().unwrap_or(0);
        let name = CAMERA.to_owned();
        let wish = match value & 3 {
            0 => Wish::Resume,
            1 => Wish::Mute {
                name,
                muted: value & 4 != 0,
            },
            _ => Wish::Subscribe {
                sid: "TR_1".to_owned(),
                wanted: value & 4 != 0,
            },
        };
        self.user.handle_wish(wish, self.now);
    }

    /// What the participant says to one thing it heard is little, and all of it has a way.
    fn collect(&mut self) {
        let sockets = self.sockets;
        let mut datagrams = 0;
        self.user.outbox().drain(|socket, _, datagram| {
            assert!(socket < sockets && !datagram.is_empty());
            datagrams += 1;
        });
        assert!(datagrams <= 4_096, "{datagrams} for one");
        let signals = std::iter::from_fn(|| self.user.poll_signal()).count();
        assert!(signals <= 16, "{signals} for one");
        while self.user.poll_message().is_some() {}
        assert!(self.user.poll_timeout().is_none_or(|at| at > self.now) || self.is_settled());
    }

    /// What is due is done at the next call.
    fn is_settled(&mut self) -> bool {
        for _ in 0..64 {
            if self.user.poll_timeout().is_none_or(|at| at > self.now) {
                return true;
            }
            self.user.handle_timeout(self.now);
            self.user.outbox().drain(|_, _, _| ());
        }
        false
    }
}
