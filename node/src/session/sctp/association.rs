//! One SCTP association of rtc-sctp: the calls that data channels need, in the order and with the
//! precautions that rtc-sctp needs.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rtc::sctp::{
    AssociationError, AssociationHandle, DatagramEvent, Endpoint, EndpointConfig, Event, Payload,
    PayloadProtocolIdentifier as Ppi, ServerConfig, StreamEvent, TimerConfig, TransportConfig,
};
use rtc::shared::TransportProtocol;

use super::MAX_MESSAGE;
use super::channel::{self, ChannelId, ChannelSpec};
use super::gate::{Emission, Gate};
use super::packet::{self, Init};

/// Streams in either direction, so half as many channels a side. A stream that a client opens
/// costs memory and a step of every packet's way; LiveKit clients open three.
pub(super) const STREAMS: u16 = 128;

/// Holds the longest message while half of another is missing. At 100 ms it allows 5 MB/s.
const RECEIVE_WINDOW: u32 = 512 * 1024;

/// The only port of SCTP over DTLS (RFC 8841 section 5 has others only on request).
const SCTP_PORT: u16 = 5_000;

/// First repetition of a stream reset; every further one takes twice as long, up to a limit.
/// rtc-sctp repeats only those that it did not send in answer to the client's, so a channel that
/// the client closes would stay half closed if the answer is lost.
const REPEAT_RESET_AFTER: Duration = Duration::from_secs(1);
const REPEAT_RESET_AT_LEAST_EVERY: Duration = Duration::from_secs(8);

/// rtc-sctp finds associations by their tags and only records addresses.
const PEER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

pub(super) struct Association {
    endpoint: Endpoint,
    handle: AssociationHandle,
    inner: rtc::sctp::Association,
    pub(super) gate: Gate,
    established: bool,
    /// Kept until the client answers it.
    init_ack: Option<Bytes>,
    /// Streams that may have messages: rtc-sctp says so once, however many there are.
    readable: VecDeque<ChannelId>,
    /// When to repeat what the client has not answered, and the pause until then.
    reset_timer: Option<(Instant, Duration)>,
    repeated_resets: Vec<Bytes>,
    ended: bool,
}

pub(super) enum Happening {
    Established,
    Message {
        id: ChannelId,
        ppi: Ppi,
        payload: Bytes,
    },
    /// A message was too long, and has been thrown away.
    TooLarge {
        id: ChannelId,
    },
    StreamClosed {
        id: ChannelId,
    },
    Ended,
}

/// What [`Association::poll_transmit`] found.
pub(super) struct Sent {
    pub(super) packets: Vec<Bytes>,
    /// The client has not left more unanswered than an honest one could.
    pub(super) honest: bool,
}

impl Association {
    /// Answers a client's INIT. None if rtc-sctp makes nothing of it.
    pub(super) fn begin(init: Init, max_outgoing: usize, now: Instant) -> Option<Self> {
        let transport = TransportConfig::default()
            .with_sctp_port(SCTP_PORT)
            .with_max_message_size(max_outgoing as u32)
            .with_max_receive_buffer_size(RECEIVE_WINDOW)
            .with_max_num_inbound_streams(STREAMS)
            .with_max_num_outbound_streams(STREAMS)
            .with_timer_config(TimerConfig {
                // Whether the client is still there is for ICE to say; rtc-sctp would stop to
                // retransmit and say nothing.
                max_t3_rtx_retrans: usize::MAX,
                max_reconfig_retrans: usize::MAX,
                ..TimerConfig::default()
            });
        let mut endpoint = Endpoint::new(
            PEER,
            TransportProtocol::UDP,
            EndpointConfig::default().into(),
            Some(ServerConfig::new(transport).into()),
        );
        let (handle, event) = isolate(|| endpoint.handle(now, PEER, None, init.write()))??;
        let DatagramEvent::NewAssociation(inner) = event else {
            return None;
        };
        Some(Self {
            endpoint,
            handle,
            inner,
            gate: Gate::new(init, RECEIVE_WINDOW, STREAMS),
            established: false,
            init_ack: None,
            readable: VecDeque::new(),
            reset_timer: None,
            repeated_resets: Vec::new(),
            ended: false,
        })
    }

    pub(super) fn is_established(&self) -> bool {
        self.established
    }

    /// To be sent again if the client repeats its INIT.
    pub(super) fn init_ack(&self) -> Option<Bytes> {
        self.init_ack.clone()
    }

    pub(super) fn handle_packet(&mut self, packet: Bytes, now: Instant) {
        if let Some((handle, DatagramEvent::AssociationEvent(event))) =
            self.endpoint.handle(now, PEER, None, packet)
            && handle == self.handle
        {
            self.inner.handle_event(event);
        }
    }

    pub(super) fn poll(&mut self) -> Option<Happening> {
        loop {
            if let Some(id) = self.readable.front().copied() {
                match self.read(id) {
                    Some(happening) => return Some(happening),
                    None => drop(self.readable.pop_front()),
                }
                continue;
            }
            let Some(event) = self.inner.poll() else {
                break;
            };
            match event {
                Event::Connected => {
                    self.established = true;
                    self.init_ack = None;
                    return Some(Happening::Established);
                }
                Event::Stream(StreamEvent::Readable { id }) => {
                    self.readable.push_back(ChannelId(id));
                }
                // Of a stream; all of them are lost when the association is.
                Event::AssociationLost {
                    reason: AssociationError::Reset,
                    id,
                } => return Some(Happening::StreamClosed { id: ChannelId(id) }),
                _ => {}
            }
        }
        // Before the client's COOKIE-ECHO rtc-sctp counts as closed as well.
        let ended = self.established && self.inner.is_closed();
        (ended && !std::mem::replace(&mut self.ended, true)).then_some(Happening::Ended)
    }

