//! A browser's SCTP, played by the client of rtc-sctp, and the network in between.

use std::time::Duration;

use rand::{Rng, SeedableRng, rngs::StdRng};
use rtc::sctp::{
    Association, AssociationEvent, AssociationHandle, ClientConfig, DatagramEvent, Endpoint,
    EndpointConfig, Event as SctpEvent, Payload, ReliabilityType, StreamEvent, TransportConfig,
};
use rtc::shared::TransportProtocol;

use super::super::*;

const SERVER: std::net::SocketAddr =
    std::net::SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 2);

pub(super) struct Client {
    endpoint: Endpoint,
    handle: AssociationHandle,
    pub(super) association: Association,
    pub(super) connected: bool,
    pub(super) acknowledged: Vec<u16>,
    /// Labels of the channels that the server has opened.
    pub(super) opened: BTreeMap<u16, String>,
    pub(super) closed: Vec<u16>,
    pub(super) received: Vec<(u16, Ppi, Vec<u8>)>,
}

impl Client {
    pub(super) fn new(now: Instant) -> Self {
        let mut endpoint = Endpoint::new(
            SERVER,
            TransportProtocol::UDP,
            EndpointConfig::default().into(),
            None,
        );
        // Longer than what the server takes, so that it can be tried.
        let transport = TransportConfig::default().with_max_message_size(1 << 20);
        let config = ClientConfig::new(transport);
        let (handle, association) = endpoint.connect(now, config, SERVER).unwrap();
        Self {
            endpoint,
            handle,
            association,
            connected: false,
            acknowledged: Vec::new(),
            opened: BTreeMap::new(),
            closed: Vec::new(),
            received: Vec::new(),
        }
    }

    pub(super) fn open(&mut self, id: u16, spec: &ChannelSpec, now: Instant) {
        let message = spec.open_message().unwrap();
        let (unordered, kind, value) = spec.stream_parameters();
        let mut stream = self.association.open_stream(id, Ppi::Binary).unwrap();
        stream
            .set_reliability_params(unordered, kind, value)
            .unwrap();
        stream
            .write_chunk_with_ppi(now, &message, Ppi::Dcep)
            .unwrap();
    }

    pub(super) fn send(&mut self, id: u16, payload: &[u8], now: Instant) {
        self.send_as(id, payload, Ppi::Binary, now);
    }

    pub(super) fn send_as(&mut self, id: u16, payload: &[u8], ppi: Ppi, now: Instant) {
        let payload = Bytes::copy_from_slice(payload);
        let mut stream = self.association.stream(id).unwrap();
        stream.write_chunk_with_ppi(now, &payload, ppi).unwrap();
    }

    pub(super) fn close_stream(&mut self, id: u16, now: Instant) {
        self.association.stream(id).unwrap().close(now).unwrap();
    }

    pub(super) fn handle_packet(&mut self, packet: Bytes, now: Instant) {
        let event: AssociationEvent = match self.endpoint.handle(now, SERVER, None, packet) {
            Some((handle, DatagramEvent::AssociationEvent(event))) if handle == self.handle => {
                event
            }
            _ => return,
        };
        self.association.handle_event(event);
        self.drive(now);
    }

    fn drive(&mut self, now: Instant) {
        while let Some(event) = self.association.poll() {
            match event {
                SctpEvent::Connected => self.connected = true,
                SctpEvent::Stream(StreamEvent::Readable { id }) => self.read(id, now),
                SctpEvent::AssociationLost { id, .. } => self.closed.push(id),
                _ => {}
            }
        }
    }

    fn read(&mut self, id: u16, now: Instant) {
        let Ok(mut stream) = self.association.stream(id) else {
            return;
        };
        while let Ok(Some(message)) = stream.read_sctp() {
            let payload = message.to_payload(1 << 20).unwrap();
            if message.ppi != Ppi::Dcep {
                self.received.push((id, message.ppi, payload.to_vec()));
                continue;
            }
            match channel::read_control(&payload).unwrap() {
                Control::Ack => self.acknowledged.push(id),
                Control::Open(spec) => {
                    let (unordered, kind, value) = spec.stream_parameters();
                    stream
                        .set_reliability_params(unordered, kind, value)
                        .unwrap();
                    let ack = channel::ack_message().unwrap();
                    stream.write_chunk_with_ppi(now, &ack, Ppi::Dcep).unwrap();
                    self.opened.insert(id, spec.label);
                }
            }
        }
    }

    pub(super) fn transmits(&mut self, now: Instant) -> Vec<Bytes> {
        let mut packets = Vec::new();
        while let Some(transmit) = self.association.poll_transmit(now) {
            if let Payload::RawEncode(raw) = transmit.message {
                packets.extend(raw);
            }
        }
        packets
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.association.handle_timeout(now);
        self.drive(now);
    }
}

