//! One peer connection: ICE, DTLS, SRTP and data channels over one socket.
//!
//! Pure: datagrams and time in; datagrams, plain packets and events out. What the packets mean is
//! for `media` to say.

pub(super) mod data;
pub(super) mod dtls;
pub(super) mod ice;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use pipemesh_node_media::srtp::{MasterKeys, Opener, Profile, Sealer};
use rand::rngs::StdRng;

use self::data::{Data, Received, Reliability};
use self::dtls::{Dtls, Identity};
use self::ice::{Credentials, IceAgent};
use super::wire::rtp;

/// SSRCs that a server may use towards one client.
const MAX_SOURCES: usize = 1_024;

/// Media that overtook the end of the handshake, in packets.
const MAX_EARLY: usize = 256;

/// The server's end, as its description says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RemoteEnd {
    pub(crate) credentials: Credentials,
    pub(crate) fingerprint: String,
    pub(crate) candidates: Vec<SocketAddr>,
    /// The description has a section for data.
    pub(crate) data: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// ICE found a way, for the first time or again after a restart.
    Connected,
    /// The DTLS handshake is complete: media flows.
    Secured(Profile),
    Data(Received),
    /// Nothing flows any more.
    Failed(&'static str),
}

/// What a datagram turned out to be, if it is for the media part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrived {
    /// Consumed, or dropped.
    Nothing,
    /// Still sealed: [`Transport::open_rtp`] if it is to be opened.
    Rtp,
    /// Opened in place, of this length.
    Rtcp(usize),
}

pub(crate) struct Transport {
    identity: Arc<Identity>,
    ice: IceAgent,
    /// Of the server's certificate, once described.
    fingerprint: Option<String>,
    /// Begins when ICE has found a way.
    dtls: Option<Dtls>,
    srtp: Option<(Opener, Sealer)>,
    opener: data::Opener,
    data: Option<Data>,
    wants_data: bool,
    early: Vec<Vec<u8>>,
    transmits: VecDeque<(SocketAddr, Bytes)>,
    events: VecDeque<Event>,
    /// Packets that did not prove authentic or were seen before.
    pub(crate) refused: u64,
}

impl Transport {
    pub(crate) fn new(
        identity: Arc<Identity>,
        opener: data::Opener,
        rng: StdRng,
        now: Instant,
    ) -> Self {
        Self {
            identity,
            ice: IceAgent::new(rng, now),
            fingerprint: None,
            dtls: None,
            srtp: None,
            opener,
            data: None,
            wants_data: false,
            early: Vec::new(),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            refused: 0,
        }
    }

    /// One that is connected to `peer` already, with the keys of both directions.
    #[cfg(test)]
    pub(crate) fn keyed(
        identity: Arc<Identity>,
        rng: StdRng,
        keys: &MasterKeys,
        peer: SocketAddr,
        now: Instant,
    ) -> Self {
        let mut transport = Self::new(identity, data::Opener::Client, rng, now);
        transport.secure(keys, peer, now);
        transport
    }

    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn secure(&mut self, keys: &MasterKeys, peer: SocketAddr, now: Instant) {
        self.ice.select(peer);
        self.handle_keys(keys, now);
    }

    pub(crate) fn credentials(&self) -> &Credentials {
        self.ice.local()
    }

    pub(crate) fn ice(&self) -> &IceAgent {
        &self.ice
    }

    pub(crate) fn restart_ice(&mut self) {
        self.ice.restart();
    }

    pub(crate) fn set_remote(&mut self, end: &RemoteEnd, now: Instant) {
        self.wants_data |= end.data;
        self.ice.set_remote(&end.credentials, &end.candidates, now);
        self.fingerprint
            .get_or_insert_with(|| end.fingerprint.clone());
        self.begin_data(now);
        self.collect(now);
    }

    pub(crate) fn add_candidate(&mut self, candidate: SocketAddr, now: Instant) {
        self.ice.add_candidate(candidate, now);
    }

    pub(crate) fn handle_way_lost(&mut self, now: Instant) {
        self.ice.handle_way_lost(now);
    }

    pub(crate) fn is_secured(&self) -> bool {
        self.srtp.is_some()
    }

    pub(crate) fn handle_datagram(&mut self, datagram: &mut [u8], now: Instant) -> Arrived {
        match datagram.first() {
            Some(0..=3) => self.ice.handle_datagram(datagram, now),
            Some(20..=63) => {
                if let Some(dtls) = &mut self.dtls {
                    dtls.handle_datagram(datagram, now);
                }
            }
            Some(128..=191) => return self.handle_media(datagram),
            _ => self.refused += 1,
        }
        self.collect(now);
        Arrived::Nothing
    }

    fn handle_media(&mut self, datagram: &mut [u8]) -> Arrived {
        let Some((opener, _)) = &mut self.srtp else {
            if self.early.len() < MAX_EARLY {
                self.early.push(datagram.to_vec());
            }
            return Arrived::Nothing;
        };
        if !rtp::is_rtcp(datagram) {
            return Arrived::Rtp;
        }
        match opener.open_rtcp(datagram) {
            Ok(len) => Arrived::Rtcp(len),
            Err(_) => {
                self.refused += 1;
                Arrived::Nothing
            }
        }
    }

