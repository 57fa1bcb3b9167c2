//! The TCP connections of one thread: opened when there is something to send, to one of a server's
//! addresses for one peer connection of one participant.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use pipemesh_node_media::poll::{Poller, Token};
use pipemesh_node_media::tcp::{Change, FrameBatch, Stream, Streams, connect};
use pipemesh_node_media::udp::Destination;

use super::SeatId;

/// A server that refuses is not asked again before.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// Tokens of streams: above those of participants' sockets, of which there are never so many.
const FIRST_TOKEN: u32 = 1 << 31;

/// What a connection is for: which of a participant's peer connections, and to which address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct End {
    seat: SeatId,
    socket: usize,
    to: SocketAddr,
}

#[derive(Debug)]
struct Line {
    /// None while it is not connected, nor to be before `retry_at`.
    stream: Option<u32>,
    retry_at: Instant,
    /// The server has answered: it knows whose this connection is, so that more than checks may be sent.
    answered: bool,
}

#[derive(Default)]
pub(super) struct Lines {
    streams: Streams,
    lines: BTreeMap<End, Line>,
    by_stream: BTreeMap<u32, End>,
    fresh: Vec<u32>,
    /// Datagrams for which there was no connection.
    unsent: u64,
}

impl Lines {
    /// The stream that a token names, if it names one.
    pub(super) fn stream_of(token: Token) -> Option<u32> {
        token.0.checked_sub(FIRST_TOKEN)
    }

    /// Queues a datagram until the next [`Self::flush`]; connects first if need be.
    pub(super) fn send(
        &mut self,
        seat: SeatId,
        socket: usize,
        local: IpAddr,
        to: SocketAddr,
        datagram: &[u8],
        now: Instant,
    ) {
        let end = End { seat, socket, to };
        let line = self.lines.entry(end).or_insert(Line {
            stream: None,
            retry_at: now,
            answered: false,
        });
        let is_check = matches!(datagram.first(), Some(0..=3));
        if line.stream.is_none() && is_check && line.retry_at <= now {
            line.retry_at = now + RETRY_AFTER;
            let opened = connect(SocketAddr::new(local, 0), to).and_then(|fd| Stream::new(fd, to));
            if let Ok(stream) = opened {
                let number = self.streams.insert(stream);
                (line.stream, line.answered) = (Some(number), false);
                self.by_stream.insert(number, end);
                self.fresh.push(number);
            }
        }
        match line.stream {
            Some(socket) if is_check || line.answered => {
                self.streams
                    .push(Destination { socket, addr: to }, datagram);
            }
            _ => self.unsent += 1,
        }
    }

    /// Reads once. Answers for whom.
    pub(super) fn receive(
        &mut self,
        stream: u32,
        frames: &mut FrameBatch,
    ) -> Option<(SeatId, usize)> {
        let end = self.by_stream.get(&stream)?;
        self.streams.receive(stream, frames);
        if frames.datagrams().next().is_some()
            && let Some(line) = self.lines.get_mut(end)
        {
            line.answered = true;
        }
        Some((end.seat, end.socket))
    }

    pub(super) fn writable(&mut self, stream: u32) {
        self.streams.writable(stream);
    }

    /// Sends what is queued, and answers whose connections are over.
    pub(super) fn flush(&mut self, poller: &Poller, now: Instant) -> Vec<(SeatId, usize)> {
        self.streams.flush();
        for number in std::mem::take(&mut self.fresh) {
            let registered = self
                .streams
                .get(number)
                .map(|stream| poller.register(stream, Token(FIRST_TOKEN + number)));
            if let Some(Err(_)) = registered {
                self.close(number, now);
            }
        }
        let mut over = Vec::new();
        while let Some((number, change)) = self.streams.poll_change() {
            let Some(stream) = self.streams.get(number) else {
                continue;
            };
            let token = Token(FIRST_TOKEN + number);
            match change {
                // What fails here shows as a stream that stands still, and is given up by ICE.
                Change::Blocked => drop(poller.watch_writable(stream, token, true)),
                Change::Unblocked => drop(poller.watch_writable(stream, token, false)),
                Change::Ended(_) => over.extend(self.close(number, now)),
            }
        }
        over
    }

    /// Closes what a participant has.
    pub(super) fn remove(&mut self, seat: SeatId) {
        self.lines.retain(|end, _| end.seat != seat);
        let streams = &mut self.streams;
        self.by_stream.retain(|number, end| {
            let stays = end.seat != seat;
            if !stays {
                streams.remove(*number);
            }
            stays
        });
    }

    pub(super) fn drops(&self) -> u64 {
        self.unsent + self.streams.stats().overflowed
    }

    fn close(&mut self, number: u32, now: Instant) -> Option<(SeatId, usize)> {
        self.streams.remove(number);
        let end = self.by_stream.remove(&number)?;
        if let Some(line) = self.lines.get_mut(&end) {
            line.stream = None;
            line.retry_at = now + RETRY_AFTER;
        }
        Some((end.seat, end.socket))
    }
}
