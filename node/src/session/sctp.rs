//! One connection's data channels (RFC 8831), over rtc-sctp and the DCEP codec of rtc-datachannel.
//!
//! Pure: decrypted datagrams and time in; datagrams to encrypt and events out. The client begins
//! the association, either side opens channels. What a client can make it hold is bounded by
//! `sctp/gate.rs`; what is waiting to be sent, by [`Limits`].

mod association;
mod channel;
mod gate;
mod pacer;
mod packet;

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use bytes::Bytes;
use rtc::sctp::PayloadProtocolIdentifier as Ppi;
use thiserror::Error;

use crate::session::plan::DataPlan;
use association::{Association, Happening, STREAMS};
use channel::{Channel, Control, State};
pub use channel::{ChannelId, ChannelSpec, Reliability};
use gate::Admission;
use pacer::Pacer;
use packet::Init;

/// Longest message in either direction; what our SDP says as `a=max-message-size`.
pub const MAX_MESSAGE: usize = 262_144;

/// Channels that a client may open in the life of a connection. Each leaves an answer that it may
/// refuse to fetch.
const MAX_ACCEPTED: u32 = 4_096;

/// How much may wait to be sent on one channel, in bytes of payload, sent and not acknowledged
/// included. One message always fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A client that is this far behind cannot be helped by waiting longer. At 1 MB/s and 100 ms a
    /// tenth of the default is in flight.
    pub reliable: usize,
    /// What is lossy is late if it waits; the default is 100 ms of 5 Mbit/s.
    pub lossy: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            reliable: 1 << 20,
            lossy: 64 << 10,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The channel can be used both ways.
    Opened {
        channel: ChannelId,
        spec: ChannelSpec,
    },
    Message {
        channel: ChannelId,
        binary: bool,
        payload: Bytes,
    },
    /// The channel is gone; its number may come again.
    Closed { channel: ChannelId },
    /// A message was refused on a reliable channel, which so is reliable no more. It is reported
    /// once; whether to go on or to end the connection is the caller's choice.
    Overrun { channel: ChannelId },
    /// All channels are gone and none can be opened.
    Ended(EndReason),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// The client ended the association.
    Closed,
    /// The client did what no honest client does.
    Violation,
    /// A bug was caught.
    Panicked,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SendError {
    #[error("the channel is closed")]
    Closed,
    /// Too much is waiting, or the channel is not open yet.
    #[error("the channel takes nothing now")]
    Full,
    #[error("the message is longer than the client takes")]
    TooLarge,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum OpenError {
    #[error("the association has ended")]
    Ended,
    #[error("no stream is left")]
    TooMany,
    #[error("the label is too long")]
    LabelTooLong,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets that were not let in.
    pub packets_refused: u64,
    /// Messages on no channel, or of an unknown kind.
    pub messages_ignored: u64,
    /// Messages longer than [`MAX_MESSAGE`].
    pub messages_too_long: u64,
    /// Messages not sent because of [`Limits`].
    pub lossy_dropped: u64,
    pub reliable_refused: u64,
}

pub struct DataChannels {
    limits: Limits,
    /// Longest message that the client takes.
    max_outgoing: usize,
    association: Slot,
    channels: BTreeMap<ChannelId, Channel>,
    accepted: u32,
    transmits: VecDeque<Bytes>,
    pacer: Pacer,
    events: VecDeque<Event>,
    counters: Counters,
}

enum Slot {
    /// The client has not begun.
    Vacant,
    Taken(Box<Association>),
    Over,
}

impl DataChannels {
    pub fn new(plan: DataPlan, limits: Limits) -> Self {
        let max_outgoing = match plan.max_message_size as usize {
            // RFC 8841 section 6.1: zero stands for any size.
            0 => MAX_MESSAGE,
            size => size.min(MAX_MESSAGE),
        };
        Self {
            limits,
            max_outgoing,
            association: Slot::Vacant,
            channels: BTreeMap::new(),
            accepted: 0,
            transmits: VecDeque::new(),
            pacer: Pacer::default(),
            events: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// Takes one datagram of DTLS application data. Drain [`Self::poll_event`] afterwards.
    pub fn handle_dtls_data(&mut self, datagram: Bytes, now: Instant) {
        let admission = match &mut self.association {
            Slot::Vacant => Init::read(&datagram).map_or(Admission::Refuse, Admission::Init),
            Slot::Taken(association) => association.gate.admit(&datagram),
            Slot::Over => Admission::Refuse,
        };
        match admission {
            Admission::Pass => {
                self.with(|association| association.handle_packet(datagram, now));
                self.settle(now);
            }
            Admission::Init(init) => self.handle_init(init, now),
            Admission::Abort => self.end(EndReason::Closed, now),
            Admission::Repeat(number) => {
                if let Slot::Taken(association) = &self.association {
                    self.transmits.push_back(association.gate.answer(number));
                }
            }
            Admission::Refuse => self.counters.packets_refused += 1,
            Admission::Violation => {
                self.counters.packets_refused += 1;
                self.end(EndReason::Violation, now);
            }
        }
    }

    /// Opens a channel, at once or when the client has begun the association. `Opened` follows
    /// when the client has acknowledged it.
    pub fn open(&mut self, spec: ChannelSpec, now: Instant) -> Result<ChannelId, OpenError> {
        if matches!(self.association, Slot::Over) {
            return Err(OpenError::Ended);
        }
        if spec.open_message().is_none() {
            return Err(OpenError::LabelTooLong);
        }
        // The DTLS server's streams have odd numbers (RFC 8832 section 6).
        let free = (1..STREAMS)
            .step_by(2)
            .map(ChannelId)
            .find(|id| !self.channels.contains_key(id));
        let id = free.ok_or(OpenError::TooMany)?;
        self.channels.insert(id, Channel::new(spec, State::Waiting));
        if let Slot::Taken(association) = &self.association
            && association.is_established()
        {
            self.begin_opening(id, now);
        }
        Ok(id)
    }

    /// Closes a channel; `Closed` follows when the client has closed its side. What the client
    /// sends until then is lost; if there is any, rtc-sctp, which cannot read it any more, holds
    /// the channel in closing for ever.
    pub fn close_channel(&mut self, id: ChannelId, now: Instant) {
        let Some(channel) = self.channels.get_mut(&id) else {
            return;
        };
        let was_waiting = channel.state == State::Waiting;
        channel.state = State::Closing;
        let closing = !was_waiting
            && self.with(|association| association.close_stream(id, now)) == Some(true);
        if !closing {
            self.forget(id);
        }
    }

    /// Queues a message. What a lossy channel has no room for is dropped and counted; a reliable
    /// one refuses it and reports `Overrun`.
    pub fn send(
        &mut self,
        id: ChannelId,
        payload: Bytes,
        binary: bool,
        now: Instant,
    ) -> Result<(), SendError> {
        let Some(channel) = self.channels.get_mut(&id) else {
            return Err(SendError::Closed);
        };
        let Slot::Taken(association) = &mut self.association else {
            return Err(SendError::Full);
        };
        if payload.len() > self.max_outgoing {
            return Err(SendError::TooLarge);
        }
        if channel.state == State::Closing {
            return Err(SendError::Closed);
        }
        let reliable = channel.spec.is_reliable();
        let limit = if reliable {
            self.limits.reliable
        } else {
            self.limits.lossy
        };
        let buffered = association.buffered(id);
        let has_room = buffered == 0 || buffered + payload.len() <= limit;
        if !channel.takes_data() || !has_room {
            if reliable {
                self.counters.reliable_refused += 1;
                if !has_room && !std::mem::replace(&mut channel.overrun, true) {
                    self.events.push_back(Event::Overrun { channel: id });
                }
            } else {
                self.counters.lossy_dropped += 1;
            }
            return Err(SendError::Full);
        }
        channel.overrun &= buffered > limit / 2;
        let (payload, ppi) = match (payload.is_empty(), binary) {
            (false, true) => (payload, Ppi::Binary),
            (false, false) => (payload, Ppi::String),
            // SCTP carries no empty messages: one byte stands for none (RFC 8831 section 6.6).
            (true, true) => (Bytes::from_static(&[0]), Ppi::BinaryEmpty),
            (true, false) => (Bytes::from_static(&[0]), Ppi::StringEmpty),
        };
        match self.with(|association| association.write(id, &payload, ppi, now)) {
            Some(true) => Ok(()),
            Some(false) | None => Err(SendError::Closed),
        }
    }

    /// Bytes that wait on a channel; see [`Limits`].
    pub fn buffered(&mut self, id: ChannelId) -> usize {
        match &mut self.association {
            Slot::Taken(association) => association.buffered(id),
            Slot::Vacant | Slot::Over => 0,
        }
    }

    /// What to encrypt and send. Ask until None once per batch of input, not per datagram: one SACK
    /// then stands for all of the batch. What exceeds a burst comes after [`Self::poll_timeout`].
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Bytes> {
        while self.transmits.is_empty() {
            let sent = self.with(|association| association.poll_transmit(now))??;
            self.transmits.extend(sent.packets);
            if !sent.honest {
                self.end(EndReason::Violation, now);
            }
        }
        let held = !matches!(self.association, Slot::Over) && !self.pacer.admit(now);
        if held {
            return None;
        }
        self.transmits.pop_front()
    }

    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.association {
            Slot::Taken(association) => {
                let held = !self.transmits.is_empty();
                let next_burst = held.then_some(self.pacer.next_burst).flatten();
                association
                    .poll_timeout()
                    .into_iter()
                    .chain(next_burst)
                    .min()
            }
            Slot::Vacant | Slot::Over => None,
        }
    }

    /// Ask [`Self::poll_transmit`] afterwards.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.with(|association| association.handle_timeout(now));
        self.settle(now);
    }

    /// Ends the association with an ABORT, which [`Self::poll_transmit`] returns last.
    pub fn close(&mut self, now: Instant) {
        self.abort(now);
    }

    /// What has been counted since it was last taken.
    pub fn take_counters(&mut self) -> Counters {
        std::mem::take(&mut self.counters)
    }

    /// An INIT: the first, one that repeats it, or one that nobody should send.
    fn handle_init(&mut self, init: Init, now: Instant) {
        if let Slot::Taken(association) = &self.association {
            if association.gate.init() == init {
                // rtc-sctp would begin another association, and the client's next step would miss
                // one of the two.
                self.transmits.extend(association.init_ack());
                return;
            }
            if association.is_established() {
                self.counters.packets_refused += 1;
                return;
            }
        }
        match Association::begin(init, self.max_outgoing, now) {
            Some(association) => self.association = Slot::Taken(Box::new(association)),
            None => self.counters.packets_refused += 1,
        }
    }

    /// Handles what rtc-sctp has to say, until it is silent.
    fn settle(&mut self, now: Instant) {
        while let Some(Some(happening)) = self.with(Association::poll) {
            match happening {
                Happening::Established => {
                    let waiting: Vec<ChannelId> = self.channels.keys().copied().collect();
                    for id in waiting {
                        self.begin_opening(id, now);
                    }
                }
                Happening::Message { id, ppi, payload } => {
                    self.handle_message(id, ppi, payload, now);
                }
                Happening::TooLarge { id } => {
                    self.counters.messages_too_long += 1;
                    self.close_channel(id, now);
                }
                Happening::StreamClosed { id } => self.forget(id),
                Happening::Ended => self.end(EndReason::Closed, now),
            }
        }
    }

    fn begin_opening(&mut self, id: ChannelId, now: Instant) {
        let Some(channel) = self.channels.get_mut(&id) else {
            return;
        };
        channel.state = State::Opening;
        let spec = channel.spec.clone();
        if self.with(|association| association.open_stream(id, &spec, now)) != Some(true) {
            self.forget(id);
        }
    }

    fn handle_message(&mut self, id: ChannelId, ppi: Ppi, payload: Bytes, now: Instant) {
        let (binary, payload) = match ppi {
            Ppi::Dcep => return self.handle_control(id, &payload, now),
            Ppi::String => (false, payload),
            Ppi::Binary => (true, payload),
            Ppi::StringEmpty => (false, Bytes::new()),
            Ppi::BinaryEmpty => (true, Bytes::new()),
            _ => {
                self.counters.messages_ignored += 1;
                return;
            }
        };
        // Whatever comes back acknowledges our OPEN (RFC 8832 section 6).
        self.note_open(id);
        let is_open = |channel: &Channel| channel.state == State::Open;
        if !self.channels.get(&id).is_some_and(is_open) {
            self.counters.messages_ignored += 1;
            return;
        }
        self.events.push_back(Event::Message {
            channel: id,
            binary,
            payload,
        });
    }

    fn handle_control(&mut self, id: ChannelId, message: &[u8], now: Instant) {
        match channel::read_control(message) {
            Some(Control::Open(spec)) if !self.channels.contains_key(&id) => {
                self.accepted += 1;
                if self.accepted > MAX_ACCEPTED {
                    self.end(EndReason::Violation, now);
                    return;
                }
                let accepted = self.with(|association| association.accept_stream(id, &spec, now));
                if accepted == Some(true) {
                    let channel = Channel::new(spec.clone(), State::Open);
                    self.channels.insert(id, channel);
                    let channel = id;
                    self.events.push_back(Event::Opened { channel, spec });
                }
            }
            Some(Control::Ack) => self.note_open(id),
            Some(Control::Open(_)) | None => self.counters.messages_ignored += 1,
        }
    }

    fn note_open(&mut self, id: ChannelId) {
        if let Some(channel) = self.channels.get_mut(&id)
            && channel.state == State::Opening
        {
            channel.state = State::Open;
            let spec = channel.spec.clone();
            self.events.push_back(Event::Opened { channel: id, spec });
        }
    }

    fn forget(&mut self, id: ChannelId) {
        if self.channels.remove(&id).is_some() {
            self.events.push_back(Event::Closed { channel: id });
        }
    }

    fn end(&mut self, reason: EndReason, now: Instant) {
        if self.abort(now) {
            self.events.push_back(Event::Ended(reason));
        }
    }

    /// True if there was something to end.
    fn abort(&mut self, now: Instant) -> bool {
        match std::mem::replace(&mut self.association, Slot::Over) {
            Slot::Taken(association) => self.transmits.extend(association.abort(now)),
            Slot::Vacant => {}
            Slot::Over => return false,
        }
        self.channels.clear();
        true
    }

    /// Runs `work` on the association, if there is one. If it panics the association ends.
    fn with<R>(&mut self, work: impl FnOnce(&mut Association) -> R) -> Option<R> {
        let Slot::Taken(association) = &mut self.association else {
            return None;
        };
        let result = association::isolate(|| work(association));
        if result.is_none() {
            self.association = Slot::Over;
            self.channels.clear();
            self.events.push_back(Event::Ended(EndReason::Panicked));
        }
        result
    }
}

#[cfg(test)]
mod tests;
