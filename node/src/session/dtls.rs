//! The server side of one connection's DTLS association, around rtc-dtls.
//!
//! Pure: datagrams and time in; datagrams and events out. What reaches rtc-dtls is bounded and well
//! formed: plain handshake messages are put together before (`dtls/reassembly.rs`), and of the
//! records it would believe without authentication only those that a handshake needs pass.
//! Lost flights are repeated here (`dtls/flight.rs`), and what comes after a handshake is sealed and
//! opened here (`dtls/sealed.rs`): rtc-dtls is let go of then.
//!
//! The rest of the node knows `DtlsTransport`, the calls that a connection needs, so that another
//! implementation can take the place of `DtlsServer`. One is made on a handshake thread and then moves
//! to its shard.

mod certificate;
mod flight;
mod keys;
mod reassembly;
mod record;
mod sealed;

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use rtc::dtls::config::HandshakeConfig;
use rtc::dtls::endpoint::{Endpoint, EndpointEvent};
use rtc::dtls::state::State as AssociationState;
use rtc::shared::TransportProtocol;
use rtc::shared::error::Error as RtcError;
use thiserror::Error;

pub use certificate::{Certificate, CertificateError, is_announced};
use flight::Flight;
pub use keys::{MasterKey, SrtpKeys, SrtpProfile};
use reassembly::Reassembly;
use record::Record;
pub(crate) use record::is_server_hello;
use sealed::Sealed;

/// rtc-dtls finds associations by address. A connection has one, whatever address it uses.
const PEER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

/// Sealed handshake records that are handed on. A client sends one, its Finished, and repeats it
/// until ours arrives; rtc-dtls keeps every one of them.
const MAX_SEALED_HANDSHAKES: u32 = 32;

/// Longest sealed handshake record: a Finished has 61 bytes.
const MAX_SEALED_HANDSHAKE: usize = 96;

/// ChangeCipherSpec records that are handed on; one per repetition of the client's last flight.
const MAX_CHANGE_CIPHER_SPECS: u32 = 16;

/// The alert that says goodbye, and how it is said (RFC 5246 section 7.2.1).
const CLOSE_NOTIFY: u8 = 0;
const GOODBYE: [u8; 2] = [1, CLOSE_NOTIFY];

#[derive(Debug)]
pub enum Event {
    /// The handshake is complete. The client's certificate has not been compared with anything.
    Connected(Box<Connected>),
    ApplicationData(BytesMut),
    /// The client said goodbye. Nothing follows.
    Closed,
    /// Nothing follows.
    Failed(Failure),
}

#[derive(Debug)]
pub struct Connected {
    pub keys: SrtpKeys,
    /// DER. See [`is_announced`].
    pub peer_certificate: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The client offers neither of our SRTP profiles.
    NoSrtpProfile,
    /// The client gave up with a fatal alert.
    PeerAlert,
    /// What the client sent cannot lead to an association.
    Protocol,
    /// A bug was caught.
    Panicked,
}

/// Nothing can be written before the handshake is complete or after the end.
#[derive(Debug, Error)]
#[error("the DTLS association is not connected")]
pub struct NotConnected;

/// One end of a DTLS association, without I/O.
pub trait DtlsTransport: std::fmt::Debug + Send {
    /// Takes a datagram whose first byte is 20 to 63. Drain [`Self::poll_transmit`] and
    /// [`Self::poll_event`] afterwards. `false`: nothing in it was of any use.
    fn handle_datagram(&mut self, datagram: &[u8], now: Instant) -> bool;
    fn poll_transmit(&mut self) -> Option<Bytes>;
    fn poll_event(&mut self) -> Option<Event>;
    fn poll_timeout(&self) -> Option<Instant>;
    fn handle_timeout(&mut self, now: Instant);
    /// Seals one datagram of application data.
    fn write(&mut self, data: &[u8], now: Instant) -> Result<(), NotConnected>;
    /// Says goodbye. Only what [`Self::poll_transmit`] returns is left to do.
    fn close(&mut self, now: Instant);
}

