//! Takes what has arrived, many datagrams with one system call.

#![allow(unsafe_code, reason = "recvmmsg and its control messages are C")]

use std::ffi::c_int;
use std::io;
use std::mem::{self, MaybeUninit};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;

use libc::{cmsghdr, iovec, mmsghdr};

use super::UdpSocket;
use super::address::Name;

/// Messages per system call. More would amortise the call, a tenth of a message's cost, still
/// further, but let the last packet of a batch wait longer.
const MESSAGES: usize = 32;

/// Messages that are asked for while little comes: the kernel looks at each buffer it is offered, and so
/// do we before.
const FEW: usize = 4;

/// The largest datagram, and the largest that GRO makes of several.
const MAX_MESSAGE_LEN: usize = 65_535;

/// From one message's buffer to the next. Beyond the 64 KiB it takes, an odd number of cache lines,
/// so that the beginnings, often all that is used, do not compete for the same sets of the cache.
const STRIDE: usize = 65_536 + 17 * 64;

/// Room for datagrams, filled by [`UdpSocket::receive`].
///
/// Two megabytes of address space, of which small packets touch a page each.
pub struct ReceiveBatch {
    slab: Box<[u8]>,
    messages: Vec<Message>,
    /// How many came with the call before.
    last: usize,
    stats: ReceiveStats,
}

/// What [`ReceiveBatch`] has counted since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReceiveStats {
    pub datagrams: u64,
    pub bytes: u64,
    /// Buffers the kernel gave: fewer than datagrams where it joined some.
    pub messages: u64,
    pub syscalls: u64,
    /// Messages dropped because they or what the kernel says of them did not fit. None should.
    pub truncated: u64,
    /// Datagrams without content, which are not given to anybody.
    pub empty: u64,
}

/// What the slot with the same place in the slab holds.
#[derive(Debug, Clone, Copy)]
struct Message {
    source: SocketAddr,
    len: usize,
    /// Length of each datagram in it; the last may be shorter.
    segment: usize,
}

impl Message {
    const NOTHING: Self = Self {
        source: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
        len: 0,
        segment: 1,
    };
}

/// A control message with a datagram length, the only one our sockets ask for.
#[repr(C)]
struct GroControl {
    header: cmsghdr,
    segment: c_int,
}

impl GroControl {
    /// Its bytes without padding, as the kernel counts them.
    const LEN: usize = mem::offset_of!(Self, segment) + size_of::<c_int>();
}

// SAFETY: arithmetic without preconditions.
const _: () = assert!(GroControl::LEN == unsafe { libc::CMSG_LEN(4) } as usize);

impl ReceiveBatch {
    /// Most messages one [`UdpSocket::receive`] gives.
    pub const CAPACITY: usize = MESSAGES;

    pub fn new() -> Self {
        Self {
            slab: vec![0; MESSAGES * STRIDE].into_boxed_slice(),
            messages: Vec::with_capacity(MESSAGES),
            last: 0,
            stats: ReceiveStats::default(),
        }
    }

    /// The datagrams received last, each with its source. May be changed in place.
    pub fn datagrams(&mut self) -> impl Iterator<Item = (SocketAddr, &mut [u8])> {
        let slots = self.slab.chunks_exact_mut(STRIDE);
        self.messages.iter().zip(slots).flat_map(|(message, slot)| {
            let datagrams = slot[..message.len].chunks_mut(message.segment);
            datagrams.map(|datagram| (message.source, datagram))
        })
    }

    pub fn stats(&self) -> &ReceiveStats {
        &self.stats
    }
}

impl Default for ReceiveBatch {
    fn default() -> Self {
        Self::new()
    }
}

impl UdpSocket {
    /// Replaces the contents of `batch` by what has arrived and returns the number of messages: 0 if
    /// there was nothing, [`ReceiveBatch::CAPACITY`] if there may be more.
    ///
    /// # Errors
    ///
    /// What the kernel says, other than that there is nothing or a signal came.
    pub fn receive(&self, batch: &mut ReceiveBatch) -> io::Result<usize> {
        batch.messages.clear();
        let first = if batch.last < FEW { FEW } else { MESSAGES };
        batch.last = self.receive_some(batch, first)?;
        if batch.last == first && first < MESSAGES {
            batch.last += self.receive_some(batch, MESSAGES - first)?;
        }
        Ok(batch.last)
    }

