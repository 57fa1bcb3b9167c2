//! One bound UDP socket and what the kernel can do for it.

#![allow(unsafe_code, reason = "a socket option has no safe wrapper")]

use std::cell::Cell;
use std::ffi::c_int;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::net::sockopt::{self, Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery};
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind, getsockname, ipproto, socket_with,
};

use crate::option;

/// How large the kernel's buffers are asked to be, in bytes of packets.
///
/// More than the system's limit (`net.core.rmem_max`, `wmem_max`) is granted to a process with
/// `CAP_NET_ADMIN`; others get the limit. See [`UdpSocket::receive_buffer`] for what was granted.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Takes what arrives while the shard is busy. 4 MB hold some 3,500 full-size packets, or 30 ms of
    /// 1 Gbit/s.
    pub receive_buffer: usize,
    /// Takes what one flush sends faster than the network card does.
    pub send_buffer: usize,
}

/// A non-blocking UDP socket, bound and not connected. IPv6 sockets take IPv6 only.
///
/// Datagrams may be fragmented on their way. The server forwards what others sent and cannot make it
/// smaller, so the choice is between fragments and nothing at all. IPv4 datagrams leave without the
/// do-not-fragment flag, and what routers, or those who forge their messages, say of the path is
/// ignored: the router that has to can fragment. IPv6 leaves that to the sender, so there the kernel
/// believes what it is told and fragments here.
#[derive(Debug)]
pub struct UdpSocket {
    fd: OwnedFd,
    local_addr: SocketAddr,
    receive_buffer: usize,
    send_buffer: usize,
    gro: bool,
    /// Cleared for good when the device turns out not to do what the kernel offered.
    gso: Cell<bool>,
}

impl UdpSocket {
    /// Binds a socket. Port 0 lets the kernel choose, see [`local_addr`](Self::local_addr).
    ///
    /// Bind to a concrete address: replies leave from it, while a wildcard leaves the choice to the
    /// routing table.
    ///
    /// # Errors
    ///
    /// What the kernel says: the address is taken, or not of this machine.
    pub fn bind(addr: SocketAddr, options: Options) -> io::Result<Self> {
        let family = match addr {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = socket_with(family, SocketType::DGRAM, flags, Some(ipproto::UDP))?;
        match addr {
            SocketAddr::V4(_) => {
                sockopt::set_ip_mtu_discover(&fd, Ipv4PathMtuDiscovery::OMIT)?;
            }
            SocketAddr::V6(_) => {
                sockopt::set_ipv6_v6only(&fd, true)?;
                sockopt::set_ipv6_mtu_discover(&fd, Ipv6PathMtuDiscovery::DONT)?;
            }
        }
        sockopt::set_socket_recv_buffer_size_force(&fd, options.receive_buffer)
            .or_else(|_| sockopt::set_socket_recv_buffer_size(&fd, options.receive_buffer))?;
        sockopt::set_socket_send_buffer_size_force(&fd, options.send_buffer)
            .or_else(|_| sockopt::set_socket_send_buffer_size(&fd, options.send_buffer))?;
        let gro = option::set(fd.as_fd(), libc::SOL_UDP, libc::UDP_GRO, 1).is_ok();
        // Setting it to 0, which it is, changes nothing and fails where it is not known.
        let gso = option::set(fd.as_fd(), libc::SOL_UDP, libc::UDP_SEGMENT, 0).is_ok();
        bind(&fd, &addr)?;
        Ok(Self {
            local_addr: SocketAddr::try_from(getsockname(&fd)?)?,
            // The kernel doubles what it is asked for, to have room for its bookkeeping.
            receive_buffer: sockopt::socket_recv_buffer_size(&fd)? / 2,
            send_buffer: sockopt::socket_send_buffer_size(&fd)? / 2,
            gro,
            gso: Cell::new(gso),
            fd,
        })
    }

    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The size of the receive buffer that was granted, in the measure of [`Options`].
    pub fn receive_buffer(&self) -> usize {
        self.receive_buffer
    }

    /// The size of the send buffer that was granted, in the measure of [`Options`].
    pub fn send_buffer(&self) -> usize {
        self.send_buffer
    }

    /// Whether the kernel joins the datagrams it receives.
    pub fn gro(&self) -> bool {
        self.gro
    }

    /// Whether the kernel cuts what it sends. True until sending proved otherwise.
    pub fn gso(&self) -> bool {
        self.gso.get()
    }

    /// Sends every datagram alone from now on.
    pub(super) fn disable_gso(&self) {
        self.gso.set(false);
    }

    /// Datagrams the kernel dropped because the receive buffer was full, since the socket exists.
    /// Wraps around. One system call.
    ///
    /// # Errors
    ///
    /// What the kernel says: it is older than 4.12.
    pub fn kernel_drops(&self) -> io::Result<u32> {
        /// Of `asm-generic/socket.h`; libc has the offsets but not the option.
        const SO_MEMINFO: c_int = 55;
        const COUNT: usize = libc::SK_MEMINFO_DROPS as usize + 1;
        let mut values = [0_u32; COUNT];
        let mut len = size_of_val(&values) as libc::socklen_t;
        // SAFETY: the pointer is to `len` writable bytes, and any bytes are valid integers.
        let result = unsafe {
            libc::getsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_SOCKET,
                SO_MEMINFO,
                values.as_mut_ptr().cast(),
                &raw mut len,
            )
        };
        if result == -1 {
            return Err(io::Error::last_os_error());
        }
        Ok(values[COUNT - 1])
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