    fn read(&mut self, id: ChannelId) -> Option<Happening> {
        let mut stream = self.inner.stream(id.0).ok()?;
        let message = stream.read_sctp().ok()??;
        self.gate
            .handle_delivery(message.chunks.len(), message.len());
        Some(match message.to_payload(MAX_MESSAGE) {
            Ok(payload) => Happening::Message {
                id,
                ppi: message.ppi,
                payload: payload.freeze(),
            },
            Err(_) => Happening::TooLarge { id },
        })
    }

    /// Opens a stream and sends the channel's OPEN on it.
    pub(super) fn open_stream(&mut self, id: ChannelId, spec: &ChannelSpec, now: Instant) -> bool {
        let agreed = self.inner.negotiated_max_streams().unwrap_or(0);
        id.0 < agreed
            && self.inner.open_stream(id.0, Ppi::Binary).is_ok()
            && self.prepare(id, spec, spec.open_message(), now)
    }

    /// Acknowledges the OPEN that came on a stream.
    pub(super) fn accept_stream(
        &mut self,
        id: ChannelId,
        spec: &ChannelSpec,
        now: Instant,
    ) -> bool {
        self.prepare(id, spec, channel::ack_message(), now)
    }

    fn prepare(
        &mut self,
        id: ChannelId,
        spec: &ChannelSpec,
        control: Option<Bytes>,
        now: Instant,
    ) -> bool {
        let (unordered, kind, value) = spec.stream_parameters();
        let (Ok(mut stream), Some(control)) = (self.inner.stream(id.0), control) else {
            return false;
        };
        stream
            .set_reliability_params(unordered, kind, value)
            .is_ok()
            && stream
                .write_chunk_with_ppi(now, &control, Ppi::Dcep)
                .is_ok()
    }

    pub(super) fn write(&mut self, id: ChannelId, payload: &Bytes, ppi: Ppi, now: Instant) -> bool {
        self.inner
            .stream(id.0)
            .and_then(|mut stream| stream.write_chunk_with_ppi(now, payload, ppi))
            .is_ok()
    }

    /// Resets the stream behind what is queued on it. It is closed when the client has reset its
    /// side as well.
    pub(super) fn close_stream(&mut self, id: ChannelId, now: Instant) -> bool {
        self.inner
            .stream(id.0)
            .and_then(|mut stream| stream.close(now))
            .is_ok()
    }

    pub(super) fn buffered(&mut self, id: ChannelId) -> usize {
        self.inner
            .stream(id.0)
            .and_then(|stream| stream.buffered_amount())
            .unwrap_or(0)
    }

    /// None if there is nothing to send.
    pub(super) fn poll_transmit(&mut self, now: Instant) -> Option<Sent> {
        if !self.repeated_resets.is_empty() {
            return Some(Sent {
                packets: std::mem::take(&mut self.repeated_resets),
                honest: true,
            });
        }
        let transmit = self.inner.poll_transmit(now)?;
        let Payload::RawEncode(packets) = transmit.message else {
            return None;
        };
        let mut honest = true;
        let mut admitted = Vec::with_capacity(packets.len());
        for packet in packets {
            let emission = self.gate.observe(&packet);
            honest &= emission != Emission::Violation;
            if !self.established && packet::first_chunk(&packet) == Some(packet::INIT_ACK) {
                self.init_ack = Some(packet.clone());
            }
            if emission != Emission::Suppress {
                admitted.push(packet);
            }
        }
        if self.reset_timer.is_none() && self.gate.unanswered_resets().len() > 0 {
            self.reset_timer = Some((now + REPEAT_RESET_AFTER, REPEAT_RESET_AFTER));
        }
        Some(Sent {
            packets: admitted,
            honest,
        })
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let reset = self.reset_timer.map(|(at, _)| at);
        self.inner.poll_timeout().into_iter().chain(reset).min()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.inner.handle_timeout(now);
        if let Some((_, pause)) = self.reset_timer.take_if(|(at, _)| *at <= now) {
            let unanswered = self.gate.unanswered_resets();
            self.repeated_resets = unanswered.cloned().collect();
            if !self.repeated_resets.is_empty() {
                let pause = (pause * 2).min(REPEAT_RESET_AT_LEAST_EVERY);
                self.reset_timer = Some((now + pause, pause));
            }
        }
    }

    /// What is left to be sent, with an ABORT behind it.
    pub(super) fn abort(mut self: Box<Self>, now: Instant) -> Vec<Bytes> {
        isolate(|| {
            let mut packets = Vec::new();
            let mut flush = |inner: &mut rtc::sctp::Association| {
                while let Some(transmit) = inner.poll_transmit(now) {
                    if let Payload::RawEncode(raw) = transmit.message {
                        packets.extend(raw);
                    }
                }
            };
            flush(&mut self.inner);
            if self.established && self.inner.abort().is_ok() {
                flush(&mut self.inner);
            }
            packets
        })
        .unwrap_or_default()
    }
}

/// What comes from outside must not bring the thread down, whatever rtc-sctp makes of it.
pub(super) fn isolate<R>(work: impl FnOnce() -> R) -> Option<R> {
    catch_unwind(AssertUnwindSafe(work)).ok()
}
