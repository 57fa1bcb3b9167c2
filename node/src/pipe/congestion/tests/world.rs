//! QUIC endpoints joined by links, on a clock that jumps to whatever comes next.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use quinn_proto::{
    ClientConfig, Connection, ConnectionHandle, DatagramEvent, Dir, Endpoint, EndpointConfig,
    Event, ServerConfig, StreamEvent, StreamId,
};
use rustls::RootCertStore;
use rustls::pki_types::PrivatePkcs8KeyDer;

use super::super::Published;
use super::link::Link;
use crate::pipe::transport::{Path, transport};

/// Datagrams that leave in one call.
const SEGMENTS: usize = 10;

pub(super) struct World {
    pub(super) now: Instant,
    pub(super) links: Vec<Link>,
    hosts: Vec<Host>,
    wire: BinaryHeap<Reverse<Flight>>,
    /// Flights so far: equal times keep their order.
    flights: u64,
}

/// The two ends of a connection, by their place in the world.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pair {
    pub(super) sender: usize,
    pub(super) receiver: usize,
}

pub(super) struct Host {
    endpoint: Endpoint,
    address: SocketAddr,
    link: usize,
    connection: Option<(ConnectionHandle, Connection)>,
    pub(super) published: Arc<Published>,
    /// What has come, and when.
    pub(super) datagrams: Vec<(Instant, Bytes)>,
    pub(super) stream: Vec<(Instant, Bytes)>,
    reading: Option<StreamId>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Flight {
    at: Instant,
    number: u64,
    from: SocketAddr,
    to: SocketAddr,
    bytes: Vec<u8>,
}

impl World {
    pub(super) fn new(links: Vec<Link>) -> Self {
        Self {
            now: Instant::now(),
            links,
            hosts: Vec::new(),
            wire: BinaryHeap::new(),
            flights: 0,
        }
    }

    /// A connection whose media goes over one link, and its acknowledgements over another.
    pub(super) fn connect(&mut self, forward: usize, back: usize) -> Pair {
        self.connect_by(Path::default(), forward, back)
    }

    /// … both ends of which take this for the path.
    pub(super) fn connect_by(&mut self, path: Path, forward: usize, back: usize) -> Pair {
        let pair = Pair {
            sender: self.hosts.len(),
            receiver: self.hosts.len() + 1,
        };
        let key = rcgen::generate_simple_self_signed(vec!["node".into()]).unwrap();
        let certificate = key.cert.der().clone();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).unwrap();

        let (config, published) = transport(path);
        let mut server = ServerConfig::with_single_cert(
            vec![certificate],
            PrivatePkcs8KeyDer::from(key.signing_key.serialize_der()).into(),
        )
        .unwrap();
        server.transport_config(Arc::new(config));
        let receiver = Host::new(pair.receiver, back, Some(server), published);

        let (config, published) = transport(path);
        let mut client = ClientConfig::with_root_certificates(Arc::new(roots)).unwrap();
        client.transport_config(Arc::new(config));
        let mut sender = Host::new(pair.sender, forward, None, published);
        let connection = sender
            .endpoint
            .connect(self.now, client, receiver.address, "node")
            .unwrap();
        sender.connection = Some(connection);

        self.hosts.extend([sender, receiver]);
        self.drive(pair.sender);
        self.run_until(self.now + Duration::from_secs(1));
        assert!(!self.connection(pair.sender).is_handshaking());
        pair
    }

    pub(super) fn host(&mut self, host: usize) -> &mut Host {
        &mut self.hosts[host]
    }

    pub(super) fn published(&self, host: usize) -> Arc<Published> {
        self.hosts[host].published.clone()
    }

    pub(super) fn connection(&mut self, host: usize) -> &mut Connection {
        let (_, connection) = self.hosts[host].connection.as_mut().unwrap();
        connection
    }

    /// Sends what a host has to send.
    pub(super) fn drive(&mut self, host: usize) {
        let now = self.now;
        let mut sent = Vec::new();
        let host = &mut self.hosts[host];
        host.drive(now, &mut sent);
        let (link, from) = (&mut self.links[host.link], host.address);
        for (to, bytes) in sent {
            if let Some(at) = link.carry(bytes.len(), now) {
                self.flights += 1;
                self.wire.push(Reverse(Flight {
                    at,
                    number: self.flights,
                    from,
                    to,
                    bytes,
                }));
            }
        }
    }

