//! UDP as a media server uses it: few sockets, many peers, bursts.
//!
//! What costs is the kernel's work per buffer, not the system call, so the point of everything here
//! is to hand over and take packets of one peer together: generic segmentation offload (GSO) from
//! [`Egress`], generic receive offload (GRO) into a [`ReceiveBatch`].

mod address;
mod egress;
mod receive;
mod socket;

pub use egress::{
    Destination, Drops, Egress, EgressOptions, EgressStats, FlushReport, MAX_DATAGRAM_LEN,
    MAX_SEGMENTS, Run, Slot, SocketSet,
};
pub use receive::{ReceiveBatch, ReceiveStats};
pub use socket::{Options, UdpSocket};
