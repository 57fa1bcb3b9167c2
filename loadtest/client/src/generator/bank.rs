//! Sockets in groups that send together, since that is how `node/media` sends.

use std::io;
use std::net::{IpAddr, SocketAddr};

use pipemesh_node_media::udp::{
    Destination, Egress, EgressOptions, MAX_SEGMENTS, Options, Run, UdpSocket,
};

/// Most sockets that one `Egress` serves.
const SOCKETS: usize = 64;

/// Destinations that may have something to send between two flushes: each socket has one server.
const CHUNKS: u32 = 96;

/// A megabyte holds what a server sends while this thread is busy for half a second.
const BUFFERS: Options = Options {
    receive_buffer: 1 << 20,
    send_buffer: 1 << 20,
};

/// A socket's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    bank: usize,
    socket: u8,
}

struct Bank {
    local: IpAddr,
    sockets: Vec<UdpSocket>,
    free: Vec<u8>,
    egress: Egress,
    dirty: bool,
}

#[derive(Default)]
pub(super) struct Banks {
    banks: Vec<Bank>,
    /// Datagrams for which there was no room.
    overflows: u64,
    /// Of sockets that are gone.
    past_drops: u64,
}

impl Banks {
    /// A fresh socket at a local address.
    pub(super) fn open(&mut self, local: IpAddr) -> io::Result<Slot> {
        let fits = |bank: &Bank| bank.local == local && !bank.free.is_empty();
        let bank = match self.banks.iter().position(fits) {
            Some(bank) => bank,
            None => {
                self.banks.push(Bank::new(local)?);
                self.banks.len() - 1
            }
        };
        let socket = self.banks[bank]
            .free
            .pop()
            .expect("the bank has a free socket");
        Ok(Slot { bank, socket })
    }

    /// Gives a socket back; what still comes to its port is nobody's.
    pub(super) fn close(&mut self, slot: Slot) {
        let bank = &mut self.banks[slot.bank];
        let place = &mut bank.sockets[usize::from(slot.socket)];
        self.past_drops += u64::from(place.kernel_drops().unwrap_or(0));
        // Without a new socket the place stays unused.
        if let Ok(fresh) = UdpSocket::bind(SocketAddr::new(bank.local, 0), BUFFERS) {
            *place = fresh;
            bank.free.push(slot.socket);
        }
    }

    pub(super) fn socket(&self, slot: Slot) -> &UdpSocket {
        &self.banks[slot.bank].sockets[usize::from(slot.socket)]
    }

    /// Queues a datagram until the next [`Self::flush`].
    pub(super) fn send(&mut self, slot: Slot, run: &mut Run, to: SocketAddr, datagram: &[u8]) {
        let bank = &mut self.banks[slot.bank];
        if bank.egress.is_exhausted() {
            bank.flush();
        }
        let destination = Destination {
            socket: slot.socket.into(),
            addr: to,
        };
        let Some(mut place) = bank.egress.reserve(run, destination, datagram.len()) else {
            self.overflows += 1;
            return;
        };
        place[..datagram.len()].copy_from_slice(datagram);
        place.commit(datagram.len());
        bank.dirty = true;
    }

    /// Sends what is queued. True if some of it has to wait for the kernel.
    pub(super) fn flush(&mut self) -> bool {
        let mut blocked = false;
        for bank in self.banks.iter_mut().filter(|bank| bank.dirty) {
            bank.flush();
            blocked |= bank.dirty;
        }
        blocked
    }

    pub(super) fn send_drops(&self) -> u64 {
        let dropped = |bank: &Bank| bank.egress.stats().dropped.total();
        self.overflows + self.banks.iter().map(dropped).sum::<u64>()
    }

    pub(super) fn socket_drops(&self) -> u64 {
        let sockets = self.banks.iter().flat_map(|bank| &bank.sockets);
        let drops = sockets.map(|socket| u64::from(socket.kernel_drops().unwrap_or(0)));
        self.past_drops + drops.sum::<u64>()
    }
}

impl Bank {
    fn new(local: IpAddr) -> io::Result<Self> {
        let bind = |_| UdpSocket::bind(SocketAddr::new(local, 0), BUFFERS);
        let sockets: Vec<UdpSocket> = (0..SOCKETS).map(bind).collect::<io::Result<_>>()?;
        Ok(Self {
            local,
            free: (0..SOCKETS as u8).rev().collect(),
            egress: Egress::new(EgressOptions {
                sockets: SOCKETS,
                chunks: CHUNKS,
                max_segments: MAX_SEGMENTS,
            }),
            sockets,
            dirty: false,
        })
    }

    fn flush(&mut self) {
        self.dirty = !self.egress.flush(&self.sockets).blocked.is_empty();
    }
}
