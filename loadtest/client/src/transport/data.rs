//! One connection's data channels (RFC 8831) over rtc-sctp, as LiveKit's clients use them: the
//! channels `_reliable` and `_lossy`, opened by either side.
//!
//! Pure: decrypted datagrams and time in; datagrams to encrypt and events out.

mod gate;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use rtc::datachannel::message::Message;
use rtc::datachannel::message::message_channel_ack::DataChannelAck;
use rtc::datachannel::message::message_channel_open::{
    CHANNEL_PRIORITY_NORMAL, ChannelType, DataChannelOpen,
};
use rtc::sctp::{
    Association, AssociationHandle, ClientConfig, DatagramEvent, Endpoint, EndpointConfig, Event,
    Payload, PayloadProtocolIdentifier as Ppi, ReliabilityType, StreamEvent, TransportConfig,
};
use rtc::shared::TransportProtocol;
use rtc::shared::marshal::{Marshal, Unmarshal};

use self::gate::{Admission, Gate, RECEIVE_WINDOW};

/// rtc-sctp finds associations by their tags and only records addresses.
const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 2);

const MAX_MESSAGE: u32 = 262_144;

/// Messages kept until their channel is open.
const MAX_WAITING: usize = 1_024;

/// The two ways to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reliability {
    Reliable,
    Lossy,
}

impl Reliability {
    const BOTH: [Self; 2] = [Self::Lossy, Self::Reliable];

    fn label(self) -> &'static str {
        match self {
            Self::Reliable => "_reliable",
            Self::Lossy => "_lossy",
        }
    }
}

/// Who opens the channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opener {
    Client,
    Server,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) reliability: Reliability,
    pub(crate) payload: Bytes,
}

pub(crate) struct Data {
    endpoint: Endpoint,
    handle: AssociationHandle,
    association: Association,
    gate: Gate,
    /// The server has ended it, or been cut off.
    is_over: bool,
    opener: Opener,
    /// Whose opening the other side has acknowledged, or asked for.
    open: BTreeMap<Reliability, u16>,
    opening: BTreeMap<u16, Reliability>,
    waiting: VecDeque<(Reliability, Bytes)>,
    received: VecDeque<Received>,
}

impl Data {
    /// Begins the association.
    pub(crate) fn connect(opener: Opener, now: Instant) -> Option<Self> {
        let config = EndpointConfig::default().into();
        let mut endpoint = Endpoint::new(SERVER, TransportProtocol::UDP, config, None);
        let transport = TransportConfig::default()
            .with_max_message_size(MAX_MESSAGE)
            .with_max_receive_buffer_size(RECEIVE_WINDOW);
        let config = ClientConfig::new(transport);
        let (handle, association) = endpoint.connect(now, config, SERVER).ok()?;
        Some(Self {
            endpoint,
            handle,
            association,
            gate: Gate::new(),
            is_over: false,
            opener,
            open: BTreeMap::new(),
            opening: BTreeMap::new(),
            waiting: VecDeque::new(),
            received: VecDeque::new(),
        })
    }

    pub(crate) fn is_open(&self, reliability: Reliability) -> bool {
        self.open.contains_key(&reliability)
    }

    /// Sends a message, at once or when the channel is open. False if too many wait already.
    pub(crate) fn send(&mut self, reliability: Reliability, payload: Bytes, now: Instant) -> bool {
        if let Some(id) = self.open.get(&reliability) {
            let stream = self.association.stream(*id);
            let write =
                stream.and_then(|mut it| it.write_chunk_with_ppi(now, &payload, Ppi::Binary));
            return write.is_ok();
        }
        let room = self.waiting.len() < MAX_WAITING && !self.is_over;
        if room {
            self.waiting.push_back((reliability, payload));
        }
        room
    }

    pub(crate) fn handle_datagram(&mut self, datagram: Bytes, now: Instant) {
        if self.is_over {
            return;
        }
        match self.gate.admit(&datagram) {
            Admission::Pass => {}
            Admission::Refuse => return,
            Admission::End => {
                self.is_over = true;
                self.open.clear();
                return self.waiting.clear();
            }
        }
        if let Some((handle, DatagramEvent::AssociationEvent(event))) =
            self.endpoint.handle(now, SERVER, None, datagram)
            && handle == self.handle
        {
            self.association.handle_event(event);
        }
        self.settle(now);
    }

