//! One end of a connection between two nodes, as QUIC would make it: datagrams that may be lost, words that
//! are not and keep their order, a window that the core's own rule decides, and an end when nothing is heard.
//! The schedule in front of it is the node's own.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use pipemesh_node_core::pipe::congestion::{Congestion, Limits};
use pipemesh_proto::pipe::pipe_message::Message as Word;

use super::network::ETHERNET;
use crate::pipe::calls::Met;
use crate::pipe::congestion::Published;
use crate::pipe::connection;
use crate::pipe::exchange::Exchange;
use crate::pipe::sender::{Sender, Way};
use crate::pipe::transport::{MTU, SEND_BUFFER};

/// What QUIC puts around a datagram.
const OVERHEAD: usize = 38;
const ACK_SIZE: usize = 50;
const PING_SIZE: usize = 40;
/// Bytes of words in one packet.
const WORDS: usize = 1_100;
const ACK_DELAY: Duration = Duration::from_millis(5);
const ACK_PACKETS: usize = 16;
const KEEP_ALIVE: Duration = Duration::from_millis(250);
const IDLE: Duration = Duration::from_secs(3);
/// Packets that may overtake one that is not lost.
const REORDERING: u64 = 128;
/// Least time that packets are waited for beyond their round trip.
const TIMEOUT_LEAST: Duration = Duration::from_millis(10);
const ASSUMED_ROUND_TRIP: Duration = Duration::from_millis(333);
/// Long packets lost in a row before the path is taken for a narrower one.
const BLACK_HOLE: u32 = 3;
/// A longer packet is tried again after so long.
const PROBE_AGAIN: Duration = Duration::from_secs(20);
const FIRST_PROBE: Duration = Duration::from_millis(300);

/// What a packet carries.
#[derive(Debug, Clone)]
pub(super) enum Body {
    /// Who calls: its start, and the versions that it speaks.
    Knock {
        boot_id: u64,
        versions: (u32, u32),
    },
    Welcome {
        boot_id: u64,
    },
    Refuse,
    Close,
    /// Nobody needs it.
    Rest,
    Words(Vec<(u64, Bytes)>),
    Datagram(Bytes),
    Ping,
    /// A path is tried with a packet of this length.
    Probe,
    Ack(Vec<u64>),
}

#[derive(Debug, Clone)]
pub(super) struct Packet {
    pub(super) connection: u64,
    pub(super) number: u64,
    pub(super) size: usize,
    pub(super) body: Body,
}

#[derive(Debug)]
struct Sent {
    at: Instant,
    size: usize,
    words: Vec<(u64, Bytes)>,
    is_probe: bool,
}

/// What waits for the window.
struct Queue {
    datagrams: VecDeque<Bytes>,
    bytes: usize,
    mtu: usize,
}

impl Way for Queue {
    fn longest(&self) -> usize {
        self.mtu - OVERHEAD
    }

    fn room(&self) -> usize {
        SEND_BUFFER.saturating_sub(self.bytes)
    }

    fn send(&mut self, datagram: Bytes) {
        self.bytes += datagram.len();
        self.datagrams.push_back(datagram);
    }
}

/// What has come of the other end's words.
#[derive(Default)]
struct Heard {
    next: u64,
    early: BTreeMap<u64, Bytes>,
}

/// See the module.
pub(super) struct End {
    pub(super) id: u64,
    pub(super) met: Met,
    rule: Congestion,
    published: Arc<Published>,
    sender: Sender,
    queue: Queue,
    words: VecDeque<(u64, Bytes)>,
    last_word: u64,
    last_number: u64,
    sent: BTreeMap<u64, Sent>,
    in_flight: u64,
    largest_acked: u64,
    round_trip: Option<Duration>,
    variation: Duration,
    /// Probes of the path's life since something was last acknowledged.
    timeouts: u32,
    timeout_at: Option<Instant>,
    black_hole: u32,
    probe_at: Instant,
    last_sent: Instant,
    last_received: Instant,
    /// Packets that have come.
    pub(super) received: u64,
    heard: Heard,
    to_ack: Vec<u64>,
    acked_before: VecDeque<Vec<u64>>,
    ack_at: Option<Instant>,
    out: Vec<Packet>,
}

impl End {
    pub(super) fn new(id: u64, met: Met, now: Instant) -> Self {
        let published = Arc::new(Published::default());
        Self {
            id,
            met,
            rule: Congestion::new(Limits::default(), MTU, now),
            sender: Sender::new(Arc::clone(&published), now),
            published,
            queue: Queue {
                datagrams: VecDeque::new(),
                bytes: 0,
                mtu: usize::from(MTU),
            },
            words: VecDeque::new(),
            last_word: 0,
            last_number: 0,
            sent: BTreeMap::new(),
            in_flight: 0,
            largest_acked: 0,
            round_trip: None,
            variation: Duration::ZERO,
            timeouts: 0,
            timeout_at: None,
            black_hole: 0,
            probe_at: now + FIRST_PROBE,
            last_sent: now,
            last_received: now,
            received: 0,
            heard: Heard::default(),
            to_ack: Vec::new(),
            acked_before: VecDeque::new(),
            ack_at: None,
            out: Vec::new(),
        }
    }

