//! Listeners: TCP, TLS on top of it, HTTP/1.1 on top of that.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::metrics::Metrics;

/// Time for a client to show who it is: TLS, then the head of its request.
const HELLO_LIMIT: Duration = Duration::from_secs(10);

/// Bytes of a request's head. A join request with an offer of 18 kB must fit uncompressed; a URL
/// beyond 64 kB does not fit in `http::Uri`.
const MAX_HEAD: usize = 128 << 10;

/// Pause after the system could not give a connection, as when there are too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound address.
pub(crate) struct Listener {
    tcp: TcpListener,
    tls: Option<TlsAcceptor>,
    address: SocketAddr,
}

/// Held for as long as a connection lasts, also after it became a WebSocket.
#[derive(Debug, Clone)]
pub(crate) struct Place(#[expect(dead_code, reason = "held")] Arc<OwnedSemaphorePermit>);

/// The address at the other end of the connection: a client's, or a proxy's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// What all listeners share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) router: Router,
    /// Connections at a time. Full: a new one is closed at once.
    pub(crate) places: Arc<Semaphore>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) stop: CancellationToken,
}

impl Listener {
    pub(crate) async fn bind(
        address: SocketAddr,
        tls: Option<Arc<ServerConfig>>,
    ) -> io::Result<Self> {
        let tcp = TcpListener::bind(address).await?;
        Ok(Self {
            address: tcp.local_addr()?,
            tcp,
            tls: tls.map(TlsAcceptor::from),
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until stopped; then finishes what was asked already.
    pub(crate) async fn serve(self, shared: Shared) {
        let connections = TaskTracker::new();
        let mut complained = false;
        loop {
            let accepted = tokio::select! {
                () = shared.stop.cancelled() => break,
                accepted = self.tcp.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    if !std::mem::replace(&mut complained, true) {
                        tracing::warn!(%error, "connections cannot be accepted");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            complained = false;
            let Ok(place) = Arc::clone(&shared.places).try_acquire_owned() else {
                shared.metrics.connections_refused.inc();
                continue;
            };
            let place = Place(Arc::new(place));
            let peer = Peer(peer);
            connections.spawn(connection(
                stream,
                peer,
                self.tls.clone(),
                place,
                shared.clone(),
            ));
        }
        connections.close();
        connections.wait().await;
    }
}

async fn connection(
    tcp: TcpStream,
    peer: Peer,
    tls: Option<TlsAcceptor>,
    place: Place,
    shared: Shared,
) {
    // Small messages must not wait for more.
    if tcp.set_nodelay(true).is_err() {
        return;
    }
    match tls {
        None => speak(tcp, peer, place, shared).await,
        Some(tls) => match tokio::time::timeout(HELLO_LIMIT, tls.accept(tcp)).await {
            Ok(Ok(stream)) => speak(stream, peer, place, shared).await,
            // Port scanners, and clients that do not trust the certificate: their business.
            Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
            Err(_) => tracing::debug!("TLS handshake took too long"),
        },
    }
}

async fn speak(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    peer: Peer,
    place: Place,
    shared: Shared,
) {
    let service =
        TowerToHyperService::new(shared.router.layer((Extension(place), Extension(peer))));
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HELLO_LIMIT)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = shared.stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "connection ended early");
    }
}
