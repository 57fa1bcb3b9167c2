//! One peer connection on its shard: ICE, DTLS, keys, data channels and what the client sends. The
//! sending side that every packet needs is its [`Link`](super::wire::Link).
//!
//! Knows neither rooms nor other sessions.

use std::collections::HashMap;
use std::time::Instant;

use pipemesh_node_core::bandwidth::Limits;
use pipemesh_node_core::bandwidth::incoming::IncomingBandwidth;
use pipemesh_node_core::ingress::Ingress;
use pipemesh_node_core::rtcp::ArrivalLog;
use pipemesh_node_core::wheel::Alarm;
use pipemesh_node_media::srtp::{MasterKey, Opener, Profile, Sealer, WrongLength};

use super::command::Role;
use super::event::ConnectionState;
use super::inbound::Inbound;
use super::newcomers::Begun;
use crate::session::dtls::{Connected, DtlsTransport, SrtpProfile, is_announced};
use crate::session::handshake::ConnectionKey;
use crate::session::ice::{Credentials, IceAgent};
use crate::session::plan::{DataPlan, RemoteTransport, SendSection};
use crate::session::sctp::{ChannelId, DataChannels};

/// SSRCs that a client may send under beyond those that were negotiated: of RTCP, and for a while of what
/// has ended or was begun anew.
const SPARE_SOURCES: usize = 16;

/// SSRCs that one connection is sent under in its life: hours of switching tracks every second.
const MAX_SPENT: usize = 1 << 16;

pub(crate) struct Connection {
    pub(crate) key: ConnectionKey,
    /// Index of the session.
    pub(crate) session: usize,
    pub(crate) role: Role,
    pub(crate) ice: IceAgent,
    pub(crate) dtls: Dtls,
    pub(crate) begun: Begun,
    /// What the client announced of itself; none before its description came.
    pub(crate) remote: Option<RemoteTransport>,
    held: Option<Box<Held>>,
    /// None until the client's certificate is verified.
    pub(crate) opener: Option<Opener>,
    pub(crate) inbound: Inbound,
    /// How much more may come in.
    pub(crate) ingress: Ingress,
    pub(crate) arrivals: ArrivalLog,
    /// Of a client that has to be told what its way to us can take.
    pub(crate) incoming: Option<Box<IncomingBandwidth>>,
    /// A timer is set for feedback on what arrived.
    pub(crate) feedback_due: bool,
    pub(crate) send: Vec<SendSection>,
    /// The first number never used, of every SSRC that was sent under and is not now: no two
    /// packets may have one (key, SSRC, index), however often a subscription comes and goes.
    spent: HashMap<u32, u64>,
    pub(crate) data_plan: Option<DataPlan>,
    pub(crate) data: Option<Box<DataChannels>>,
    /// The channels that carry data packets.
    pub(crate) reliable: Option<ChannelId>,
    pub(crate) lossy: Option<ChannelId>,
    /// Numbers full intra requests.
    pub(crate) intra_requests: u8,
    /// Whom our RTCP messages come from.
    pub(crate) ssrc: u32,
    pub(crate) state: ConnectionState,
    /// For its own state machines.
    pub(crate) alarm: Alarm,
}

pub(crate) enum Dtls {
    /// No ClientHello has come yet.
    Idle,
    /// The pool has it.
    Handshaking,
    Ready(Box<dyn DtlsTransport>),
    Over,
}

/// Keys of a client that has not been verified: nothing is sent or accepted under them.
struct Held {
    sealer: Sealer,
    opener: Opener,
    certificate: Vec<u8>,
}

/// What the comparison of the client's certificate came to.
pub(crate) enum Verified {
    /// Not both sides of it are there yet.
    Undecided,
    /// From now on packets can be sealed.
    Matches(Sealer),
    Differs,
}

