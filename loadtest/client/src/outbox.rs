//! Datagrams on their way from the state machines to the sockets, one behind the other in memory
//! that is used again.

use std::net::SocketAddr;

/// No datagram of ours is longer.
pub(super) const MAX_DATAGRAM: usize = 1_500;

#[derive(Debug, Default)]
pub(super) struct Outbox {
    bytes: Vec<u8>,
    datagrams: Vec<Entry>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// Which of the participant's sockets.
    socket: usize,
    to: SocketAddr,
    start: usize,
    end: usize,
}

impl Outbox {
    pub(super) fn push(&mut self, socket: usize, to: SocketAddr, datagram: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(datagram);
        self.note(socket, to, start, datagram.len());
    }

    /// Lets `write` fill a datagram in place; it answers where to and how long, or nothing.
    pub(super) fn write(
        &mut self,
        socket: usize,
        write: impl FnOnce(&mut [u8]) -> Option<(SocketAddr, usize)>,
    ) -> bool {
        let start = self.bytes.len();
        self.bytes.resize(start + MAX_DATAGRAM, 0);
        let written = write(&mut self.bytes[start..]);
        let (to, len) = match written {
            Some(written) => written,
            None => {
                self.bytes.truncate(start);
                return false;
            }
        };
        self.bytes.truncate(start + len);
        self.note(socket, to, start, len);
        true
    }

    fn note(&mut self, socket: usize, to: SocketAddr, start: usize, len: usize) {
        self.datagrams.push(Entry {
            socket,
            to,
            start,
            end: start + len,
        });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.datagrams.is_empty()
    }

    /// Takes everything out, in order.
    pub(super) fn drain(&mut self, mut take: impl FnMut(usize, SocketAddr, &[u8])) {
        for entry in self.datagrams.drain(..) {
            take(entry.socket, entry.to, &self.bytes[entry.start..entry.end]);
        }
        self.bytes.clear();
    }
}
