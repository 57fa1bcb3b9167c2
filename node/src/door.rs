//! Where clients come in whose network takes TCP only (ICE-TCP, RFC 6544): listens, waits for the first
//! connectivity check on each connection, and hands both to the shard that the check is for.
//!
//! Whoever calls has proved nothing, so what he may hold is little: a place among a bounded number, for
//! a few seconds. Media never passes here; a connection belongs to its shard before it has said more
//! than one check.

mod place;

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pipemesh_node_media::tcp::{Stream, datagram_len};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub(crate) use place::{Counters, Place, Places, Turned};

use crate::node::Ended;
use crate::session::ice::{Credentials, IceAgent};
use crate::shard::{Command, ShardHandle};

/// For the whole first check, which a client sends as soon as it is connected. A round trip over the
/// worst of networks is a second.
const FIRST_CHECK_WITHIN: Duration = Duration::from_secs(5);

/// After the system refused to give a connection, mostly for want of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// A connection, and the check that says where it belongs.
pub(crate) struct Caller {
    pub(crate) stream: Stream,
    pub(crate) check: Vec<u8>,
    pub(crate) place: Place,
}

impl std::fmt::Debug for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Caller").finish_non_exhaustive()
    }
}

/// See the module.
pub(crate) struct Door {
    shards: Vec<ShardHandle>,
    places: Arc<Places>,
}

impl Door {
    /// So many callers from one address a second; 0 is no limit.
    pub(crate) fn new(
        shards: Vec<ShardHandle>,
        calls_per_address: u32,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            shards,
            places: Arc::new(Places::new(calls_per_address, counters)),
        }
    }

    /// Serves a listener until `closing`.
    pub(crate) async fn serve(
        self: Arc<Self>,
        listener: StdListener,
        closing: CancellationToken,
    ) -> Result<(), Ended> {
        let listener = TcpListener::from_std(listener).map_err(Ended::Door)?;
        let mut calls = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((socket, from)) => {
                        if let Some(place) = self.places.take(from.ip(), Instant::now()) {
                            calls.spawn(Arc::clone(&self).hear(socket, from, place));
                        }
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection for media");
                        tokio::time::sleep(PAUSE).await;
                    }
                },
                Some(_) = calls.join_next() => {}
                () = closing.cancelled() => return Ok(()),
            }
        }
    }

    async fn hear(self: Arc<Self>, mut socket: TcpStream, from: SocketAddr, place: Place) {
        let heard = async {
            let check = first_frame(&mut socket).await?;
            let ufrag = IceAgent::local_ufrag(&check).ok_or(Turned::Malformed)?;
            let shard = Credentials::shard(ufrag).and_then(|shard| self.shards.get(shard));
            Ok((shard.ok_or(Turned::UnknownUfrag)?, check))
        };
        let (shard, check) = match tokio::time::timeout(FIRST_CHECK_WITHIN, heard).await {
            Ok(Ok(heard)) => heard,
            Ok(Err(turned)) => return place.turn_away(turned),
            Err(_) => return place.turn_away(Turned::Late),
        };
        let taken_over = |socket: TcpStream| Stream::new(socket.into_std()?.into(), from);
        let Ok(stream) = taken_over(socket) else {
            return place.turn_away(Turned::Closed);
        };
        let caller = Caller {
            stream,
            check,
            place,
        };
        shard.send(Command::Take(Box::new(caller))).await;
    }
}

/// Reads one frame and not a byte more: what follows is the shard's.
pub(crate) async fn first_frame(socket: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>, Turned> {
    let closed = |_: io::Error| Turned::Closed;
    let mut header = [0; 2];
    socket.read_exact(&mut header).await.map_err(closed)?;
    let mut frame = vec![0; datagram_len(header).ok_or(Turned::Malformed)?];
    socket.read_exact(&mut frame).await.map_err(closed)?;
    Ok(frame)
}