/// The server's end, by rtc-dtls.
pub struct DtlsServer {
    state: State,
    certificate: Arc<Certificate>,
    /// Sealed handshake records that may still be handed on.
    sealed_handshakes: u32,
    transmits: VecDeque<Bytes>,
    events: VecDeque<Event>,
}

enum State {
    Handshaking(Box<Handshake>),
    Connected(Box<Connection>),
    Over,
}

struct Handshake {
    endpoint: Endpoint,
    /// Nothing has been answered yet, so the other SRTP profile can still be tried.
    may_fall_back: bool,
    reassembly: Reassembly,
    /// Plain records are numbered anew, since reassembly changes how many there are.
    next_record: u32,
    change_cipher_specs: u32,
    /// Sent, and not known to have arrived.
    flight: Option<Flight>,
}

struct Connection {
    sealed: Sealed,
    /// For a client that did not get it; none once data shows that it did.
    flight: Option<Flight>,
}

impl std::fmt::Debug for DtlsServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = match &self.state {
            State::Handshaking(_) => "handshaking",
            State::Connected(_) => "connected",
            State::Over => "over",
        };
        write!(f, "DtlsServer({state})")
    }
}

impl DtlsServer {
    pub fn new(certificate: Arc<Certificate>) -> Self {
        let handshake = Handshake {
            endpoint: endpoint(&certificate.gcm),
            may_fall_back: true,
            reassembly: Reassembly::default(),
            next_record: 0,
            change_cipher_specs: MAX_CHANGE_CIPHER_SPECS,
            flight: None,
        };
        Self {
            state: State::Handshaking(Box::new(handshake)),
            certificate,
            sealed_handshakes: MAX_SEALED_HANDSHAKES,
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        }
    }
}

impl DtlsTransport for DtlsServer {
    fn handle_datagram(&mut self, datagram: &[u8], now: Instant) -> bool {
        match &self.state {
            State::Handshaking(_) => self.handle_handshake(datagram, now),
            State::Connected(_) => self.handle_sealed(datagram, now),
            // rtc-dtls would begin a new association.
            State::Over => false,
        }
    }

    fn poll_transmit(&mut self) -> Option<Bytes> {
        take(&mut self.transmits)
    }

    fn poll_event(&mut self) -> Option<Event> {
        take(&mut self.events)
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let flight = match &self.state {
            State::Handshaking(handshake) => &handshake.flight,
            State::Connected(connection) => &connection.flight,
            State::Over => &None,
        };
        flight.as_ref()?.poll_timeout()
    }

    fn handle_timeout(&mut self, now: Instant) {
        let flight = match &mut self.state {
            State::Handshaking(handshake) => &mut handshake.flight,
            State::Connected(connection) => &mut connection.flight,
            State::Over => &mut None,
        };
        if let Some(flight) = flight {
            self.transmits
                .extend(flight.handle_timeout(now).iter().cloned());
        }
    }

    fn write(&mut self, data: &[u8], _: Instant) -> Result<(), NotConnected> {
        let State::Connected(connection) = &mut self.state else {
            return Err(NotConnected);
        };
        let record = connection.sealed.seal(record::APPLICATION_DATA, data);
        self.transmits.push_back(record);
        Ok(())
    }

    fn close(&mut self, _: Instant) {
        if let State::Connected(mut connection) = std::mem::replace(&mut self.state, State::Over) {
            let goodbye = connection.sealed.seal(record::ALERT, &GOODBYE);
            self.transmits.push_back(goodbye);
        }
    }
}