    pub(super) fn round_trip(&self) -> Duration {
        self.round_trip.unwrap_or(ASSUMED_ROUND_TRIP)
    }

    /// Takes what an exchange has to send. `speak`: what becomes of the bytes of a word.
    pub(super) fn carry(
        &mut self,
        exchange: &mut Exchange,
        now: Instant,
        mut speak: impl FnMut(&mut Vec<Bytes>),
    ) {
        self.sender.carry(exchange, &mut self.queue, now);
        while let Some(word) = exchange.poll_word() {
            let mut bytes = BytesMut::new();
            connection::write(word, &mut bytes);
            let mut spoken = vec![bytes.freeze()];
            speak(&mut spoken);
            for bytes in spoken {
                self.words.push_back((self.last_word, bytes));
                self.last_word += 1;
            }
        }
        self.pump(now);
    }

    /// Sends what the window allows.
    fn pump(&mut self, now: Instant) {
        while self.in_flight < self.rule.window() {
            if let Some(datagram) = self.queue.datagrams.pop_front() {
                self.queue.bytes -= datagram.len();
                let size = datagram.len() + OVERHEAD;
                self.send(Body::Datagram(datagram), size, Vec::new(), now);
            } else if self.words.is_empty() {
                return;
            }
            let mut words = Vec::new();
            let mut size = OVERHEAD;
            while size < WORDS
                && let Some(word) = self.words.pop_front()
            {
                size += word.1.len();
                words.push(word);
            }
            if !words.is_empty() {
                self.send(Body::Words(words.clone()), size, words, now);
            }
        }
    }

    fn send(&mut self, body: Body, size: usize, words: Vec<(u64, Bytes)>, now: Instant) {
        self.last_number += 1;
        let sent = Sent {
            at: now,
            size,
            words,
            is_probe: matches!(body, Body::Probe),
        };
        self.sent.insert(self.last_number, sent);
        self.in_flight += size as u64;
        self.rule.on_sent(now);
        self.last_sent = now;
        if self.timeout_at.is_none() {
            self.timeout_at = Some(now + self.timeout());
        }
        self.out.push(Packet {
            connection: self.id,
            number: self.last_number,
            size,
            body,
        });
    }

    /// What a packet takes to be acknowledged, at most.
    fn patience(&self) -> Duration {
        let variation = self.variation * 4;
        self.round_trip() + variation.max(TIMEOUT_LEAST) + ACK_DELAY
    }

    /// After so long a sign of life is asked for.
    fn timeout(&self) -> Duration {
        self.patience() * (1 << self.timeouts.min(6))
    }

    fn idle(&self) -> Duration {
        IDLE.max(self.patience() * 3)
    }

    /// What is to be put on its way.
    pub(super) fn poll_packets(&mut self) -> Vec<Packet> {
        std::mem::take(&mut self.out)
    }

    pub(super) fn poll_timeout(&self, now: Instant) -> Instant {
        let idle = self.last_received + self.idle();
        let keep_alive = self.last_sent + KEEP_ALIVE;
        let others = [
            self.ack_at,
            self.timeout_at,
            self.sender.poll_timeout(now),
            Some(self.probe_at),
        ];
        let others = others.into_iter().flatten().min();
        let next = idle.min(keep_alive);
        others.map_or(next, |at| at.min(next))
    }