    pub(super) fn run_until(&mut self, end: Instant) {
        loop {
            let arrival = self.wire.peek().map(|Reverse(flight)| flight.at);
            let timers = self.hosts.iter_mut().filter_map(Host::poll_timeout);
            let Some(next) = timers.chain(arrival).min().filter(|&next| next <= end) else {
                break;
            };
            self.now = self.now.max(next);
            while let Some(Reverse(flight)) = self.wire.peek()
                && flight.at <= self.now
            {
                let Some(Reverse(flight)) = self.wire.pop() else {
                    break;
                };
                let to = self.hosts.iter().position(|host| host.address == flight.to);
                if let Some(to) = to {
                    self.hosts[to].handle(flight.from, &flight.bytes, self.now);
                    self.drive(to);
                }
            }
            for host in 0..self.hosts.len() {
                if self.hosts[host].handle_timeout(self.now) {
                    self.drive(host);
                }
            }
        }
        self.now = end;
    }
}

impl Host {
    fn new(
        number: usize,
        link: usize,
        server: Option<ServerConfig>,
        published: Arc<Published>,
    ) -> Self {
        let mut config = EndpointConfig::default();
        config.rng_seed(Some([number as u8; 32]));
        Self {
            endpoint: Endpoint::new(Arc::new(config), server.map(Arc::new), true, None),
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 1_000 + number as u16)),
            link,
            connection: None,
            published,
            datagrams: Vec::new(),
            stream: Vec::new(),
            reading: None,
        }
    }

    fn handle(&mut self, from: SocketAddr, bytes: &[u8], now: Instant) {
        let mut answer = Vec::new();
        let bytes = BytesMut::from(bytes);
        match self
            .endpoint
            .handle(now, from, None, None, bytes, &mut answer)
        {
            Some(DatagramEvent::ConnectionEvent(_, event)) => {
                if let Some((_, connection)) = &mut self.connection {
                    connection.handle_event(event);
                }
            }
            Some(DatagramEvent::NewConnection(incoming)) => {
                let accepted = self.endpoint.accept(incoming, now, &mut answer, None);
                self.connection = Some(accepted.ok().unwrap());
            }
            Some(DatagramEvent::Response(_)) | None => {}
        }
        self.read(now);
    }

    fn read(&mut self, now: Instant) {
        let Some((_, connection)) = &mut self.connection else {
            return;
        };
        while let Some(event) = connection.poll() {
            match event {
                Event::ConnectionLost { reason } => panic!("{reason}"),
                Event::Stream(StreamEvent::Opened { dir: Dir::Bi }) => {
                    self.reading = connection.streams().accept(Dir::Bi);
                }
                _ => {}
            }
        }
        while let Some(datagram) = connection.datagrams().recv() {
            self.datagrams.push((now, datagram));
        }
        if let Some(id) = self.reading {
            let mut stream = connection.recv_stream(id);
            let mut chunks = stream.read(true).unwrap();
            while let Ok(Some(chunk)) = chunks.next(usize::MAX) {
                self.stream.push((now, chunk.bytes));
            }
            let _ = chunks.finalize();
        }
    }

    fn drive(&mut self, now: Instant, sent: &mut Vec<(SocketAddr, Vec<u8>)>) {
        let Some((handle, connection)) = &mut self.connection else {
            return;
        };
        while let Some(event) = connection.poll_endpoint_events() {
            if let Some(event) = self.endpoint.handle_event(*handle, event) {
                connection.handle_event(event);
            }
        }
        let mut buffer = Vec::new();
        while let Some(transmit) = connection.poll_transmit(now, SEGMENTS, &mut buffer) {
            let segment = transmit.segment_size.unwrap_or(transmit.size);
            for bytes in buffer[..transmit.size].chunks(segment) {
                sent.push((transmit.destination, bytes.to_vec()));
            }
            buffer.clear();
        }
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        self.connection.as_mut()?.1.poll_timeout()
    }

    fn handle_timeout(&mut self, now: Instant) -> bool {
        let due = self.poll_timeout().is_some_and(|at| at <= now);
        if due && let Some((_, connection)) = &mut self.connection {
            connection.handle_timeout(now);
        }
        due
    }
}
