//! The task behind a [`Wire`](super::Wire): its socket, its timers, and the sorting of what arrives.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pipemesh_node_core::rtcp::is_rtcp;
use pipemesh_node_core::rtp::{Header, HeaderWriter, OutgoingHeader};
use pipemesh_node_media::srtp::{OpenError, Opener, Sealer};
use tokio::sync::{mpsc, oneshot};

use super::dtls::{Dtls, Event};
use super::line::Line;
use super::way::Way;
use super::{Outgoing, RtcpPacket, RtpPacket, Shared, check};
use crate::support::sdp::{Local, Remote, extension};

/// Until the first answer, and afterwards to keep the node's consent.
const CHECK_EVERY: Duration = Duration::from_millis(50);
const KEEP_EVERY: Duration = Duration::from_secs(1);

pub(super) enum Command {
    /// Our end, and the node's.
    Connect(Local, Remote),
    Way(Way),
    Reading(bool),
    /// No more checks, until there is another way.
    Silence,
    /// So many more datagrams of DTLS may be sent; what comes after them waits.
    Hold(usize),
    Rtp(Outgoing),
    Rtcp(Vec<u8>),
    /// As it is.
    Raw(Vec<u8>),
    /// Whatever follows the header that its beginning is taken for, under the connection's keys and the
    /// next number that was not used.
    Sealed(Vec<u8>),
    /// Application data of the association.
    Data(Vec<u8>),
    /// From now on the line carries so many bits a second, and the client says what comes through.
    Line(u64),
    /// Says when all before it has been sent.
    Flush(oneshot::Sender<()>),
}

pub(super) struct Task {
    way: Way,
    reading: bool,
    dtls: Dtls,
    commands: mpsc::UnboundedReceiver<Command>,
    shared: Arc<Shared>,
    peer: Option<Peer>,
    keys: Option<(Box<Opener>, Box<Sealer>)>,
    /// Media that overtook the end of the handshake.
    early: Vec<Vec<u8>>,
    /// For [`Command::Sealed`].
    next_index: u64,
    line: Option<Line>,
    may_send: usize,
    held: VecDeque<Vec<u8>>,
}

/// What is checked, and when next.
struct Peer {
    local: Local,
    remote: Remote,
    next_check: Instant,
    consented: bool,
    is_silent: bool,
}

impl Peer {
    fn address(&self) -> SocketAddr {
        self.remote.candidates[0]
    }
}