impl Connection {
    pub(crate) fn new(
        key: ConnectionKey,
        session: usize,
        role: Role,
        credentials: Credentials,
        ssrc: u32,
        ingress: Ingress,
        now: Instant,
    ) -> Self {
        Self {
            key,
            session,
            role,
            ice: IceAgent::new(credentials),
            dtls: Dtls::Idle,
            begun: Begun::default(),
            remote: None,
            held: None,
            opener: None,
            inbound: Inbound::default(),
            ingress,
            arrivals: ArrivalLog::new(now),
            incoming: None,
            feedback_due: false,
            send: Vec::new(),
            spent: HashMap::new(),
            data_plan: None,
            data: None,
            reliable: None,
            lossy: None,
            intra_requests: 0,
            ssrc,
            state: ConnectionState::New,
            alarm: Alarm::default(),
        }
    }

    /// The handshake is complete; the keys are held back until [`Self::verify`].
    pub(crate) fn hold(&mut self, connected: Connected) -> Result<(), WrongLength> {
        let profile = match connected.keys.profile {
            SrtpProfile::AeadAes128Gcm => Profile::AeadAes128Gcm,
            SrtpProfile::Aes128CmSha1_80 => Profile::AesCm128HmacSha1_80,
        };
        let (ours, theirs) = (connected.keys.server(), connected.keys.client());
        self.held = Some(Box::new(Held {
            sealer: Sealer::new(&MasterKey::new(profile, ours.key, ours.salt)?),
            opener: Opener::new(
                &MasterKey::new(profile, theirs.key, theirs.salt)?,
                self.max_sources(),
            ),
            certificate: connected.peer_certificate,
        }));
        Ok(())
    }

    /// There is room for the packets of all that has been negotiated.
    pub(crate) fn allow_sources(&mut self) {
        let most = self.max_sources();
        let held = self.held.as_mut().map(|held| &mut held.opener);
        if let Some(opener) = self.opener.as_mut().or(held) {
            opener.allow_sources(most);
        }
    }

    fn max_sources(&self) -> usize {
        // Receivers may report each section under an SSRC of its own.
        self.inbound.max_streams() + self.send.len() + SPARE_SOURCES
    }

    /// Compares the client's certificate with what its description announced (RFC 8122 section 5), as
    /// soon as both are there; whichever comes last.
    pub(crate) fn verify(&mut self) -> Verified {
        let Some(remote) = &self.remote else {
            return Verified::Undecided;
        };
        let Some(held) = self.held.take() else {
            return Verified::Undecided;
        };
        if !is_announced(&held.certificate, &remote.fingerprints) {
            return Verified::Differs;
        }
        self.opener = Some(held.opener);
        Verified::Matches(held.sealer)
    }

    /// The number an SSRC begins with: where it left off, else `fresh`, which is below 2^15. `None`: so
    /// many were used that no more are kept account of.
    pub(crate) fn first_number(&self, ssrc: u32, fresh: u64) -> Option<u64> {
        match self.spent.get(&ssrc) {
            Some(next) => Some(*next),
            None if self.spent.len() < MAX_SPENT => Some(fresh),
            None => None,
        }
    }

    pub(crate) fn note_spent(&mut self, numbers: impl Iterator<Item = (u32, u64)>) {
        self.spent.extend(numbers);
    }

    /// From now on a client that negotiated it is told what its way to us can take.
    pub(crate) fn begin_estimate(&mut self, now: Instant) {
        let is_told = self.inbound.absolute_send_time().is_some();
        if is_told && self.incoming.is_none() {
            let incoming = IncomingBandwidth::new(Limits::default(), now);
            self.incoming = Some(Box::new(incoming));
        }
    }

    /// When this connection's own state machines want to be called.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let dtls = match &self.dtls {
            Dtls::Ready(dtls) => dtls.poll_timeout(),
            Dtls::Idle | Dtls::Handshaking | Dtls::Over => None,
        };
        let data = self.data.as_ref().and_then(|data| data.poll_timeout());
        [self.ice.poll_timeout(), dtls, data]
            .into_iter()
            .flatten()
            .min()
    }
}
