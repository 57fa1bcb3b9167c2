//! A way to a server that can be cut, and mended.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub(crate) struct Way {
    pub(crate) port: u16,
    is_cut: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

impl Way {
    pub(crate) async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (is_cut, seen) = watch::channel(false);
        Self {
            port,
            is_cut,
            serving: tokio::spawn(serve(listener, server, seen)),
        }
    }

    /// What is under way ends, and nothing begins.
    pub(crate) fn cut(&self) {
        self.is_cut.send_replace(true);
    }

    pub(crate) fn mend(&self) {
        self.is_cut.send_replace(false);
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.cut();
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, server: SocketAddr, mut is_cut: watch::Receiver<bool>) {
    while let Ok((mut here, _)) = listener.accept().await {
        if *is_cut.borrow_and_update() {
            continue;
        }
        let mut until = is_cut.clone();
        tokio::spawn(async move {
            let Ok(mut there) = TcpStream::connect(server).await else {
                return;
            };
            tokio::select! {
                _ = copy_bidirectional(&mut here, &mut there) => {}
                _ = until.wait_for(|is_cut| *is_cut) => {}
            }
        });
    }
}