impl Task {
    pub(super) fn new(
        way: Way,
        dtls: Dtls,
        commands: mpsc::UnboundedReceiver<Command>,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            way,
            reading: true,
            dtls,
            commands,
            shared,
            peer: None,
            keys: None,
            early: Vec::new(),
            next_index: 1,
            line: None,
            may_send: usize::MAX,
            held: VecDeque::new(),
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            self.flush_dtls().await;
            let next_check = self.peer.as_ref().map(|peer| peer.next_check);
            let next_report = self.line.as_ref().map(|line| line.next_report);
            let deadlines = [next_check, next_report, self.dtls.poll_timeout()];
            let deadline = deadlines.into_iter().flatten();
            let timer = tokio::time::sleep_until(
                deadline.min().unwrap_or(Instant::now() + KEEP_EVERY).into(),
            );
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(command) => self.handle_command(command).await,
                    None => return,
                },
                received = self.way.receive(), if self.reading => {
                    match received {
                        Some(mut datagram) => {
                            self.answer_check(&datagram).await;
                            self.handle_datagram(&mut datagram);
                        }
                        None => {
                            self.shared.received.lock().unwrap().hung_up = true;
                            self.reading = false;
                        }
                    }
                    self.shared.changed.notify_waiters();
                }
                () = timer => self.handle_timeouts().await,
            }
        }
    }

    async fn handle_command(&mut self, command: Command) {
        match command {
            Command::Connect(local, remote) => {
                self.way.connect(remote.tcp_candidates.first()).await;
                self.peer = Some(Peer {
                    local,
                    remote,
                    next_check: Instant::now(),
                    consented: false,
                    is_silent: false,
                });
            }
            Command::Reading(reading) => self.reading = reading,
            Command::Way(way) => {
                (self.way, self.reading) = (way, true);
                if let Some(peer) = &mut self.peer {
                    (peer.next_check, peer.consented) = (Instant::now(), false);
                    peer.is_silent = false;
                }
                self.handle_timeouts().await;
            }
            Command::Silence => {
                if let Some(peer) = &mut self.peer {
                    peer.is_silent = true;
                }
            }
            Command::Hold(datagrams) => self.may_send = datagrams,
            Command::Rtp(packet) => {
                let Some((_, sealer)) = &self.keys else {
                    return;
                };
                let sealed = seal(sealer, &packet);
                self.transmit(&sealed).await;
            }
            Command::Raw(datagram) => self.transmit(&datagram).await,
            Command::Sealed(packet) => {
                let Some((_, sealer)) = &self.keys else {
                    return;
                };
                let index = self.next_index;
                self.next_index += 1;
                if let Some(sealed) = seal_anything(sealer, index, packet) {
                    self.transmit(&sealed).await;
                }
            }
            Command::Data(data) => self.dtls.write(&data, Instant::now()),
            Command::Flush(done) => {
                self.flush_dtls().await;
                // Whoever asked may have gone.
                let _ = done.send(());
            }
            Command::Rtcp(packet) => self.send_rtcp(packet).await,
            Command::Line(rate) => match &mut self.line {
                Some(line) => line.set_rate(rate),
                None => self.line = Some(Line::new(rate, Instant::now())),
            },
        }
    }

    async fn send_rtcp(&mut self, mut packet: Vec<u8>) {
        let Some((_, sealer)) = &mut self.keys else {
            return;
        };
        let len = packet.len();
        packet.resize(len + 32, 0);
        let len = sealer.seal_rtcp(&mut packet, len).unwrap();
        self.transmit(&packet[..len]).await;
    }

    /// As a full agent does, wherever it is.
    async fn answer_check(&mut self, datagram: &[u8]) {
        let local = self.peer.as_ref().map(|peer| &peer.local);
        if let Some(local) = local
            && let Some(answer) = check::answer(datagram, &local.ufrag, &local.password)
        {
            self.transmit(&answer).await;
        }
    }

    fn handle_datagram(&mut self, datagram: &mut [u8]) {
        let now = Instant::now();
        match datagram.first() {
            Some(0..=3) => {
                // What answers another one's checks from here is not for us.
                let Some(peer) = &mut self.peer else { return };
                if !check::is_success_for(datagram, &peer.remote.password) {
                    return;
                }
                self.shared.received.lock().unwrap().consents += 1;
                peer.consented = true;
                peer.next_check = now + KEEP_EVERY;
                self.dtls.start(now);
            }
            Some(20..=63) => {
                self.shared.received.lock().unwrap().flight += datagram.len();
                for event in self.dtls.handle_datagram(datagram, now) {
                    self.handle_dtls(event);
                }
            }
            Some(128..=191) => self.handle_media(datagram),
            _ => panic!("the node sent {datagram:02x?}"),
        }
    }

    fn handle_dtls(&mut self, event: Event) {
        match event {
            Event::Connected(opener, sealer) => {
                self.keys = Some((opener, sealer));
                for mut packet in std::mem::take(&mut self.early) {
                    self.handle_media(&mut packet);
                }
                self.shared.received.lock().unwrap().connected = true;
            }
            Event::Data(data) => self.shared.received.lock().unwrap().data.push(data),
            Event::Closed => self.shared.received.lock().unwrap().closed = true,
        }
    }

    fn handle_media(&mut self, packet: &mut [u8]) {
        let Some((opener, _)) = &mut self.keys else {
            self.early.push(packet.to_vec());
            return;
        };
        let sealed = packet.to_vec();
        let mut received = self.shared.received.lock().unwrap();
        if is_rtcp(packet) {
            match open_rtcp(opener, packet) {
                Ok(packet) => received.rtcp.push(packet),
                Err(error) => received.refused.push((error, sealed)),
            }
        } else {
            match open_rtp(opener, packet) {
                Ok(packet) => {
                    if let (Some(line), Some(number)) = (&mut self.line, packet.number) {
                        line.carry(number, sealed.len(), Instant::now());
                    }
                    let datagram = sealed;
                    received.rtp.push(RtpPacket { datagram, ..packet });
                }
                Err(error) => received.refused.push((error, sealed)),
            }
        }
    }

    async fn handle_timeouts(&mut self) {
        let now = Instant::now();
        if self.dtls.poll_timeout().is_some_and(|at| at <= now) {
            self.dtls.handle_timeout(now);
        }
        let line = self.line.as_mut().filter(|line| line.next_report <= now);
        if let Some(report) = line.and_then(|line| line.report(now)) {
            self.send_rtcp(report).await;
        }
        let Some(peer) = self.peer.as_mut().filter(|peer| peer.next_check <= now) else {
            return;
        };
        if peer.is_silent {
            peer.next_check = now + KEEP_EVERY;
            return;
        }
        peer.next_check = now
            + if peer.consented {
                KEEP_EVERY
            } else {
                CHECK_EVERY
            };
        let Remote {
            ufrag, password, ..
        } = &peer.remote;
        let check = check::request(&peer.local.ufrag, ufrag, password, true);
        self.transmit(&check).await;
    }

    async fn flush_dtls(&mut self) {
        while let Some(datagram) = self.dtls.poll_transmit() {
            self.held.push_back(datagram);
        }
        while self.may_send > 0
            && let Some(datagram) = self.held.pop_front()
        {
            self.may_send -= usize::from(self.may_send < usize::MAX);
            self.transmit(&datagram).await;
        }
    }

    async fn transmit(&mut self, datagram: &[u8]) {
        let Some(peer) = &self.peer else {
            return;
        };
        let to = peer.address();
        self.way.send(datagram, to).await;
    }
}

