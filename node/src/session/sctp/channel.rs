//! One data channel: what was agreed about it (DCEP, RFC 8832) and how far its opening is.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rtc::datachannel::message::Message;
use rtc::datachannel::message::message_channel_ack::DataChannelAck;
use rtc::datachannel::message::message_channel_open::{
    CHANNEL_PRIORITY_NORMAL, ChannelType, DataChannelOpen,
};
use rtc::sctp::ReliabilityType;
use rtc::shared::marshal::{Marshal, Unmarshal};

/// What the first byte says a message is (RFC 8832 section 8.2.1).
const OPEN: u8 = 3;
const ACK: u8 = 2;

/// Longest label taken, in bytes.
const MAX_LABEL: usize = 1_024;

/// Names a channel within its connection: the SCTP stream's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelId(pub u16);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelSpec {
    pub label: String,
    pub ordered: bool,
    pub reliability: Reliability,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reliability {
    Reliable,
    /// Given up after so many retransmissions.
    Retransmissions(u32),
    /// Given up after so long, to the millisecond.
    Lifetime(Duration),
}

impl ChannelSpec {
    /// Ordered and reliable.
    pub fn reliable(label: &str) -> Self {
        Self {
            label: label.to_owned(),
            ordered: true,
            reliability: Reliability::Reliable,
        }
    }

    /// Unordered, and sent once.
    pub fn lossy(label: &str) -> Self {
        Self {
            label: label.to_owned(),
            ordered: false,
            reliability: Reliability::Retransmissions(0),
        }
    }

    pub(super) fn is_reliable(&self) -> bool {
        self.reliability == Reliability::Reliable
    }

    /// In the terms of `Stream::set_reliability_params`.
    pub(super) fn stream_parameters(&self) -> (bool, ReliabilityType, u32) {
        let (kind, value) = match self.reliability {
            Reliability::Reliable => (ReliabilityType::Reliable, 0),
            Reliability::Retransmissions(count) => (ReliabilityType::Rexmit, count),
            Reliability::Lifetime(lifetime) => (ReliabilityType::Timed, milliseconds(lifetime)),
        };
        (!self.ordered, kind, value)
    }

    /// The message that opens the channel. None if the label does not fit.
    pub(super) fn open_message(&self) -> Option<Bytes> {
        if self.label.len() > MAX_LABEL {
            return None;
        }
        let (channel_type, reliability_parameter) = match (self.reliability, self.ordered) {
            (Reliability::Reliable, true) => (ChannelType::Reliable, 0),
            (Reliability::Reliable, false) => (ChannelType::ReliableUnordered, 0),
            (Reliability::Retransmissions(n), true) => (ChannelType::PartialReliableRexmit, n),
            (Reliability::Retransmissions(n), false) => {
                (ChannelType::PartialReliableRexmitUnordered, n)
            }
            (Reliability::Lifetime(lifetime), true) => {
                (ChannelType::PartialReliableTimed, milliseconds(lifetime))
            }
            (Reliability::Lifetime(lifetime), false) => (
                ChannelType::PartialReliableTimedUnordered,
                milliseconds(lifetime),
            ),
        };
        let open = Message::DataChannelOpen(DataChannelOpen {
            channel_type,
            priority: CHANNEL_PRIORITY_NORMAL,
            reliability_parameter,
            label: self.label.as_bytes().to_vec(),
            protocol: Vec::new(),
        });
        open.marshal().ok().map(BytesMut::freeze)
    }

    fn from_open(open: DataChannelOpen) -> Option<Self> {
        let label = Some(open.label).filter(|label| label.len() <= MAX_LABEL)?;
        let parameter = open.reliability_parameter;
        let lifetime = Duration::from_millis(parameter.into());
        let (ordered, reliability) = match open.channel_type {
            ChannelType::Reliable => (true, Reliability::Reliable),
            ChannelType::ReliableUnordered => (false, Reliability::Reliable),
            ChannelType::PartialReliableRexmit => (true, Reliability::Retransmissions(parameter)),
            ChannelType::PartialReliableRexmitUnordered => {
                (false, Reliability::Retransmissions(parameter))
            }
            ChannelType::PartialReliableTimed => (true, Reliability::Lifetime(lifetime)),
            ChannelType::PartialReliableTimedUnordered => (false, Reliability::Lifetime(lifetime)),
            _ => return None,
        };
        Some(Self {
            label: String::from_utf8(label).ok()?,
            ordered,
            reliability,
        })
    }
}

fn milliseconds(lifetime: Duration) -> u32 {
    u32::try_from(lifetime.as_millis()).unwrap_or(u32::MAX)
}

/// What the client says about a channel.
pub(super) enum Control {
    Open(ChannelSpec),
    Ack,
}

pub(super) fn read_control(mut message: &[u8]) -> Option<Control> {
    // rtc-datachannel has kinds of its own besides, for use within, and panics if one of them is short.
    if !matches!(message.first(), Some(&(OPEN | ACK))) {
        return None;
    }
    match Message::unmarshal(&mut message).ok()? {
        Message::DataChannelOpen(open) => ChannelSpec::from_open(open).map(Control::Open),
        Message::DataChannelAck(_) => Some(Control::Ack),
        _ => None,
    }
}

pub(super) fn ack_message() -> Option<Bytes> {
    let ack = Message::DataChannelAck(DataChannelAck {});
    ack.marshal().ok().map(BytesMut::freeze)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Asked for before there is an association.
    Waiting,
    /// Our OPEN has been sent.
    Opening,
    Open,
    /// Our reset has been sent.
    Closing,
}

pub(super) struct Channel {
    pub(super) spec: ChannelSpec,
    pub(super) state: State,
    /// A reliable message has been refused since the buffer was last half empty.
    pub(super) overrun: bool,
}

impl Channel {
    pub(super) fn new(spec: ChannelSpec, state: State) -> Self {
        Self {
            spec,
            state,
            overrun: false,
        }
    }

    /// Unordered data must not overtake the OPEN (RFC 8832 section 6); Chromium drops what does.
    pub(super) fn takes_data(&self) -> bool {
        match self.state {
            State::Open => true,
            State::Opening => self.spec.ordered,
            State::Waiting | State::Closing => false,
        }
    }
}
