//! Ports for servers that have to be told theirs.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};

use rand::Rng;

/// The system gives ports from here on to whoever asks for any, connections included: one of those can be
/// taken before its server is there, or while it is stopped.
const EPHEMERAL: u16 = 32_768;

/// Ports that nobody listens on, over TCP and over UDP, all different.
pub(crate) fn free_ports<const N: usize>() -> [u16; N] {
    let mut random = rand::rng();
    let mut taken = Vec::new();
    [(); N].map(|()| {
        loop {
            let address = (Ipv4Addr::LOCALHOST, random.random_range(12_000..EPHEMERAL));
            if let (Ok(stream), Ok(socket)) = (TcpListener::bind(address), UdpSocket::bind(address))
            {
                taken.push((stream, socket));
                return address.1;
            }
        }
    })
}
