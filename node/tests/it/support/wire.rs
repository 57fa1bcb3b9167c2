//! A client's transport, played packet by packet: ICE, DTLS and SRTP over a socket of its own, UDP or
//! TCP, and a record of every packet that the node sends.

pub(crate) mod check;
mod dtls;
mod line;
mod task;
pub(crate) mod way;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};

use pipemesh_node_core::rtcp::{CompoundWriter, Message, Messages};
use pipemesh_node_media::srtp::{OpenError, Profile};
use rand::Rng;
use rand::distr::Alphanumeric;
use tokio::net::UdpSocket;
use tokio::sync::{Notify, mpsc, oneshot};

use super::sdp::{Local, Remote, Reports};
use super::within;
use dtls::Dtls;
use task::{Command, Task};
use way::Way;

/// A client's transport. Dropping it is a client that vanishes without a word.
pub(crate) struct Wire {
    local: Local,
    address: SocketAddr,
    commands: mpsc::UnboundedSender<Command>,
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    received: Mutex<Received>,
    changed: Notify,
}

/// Everything that came from the node.
#[derive(Debug, Default)]
pub(crate) struct Received {
    /// Answers to checks.
    pub(crate) consents: u64,
    pub(crate) connected: bool,
    /// The node said goodbye.
    pub(crate) closed: bool,
    /// Bytes of DTLS that came, whatever was in them.
    pub(crate) flight: usize,
    /// Application data of the association, in order of arrival.
    pub(crate) data: Vec<Vec<u8>>,
    /// The TCP connection is over.
    pub(crate) hung_up: bool,
    /// In order of arrival.
    pub(crate) rtp: Vec<RtpPacket>,
    pub(crate) rtcp: Vec<RtcpPacket>,
    /// Under the connection's keys, but not to be opened, with the reason: never in order.
    pub(crate) refused: Vec<(OpenError, Vec<u8>)>,
}

/// An RTP packet as the node sent it.
#[derive(Debug, Clone)]
pub(crate) struct RtpPacket {
    pub(crate) ssrc: u32,
    /// 48 bits of rollover counter and sequence number.
    pub(crate) index: u64,
    pub(crate) payload_type: u8,
    pub(crate) marker: bool,
    pub(crate) timestamp: u32,
    /// The transport-wide number.
    pub(crate) number: Option<u16>,
    pub(crate) payload: Vec<u8>,
    /// As it came.
    pub(crate) datagram: Vec<u8>,
}

/// A compound RTCP packet as the node sent it.
#[derive(Debug, Clone)]
pub(crate) struct RtcpPacket {
    pub(crate) ssrc: u32,
    /// The SRTCP index (RFC 3711 section 3.4).
    pub(crate) index: u32,
    pub(crate) compound: Vec<u8>,
}

/// An RTP packet to be sent.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outgoing {
    pub(crate) ssrc: u32,
    pub(crate) index: u64,
    pub(crate) payload_type: u8,
    pub(crate) marker: bool,
    pub(crate) timestamp: u32,
    pub(crate) extensions: Vec<(u8, Vec<u8>)>,
    pub(crate) payload: Vec<u8>,
    /// Bytes of padding behind the payload.
    pub(crate) padding: u8,
}

impl Received {
    /// Makes room for what is to come.
    pub(crate) fn forget(&mut self) {
        self.data.clear();
        self.rtp.clear();
        self.rtcp.clear();
    }
}

impl Wire {
    pub(crate) async fn new() -> Self {
        Self::with(Ipv4Addr::LOCALHOST.into(), Profile::AeadAes128Gcm).await
    }

    /// A client at this address that offers one SRTP profile.
    pub(crate) async fn with(ip: IpAddr, profile: Profile) -> Self {
        let socket = UdpSocket::bind((ip, 0)).await.unwrap();
        Self::over(socket, profile)
    }

    /// A client that negotiates these reports.
    pub(crate) async fn reporting(reports: Reports) -> Self {
        let mut wire = Self::new().await;
        wire.local.reports = reports;
        wire
    }

    /// From now on the line carries so many bits a second. A client that negotiated it tells what comes
    /// through.
    pub(crate) fn set_line(&self, bits_per_second: u64) {
        self.command(Command::Line(bits_per_second));
    }

    pub(crate) fn over(socket: UdpSocket, profile: Profile) -> Self {
        let address = socket.local_addr().unwrap();
        Self::by(Way::Udp(socket), address, profile)
    }

    /// A client whose network lets only TCP through.
    pub(crate) fn tcp() -> Self {
        let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        Self::by(Way::TcpLater, nowhere, Profile::AeadAes128Gcm)
    }