/// Both ends, and what is on its way between them.
pub(super) struct Pair {
    pub(super) now: Instant,
    pub(super) client: Client,
    pub(super) server: DataChannels,
    pub(super) events: Vec<Event>,
    /// Packets sent, to the server and to the client.
    pub(super) sent: [u64; 2],
    /// Ordinal numbers of packets to lose, to the server and to the client.
    pub(super) lose: [Vec<u64>; 2],
    pub(super) loss: f64,
    /// Adds up to so much to a packet's way, so that packets overtake each other.
    pub(super) jitter: Duration,
    rng: StdRng,
    in_flight: BTreeMap<(Instant, u64), (Direction, Bytes)>,
    serial: u64,
}

#[derive(Clone, Copy)]
enum Direction {
    ToServer,
    ToClient,
}

const LATENCY: Duration = Duration::from_millis(10);

impl Pair {
    pub(super) fn new(seed: u64) -> Self {
        let plan = DataPlan {
            remote_port: 5_000,
            max_message_size: 262_144,
        };
        Self::with(seed, DataChannels::new(plan, Limits::default()))
    }

    pub(super) fn with(seed: u64, server: DataChannels) -> Self {
        let now = Instant::now();
        Self {
            now,
            client: Client::new(now),
            server,
            events: Vec::new(),
            sent: [0; 2],
            lose: [Vec::new(), Vec::new()],
            loss: 0.0,
            jitter: Duration::ZERO,
            rng: StdRng::seed_from_u64(seed),
            in_flight: BTreeMap::new(),
            serial: 0,
        }
    }

    /// Established, without loss whatever comes later.
    pub(super) fn connected(seed: u64) -> Self {
        let mut pair = Self::new(seed);
        pair.run();
        assert!(pair.client.connected);
        pair
    }

    /// Runs for a minute.
    pub(super) fn run(&mut self) {
        self.run_until(self.now + Duration::from_secs(60), |_| false);
    }

    pub(super) fn run_until(&mut self, end: Instant, mut done: impl FnMut(&Self) -> bool) {
        loop {
            self.transmit();
            if done(self) {
                return;
            }
            let arrival = self.in_flight.keys().next().map(|(at, _)| *at);
            let timers = [
                self.client.association.poll_timeout(),
                self.server.poll_timeout(),
            ];
            let next = arrival
                .into_iter()
                .chain(timers.into_iter().flatten())
                .min();
            let Some(next) = next.filter(|next| *next <= end) else {
                self.now = end;
                return;
            };
            self.now = next.max(self.now);
            while let Some(entry) = self.in_flight.first_entry() {
                if entry.key().0 > self.now {
                    break;
                }
                match entry.remove() {
                    (Direction::ToServer, packet) => self.server.handle_dtls_data(packet, self.now),
                    (Direction::ToClient, packet) => self.client.handle_packet(packet, self.now),
                }
            }
            self.client.handle_timeout(self.now);
            self.server.handle_timeout(self.now);
            self.events
                .extend(std::iter::from_fn(|| self.server.poll_event()));
        }
    }

    fn transmit(&mut self) {
        for packet in self.client.transmits(self.now) {
            self.post(Direction::ToServer, packet);
        }
        while let Some(packet) = self.server.poll_transmit(self.now) {
            assert!(packet.len() <= 1_200, "{}", packet.len());
            self.post(Direction::ToClient, packet);
        }
        self.events
            .extend(std::iter::from_fn(|| self.server.poll_event()));
    }

    fn post(&mut self, direction: Direction, packet: Bytes) {
        let side = direction as usize;
        self.sent[side] += 1;
        if self.lose[side].contains(&self.sent[side]) || self.rng.random_bool(self.loss) {
            return;
        }
        let delay = LATENCY + self.jitter.mul_f64(self.rng.random_range(0.0..=1.0));
        self.serial += 1;
        let key = (self.now + delay, self.serial);
        self.in_flight.insert(key, (direction, packet));
    }

    /// Opens a channel from the client's side, and waits for its acknowledgment.
    pub(super) fn client_channel(&mut self, id: u16, spec: &ChannelSpec) -> ChannelId {
        let now = self.now;
        self.client.open(id, spec, now);
        self.run();
        assert!(self.client.acknowledged.contains(&id));
        ChannelId(id)
    }

    /// Opens a channel from the server's side, and waits for its acknowledgment.
    pub(super) fn server_channel(&mut self, spec: ChannelSpec) -> ChannelId {
        let channel = self.server.open(spec.clone(), self.now).unwrap();
        self.run();
        let opened = Event::Opened { channel, spec };
        assert!(self.events.contains(&opened), "{:?}", self.events);
        channel
    }

    pub(super) fn messages(&mut self) -> Vec<Bytes> {
        let is_message = |event: &Event| matches!(event, Event::Message { .. });
        let (messages, rest) = self.events.drain(..).partition(is_message);
        self.events = rest;
        let payload = |event| match event {
            Event::Message { payload, .. } => Some(payload),
            _ => None,
        };
        <Vec<Event>>::into_iter(messages)
            .filter_map(payload)
            .collect()
    }
}

/// What `ReliabilityType` has no `Eq` for.
pub(super) fn is_rexmit(spec: &ChannelSpec, limit: u32) -> bool {
    matches!(spec.stream_parameters(), (_, ReliabilityType::Rexmit, n) if n == limit)
}
