//! QUIC alone: what a pipe cannot cost less than. One process sends datagrams to another, which counts them;
//! each is this program started once more.
//!
//! QUIC is set up as pipes do it (`node/src/pipe/transport.rs`): the same MTU, buffers, acknowledgements,
//! cipher. Only who decides how much may be on its way is quinn's own controller, with a window that a
//! pipe begins with, too: what a pipe's own costs more counts for the pipe. What has to leave comes as to a
//! node, over UDP in a thread of its own, which wakes who sends.

use std::io::{BufRead, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use pipemesh_node_media::poll::{Poller, Token};
use pipemesh_node_media::udp::ReceiveBatch;
use quinn::congestion::CubicConfig;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    AckFrequencyConfig, ClientConfig, Connection, Endpoint, EndpointConfig, MtuDiscoveryConfig,
    ServerConfig, TokioRuntime, TransportConfig, VarInt,
};
use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::Notify;

use crate::process::{self, Core, Process, Shares};
use crate::server;

const SENDER: &str = "quic_sender";
const RECEIVER: &str = "quic_receiver";
const NAME: &str = "bench";

/// Sender and receiver, connected.
pub(crate) struct Bare {
    sender: Process,
    receiver: Process,
    /// Where the sender is told, a packet each, to send one.
    pub(crate) port: u16,
}

impl Bare {
    /// For datagrams of so many bytes.
    pub(crate) fn start(bytes: usize) -> anyhow::Result<Self> {
        let mut receiver = Process::serve(&[RECEIVER.to_owned()], true)?;
        let meeting = receiver.answer()?;
        let arguments = [SENDER.to_owned(), bytes.to_string()];
        let mut sender = Process::serve(&arguments, true)?;
        sender.tell(&meeting)?;
        let port = sender.answer()?.parse()?;
        Ok(Self {
            sender,
            receiver,
            port,
        })
    }

    /// Sender and receiver, each on its core.
    pub(crate) fn place(&self, sender: Core, receiver: Core) -> anyhow::Result<()> {
        self.sender.move_to(sender)?;
        self.receiver.move_to(receiver)
    }

    /// Datagrams sent, and received, so far.
    pub(crate) fn counts(&mut self) -> anyhow::Result<[u64; 2]> {
        let mut counts = [0; 2];
        for (process, count) in [&mut self.sender, &mut self.receiver]
            .into_iter()
            .zip(&mut counts)
        {
            process.tell("")?;
            *count = process.answer()?.parse()?;
        }
        Ok(counts)
    }

    /// What sender and receiver have used.
    pub(crate) fn shares(&self) -> anyhow::Result<[Shares; 2]> {
        Ok([self.sender.shares()?, self.receiver.shares()?])
    }
}

/// Runs one end until its input ends; `None`: it is none.
pub(crate) fn run(arguments: &[String]) -> Option<anyhow::Result<()>> {
    match arguments {
        [kind] if kind == RECEIVER => Some(receiver()),
        [kind, bytes] if kind == SENDER => Some(sender(bytes)),
        _ => None,
    }
}

fn receiver() -> anyhow::Result<()> {
    let runtime = runtime()?;
    let counter = Arc::new(AtomicU64::new(0));
    let key = rcgen::generate_simple_self_signed([NAME.to_owned()])?;
    let certificate = key.cert.der().clone();
    let secret = PrivateKeyDer::try_from(key.signing_key.serialize_der());
    let secret = secret.map_err(|error| anyhow::anyhow!("{error}"))?;
    let endpoint = {
        let _context = runtime.enter();
        let tls = rustls::ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], secret)?;
        let mut config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
        config.transport_config(Arc::new(transport()));
        endpoint(Some(config))?
    };
    let certificate = STANDARD.encode(&certificate);
    say(&format!("{} {certificate}", endpoint.local_addr()?.port()))?;
    let received = Arc::clone(&counter);
    runtime.spawn(async move {
        let incoming = endpoint.accept().await.context("an endpoint")?;
        let connection = incoming.await?;
        while connection.read_datagram().await.is_ok() {
            received.fetch_add(1, Ordering::Relaxed);
        }
        anyhow::Ok(())
    });
    tell_counts(&counter)
}

