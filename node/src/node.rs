//! A node from start to stop: in which order its parts come up, drain and end.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pipemesh_node_media::tcp;
use pipemesh_node_media::udp::{Options, UdpSocket};
use pipemesh_proto::auth::{CheckCaller, ClusterKey, PipeKey};
use pipemesh_proto::node::node_server::NodeServer;
use pipemesh_proto::node::{CloseReason, NodeState as ContractState};
use pipemesh_topology::{InvalidPipeAddress, NodeRecord, NodeState, PipeAddress, Registry};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

use crate::addresses::{NoAddress, to_advertise, to_bind};
use crate::config::{Config, ControlTls, Limits, Media};
use crate::control::{Control, Front};
use crate::door::{self, Door};
use crate::metrics::{Metrics, RequestMetrics, constant};
use crate::pipe::{self, PipeMetrics, PipeStats, TlsError};
use crate::registration;
use crate::session::dtls::{self, CertificateError};
use crate::session::handshake::{HandshakePool, Outlet};
use crate::sessions::{Place, Sessions};
use crate::shard::{Command, Doors, HANDSHAKE_OUTPUTS, Neighbours, Prepared, ShardHandle};
use crate::status::Status;
use crate::tracks::Tracks;

/// Kernel buffers of a media socket; see `net.core.rmem_max` and `wmem_max`.
const SOCKET_BUFFERS: Options = Options {
    receive_buffer: 4 << 20,
    send_buffer: 4 << 20,
};
/// Threads that run DTLS handshakes, 0.3 to 0.5 ms of CPU each. One keeps up with 2,000 joins a second.
const HANDSHAKE_THREADS: NonZeroUsize = NonZeroUsize::MIN;
/// Signaling that is silent this long is gone (a host that died sends no reset).
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(1);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes signaling may send ahead of what is read, per session and in all. The sessions of a signaling
/// process share one connection: a small sum would let those of a shard that is busy stop all others.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 64 << 20;
/// How often a drain looks whether everybody has left.
const DRAIN_CHECK: Duration = Duration::from_millis(200);