    fn by(way: Way, address: SocketAddr, profile: Profile) -> Self {
        let dtls = Dtls::new(profile);
        let local = Local {
            fingerprint: dtls.fingerprint().to_owned(),
            ..credentials()
        };
        let (commands, inbox) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared::default());
        let task = Task::new(way, dtls, inbox, Arc::clone(&shared));
        Self {
            local,
            address,
            commands,
            shared,
            task: tokio::spawn(task.run()),
        }
    }

    /// What descriptions say of this end.
    pub(crate) fn local(&self) -> &Local {
        &self.local
    }

    /// Where packets come from.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Begins, or goes on after a restart, to check the node's candidate.
    pub(crate) fn connect(&self, remote: Remote) {
        self.command(Command::Connect(self.local.clone(), remote));
    }

    /// Waits for the end of the handshake.
    pub(crate) async fn connected(&self) {
        let connected = |received: &Received| received.connected.then_some(());
        self.until("the handshake is complete", connected).await;
    }

    /// New credentials, for the description that restarts ICE.
    pub(crate) fn restart(&mut self) -> &Local {
        let fresh = credentials();
        self.local = Local {
            ufrag: fresh.ufrag,
            password: fresh.password,
            ..self.local.clone()
        };
        &self.local
    }

    /// Goes on from another port, as after a change of network.
    pub(crate) async fn change_port(&mut self) {
        let socket = UdpSocket::bind((self.address.ip(), 0)).await.unwrap();
        self.address = socket.local_addr().unwrap();
        self.go_by(Way::Udp(socket));
    }

    /// Goes on another way.
    pub(crate) fn go_by(&self, way: Way) {
        self.command(Command::Way(way));
    }

    /// Waits until the node has answered a check since there were so many answers.
    pub(crate) async fn answered_since(&self, consents: u64) {
        let answered = |received: &Received| (received.consents > consents).then_some(());
        self.until("a check is answered", answered).await;
    }

    /// Takes nothing from the network, or takes it again.
    pub(crate) fn set_reading(&self, reading: bool) {
        self.command(Command::Reading(reading));
    }

    /// Sends so many datagrams of the handshake, and keeps those that follow.
    pub(crate) fn hold_handshake_after(&self, datagrams: usize) {
        self.command(Command::Hold(datagrams));
    }

    /// Sends what was kept, and goes on.
    pub(crate) fn go_on_with_handshake(&self) {
        self.command(Command::Hold(usize::MAX));
    }

    /// Sends no more checks, as one whose network is gone, until the port changes.
    pub(crate) fn fall_silent(&self) {
        self.command(Command::Silence);
    }

    pub(crate) fn send(&self, packet: Outgoing) {
        self.command(Command::Rtp(packet));
    }

    pub(crate) fn send_rtcp(&self, write: impl FnOnce(&mut CompoundWriter<'_>)) {
        let mut out = [0; 1200];
        let mut writer = CompoundWriter::new(&mut out);
        write(&mut writer);
        let len = writer.len();
        self.command(Command::Rtcp(out[..len].to_vec()));
    }

    /// Sends a datagram as it is.
    pub(crate) fn send_raw(&self, datagram: Vec<u8>) {
        self.command(Command::Raw(datagram));
    }

    /// Seals whatever begins like RTP, under a number of its own.
    pub(crate) fn send_sealed(&self, packet: Vec<u8>) {
        self.command(Command::Sealed(packet));
    }

    /// Seals whatever has the eight bytes that RTCP keeps in the clear.
    pub(crate) fn send_sealed_rtcp(&self, packet: Vec<u8>) {
        self.command(Command::Rtcp(packet));
    }

    /// Sends application data of the association: a packet of SCTP.
    pub(crate) fn send_data(&self, data: Vec<u8>) {
        self.command(Command::Data(data));
    }

    /// Waits until everything has been sent.
    pub(crate) async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        self.command(Command::Flush(done));
        within("everything is sent", flushed).await.unwrap();
    }

    pub(crate) fn received(&self) -> MutexGuard<'_, Received> {
        self.shared.received.lock().unwrap()
    }

    /// Waits until what has been received is so.
    pub(crate) async fn until<T>(&self, what: &str, look: impl FnMut(&Received) -> Option<T>) -> T {
        within(what, self.find(look)).await
    }

    /// … for as long as it takes.
    pub(crate) async fn find<T>(&self, mut look: impl FnMut(&Received) -> Option<T>) -> T {
        loop {
            let mut changed = std::pin::pin!(self.shared.changed.notified());
            changed.as_mut().enable();
            if let Some(found) = look(&self.received()) {
                return found;
            }
            changed.await;
        }
    }

    fn command(&self, command: Command) {
        // A task that has ended has panicked; the test sees it by what does not come.
        let _ = self.commands.send(command);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The datagrams that a handshake begins with.
pub(crate) fn hello() -> Vec<Vec<u8>> {
    let mut dtls = Dtls::new(Profile::AeadAes128Gcm);
    dtls.start(std::time::Instant::now());
    std::iter::from_fn(|| dtls.poll_transmit()).collect()
}

fn credentials() -> Local {
    let text = |len: usize| -> String {
        let letters = rand::rng().sample_iter(Alphanumeric).take(len);
        letters.map(char::from).collect()
    };
    Local {
        ufrag: text(8),
        password: text(24),
        fingerprint: String::new(),
        reports: Reports::None,
    }
}

/// What a compound asks for again: of which SSRC which numbers.
pub(crate) fn nacks(packet: &RtcpPacket) -> Vec<(u32, Vec<u16>)> {
    let messages = Messages::new(&packet.compound);
    let nacks = messages.filter_map(|message| match message {
        Message::Nack { media_ssrc, lost } => Some((media_ssrc, lost.collect())),
        _ => None,
    });
    nacks.collect()
}
