//! TCP sockets with the options that media wants.

use std::ffi::c_int;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, ipproto, socket_with, sockopt};

use crate::option;

/// Connections that wait to be accepted; more than come while the one who accepts is busy elsewhere.
const BACKLOG: i32 = 1_024;

/// Bytes that the kernel holds and has not sent once. What lies there can no longer be dropped, so only
/// as much as keeps the connection busy until it is written to again.
const UNSENT: c_int = 32 << 10;

/// A peer that acknowledges nothing for so long is gone. As long as consent lasts (RFC 7675).
const USER_TIMEOUT: Duration = Duration::from_secs(30);

/// Listens, without blocking. IPv6 sockets take IPv6 only. Port 0 lets the kernel choose.
///
/// # Errors
///
/// What the kernel says: the address is taken, or not of this machine.
pub fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let fd = open(addr)?;
    sockopt::set_socket_reuseaddr(&fd, true)?;
    if addr.is_ipv6() {
        sockopt::set_ipv6_v6only(&fd, true)?;
    }
    bind(&fd, &addr)?;
    rustix::net::listen(&fd, BACKLOG)?;
    Ok(fd.into())
}

/// Begins to connect, from the address `local`. The socket is writable when it is connected or has
/// failed to.
///
/// # Errors
///
/// What the kernel says: there is no way to the peer.
pub fn connect(local: SocketAddr, remote: SocketAddr) -> io::Result<OwnedFd> {
    let fd = open(remote)?;
    if !local.ip().is_unspecified() || local.port() != 0 {
        bind(&fd, &local)?;
    }
    match rustix::net::connect(&fd, &remote) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(fd),
        Err(errno) => Err(errno.into()),
    }
}

fn open(addr: SocketAddr) -> io::Result<OwnedFd> {
    let family = match addr {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(
        family,
        SocketType::STREAM,
        flags,
        Some(ipproto::TCP),
    )?)
}

/// Sets a connected, or connecting, socket up for media.
pub(super) fn prepare(fd: BorrowedFd<'_>) -> io::Result<()> {
    rustix::io::ioctl_fionbio(fd, true)?;
    sockopt::set_tcp_nodelay(fd, true)?;
    sockopt::set_tcp_user_timeout(fd, USER_TIMEOUT.as_millis() as u32)?;
    option::set(fd, libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, UNSENT)
}