fn seal(sealer: &Sealer, packet: &Outgoing) -> Vec<u8> {
    let mut out = vec![0; 1600];
    let header = OutgoingHeader {
        padding: false,
        marker: packet.marker,
        payload_type: packet.payload_type,
        sequence: packet.index as u16,
        timestamp: packet.timestamp,
        ssrc: packet.ssrc,
    };
    let mut writer = HeaderWriter::new(&mut out, header).unwrap();
    for (id, value) in &packet.extensions {
        writer.extension(*id, value, false);
    }
    let header_len = writer.finish().unwrap();
    let mut payload = packet.payload.clone();
    if packet.padding > 0 {
        out[0] |= 0x20;
        payload.resize(payload.len() + usize::from(packet.padding), 0);
        *payload.last_mut().unwrap() = packet.padding;
    }
    let len = sealer.seal_rtp(packet.index, &mut out, header_len, &payload);
    out.truncate(len);
    out
}

/// `None`: it has no header.
fn seal_anything(sealer: &Sealer, index: u64, mut packet: Vec<u8>) -> Option<Vec<u8>> {
    packet
        .get_mut(2..4)?
        .copy_from_slice(&(index as u16).to_be_bytes());
    let header_len = Header::parse(&packet)?.header_len();
    let payload = packet[header_len..].to_vec();
    packet.resize(packet.len() + 32, 0);
    let len = sealer.seal_rtp(index, &mut packet, header_len, &payload);
    packet.truncate(len);
    Some(packet)
}

fn open_rtp(opener: &mut Opener, packet: &mut [u8]) -> Result<RtpPacket, OpenError> {
    let header = Header::parse(packet).expect("the node writes RTP");
    let opened = opener.open_rtp(packet, header.header_len())?;
    let payload = header.payload(&packet[..opened.len]);
    Ok(RtpPacket {
        ssrc: header.ssrc,
        index: opened.index,
        payload_type: header.payload_type,
        marker: header.marker,
        timestamp: header.timestamp,
        number: header
            .extension(packet, extension::TRANSPORT_SEQUENCE)
            .map(|number| u16::from_be_bytes([number[0], number[1]])),
        payload: payload.expect("the node writes RTP").to_vec(),
        datagram: Vec::new(),
    })
}

fn open_rtcp(opener: &mut Opener, packet: &mut [u8]) -> Result<RtcpPacket, OpenError> {
    const WORD: usize = 4;
    let word = |packet: &[u8], at: usize| {
        u32::from_be_bytes([packet[at], packet[at + 1], packet[at + 2], packet[at + 3]])
    };
    // With AES-GCM the index is the last word (RFC 7714 section 9.2); its first bit says "encrypted".
    let index = word(packet, packet.len() - WORD) & 0x7FFF_FFFF;
    let ssrc = word(packet, WORD);
    let len = opener.open_rtcp(packet)?;
    Ok(RtcpPacket {
        ssrc,
        index,
        compound: packet[..len].to_vec(),
    })
}
