//! Plain HTTP on an address of its own, for whoever runs the process.

use std::io;
use std::net::SocketAddr;

use axum::Router;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Bound; answers once it is served.
#[derive(Debug)]
pub struct Endpoint {
    router: Router,
    listener: TcpListener,
    address: SocketAddr,
}

impl Endpoint {
    /// # Errors
    /// When the address cannot be bound.
    pub async fn bind(listen: SocketAddr, router: Router) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        Ok(Self {
            router,
            address: listener.local_addr()?,
            listener,
        })
    }

    /// The address in use, with the port the system chose if 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `stop`.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn serve(self, stop: CancellationToken) -> io::Result<()> {
        axum::serve(self.listener, self.router)
            .with_graceful_shutdown(async move { stop.cancelled().await })
            .await
    }
}
