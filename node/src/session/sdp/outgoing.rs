//! The tracks that a client is sent, each with the SSRCs it keeps and the section that carries it.

use std::collections::BTreeMap;

use pipemesh_proto::ids::TrackId;
use rand::Rng;

use super::codecs::OfferedCodec;
use super::error::TrackError;
use super::text::Writer;
use super::track::{MediaKind, Outgoing};
use crate::session::plan::{Extensions, Feedback, PayloadType, SendSection};

/// Fewer than the sections a connection may have, so that every one can have a place.
const MAX_OUTGOING: usize = 250;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subscription {
    pub(super) outgoing: Outgoing,
    ssrc: u32,
    /// Video only.
    repair_ssrc: Option<u32>,
    pub(super) place: Place,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// For a section, or for the answer that agrees to it.
    Waiting,
    /// The client has no codec for it.
    Unsupported,
    On(Sending),
}

/// What was agreed on for a track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sending {
    pub(super) mid: String,
    pub(super) codecs: Vec<PayloadType>,
    pub(super) extensions: Extensions,
    pub(super) feedback: Feedback,
}

impl Subscription {
    pub(super) fn kind(&self) -> MediaKind {
        MediaKind::of(self.outgoing.format.codec())
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.place == Place::Waiting
    }

    /// The lines that name its streams. `repaired`: a codec of the section has retransmissions.
    pub(super) fn write(&self, repaired: bool, out: &mut Writer) {
        let (stream, track) = (self.outgoing.msid.stream(), self.outgoing.msid.track());
        let ssrc = self.ssrc;
        out.line(format_args!("a=msid:{stream} {track}"));
        let repair_ssrc = self.repair_ssrc.filter(|_| repaired);
        if let Some(repair_ssrc) = repair_ssrc {
            out.line(format_args!("a=ssrc-group:FID {ssrc} {repair_ssrc}"));
        }
        for ssrc in [Some(ssrc), repair_ssrc].into_iter().flatten() {
            out.line(format_args!("a=ssrc:{ssrc} cname:{stream}"));
        }
    }

    fn plan(&self) -> Option<SendSection> {
        let Place::On(sending) = &self.place else {
            return None;
        };
        Some(SendSection {
            mid: sending.mid.clone(),
            track: self.outgoing.track.clone(),
            ssrc: self.ssrc,
            repair_ssrc: self
                .repair_ssrc
                .filter(|_| sending.codecs.iter().any(|codec| codec.repair.is_some())),
            codecs: sending.codecs.clone(),
            extensions: sending.extensions,
            feedback: sending.feedback,
        })
    }
}

/// In the order in which they were added.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Subscriptions(Vec<Subscription>);

impl Subscriptions {
    pub(super) fn add(&mut self, outgoing: Outgoing, rng: &mut impl Rng) -> Result<(), TrackError> {
        if self.get(&outgoing.track).is_some() {
            return Err(TrackError::Exists);
        }
        if self.0.len() == MAX_OUTGOING {
            return Err(TrackError::Limit {
                limit: MAX_OUTGOING,
            });
        }
        let video = outgoing.format.codec().is_video();
        let ssrc = self.draw(&[], rng);
        let repair_ssrc = video.then(|| self.draw(&[ssrc], rng));
        self.0.reserve_exact(1);
        self.0.push(Subscription {
            outgoing,
            ssrc,
            repair_ssrc,
            place: Place::Waiting,
        });
        Ok(())
    }

    /// A new SSRC for every subscription, also to a track that was subscribed to before: a key and
    /// an SSRC must never see an index twice.
    fn draw(&self, taken: &[u32], rng: &mut impl Rng) -> u32 {
        loop {
            let ssrc = rng.random_range(1..u32::MAX);
            let ours = |subscription: &Subscription| {
                subscription.ssrc == ssrc || subscription.repair_ssrc == Some(ssrc)
            };
            if !taken.contains(&ssrc) && !self.0.iter().any(ours) {
                return ssrc;
            }
        }
    }

    pub(super) fn remove(&mut self, track: &TrackId) -> Option<Subscription> {
        let index = self
            .0
            .iter()
            .position(|subscription| subscription.outgoing.track == *track)?;
        Some(self.0.remove(index))
    }

    pub(super) fn get(&self, track: &TrackId) -> Option<&Subscription> {
        self.0
            .iter()
            .find(|subscription| subscription.outgoing.track == *track)
    }

    pub(super) fn get_mut(&mut self, track: &TrackId) -> Option<&mut Subscription> {
        self.0
            .iter_mut()
            .find(|subscription| subscription.outgoing.track == *track)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Subscription> {
        self.0.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Subscription> {
        self.0.iter_mut()
    }

    pub(super) fn plan(&self) -> Vec<SendSection> {
        let mut sections: Vec<_> = self.0.iter().filter_map(Subscription::plan).collect();
        sections.shrink_to_fit();
        sections
    }

    pub(super) fn mid_to_track(&self) -> BTreeMap<String, String> {
        let entry = |subscription: &Subscription| match &subscription.place {
            Place::On(sending) => Some((
                sending.mid.clone(),
                subscription.outgoing.msid.track().to_owned(),
            )),
            Place::Waiting | Place::Unsupported => None,
        };
        self.0.iter().filter_map(entry).collect()
    }
}

pub(super) fn payload_types(codecs: &[&OfferedCodec<'_>]) -> Vec<PayloadType> {
    codecs.iter().map(|codec| codec.payload_type()).collect()
}
