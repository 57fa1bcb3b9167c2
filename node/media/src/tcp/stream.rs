//! One connection: datagrams in and out of its bytes.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, recv, sendmsg};

use super::outgoing::Outgoing;
use super::{FrameBatch, MAX_FRAME_LEN, socket};

/// Why a stream is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The peer has closed it, or its half of it.
    Closed,
    /// What came is no frame, so nothing behind it can be read either.
    Malformed,
    /// The network or the peer has ended it out of order.
    Broken,
    /// We have.
    Finished,
}

/// A TCP connection that carries datagrams.
pub struct Stream {
    fd: OwnedFd,
    remote: SocketAddr,
    /// The beginning of a frame, less than one.
    partial: Vec<u8>,
    outgoing: Outgoing,
}

impl Stream {
    /// Takes a connection over that `accept` or [`connect`](super::connect) gave. `remote` is the
    /// peer's address.
    ///
    /// # Errors
    ///
    /// What the kernel says: the connection is gone already.
    pub fn new(fd: OwnedFd, remote: SocketAddr) -> io::Result<Self> {
        socket::prepare(fd.as_fd())?;
        Ok(Self {
            fd,
            remote,
            partial: Vec::with_capacity(MAX_FRAME_LEN),
            outgoing: Outgoing::new(),
        })
    }

    pub fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// Reads once, into `batch`.
    ///
    /// # Errors
    ///
    /// That nothing more comes.
    pub fn receive(&mut self, batch: &mut FrameBatch) -> Result<(), End> {
        let space = batch.begin(&self.partial);
        let len = loop {
            match recv(&self.fd, &mut *space, RecvFlags::DONTWAIT) {
                Ok((0, _)) => return Err(End::Closed),
                Ok((len, _)) => break len,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(_) => return Err(End::Broken),
            }
        };
        let rest = batch.cut(self.partial.len() + len);
        let rest = rest.map_err(|_| End::Malformed)?;
        self.partial.clear();
        self.partial.extend_from_slice(rest);
        Ok(())
    }

    /// Queues a datagram for the next [`flush`](Self::flush). False: so much waits that it was dropped.
    pub fn push(&mut self, datagram: &[u8]) -> bool {
        self.outgoing.push(datagram)
    }

    /// Gives the kernel what waits, with one system call. False if some of it has to go on waiting.
    ///
    /// # Errors
    ///
    /// That nothing more can be sent.
    pub fn flush(&mut self) -> Result<bool, End> {
        while !self.outgoing.is_empty() {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            let mut control = SendAncillaryBuffer::default();
            match sendmsg(&self.fd, &self.outgoing.slices(), &mut control, flags) {
                Ok(taken) => {
                    self.outgoing.taken(taken);
                    return Ok(self.outgoing.is_empty());
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(false),
                Err(_) => return Err(End::Broken),
            }
        }
        Ok(true)
    }

    /// Bytes that wait to be sent.
    pub fn waiting(&self) -> usize {
        self.outgoing.len()
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