impl DtlsServer {
    fn handle_handshake(&mut self, datagram: &[u8], now: Instant) -> bool {
        let State::Handshaking(handshake) = &mut self.state else {
            return false;
        };
        let (mut repeats, mut advances) = (false, false);
        let mut admitted = BytesMut::new();
        for record in record::records(datagram) {
            match (record.epoch, record.kind) {
                (0, record::HANDSHAKE) => {
                    let progress = handshake.reassembly.handle_record(
                        record.body,
                        &mut handshake.next_record,
                        &mut admitted,
                    );
                    repeats |= progress.repeats;
                    advances |= progress.advances;
                    if progress.advances {
                        handshake.flight = None;
                    }
                }
                (0, record::CHANGE_CIPHER_SPEC)
                    if record.body == [1] && handshake.change_cipher_specs > 0 =>
                {
                    handshake.change_cipher_specs -= 1;
                    let number = handshake.next_record;
                    handshake.next_record += 1;
                    record::write_plain(&mut admitted, record.kind, number, &[&[1]]);
                }
                (0, record::ALERT) if is_final(record.body) => {
                    self.end(Event::Failed(Failure::PeerAlert));
                    return true;
                }
                (1, record::HANDSHAKE) if admit_sealed(&record, &mut self.sealed_handshakes) => {
                    admitted.extend_from_slice(record.bytes);
                }
                _ => {}
            }
        }
        let is_useful = repeats || advances || !admitted.is_empty();
        if !admitted.is_empty() {
            self.negotiate(admitted, now);
        }
        if repeats
            && let State::Handshaking(handshake) = &mut self.state
            && let Some(flight) = &mut handshake.flight
        {
            self.transmits
                .extend(flight.handle_repeat(now).iter().cloned());
        }
        is_useful
    }

    fn negotiate(&mut self, admitted: BytesMut, now: Instant) {
        let State::Handshaking(handshake) = &mut self.state else {
            return;
        };
        let mut outcome = read(&mut handshake.endpoint, admitted.clone(), now);
        if handshake.may_fall_back && is_profile_mismatch(&outcome) {
            // The server picks by the client's order, and browsers put the slow profile first. So
            // the fast one is offered alone, and the slow one only to those who lack it.
            handshake.may_fall_back = false;
            handshake.endpoint = endpoint(&self.certificate.cm);
            outcome = read(&mut handshake.endpoint, admitted, now);
        }
        let datagrams: Vec<Bytes> = sent(&mut handshake.endpoint).collect();
        if !datagrams.is_empty() {
            handshake.may_fall_back = false;
            self.transmits.extend(datagrams.iter().cloned());
            handshake.flight = Some(Flight::new(datagrams, now));
        }
        match outcome {
            Ok(events) => events
                .into_iter()
                .for_each(|event| self.handle_event(event)),
            Err(error) => {
                tracing::debug!(%error, "DTLS handshake failed");
                let failure = match error {
                    ReadError::Refused(RtcError::ErrServerNoMatchingSrtpProfile) => {
                        Failure::NoSrtpProfile
                    }
                    ReadError::Refused(RtcError::ErrAlertFatalOrClose) => Failure::PeerAlert,
                    ReadError::Refused(_) => Failure::Protocol,
                    ReadError::Panicked => Failure::Panicked,
                };
                self.end(Event::Failed(failure));
            }
        }
    }

    fn handle_sealed(&mut self, datagram: &[u8], now: Instant) -> bool {
        let mut is_useful = false;
        for record in record::records(datagram) {
            let State::Connected(connection) = &mut self.state else {
                break;
            };
            // Anything plain is forged or stale.
            let is_known = matches!(
                record.kind,
                record::APPLICATION_DATA | record::ALERT | record::HANDSHAKE
            );
            if record.epoch != 1 || !is_known {
                continue;
            }
            let Some(plain) = connection.sealed.open(&record) else {
                continue;
            };
            is_useful = true;
            match record.kind {
                record::APPLICATION_DATA => {
                    connection.flight = None;
                    self.events.push_back(Event::ApplicationData(plain));
                }
                // Its Finished once more: it does not have ours.
                record::HANDSHAKE => {
                    if let Some(flight) = &mut connection.flight {
                        self.transmits
                            .extend(flight.handle_repeat(now).iter().cloned());
                    }
                }
                _ if is_final(&plain) => self.handle_end(&plain, now),
                // A warning.
                _ => {}
            }
        }
        is_useful
    }