/// Why a node cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Addresses(#[from] NoAddress),
    #[error("cannot bind media to {address}")]
    Media {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("cannot listen for signaling on {address}")]
    Control {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("cannot make the DTLS certificate")]
    Certificate(#[source] CertificateError),
    #[error("the control channel's secret cannot be used")]
    Secret(#[source] pipemesh_proto::auth::ShortSecret),
    #[error("cannot read {path}")]
    TlsFile { path: String, source: io::Error },
    #[error("the control channel's certificates cannot be used")]
    Tls(#[source] tonic::transport::Error),
    #[error("cannot bind pipes to {address}")]
    Pipes {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("pipes cannot start")]
    PipeTls(#[from] TlsError),
    #[error("where other nodes are to find the pipes is not an address")]
    PipeAddress(#[from] InvalidPipeAddress),
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
    #[error("a metric is registered twice")]
    Metrics(#[from] prometheus::Error),
}

/// A part of a node ended that should not have.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    #[error("shard {number} ended")]
    Shard {
        number: usize,
        source: Option<io::Error>,
    },
    #[error("a thread for handshakes ended")]
    Handshakes,
    #[error("the control server ended")]
    Control(#[source] Option<tonic::transport::Error>),
    #[error("clients can no longer be taken in over TCP")]
    Door(#[source] io::Error),
    #[error("another process took this node's id over")]
    TakenOver,
    #[error("a task of the node ended")]
    Task,
}

/// A running node.
#[derive(Debug)]
pub struct Node {
    control: SocketAddr,
    media: Vec<SocketAddr>,
    tcp: Vec<SocketAddr>,
    status: Arc<Status>,
    sessions: Arc<Sessions>,
    shards: Vec<ShardHandle>,
    threads: Vec<JoinHandle<io::Result<()>>>,
    // Ends its threads when dropped, after the shards have.
    handshakes: HandshakePool,
    tasks: JoinSet<Result<(), Ended>>,
    closing: CancellationToken,
    registration: CancellationToken,
    is_registered: watch::Receiver<bool>,
}

impl Node {
    /// Binds everything, starts the shards, and registers.
    ///
    /// # Errors
    /// What cannot be bound or read. Nothing is left running.
    pub async fn start(
        config: Config,
        registry: Arc<dyn Registry>,
        metrics: &prometheus::Registry,
    ) -> Result<Self, StartError> {
        let origin = Instant::now();
        let certificate = dtls::Certificate::generate().map_err(StartError::Certificate)?;
        let certificate = Arc::new(certificate);
        let (caller, tls) = who_may_call(&config)?;

        let addresses = to_bind(&config.media.bind)?;
        let (prepared, advertised) = bind_shards(&config, &addresses)?;
        let (listeners, tcp) = bind_door(&config.media, &addresses)?;
        let shards: Vec<ShardHandle> = prepared.iter().map(|shard| shard.handle.clone()).collect();
        let address = config.control.listen;
        let failed = |source| StartError::Control { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let control = listener.local_addr().map_err(failed)?;

        let pipes = bind_pipes(&config)?;
        let (handshakes, threads, doors) =
            start_threads(prepared, Arc::clone(&certificate), config.limits, origin)?;
        let status = Arc::new(Status::new(
            config.id.clone(),
            config.region.clone(),
            config.session_limit,
            shards.clone(),
            origin,
        ));
        let requests = RequestMetrics::new(&status)?;
        requests.register(metrics)?;
        let callers = Arc::new(door::Counters::default());
        let (registered, is_registered) = watch::channel(false);
        let collected = Metrics::new(
            shards.clone(),
            Arc::clone(handshakes.counters()),
            Arc::clone(&callers),
            Arc::clone(&status),
            is_registered.clone(),
        )?;
        metrics.register(Box::new(collected))?;

        let tracks: Arc<Tracks> = Arc::default();
        let closing = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let pipe_address = match (&pipes, &config.pipe) {
            (Some(bound), Some(pipe)) => Some(pipe_address(bound, &pipe.advertise)?),
            _ => None,
        };
        let between = pipe::Between {
            node: config.id.clone(),
            region: config.region.clone(),
            boot_id: status.boot_id,
            shards: shards.clone(),
            doors,
            tracks: Arc::clone(&tracks),
            nodes: registry.watch(),
            origin,
            stats: PipeStats::default(),
        };
        let pipe_metrics = PipeMetrics::new(between.stats.clone(), |name, help| {
            constant(&status, name, help)
        })?;
        metrics.register(Box::new(pipe_metrics))?;
        let pipes = match pipes {
            Some(bound) => {
                let address = bound.address;
                let (pipes, running) = pipe::start(bound, between, closing.clone())
                    .map_err(|source| StartError::Pipes { address, source })?;
                tasks.spawn(async move {
                    running.await;
                    Ok(())
                });
                Some(pipes)
            }
            None => None,
        };

        let tcp_candidates: Arc<[SocketAddr]> = tcp.as_slice().into();
        let places = shards
            .iter()
            .zip(&advertised)
            .map(|(shard, candidates)| Place {
                shard: shard.clone(),
                candidates: candidates.clone(),
                tcp_candidates: Arc::clone(&tcp_candidates),
            });
        let sessions = Arc::new(Sessions::new(
            places.collect(),
            fingerprint(&certificate),
            Arc::clone(&status),
            requests,
            tracks,
            pipes,
            config.session_grace,
            config.session_limit,
            config.media.shard_sessions,
        ));

        tasks.spawn(tick(Arc::clone(&status), closing.clone()));
        let service = Control::new(Arc::clone(&sessions), Arc::clone(&status), closing.clone());
        tasks.spawn(serve(listener, service, caller, tls, closing.clone()));
        let calls = config.limits.handshakes_per_address;
        let door = Arc::new(Door::new(shards.clone(), calls, callers));
        for listener in listeners {
            tasks.spawn(Arc::clone(&door).serve(listener, closing.clone()));
        }
        let registration = CancellationToken::new();
        let record = NodeRecord {
            id: config.id.clone(),
            region: config.region.clone(),
            grpc_address: config
                .control
                .advertise
                .unwrap_or_else(|| control.to_string()),
            boot_id: status.boot_id,
            weight: 1,
            state: NodeState::Serving,
            pipe: pipe_address.clone(),
        };
        let shards_turn = {
            let status = Arc::clone(&status);
            move || status.stuck_shards().is_empty()
        };
        tasks.spawn(registration::keep(
            registry,
            record,
            status.watch(),
            shards_turn,
            registered,
            registration.clone(),
        ));

        let media: Vec<SocketAddr> = advertised.concat();
        tracing::info!(
            node = %config.id,
            region = %config.region,
            control = %control,
            media = ?media,
            tcp = ?tcp,
            pipes = ?pipe_address,
            shards = shards.len(),
            "the node serves; clients are told the media addresses"
        );
        Ok(Self {
            control,
            media,
            tcp,
            status,
            sessions,
            shards,
            threads,
            handshakes,
            tasks,
            closing,
            registration,
            is_registered,
        })
    }

    /// Where signaling reaches the node.
    pub fn control_address(&self) -> SocketAddr {
        self.control
    }

    /// What clients are told, all shards.
    pub fn media_addresses(&self) -> &[SocketAddr] {
        &self.media
    }

    /// What clients are told that UDP does not reach; empty if TCP is off.
    pub fn tcp_addresses(&self) -> &[SocketAddr] {
        &self.tcp
    }

    /// Reasons why the process should be restarted; empty means none.
    pub fn liveness(&self) -> impl Fn() -> Vec<String> + Send + Sync + use<> {
        let status = Arc::clone(&self.status);
        move || status.stuck_shards()
    }

    /// Reasons why the node should get nobody new; empty means it should. A registry that cannot be
    /// reached is none: it knows the node, and everybody goes on with what it said last.
    pub fn readiness(&self) -> impl Fn() -> Vec<String> + Send + Sync + use<> {
        let (status, is_registered) = (Arc::clone(&self.status), self.is_registered.clone());
        move || {
            let mut reasons = Vec::new();
            if status.state() == ContractState::Draining {
                reasons.push("the node is draining".to_owned());
            }
            if !*is_registered.borrow() {
                reasons.push("the node is not registered".to_owned());
            }
            reasons
        }
    }

    /// Ends when a part of the node ends that should not.
    ///
    /// # Errors
    /// Always: which part, and why.
    pub async fn ended_early(&mut self) -> Result<(), Ended> {
        /// A thread's end cannot be waited for; a dead one is noticed this soon.
        const LOOK_EVERY: Duration = Duration::from_millis(500);
        loop {
            if let Some(number) = self.threads.iter().position(JoinHandle::is_finished) {
                let source = self.threads.swap_remove(number).join();
                return Err(Ended::Shard {
                    number,
                    source: source.ok().and_then(Result::err),
                });
            }
            if self.handshakes.has_ended() {
                return Err(Ended::Handshakes);
            }
            tokio::select! {
                ended = self.tasks.join_next() => match ended {
                    Some(Ok(Err(ended))) => return Err(ended),
                    Some(_) | None => return Err(Ended::Task),
                },
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// Takes nobody new and waits for everybody to leave, at most for `deadline`: the process is about to
    /// end, which nobody can undo. Signaling, which is told, moves people.
    pub async fn drain(&self, deadline: Duration) {
        self.status.begin_to_end();
        let everybody_left = async {
            while self.sessions.len() > 0 {
                tokio::time::sleep(DRAIN_CHECK).await;
            }
        };
        if tokio::time::timeout(deadline, everybody_left)
            .await
            .is_err()
        {
            tracing::warn!(
                sessions = self.sessions.len(),
                "the drain's deadline has come"
            );
        }
    }

    /// Ends whatever is left, in order: registration, sessions, control, shards, handshakes.
    pub async fn stop(mut self) {
        self.status.begin_to_end();
        self.registration.cancel();
        self.sessions.close_all(CloseReason::NodeStopping).await;
        self.closing.cancel();
        while self.tasks.join_next().await.is_some() {}
        for shard in &self.shards {
            shard.send(Command::Stop).await;
        }
        let (threads, handshakes) = (self.threads, self.handshakes);
        let joined = tokio::task::spawn_blocking(move || {
            for thread in threads {
                if !matches!(thread.join(), Ok(Ok(()))) {
                    tracing::error!("a shard did not end in order");
                }
            }
            drop(handshakes);
        });
        // The blocking task does not panic.
        let _ = joined.await;
        tracing::info!(node = %self.status.id, "the node has stopped");
    }
}

fn fingerprint(certificate: &dtls::Certificate) -> [u8; 32] {
    let digest = &certificate.fingerprint().digest;
    digest
        .as_slice()
        .try_into()
        .expect("the certificate's fingerprint is SHA-256")
}

/// Binds every shard's sockets and works out what its clients are told.
fn bind_shards(
    config: &Config,
    addresses: &[IpAddr],
) -> Result<(Vec<Prepared>, Vec<Vec<SocketAddr>>), StartError> {
    let mut prepared = Vec::new();
    let mut advertised = Vec::new();
    for number in 0..config.media.shards {
        // Port 0 asks the system for one, for each shard anew.
        let port = match config.media.port {
            0 => 0,
            first => first.saturating_add(number as u16),
        };
        let mut sockets = Vec::new();
        for ip in addresses {
            let address = SocketAddr::new(*ip, port);
            let socket = UdpSocket::bind(address, SOCKET_BUFFERS)
                .map_err(|source| StartError::Media { address, source })?;
            if socket.receive_buffer() < SOCKET_BUFFERS.receive_buffer {
                tracing::warn!(
                    granted = socket.receive_buffer(),
                    asked = SOCKET_BUFFERS.receive_buffer,
                    "the kernel's receive buffer is small: bursts will be lost; \
                     sysctl -w net.core.rmem_max={}",
                    SOCKET_BUFFERS.receive_buffer
                );
            }
            sockets.push(socket);
        }
        let bound: Vec<SocketAddr> = sockets.iter().map(UdpSocket::local_addr).collect();
        advertised.push(to_advertise(&bound, &config.media.advertise)?);
        prepared.push(Prepared::new(sockets).map_err(StartError::Thread)?);
    }
    Ok((prepared, advertised))
}

/// Binds the TCP port, if there is one, and works out what clients are told of it.
fn bind_door(
    media: &Media,
    addresses: &[IpAddr],
) -> Result<(Vec<std::net::TcpListener>, Vec<SocketAddr>), StartError> {
    let Some(port) = media.tcp_port else {
        return Ok((Vec::new(), Vec::new()));
    };
    let (mut listeners, mut bound) = (Vec::new(), Vec::new());
    for ip in addresses {
        let address = SocketAddr::new(*ip, port);
        let failed = |source| StartError::Media { address, source };
        let listener = tcp::listen(address).map_err(failed)?;
        bound.push(listener.local_addr().map_err(failed)?);
        listeners.push(listener);
    }
    let advertised = to_advertise(&bound, &media.advertise)?;
    Ok((listeners, advertised))
}

/// Binds the socket of pipes, if there are any.
fn bind_pipes(config: &Config) -> Result<Option<pipe::Bound>, StartError> {
    let Some(pipe) = &config.pipe else {
        return Ok(None);
    };
    let tls = match (&config.control.tls, &config.control.secret) {
        (Some(files), _) => pipe::Tls::named(files, &config.id, &config.region)?,
        (None, Some(secret)) => {
            let key = PipeKey::new(secret.expose().as_bytes()).map_err(StartError::Secret)?;
            pipe::Tls::pinned(Some(key))?
        }
        (None, None) => pipe::Tls::pinned(None)?,
    };
    let address = pipe.listen;
    let bound =
        pipe::Bound::new(address, tls).map_err(|source| StartError::Pipes { address, source })?;
    Ok(Some(bound))
}

fn pipe_address(
    bound: &pipe::Bound,
    advertise: &[String],
) -> Result<PipeAddress, InvalidPipeAddress> {
    let addresses = match advertise {
        [] => vec![bound.address.to_string()],
        given => given.to_vec(),
    };
    PipeAddress::new(addresses, bound.key())
}

type Threads = Vec<JoinHandle<io::Result<()>>>;

fn start_threads(
    prepared: Vec<Prepared>,
    certificate: Arc<dtls::Certificate>,
    limits: Limits,
    origin: Instant,
) -> Result<(HandshakePool, Threads, Doors), StartError> {
    let (outlets, outputs): (Vec<_>, Vec<_>) = prepared
        .iter()
        .map(|shard| {
            let (outputs, fetched) = crossbeam_channel::bounded(HANDSHAKE_OUTPUTS);
            let waker = shard.waker();
            (
                Outlet {
                    outputs,
                    wake: Box::new(move || waker.wake()),
                },
                fetched,
            )
        })
        .unzip();
    let pool = HandshakePool::start(HANDSHAKE_THREADS, certificate, outlets)
        .map_err(StartError::Thread)?;
    // Pinning pays when every shard can have a core and control one, too.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let pin = cores > prepared.len();
    let wakers: Vec<_> = prepared.iter().map(Prepared::waker).collect();
    let (neighbours, doors) = Neighbours::connect(&wakers);
    let shards = prepared.into_iter().zip(outputs).zip(neighbours);
    let threads = shards
        .enumerate()
        .map(|(number, ((shard, outputs), neighbours))| {
            let core = pin.then_some(number + 1);
            shard.start(
                number,
                core,
                neighbours,
                pool.handle(number),
                outputs,
                limits,
                origin,
            )
        });
    let threads = threads
        .collect::<io::Result<Vec<_>>>()
        .map_err(StartError::Thread)?;
    Ok((pool, threads, doors))
}

/// Whom the control server hears, and its side of TLS.
fn who_may_call(config: &Config) -> Result<(CheckCaller, Option<ServerTlsConfig>), StartError> {
    if let Some(tls) = &config.control.tls {
        return Ok((CheckCaller::MutualTls, Some(tls_config(tls)?)));
    }
    match &config.control.secret {
        Some(secret) => {
            let key = ClusterKey::new(secret.expose().as_bytes()).map_err(StartError::Secret)?;
            Ok((CheckCaller::Bearer(key), None))
        }
        None => Ok((CheckCaller::LocalOnly, None)),
    }
}

fn tls_config(tls: &ControlTls) -> Result<ServerTlsConfig, StartError> {
    let read = |path: &std::path::Path| {
        std::fs::read(path).map_err(|source| {
            let path = path.display().to_string();
            StartError::TlsFile { path, source }
        })
    };
    let identity = Identity::from_pem(read(&tls.certificates)?, read(&tls.key)?);
    let authorities = Certificate::from_pem(read(&tls.client_authorities)?);
    Ok(ServerTlsConfig::new()
        .identity(identity)
        .client_ca_root(authorities))
}

async fn serve(
    listener: TcpListener,
    service: Control,
    caller: CheckCaller,
    tls: Option<ServerTlsConfig>,
    closing: CancellationToken,
) -> Result<(), Ended> {
    // Answers are small and wait for nothing; the builder's own option is for listeners of its own.
    let incoming = TcpListenerStream::new(listener).map(|accepted| {
        accepted.inspect(|stream| {
            // Refused only by a connection that is gone already.
            let _ = stream.set_nodelay(true);
        })
    });
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<NodeServer<Control>>().await;
    let mut server = Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keepalive_interval(Some(KEEP_ALIVE_EVERY))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT));
    if let Some(tls) = tls {
        server = server
            .tls_config(tls)
            .map_err(|error| Ended::Control(Some(error)))?;
    }
    let served = server
        .add_service(health)
        .add_service(InterceptedService::new(Front::new(service), caller))
        .serve_with_incoming_shutdown(incoming, closing.cancelled())
        .await;
    match served {
        Ok(()) if closing.is_cancelled() => Ok(()),
        Ok(()) => Err(Ended::Control(None)),
        Err(error) => Err(Ended::Control(Some(error))),
    }
}

async fn tick(status: Arc<Status>, closing: CancellationToken) -> Result<(), Ended> {
    tokio::select! {
        never = status.run() => match never {},
        () = closing.cancelled() => Ok(()),
    }
}
