//! Data messages in LiveKit's envelope. The stamp travels in a field that only receivers read: when it
//! was sent, and its number.

pub(super) mod numbers;

use std::time::{Duration, Instant};

use bytes::Bytes;
use livekit_protocol::data_packet::Value;
use livekit_protocol::{DataPacket, UserPacket};
use prost::Message as _;

use self::numbers::Number;
use super::User;
use crate::media::clock;
use crate::stats::note_latency;
use crate::transport::data::{Received, Reliability};

/// Received messages that wait to be fetched.
const MAX_MESSAGES: usize = 4_096;

/// A message to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    pub reliability: Reliability,
    pub topic: String,
    pub payload: Vec<u8>,
    /// Identities; everybody if empty.
    pub to: Vec<String>,
}

/// A message that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub reliability: Reliability,
    /// The sender's identity, as the server says.
    pub from: String,
    pub topic: String,
    pub payload: Vec<u8>,
    /// One way. None if no simulated participant of this machine sent it.
    pub latency: Option<Duration>,
}

impl User {
    pub(super) fn send(&mut self, message: Outgoing, now: Instant) {
        let Self { numbering, rng, .. } = self;
        let number = numbering.number(message.reliability, &message.to, rng);
        let mut nonce = clock::nanos(now).to_be_bytes().to_vec();
        if let Some(Number { series, place }) = number {
            nonce.extend_from_slice(&series.to_be_bytes());
            nonce.extend_from_slice(&place.to_be_bytes());
        }
        let packet = DataPacket {
            destination_identities: message.to.clone(),
            value: Some(Value::User(UserPacket {
                payload: message.payload,
                topic: Some(message.topic),
                nonce,
                ..Default::default()
            })),
            ..Default::default()
        };
        let payload = Bytes::from(packet.encode_to_vec());
        let sent = self.connections[0]
            .transport
            .send_data(message.reliability, payload, now);
        if sent {
            self.data.sent += 1;
            self.numbering.advance(message.reliability, &message.to);
        } else {
            self.data.refused += 1;
        }
    }

    pub(super) fn handle_data(&mut self, received: &Received, now: Instant) {
        self.data.received += 1;
        self.data.bytes += received.payload.len() as u64;
        let Ok(packet) = DataPacket::decode(received.payload.clone()) else {
            return;
        };
        let Some(Value::User(user)) = packet.value else {
            return;
        };
        let (sent, number) = stamp(&user.nonce);
        let latency = sent.and_then(|sent| clock::age(sent, now));
        if let Some(number) = number {
            self.numbered.handle(number);
            self.data.expected = self.numbered.expected;
            self.data.missing = self.numbered.expected - self.numbered.came;
        }
        if let Some(age) = latency {
            note_latency(&mut self.data.latency, age);
        }
        if self.messages.len() == MAX_MESSAGES {
            self.messages.pop_front();
        }
        self.messages.push_back(Message {
            reliability: received.reliability,
            from: packet.participant_identity,
            topic: user.topic.unwrap_or_default(),
            payload: user.payload,
            latency,
        });
    }
}

/// When the message was sent, and its number.
fn stamp(nonce: &[u8]) -> (Option<u64>, Option<Number>) {
    let word = |at: usize| {
        let bytes = nonce.get(at..at + 4)?.try_into().ok()?;
        Some(u32::from_be_bytes(bytes))
    };
    let sent = nonce.first_chunk().map(|it| u64::from_be_bytes(*it));
    let number = match (nonce.len(), word(8), word(12)) {
        (16, Some(series), Some(place)) => Some(Number { series, place }),
        _ => None,
    };
    (sent.filter(|_| matches!(nonce.len(), 8 | 16)), number)
}