    /// Opens a packet in place; its length, if it is authentic and new.
    pub(crate) fn open_rtp(&mut self, packet: &mut [u8], header_len: usize) -> Option<usize> {
        let (opener, _) = self.srtp.as_mut()?;
        match opener.open_rtp(packet, header_len) {
            Ok(opened) => Some(opened.len),
            Err(_) => {
                self.refused += 1;
                None
            }
        }
    }

    /// Packets to be handled now that they can be opened.
    pub(crate) fn take_early(&mut self) -> Vec<Vec<u8>> {
        match self.srtp {
            Some(_) => std::mem::take(&mut self.early),
            None => Vec::new(),
        }
    }

    /// Seals a packet whose header and payload stand in `packet`, which has room for the tag.
    /// Answers its length and where it goes.
    pub(crate) fn seal_rtp(
        &mut self,
        index: u64,
        packet: &mut [u8],
        header_len: usize,
        len: usize,
    ) -> Option<(SocketAddr, usize)> {
        let (_, sealer) = self.srtp.as_ref()?;
        let to = self.ice.selected()?;
        let payload_len = len - header_len;
        Some((
            to,
            sealer.seal_rtp_patched(index, packet, header_len, payload_len, &[]),
        ))
    }

    /// Seals and queues a compound. Without keys it is forgotten: the next report says the same.
    pub(crate) fn send_rtcp(&mut self, mut compound: Vec<u8>) {
        let Some((_, sealer)) = &mut self.srtp else {
            return;
        };
        let len = compound.len();
        compound.resize(len + Profile::MAX_OVERHEAD, 0);
        if let (Ok(len), Some(to)) = (sealer.seal_rtcp(&mut compound, len), self.ice.selected()) {
            compound.truncate(len);
            self.transmits.push_back((to, compound.into()));
        }
    }

    /// False if there is no room.
    pub(crate) fn send_data(&mut self, how: Reliability, payload: Bytes, now: Instant) -> bool {
        let sent = self
            .data
            .as_mut()
            .is_some_and(|data| data.send(how, payload, now));
        self.collect(now);
        sent
    }

    pub(crate) fn is_data_open(&self, how: Reliability) -> bool {
        self.data.as_ref().is_some_and(|data| data.is_open(how))
    }

    pub(crate) fn poll_transmit(&mut self) -> Option<(SocketAddr, Bytes)> {
        self.transmits.pop_front()
    }

    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let dtls = self.dtls.as_ref().and_then(Dtls::poll_timeout);
        let data = self.data.as_ref().and_then(Data::poll_timeout);
        [self.ice.poll_timeout(), dtls, data]
            .into_iter()
            .flatten()
            .min()
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.ice.handle_timeout(now);
        if let Some(dtls) = &mut self.dtls {
            dtls.handle_timeout(now);
        }
        if let Some(data) = &mut self.data
            && data.poll_timeout().is_some_and(|at| at <= now)
        {
            data.handle_timeout(now);
        }
        self.collect(now);
    }

    /// Says goodbye to the server.
    pub(crate) fn close(&mut self, now: Instant) {
        if let Some(dtls) = &mut self.dtls {
            dtls.close(now);
        }
        self.collect(now);
    }

    fn begin_data(&mut self, now: Instant) {
        if self.wants_data && self.data.is_none() && self.srtp.is_some() {
            self.data = Data::connect(self.opener, now);
        }
    }

    fn handle_keys(&mut self, keys: &MasterKeys, now: Instant) {
        let opener = Opener::new(&keys.remote, MAX_SOURCES);
        self.srtp = Some((opener, Sealer::new(&keys.local)));
        self.events.push_back(Event::Secured(keys.local.profile()));
        self.begin_data(now);
    }

    /// Moves what the parts have to say into our queues.
    fn collect(&mut self, now: Instant) {
        while let Some(event) = self.ice.poll_event() {
            self.events.push_back(match event {
                ice::Event::Connected => {
                    if let (None, Some(fingerprint)) = (&self.dtls, &self.fingerprint) {
                        self.dtls = Some(Dtls::connect(&self.identity, fingerprint, now));
                    }
                    Event::Connected
                }
                ice::Event::Failed => Event::Failed("the server answers no checks"),
            });
        }
        while let Some((to, check)) = self.ice.poll_transmit() {
            self.transmits.push_back((to, check.into()));
        }
        while let Some(event) = self.dtls.as_mut().and_then(Dtls::poll_event) {
            match event {
                dtls::Event::Connected(keys) => self.handle_keys(&keys, now),
                dtls::Event::Data(datagram) => {
                    if let Some(data) = &mut self.data {
                        data.handle_datagram(datagram, now);
                    }
                }
                dtls::Event::Closed => self
                    .events
                    .push_back(Event::Failed("the server said goodbye")),
                dtls::Event::Failed(why) => self.events.push_back(Event::Failed(why)),
            }
        }
        if let (Some(data), Some(dtls)) = (&mut self.data, &mut self.dtls) {
            while let Some(packets) = data.poll_transmit(now) {
                packets.iter().for_each(|packet| dtls.write(packet, now));
            }
            let received = std::iter::from_fn(|| data.poll_received());
            self.events.extend(received.map(Event::Data));
        }
        let (Some(dtls), Some(to)) = (&mut self.dtls, self.ice.selected()) else {
            return;
        };
        while let Some(datagram) = dtls.poll_transmit() {
            self.transmits.push_back((to, datagram));
        }
    }
}