    /// Appends up to `count` messages.
    fn receive_some(&self, batch: &mut ReceiveBatch, count: usize) -> io::Result<usize> {
        debug_assert!(batch.messages.len() + count <= MESSAGES, "slots");
        let mut names = [Name::EMPTY; MESSAGES];
        let mut controls = [const { MaybeUninit::<GroControl>::uninit() }; MESSAGES];
        let mut buffers = [const { MaybeUninit::<iovec>::uninit() }; MESSAGES];
        let mut headers = [const { MaybeUninit::<mmsghdr>::uninit() }; MESSAGES];
        let free = batch.slab.chunks_exact_mut(STRIDE);
        let slots = free.skip(batch.messages.len()).take(count);
        for ((((header, name), control), buffer), slot) in headers
            .iter_mut()
            .zip(&mut names)
            .zip(&mut controls)
            .zip(&mut buffers)
            .zip(slots)
        {
            let buffer = buffer.write(iovec {
                iov_base: slot.as_mut_ptr().cast(),
                iov_len: MAX_MESSAGE_LEN,
            });
            // SAFETY: a C struct of integers and pointers, which zeros make empty and null.
            let header = header.write(unsafe { mem::zeroed() });
            header.msg_hdr.msg_name = ptr::from_mut(name).cast();
            header.msg_hdr.msg_namelen = Name::CAPACITY;
            header.msg_hdr.msg_iov = buffer;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = control.as_mut_ptr().cast();
            header.msg_hdr.msg_controllen = size_of::<GroControl>() as _;
        }
        let received = loop {
            batch.stats.syscalls += 1;
            // SAFETY: `count` headers were written above, since `count` slots were left. Each points
            // to one name, control and buffer descriptor on this stack frame and to a slot of the
            // slab, all of the lengths given and borrowed exclusively until after the call; the kernel
            // keeps no pointer.
            let result = unsafe {
                libc::recvmmsg(
                    self.as_fd().as_raw_fd(),
                    headers.as_mut_ptr().cast(),
                    count as _,
                    libc::MSG_DONTWAIT as _,
                    ptr::null_mut(),
                )
            };
            if let Ok(received) = usize::try_from(result) {
                break received;
            }
            let error = io::Error::last_os_error();
            match error.kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock => break 0,
                _ => return Err(error),
            }
        };

        for (header, name) in headers.iter().zip(&names).take(received) {
            // SAFETY: the first `count` headers were written above, and no more were received.
            let header = unsafe { header.assume_init_ref() };
            // SAFETY: the kernel has filled this header.
            let segment = unsafe { gro_segment(&header.msg_hdr) };
            let whole = header.msg_hdr.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) == 0;
            let message = match name.to_socket_addr() {
                Some(source) if whole => {
                    let len = header.msg_len as usize;
                    batch.stats.empty += u64::from(len == 0);
                    Message {
                        source,
                        len,
                        segment: segment.unwrap_or(len).max(1),
                    }
                }
                _ => {
                    batch.stats.truncated += 1;
                    Message::NOTHING
                }
            };
            batch.stats.datagrams += message.len.div_ceil(message.segment) as u64;
            batch.stats.bytes += message.len as u64;
            batch.messages.push(message);
        }
        batch.stats.messages += received as u64;
        Ok(received)
    }
}

/// The length of the datagrams that the kernel joined, if it did.
///
/// # Safety
///
/// The kernel has filled `header`: at `msg_control`, which is aligned for a [`GroControl`], are
/// `msg_controllen` initialised bytes.
unsafe fn gro_segment(header: &libc::msghdr) -> Option<usize> {
    if header.msg_controllen < GroControl::LEN as _ {
        return None;
    }
    // SAFETY: the caller vouches for alignment and length.
    let control = unsafe { &*header.msg_control.cast::<GroControl>() };
    let is_gro =
        control.header.cmsg_level == libc::SOL_UDP && control.header.cmsg_type == libc::UDP_GRO;
    is_gro.then_some(control.segment as usize)
}
