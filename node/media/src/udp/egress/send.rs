//! `sendmmsg`: planned messages to the kernel.

#![allow(unsafe_code, reason = "sendmmsg and its control messages are C")]

use std::mem::{self, MaybeUninit};
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;

use libc::{cmsghdr, iovec, mmsghdr};
use rustix::io::Errno;

use super::pool::{Message, Pool};
use crate::udp::UdpSocket;

/// Messages per system call. More would amortise the call, a twentieth of a message's cost, still
/// further; fewer keep the headers in the first-level cache.
pub(super) const MAX_MESSAGES: usize = 64;

/// A control message that says where to cut.
#[repr(C)]
struct SegmentControl {
    header: cmsghdr,
    segment: u16,
}

impl SegmentControl {
    /// Its bytes without padding, as the kernel counts them.
    const LEN: usize = mem::offset_of!(Self, segment) + size_of::<u16>();

    fn new(segment: u16) -> Self {
        // SAFETY: a C struct of integers.
        let mut header: cmsghdr = unsafe { mem::zeroed() };
        header.cmsg_len = Self::LEN as _;
        header.cmsg_level = libc::SOL_UDP;
        header.cmsg_type = libc::UDP_SEGMENT;
        Self { header, segment }
    }
}

// SAFETY: arithmetic without preconditions.
const _: () = assert!(SegmentControl::LEN == unsafe { libc::CMSG_LEN(2) } as usize);

/// Gives the first [`MAX_MESSAGES`] messages to the kernel. Returns how many it took, at least one;
/// an error is about the first.
pub(super) fn send(socket: &UdpSocket, pool: &Pool, messages: &[Message]) -> Result<usize, Errno> {
    let mut headers = [const { MaybeUninit::<mmsghdr>::uninit() }; MAX_MESSAGES];
    let mut buffers = [const { MaybeUninit::<iovec>::uninit() }; MAX_MESSAGES];
    let mut controls = [const { MaybeUninit::<SegmentControl>::uninit() }; MAX_MESSAGES];
    let mut count = 0;
    for (((message, header), buffer), control) in messages
        .iter()
        .zip(&mut headers)
        .zip(&mut buffers)
        .zip(&mut controls)
    {
        let bytes = pool.bytes(message);
        let name = &pool.chunk(message.chunk).name;
        // The kernel takes pointers to mutable bytes for both directions and only reads these.
        let buffer = buffer.write(iovec {
            iov_base: bytes.as_ptr().cast_mut().cast(),
            iov_len: bytes.len(),
        });
        // SAFETY: a C struct of integers and pointers, which zeros make empty and null.
        let header = header.write(unsafe { mem::zeroed() });
        header.msg_hdr.msg_name = ptr::from_ref(name).cast_mut().cast();
        header.msg_hdr.msg_namelen = name.len();
        header.msg_hdr.msg_iov = buffer;
        header.msg_hdr.msg_iovlen = 1;
        if message.count > 1 {
            let control = control.write(SegmentControl::new(message.segment as u16));
            header.msg_hdr.msg_control = ptr::from_mut(control).cast();
            header.msg_hdr.msg_controllen = SegmentControl::LEN as _;
        }
        count += 1;
    }
    // SAFETY: the first `count` headers were written above. Each points to a name and bytes in the
    // pool and to a descriptor and at most one control message on this stack frame, all of the
    // lengths given and alive until after the call; the kernel keeps no pointer.
    let result = unsafe {
        libc::sendmmsg(
            socket.as_fd().as_raw_fd(),
            headers.as_mut_ptr().cast(),
            count,
            libc::MSG_DONTWAIT as _,
        )
    };
    usize::try_from(result).map_err(|_| {
        let error = std::io::Error::last_os_error();
        Errno::from_io_error(&error).expect("the last error of the system has a number")
    })
}
