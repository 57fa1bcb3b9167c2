//! Data messages in LiveKit's envelope. The stamp travels in a field that only receivers read.

use std::time::{Duration, Instant};

use bytes::Bytes;
use livekit_protocol::data_packet::Value;
use livekit_protocol::{DataPacket, UserPacket};
use prost::Message as _;

use super::User;
use crate::media::clock;
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
        let packet = DataPacket {
            destination_identities: message.to,
            value: Some(Value::User(UserPacket {
                payload: message.payload,
                topic: Some(message.topic),
                nonce: clock::nanos(now).to_be_bytes().to_vec(),
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
        let sent = user
            .nonce
            .as_slice()
            .try_into()
            .ok()
            .map(u64::from_be_bytes);
        let latency = sent.and_then(|sent| clock::age(sent, now));
        if let Some(age) = latency {
            let micros = age.as_micros().max(1) as u64;
            self.data.latency.saturating_record(micros);
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
