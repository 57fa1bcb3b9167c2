//! One address for several servers, for trying out: `pipemesh-balance <listen> <server>…`.
//!
//! Passes TCP connections on, to one server after the other and past those that do not accept. Knows
//! nothing of HTTP, and nothing of health but that: it is no load balancer for anything but a demo.

#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// Bad usage, as in sysexits.h.
const USAGE: u8 = 64;

/// Time for a server to accept.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);

/// Pause after the system could not give a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    let addresses: Result<Vec<SocketAddr>, _> =
        std::env::args().skip(1).map(|it| it.parse()).collect();
    let Some((listen, servers)) = addresses
        .as_deref()
        .ok()
        .and_then(<[SocketAddr]>::split_first)
        .filter(|(_, servers)| !servers.is_empty())
    else {
        eprintln!("usage: pipemesh-balance <address> <address of a server>…");
        return ExitCode::from(USAGE);
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let served = runtime.and_then(|runtime| runtime.block_on(serve(*listen, servers)));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot listen on {listen}: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(listen: SocketAddr, servers: &[SocketAddr]) -> std::io::Result<()> {
    let listener = TcpListener::bind(listen).await?;
    for first in (0..servers.len()).cycle() {
        let client = loop {
            match listener.accept().await {
                Ok((client, _)) => break client,
                // A client that is gone already, or too many open files: nothing ends because of it.
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        };
        let mut order = servers.to_vec();
        order.rotate_left(first);
        tokio::spawn(pass(client, order));
    }
    Ok(())
}

async fn pass(mut client: TcpStream, servers: Vec<SocketAddr>) {
    for server in servers {
        if let Ok(Ok(mut server)) = timeout(CONNECT_LIMIT, TcpStream::connect(server)).await {
            // Small messages must not wait for more.
            let _ = (client.set_nodelay(true), server.set_nodelay(true));
            let _ = copy_bidirectional(&mut client, &mut server).await;
            return;
        }
    }
}
