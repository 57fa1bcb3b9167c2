//! A line between a node and its clients that spoils what the node sends, by rule and not by lot.
//!
//! The node is bound to one loopback address and says that it has another one, which is ours.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// Where clients believe the node to be.
pub(crate) const OURS: &str = "127.0.0.2";
/// Where it is.
pub(crate) const ITS: &str = "127.0.0.1";

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Spoiling {
    /// One packet of video in so many does not arrive; 0 for none.
    pub(crate) lose_one_in: u32,
    pub(crate) delay: Duration,
}

/// Carries everything between clients and a node at this port, until it is dropped.
pub(crate) async fn lay(port: u16, spoiling: Spoiling) {
    let outside = Arc::new(UdpSocket::bind((OURS, port)).await.unwrap());
    tokio::spawn(carry(outside, port, spoiling));
}

async fn carry(outside: Arc<UdpSocket>, port: u16, spoiling: Spoiling) {
    let mut inside: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut buffer = [0; 2_048];
    // It ends with the runtime of the test.
    while let Ok((len, client)) = outside.recv_from(&mut buffer).await {
        if let Entry::Vacant(place) = inside.entry(client) {
            let socket = Arc::new(UdpSocket::bind((ITS, 0)).await.unwrap());
            socket.connect((ITS, port)).await.unwrap();
            tokio::spawn(back(
                Arc::clone(&socket),
                Arc::clone(&outside),
                client,
                spoiling,
            ));
            place.insert(socket);
        }
        // What the kernel does not take is lost, as on any line.
        let _ = inside[&client].send(&buffer[..len]).await;
    }
}

async fn back(
    inside: Arc<UdpSocket>,
    outside: Arc<UdpSocket>,
    client: SocketAddr,
    spoiling: Spoiling,
) {
    let (sender, mut held) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    tokio::spawn(async move {
        while let Some((due, datagram)) = held.recv().await {
            sleep_until(due).await;
            let _ = outside.send_to(&datagram, client).await;
        }
    });
    let (mut video, mut count) = (None, 0_u32);
    let mut buffer = [0; 2_048];
    while let Ok(len) = inside.recv(&mut buffer).await {
        let datagram = &buffer[..len];
        // RFC 7983: 128 to 191 is RTP or RTCP; RFC 5761: RTCP has types that are no payload's.
        let is_rtp = (128..192).contains(&datagram[0]) && !(192..=223).contains(&datagram[1]);
        if is_rtp {
            let payload_type = datagram[1] & 0x7F;
            if len > 600 {
                video.get_or_insert(payload_type);
            }
            if video == Some(payload_type) {
                count += 1;
                if spoiling.lose_one_in > 0 && count.is_multiple_of(spoiling.lose_one_in) {
                    continue;
                }
            }
        }
        let _ = sender.send((Instant::now() + spoiling.delay, datagram.to_vec()));
    }
}
