//! A way between two nodes that long datagrams do not get through.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// Passes datagrams on, for one caller, and none that is longer than is said. Ends when dropped.
pub(crate) struct NarrowWay {
    pub(crate) address: SocketAddr,
    longest: Arc<AtomicUsize>,
    tasks: [JoinHandle<()>; 2],
}

impl NarrowWay {
    pub(crate) async fn to(called: SocketAddr, longest: usize) -> Self {
        let longest = Arc::new(AtomicUsize::new(longest));
        let limit = Arc::clone(&longest);
        let passes = move |len: usize| len <= limit.load(Ordering::Relaxed);
        let here = Arc::new(bind().await);
        let there = Arc::new(bind().await);
        there.connect(called).await.unwrap();
        let address = here.local_addr().unwrap();
        let (caller, callers) = tokio::sync::watch::channel(None);
        let forth = {
            let (here, there) = (Arc::clone(&here), Arc::clone(&there));
            let passes = passes.clone();
            tokio::spawn(async move {
                let mut datagram = [0; 2048];
                loop {
                    // Nobody may be there yet.
                    let Ok((len, from)) = here.recv_from(&mut datagram).await else {
                        continue;
                    };
                    caller.send_replace(Some(from));
                    if passes(len) {
                        let _ = there.send(&datagram[..len]).await;
                    }
                }
            })
        };
        let back = tokio::spawn(async move {
            let mut datagram = [0; 2048];
            loop {
                let Ok(len) = there.recv(&mut datagram).await else {
                    continue;
                };
                let caller: Option<SocketAddr> = *callers.borrow();
                if let Some(caller) = caller.filter(|_| passes(len)) {
                    let _ = here.send_to(&datagram[..len], caller).await;
                }
            }
        });
        Self {
            address,
            longest,
            tasks: [forth, back],
        }
    }

    pub(crate) fn narrow(&self, longest: usize) {
        self.longest.store(longest, Ordering::Relaxed);
    }
}

impl Drop for NarrowWay {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

async fn bind() -> UdpSocket {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap()
}