fn sender(bytes: &str) -> anyhow::Result<()> {
    let runtime = runtime()?;
    let counter = Arc::new(AtomicU64::new(0));
    let datagram = Bytes::from(vec![0x55; bytes.parse()?]);
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    let (port, certificate) = line.trim().split_once(' ').context("whom to call")?;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(STANDARD.decode(certificate)?))?;
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, port.parse()?));
    let connection = runtime.block_on(async {
        let tls = rustls::ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
        config.transport_config(Arc::new(transport()));
        let connecting = endpoint(None)?.connect_with(config, to, NAME)?;
        anyhow::Ok(connecting.await?)
    })?;
    let due = Arc::new(Due::default());
    listen(Arc::clone(&due))?;
    runtime.spawn(send(connection, due, datagram, Arc::clone(&counter)));
    tell_counts(&counter)
}

/// Datagrams that are to be sent.
#[derive(Default)]
struct Due {
    count: AtomicU64,
    bell: Notify,
}

async fn send(connection: Connection, due: Arc<Due>, datagram: Bytes, counter: Arc<AtomicU64>) {
    loop {
        due.bell.notified().await;
        for _ in 0..due.count.swap(0, Ordering::Relaxed) {
            if connection.send_datagram(datagram.clone()).is_err() {
                return;
            }
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// As a shard does: takes all that has come, and wakes who is to go on with it.
fn listen(due: Arc<Due>) -> anyhow::Result<()> {
    let socket = server::bind()?;
    let mut poller = Poller::new()?;
    poller.register(&socket, Token(0))?;
    say(&socket.local_addr().port().to_string())?;
    let receive = move || -> std::io::Result<()> {
        let mut batch = ReceiveBatch::new();
        loop {
            poller.wait(None)?;
            loop {
                if socket.receive(&mut batch)? == 0 {
                    break;
                }
                let received = batch.datagrams().count() as u64;
                due.count.fetch_add(received, Ordering::Relaxed);
                due.bell.notify_one();
            }
        }
    };
    let thread = std::thread::Builder::new().name(format!("{}0", process::SHARD));
    thread.spawn(receive)?;
    Ok(())
}

/// Answers each line with the count so far.
fn tell_counts(counter: &AtomicU64) -> anyhow::Result<()> {
    for line in std::io::stdin().lock().lines() {
        line?;
        say(&counter.load(Ordering::Relaxed).to_string())?;
    }
    Ok(())
}

fn say(line: &str) -> anyhow::Result<()> {
    println!("{line}");
    Ok(std::io::stdout().flush()?)
}

/// As the node's.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    Ok(builder.enable_all().build()?)
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn endpoint(config: Option<ServerConfig>) -> anyhow::Result<Endpoint> {
    const BUFFER: usize = 8 << 20;
    let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    rustix::net::sockopt::set_socket_recv_buffer_size(&socket, BUFFER)?;
    rustix::net::sockopt::set_socket_send_buffer_size(&socket, BUFFER)?;
    let runtime = Arc::new(TokioRuntime);
    Ok(Endpoint::new(
        EndpointConfig::default(),
        config,
        socket,
        runtime,
    )?)
}

/// See the module.
fn transport() -> TransportConfig {
    const MTU: u16 = 1_350;
    const REORDERING: u32 = 128;
    const WINDOW: u64 = 512 << 10;
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(16))
        .max_ack_delay(Some(Duration::from_millis(5)))
        .reordering_threshold(VarInt::from_u32(REORDERING - 1));
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(1_452);
    let mut window = CubicConfig::default();
    window.initial_window(WINDOW);
    let mut transport = TransportConfig::default();
    transport
        .initial_mtu(MTU)
        .min_mtu(MTU)
        .mtu_discovery_config(Some(discovery))
        .packet_threshold(REORDERING)
        .ack_frequency_config(Some(acks))
        .datagram_send_buffer_size(128 << 10)
        .datagram_receive_buffer_size(Some(8 << 20))
        .keep_alive_interval(Some(Duration::from_millis(250)))
        .congestion_controller_factory(Arc::new(window));
    transport
}
