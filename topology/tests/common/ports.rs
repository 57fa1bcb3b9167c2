//! Ports for servers that have to be told theirs.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};

/// The system gives ports from here on to whoever asks for any, connections included: one of those can be
/// taken before its server is there, or while it is stopped.
const EPHEMERAL: u16 = 32_768;
const FIRST: u16 = 12_000;

/// Tests that run at the same time are processes whose ids follow each other: each has ports of its own.
const LANES: u16 = 64;
const LANE: u16 = (EPHEMERAL - FIRST) / LANES;

/// Ports that nobody listens on, over TCP and over UDP, and that this process was not given before: whoever
/// was may not listen yet.
pub(crate) fn free_ports<const N: usize>() -> [u16; N] {
    static NEXT: LazyLock<AtomicU16> =
        LazyLock::new(|| AtomicU16::new(rand::random_range(0..LANE)));
    let lane = (std::process::id() % u32::from(LANES)) as u16;
    [(); N].map(|()| {
        (0..LANE)
            .map(|_| FIRST + lane * LANE + NEXT.fetch_add(1, Ordering::Relaxed) % LANE)
            .find(|&port| {
                let address = (Ipv4Addr::LOCALHOST, port);
                TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok()
            })
            .expect("one of the lane's ports is free")
    })
}