    /// The client's last alert.
    fn handle_end(&mut self, alert: &[u8], now: Instant) {
        if alert.ends_with(&[CLOSE_NOTIFY]) {
            self.close(now);
            self.end(Event::Closed);
        } else {
            self.end(Event::Failed(Failure::PeerAlert));
        }
    }

    fn handle_event(&mut self, event: EndpointEvent) {
        match event {
            EndpointEvent::HandshakeComplete => self.complete(),
            EndpointEvent::PeerClosed => self.end(Event::Closed),
            // Sealed data is not handed to rtc-dtls.
            _ => {}
        }
    }

    fn complete(&mut self) {
        let State::Handshaking(handshake) = std::mem::replace(&mut self.state, State::Over) else {
            return;
        };
        let Some(association) = handshake.endpoint.get_connection_state(PEER) else {
            return self.end(Event::Failed(Failure::Protocol));
        };
        match (outcome(association), Sealed::take_over(association)) {
            (Ok(connected), Some(sealed)) => {
                self.state = State::Connected(Box::new(Connection {
                    sealed,
                    flight: handshake.flight,
                }));
                self.events.push_back(Event::Connected(Box::new(connected)));
            }
            (Ok(_), None) => self.end(Event::Failed(Failure::Protocol)),
            (Err(failure), _) => self.end(Event::Failed(failure)),
        }
    }

    fn end(&mut self, event: Event) {
        self.state = State::Over;
        self.events.push_back(event);
    }
}

/// Takes the first; nothing is kept for those that may come.
fn take<T>(queue: &mut VecDeque<T>) -> Option<T> {
    let first = queue.pop_front();
    if queue.is_empty() {
        *queue = VecDeque::new();
    }
    first
}

fn endpoint(config: &Arc<HandshakeConfig>) -> Endpoint {
    Endpoint::new(PEER, TransportProtocol::UDP, Some(config.clone()))
}

fn sent(endpoint: &mut Endpoint) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(|| endpoint.poll_transmit()).map(|transmit| transmit.message.freeze())
}

#[derive(Debug, Error)]
enum ReadError {
    #[error(transparent)]
    Refused(RtcError),
    #[error("panicked")]
    Panicked,
}

/// What comes from outside must not bring the thread down, whatever rtc-dtls makes of it.
fn read(
    endpoint: &mut Endpoint,
    datagram: BytesMut,
    now: Instant,
) -> Result<Vec<EndpointEvent>, ReadError> {
    catch_unwind(AssertUnwindSafe(|| {
        endpoint.read(now, PEER, None, datagram)
    }))
    .map_err(|_| ReadError::Panicked)?
    .map_err(ReadError::Refused)
}

fn is_profile_mismatch(outcome: &Result<Vec<EndpointEvent>, ReadError>) -> bool {
    matches!(
        outcome,
        Err(ReadError::Refused(RtcError::ErrServerNoMatchingSrtpProfile))
    )
}

fn admit_sealed(record: &Record<'_>, budget: &mut u32) -> bool {
    // rtc-dtls takes what is too short to be sealed for a reason to give up.
    let is_plausible =
        record.body.len() >= sealed::OVERHEAD && record.bytes.len() <= MAX_SEALED_HANDSHAKE;
    let admit = is_plausible && *budget > 0;
    if admit {
        *budget -= 1;
    }
    admit
}

/// Whether an alert ends the handshake: it is fatal, or says goodbye (RFC 5246 section 7.2).
fn is_final(alert: &[u8]) -> bool {
    const FATAL: u8 = 2;
    matches!(alert, [FATAL, _] | [_, CLOSE_NOTIFY])
}

fn outcome(association: &AssociationState) -> Result<Connected, Failure> {
    let peer_certificate = association.peer_certificates.first();
    Ok(Connected {
        keys: SrtpKeys::of(association)?,
        peer_certificate: peer_certificate.ok_or(Failure::Protocol)?.clone(),
    })
}

#[cfg(test)]
pub(in crate::session) mod tests;