    /// `false`: nothing was heard for too long.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> bool {
        if now >= self.last_received + self.idle() {
            return false;
        }
        if self.ack_at.is_some_and(|at| at <= now) {
            self.acknowledge(now);
        }
        if self.timeout_at.is_some_and(|at| at <= now) {
            self.timeouts += 1;
            self.timeout_at = None;
            let unheard = self.sent.values().find(|sent| !sent.words.is_empty());
            match unheard.map(|sent| sent.words.clone()) {
                Some(words) => {
                    let size = OVERHEAD + words.iter().map(|word| word.1.len()).sum::<usize>();
                    self.send(Body::Words(words.clone()), size, words, now);
                }
                None => self.send(Body::Ping, PING_SIZE, Vec::new(), now),
            }
        }
        if now >= self.probe_at {
            self.probe_at = now + PROBE_AGAIN;
            if self.queue.mtu < ETHERNET {
                self.send(Body::Probe, ETHERNET, Vec::new(), now);
            }
        }
        if now >= self.last_sent + KEEP_ALIVE {
            self.send(Body::Ping, PING_SIZE, Vec::new(), now);
        }
        true
    }

    fn acknowledge(&mut self, now: Instant) {
        /// So many acknowledgements may be lost in a row before what they said is.
        const REPEATED: usize = 3;
        self.ack_at = None;
        self.acked_before
            .push_back(std::mem::take(&mut self.to_ack));
        if self.acked_before.len() > REPEATED {
            self.acked_before.pop_front();
        }
        let numbers = self.acked_before.iter().flatten().copied().collect();
        self.last_sent = now;
        self.out.push(Packet {
            connection: self.id,
            number: 0,
            size: ACK_SIZE,
            body: Body::Ack(numbers),
        });
    }

    /// A packet of the other end's; answers the datagram in it.
    pub(super) fn handle_packet(&mut self, packet: Packet, now: Instant) -> Option<Bytes> {
        self.received += 1;
        self.last_received = now;
        match packet.body {
            Body::Ack(numbers) => {
                self.handle_ack(&numbers, now);
                return None;
            }
            Body::Words(words) => {
                let fresh = words
                    .into_iter()
                    .filter(|(number, _)| *number >= self.heard.next);
                self.heard.early.extend(fresh);
                self.note(packet.number, now);
            }
            Body::Ping | Body::Probe => self.note(packet.number, now),
            Body::Datagram(datagram) => {
                self.note(packet.number, now);
                return Some(datagram);
            }
            Body::Knock { .. } | Body::Welcome { .. } | Body::Refuse | Body::Close | Body::Rest => {
            }
        }
        None
    }

    fn note(&mut self, number: u64, now: Instant) {
        self.to_ack.push(number);
        if self.to_ack.len() >= ACK_PACKETS {
            self.acknowledge(now);
        } else if self.ack_at.is_none() {
            self.ack_at = Some(now + ACK_DELAY);
        }
    }

    /// The next word that has come, in their order. `None` inside: of a version that is not known.
    pub(super) fn poll_word(&mut self) -> Option<Option<Word>> {
        let mut bytes = self.heard.early.remove(&self.heard.next)?;
        self.heard.next += 1;
        let len = bytes.get_u32() as usize;
        assert_eq!(len, bytes.len(), "a message is as long as it says");
        Some(connection::decode(&bytes).expect("messages can be read"))
    }

    fn handle_ack(&mut self, numbers: &[u64], now: Instant) {
        let is_idle = self.queue.datagrams.is_empty() && self.words.is_empty();
        let mut is_news = false;
        for number in numbers {
            let Some(sent) = self.sent.remove(number) else {
                continue;
            };
            is_news = true;
            self.in_flight -= sent.size as u64;
            self.largest_acked = self.largest_acked.max(*number);
            self.rule.on_ack(sent.at, sent.size as u64, is_idle, now);
            self.note_round_trip(now - sent.at);
            if sent.is_probe {
                self.set_mtu(ETHERNET);
            }
            if sent.size > usize::from(MTU) {
                self.black_hole = 0;
            }
        }
        if !is_news {
            return;
        }
        self.timeouts = 0;
        self.find_lost(now);
        self.rule.on_acks_end(now);
        self.published.set(&self.rule);
        self.timeout_at = (!self.sent.is_empty()).then(|| now + self.timeout());
    }

    fn set_mtu(&mut self, mtu: usize) {
        self.queue.mtu = mtu;
        self.rule.set_mtu(mtu as u16);
    }

    fn note_round_trip(&mut self, sample: Duration) {
        let Some(round_trip) = self.round_trip else {
            self.round_trip = Some(sample);
            self.variation = sample / 2;
            return;
        };
        self.variation = (self.variation * 3 + round_trip.abs_diff(sample)) / 4;
        self.round_trip = Some((round_trip * 7 + sample) / 8);
    }

    fn find_lost(&mut self, now: Instant) {
        let patience = self.round_trip() * 9 / 8 + self.variation * 2 + TIMEOUT_LEAST;
        let before = self.sent.range(..self.largest_acked);
        let is_lost = |(number, sent): &(&u64, &Sent)| {
            **number + REORDERING <= self.largest_acked || sent.at + patience <= now
        };
        let lost: Vec<u64> = before.filter(is_lost).map(|(number, _)| *number).collect();
        let span = lost.first().zip(lost.last());
        let span = span.map_or(Duration::ZERO, |(first, last)| {
            self.sent[last].at - self.sent[first].at
        });
        let is_persistent = span > self.patience() * 3;
        for number in lost {
            let Some(sent) = self.sent.remove(&number) else {
                continue;
            };
            self.in_flight -= sent.size as u64;
            for word in sent.words.into_iter().rev() {
                self.words.push_front(word);
            }
            if sent.is_probe {
                continue;
            }
            self.rule
                .on_loss(sent.at, sent.size as u64, is_persistent, now);
            if sent.size > usize::from(MTU) {
                self.black_hole += 1;
                if self.black_hole >= BLACK_HOLE {
                    self.black_hole = 0;
                    self.set_mtu(usize::from(MTU));
                }
            }
        }
    }
}