    pub(crate) fn poll_received(&mut self) -> Option<Received> {
        self.received.pop_front()
    }

    /// What to encrypt and send; ask until nothing is answered.
    pub(crate) fn poll_transmit(&mut self, now: Instant) -> Option<Vec<Bytes>> {
        if self.is_over {
            return None;
        }
        match self.association.poll_transmit(now)?.message {
            Payload::RawEncode(packets) => {
                packets.iter().for_each(|packet| self.gate.observe(packet));
                Some(packets)
            }
            _ => None,
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.association.poll_timeout().filter(|_| !self.is_over)
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.association.handle_timeout(now);
        self.settle(now);
    }

    fn settle(&mut self, now: Instant) {
        while let Some(event) = self.association.poll() {
            match event {
                Event::Connected if self.opener == Opener::Client => self.open_channels(now),
                Event::Stream(StreamEvent::Readable { id }) => self.read(id, now),
                _ => {}
            }
        }
    }

    fn open_channels(&mut self, now: Instant) {
        // A DTLS client's streams have even numbers (RFC 8832 section 6).
        for (id, reliability) in [0, 2].into_iter().zip(Reliability::BOTH) {
            let channel_type = match reliability {
                Reliability::Reliable => ChannelType::Reliable,
                Reliability::Lossy => ChannelType::PartialReliableRexmitUnordered,
            };
            let open = Message::DataChannelOpen(DataChannelOpen {
                channel_type,
                priority: CHANNEL_PRIORITY_NORMAL,
                reliability_parameter: 0,
                label: reliability.label().as_bytes().to_vec(),
                protocol: Vec::new(),
            });
            if self.association.open_stream(id, Ppi::Binary).is_ok() {
                self.control(id, reliability, &open, now);
                self.opening.insert(id, reliability);
            }
        }
    }

    /// Sets a stream up and says so.
    fn control(&mut self, id: u16, reliability: Reliability, message: &Message, now: Instant) {
        let (unordered, kind) = match reliability {
            Reliability::Reliable => (false, ReliabilityType::Reliable),
            Reliability::Lossy => (true, ReliabilityType::Rexmit),
        };
        let (Ok(mut stream), Ok(message)) = (self.association.stream(id), message.marshal()) else {
            return;
        };
        // Failing, the server misses the channel, and the one who waits for it says so.
        let _ = stream.set_reliability_params(unordered, kind, 0);
        let _ = stream.write_chunk_with_ppi(now, &message.freeze(), Ppi::Dcep);
    }

    fn read(&mut self, id: u16, now: Instant) {
        loop {
            let Ok(mut stream) = self.association.stream(id) else {
                return;
            };
            let Ok(Some(message)) = stream.read_sctp() else {
                return;
            };
            let Ok(payload) = message.to_payload(MAX_MESSAGE as usize) else {
                continue;
            };
            if message.ppi == Ppi::Dcep {
                self.handle_control(id, &payload, now);
            } else if let Some((reliability, _)) = self.open.iter().find(|(_, open)| **open == id) {
                self.received.push_back(Received {
                    reliability: *reliability,
                    payload: payload.freeze(),
                });
            }
        }
    }

    fn handle_control(&mut self, id: u16, payload: &BytesMut, now: Instant) {
        /// DATA_CHANNEL_ACK and DATA_CHANNEL_OPEN are all there is (RFC 8832 section 8.2.1). rtc-datachannel
        /// knows others, of its own, and panics when one is cut off.
        const KINDS: [u8; 2] = [2, 3];
        if payload.first().is_none_or(|kind| !KINDS.contains(kind)) {
            return;
        }
        let opened = match Message::unmarshal(&mut &payload[..]) {
            Ok(Message::DataChannelAck(_)) => self.opening.remove(&id),
            Ok(Message::DataChannelOpen(open)) => {
                let named = |it: &Reliability| it.label().as_bytes() == open.label;
                let reliability = Reliability::BOTH.into_iter().find(named);
                let ack = Message::DataChannelAck(DataChannelAck {});
                self.control(id, reliability.unwrap_or(Reliability::Reliable), &ack, now);
                reliability
            }
            _ => None,
        };
        let Some(opened) = opened else {
            return;
        };
        self.open.insert(opened, id);
        let waiting = std::mem::take(&mut self.waiting);
        for (reliability, message) in waiting {
            self.send(reliability, message, now);
        }
    }
}
