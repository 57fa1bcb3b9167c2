//! The subscriber's connection of the dual layout: the node makes every offer.

mod payload_types;
mod section;
#[cfg(test)]
mod tests;
mod write;

use std::collections::BTreeMap;

use pipemesh_proto::ids::TrackId;
use rand::Rng;

use super::codecs;
use super::description::{Description, Kind, MAX_SECTIONS};
use super::error::{SdpError, TrackError};
use super::extensions;
use super::feedback;
use super::format::Format;
use super::local::Origin;
use super::outgoing::{Place, Sending, Subscription, Subscriptions, payload_types};
use super::section::{Media, RemoteSection};
use super::track::{Exchange, MediaKind, Outgoing};
use super::transport::LocalTransport;
use crate::session::ice::Credentials;
use crate::session::plan::{ConnectionPlan, DataPlan, RemoteTransport};
use payload_types::PayloadTypes;
use section::{Carriage, Content, Section};

/// Makes the offers of one peer connection, one at a time, and takes the answers.
///
/// Performs no I/O and reads no clock. [`Offerer::plan`] holds at once, whatever is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offerer {
    local: LocalTransport,
    origin: Origin,
    remote: Option<RemoteTransport>,
    data: Option<DataPlan>,
    subscriptions: Subscriptions,
    payload_types: PayloadTypes,
    /// In the order of the m-lines, which never changes. The first is for data and stays, so that
    /// the transport of all is always that of the first.
    sections: Vec<Section>,
    mids: u32,
    offers: u32,
    outstanding: Option<Outstanding>,
    /// The next offer is due even if nothing else has changed and the last is not answered.
    restart: bool,
}

/// An offer for the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// 1 and up.
    pub id: u32,
    pub sdp: String,
    /// mid to msid track of what the client is sent.
    pub mid_to_track: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Outstanding {
    id: u32,
    /// Indices of the sections that are free once the client has agreed.
    draining: Vec<usize>,
}

impl Offerer {
    /// The first offer is due at once: it has the section for data channels.
    pub fn new(local: LocalTransport, rng: &mut impl Rng) -> Self {
        Self {
            local,
            origin: Origin::new(rng.random()),
            remote: None,
            data: None,
            subscriptions: Subscriptions::default(),
            payload_types: PayloadTypes::default(),
            sections: Vec::new(),
            mids: 0,
            offers: 0,
            outstanding: None,
            restart: false,
        }
    }

    /// Sends the client a track, from the next exchange on.
    pub fn add_outgoing(
        &mut self,
        outgoing: Outgoing,
        rng: &mut impl Rng,
    ) -> Result<(), TrackError> {
        for format in payload_types::formats_of(outgoing.format, outgoing.red) {
            self.payload_types
                .assign(format)
                .ok_or(TrackError::PayloadTypes)?;
        }
        self.subscriptions.add(outgoing, rng)
    }

    /// Stops at once. `false` if the track was not sent.
    pub fn remove_outgoing(&mut self, track: &TrackId) -> bool {
        for section in &mut self.sections {
            if section.track() == Some(track) {
                section.drain();
            }
        }
        self.subscriptions.remove(track).is_some()
    }

    /// Restarts ICE by the next offer. That one takes the place of an outstanding one, which may
    /// have been lost, or its answer, on the way that makes the restart necessary.
    pub fn restart(&mut self, credentials: Credentials) {
        self.local.credentials = credentials;
        self.restart = self.offers > 0;
    }

    /// What holds now; `None` before the first answer.
    pub fn plan(&self) -> Option<ConnectionPlan> {
        Some(ConnectionPlan {
            remote: self.remote.clone()?,
            receive: Vec::new(),
            send: self.subscriptions.plan(),
            data: self.data,
        })
    }

    /// The next offer, if one is due and none is outstanding.
    pub fn poll_offer(&mut self) -> Option<Offer> {
        let waits_for_answer = self.outstanding.is_some() && !self.restart;
        if waits_for_answer || !self.is_due() {
            return None;
        }
        if self.sections.is_empty() {
            let mid = self.new_mid();
            self.sections.push(Section {
                mid,
                content: Content::Data,
            });
        }
        self.place();
        self.origin.advance();
        self.offers += 1;
        self.restart = false;
        let id = self.offers;
        let draining = (0..self.sections.len()).filter(|&index| self.sections[index].is_draining());
        self.outstanding = Some(Outstanding {
            id,
            draining: draining.collect(),
        });
        Some(Offer {
            id,
            sdp: self.write(),
            mid_to_track: self.mid_to_track(),
        })
    }

    /// Takes an answer. One to an older offer is ignored; id 0 stands for the outstanding one.
    pub fn handle_answer(&mut self, id: u32, sdp: &str) -> Result<Option<Exchange>, SdpError> {
        let is_answered = |outstanding: &&Outstanding| id == 0 || id == outstanding.id;
        let Some(outstanding) = self.outstanding.as_ref().filter(is_answered) else {
            return Ok(None);
        };
        let answer = Description::parse(sdp, Kind::Answer)?;
        self.check(&answer)?;
        let Some(remote) = answer.transport.clone().or(self.remote.clone()) else {
            return Err(SdpError::Session {
                expected: "an m-section that is not rejected",
            });
        };

        // Nothing below fails.
        let draining = outstanding.draining.clone();
        self.outstanding = None;
        self.remote = Some(remote);
        self.data = answer.data().map(|(_, plan)| plan);
        let mut unsupported = Vec::new();
        for (index, answered) in answer.sections.iter().enumerate() {
            unsupported.extend(self.agree(index, answered, draining.contains(&index)));
        }
        Ok(Some(Exchange {
            plan: self
                .plan()
                .expect("the peer's transport is known from above"),
            mid_to_track: self.subscriptions.mid_to_track(),
            started: Vec::new(),
            ended: Vec::new(),
            unsupported,
        }))
    }

    /// Whether there is anything that the client has to be told.
    fn is_due(&self) -> bool {
        let can_be_placed = |waiting: &Subscription| self.place_for(waiting.kind()).is_some();
        self.restart
            || self.sections.is_empty()
            || self.sections.iter().any(Section::is_draining)
            || self.unplaced().any(can_be_placed)
    }

    fn unplaced(&self) -> impl Iterator<Item = &Subscription> {
        let has_section = |track| {
            self.sections
                .iter()
                .any(|section| section.track() == Some(track))
        };
        let waiting = self
            .subscriptions
            .iter()
            .filter(|subscription| subscription.is_waiting());
        waiting.filter(move |subscription| !has_section(&subscription.outgoing.track))
    }

    /// Index of the section for another track of this kind, possibly one past the last. `None`:
    /// not before another track ends.
    fn place_for(&self, kind: MediaKind) -> Option<usize> {
        let free = self
            .sections
            .iter()
            .position(|section| section.is_free_for(kind));
        let stopped = || self.sections.iter().position(Section::is_stopped);
        let next = self.sections.len();
        free.or_else(stopped)
            .or((next < MAX_SECTIONS).then_some(next))
    }

    /// Gives every track that waits a section.
    fn place(&mut self) {
        let unplaced: Vec<Outgoing> = self
            .unplaced()
            .map(|subscription| subscription.outgoing.clone())
            .collect();
        for outgoing in unplaced {
            let kind = MediaKind::of(outgoing.format.codec());
            let Some(index) = self.place_for(kind) else {
                continue;
            };
            let formats = self.formats(index, kind, &outgoing);
            let carriage = Carriage::Carries(outgoing.track);
            let content = Content::Media {
                kind,
                formats,
                carriage,
            };
            let reused = self
                .sections
                .get(index)
                .filter(|section| section.is_free_for(kind));
            let mid = reused.map(|section| section.mid.clone());
            let mid = mid.unwrap_or_else(|| self.new_mid());
            let section = Section { mid, content };
            match self.sections.get_mut(index) {
                Some(place) => *place = section,
                None => self.sections.push(section),
            }
        }
    }

    /// What a section lists. The first one for video lists all that is served: some clients (pion)
    /// never take a codec that the first section of its kind did not have.
    fn formats(&mut self, index: usize, kind: MediaKind, outgoing: &Outgoing) -> Vec<Format> {
        let mut formats = payload_types::formats_of(outgoing.format, outgoing.red);
        let earlier = &self.sections[..index];
        if kind == MediaKind::Video && !earlier.iter().any(|section| section.kind() == Some(kind)) {
            let others = payload_types::VIDEO
                .into_iter()
                .filter(|&other| other != formats[0]);
            let others: Vec<Format> = others
                .filter(|&other| self.payload_types.assign(other).is_some())
                .collect();
            formats.extend(others);
        }
        formats
    }

    fn new_mid(&mut self) -> String {
        self.mids += 1;
        (self.mids - 1).to_string()
    }

    /// An answer has the sections of the offer in their order (RFC 8829 section 5.3.1).
    fn check(&self, answer: &Description<'_>) -> Result<(), SdpError> {
        if answer.sections.len() != self.sections.len() {
            return Err(SdpError::Session {
                expected: "as many m-sections as in the offer",
            });
        }
        for (answered, offered) in answer.sections.iter().zip(&self.sections) {
            if answered.stopped {
                continue;
            }
            let same = match &offered.content {
                Content::Data => answered.media == Media::Application,
                Content::Media {
                    carriage: Carriage::Stopped,
                    ..
                } => false,
                Content::Media { kind, .. } => answered.kind() == Some(*kind),
            };
            if !same || answered.mid != offered.mid {
                return Err(answered.refuse("the media and mid that the offer has in this place"));
            }
        }
        Ok(())
    }

    /// Takes on one section of an answer. The track, if the client has no codec for it.
    fn agree(
        &mut self,
        index: usize,
        answered: &RemoteSection<'_>,
        drained: bool,
    ) -> Option<TrackId> {
        let section = &mut self.sections[index];
        let track = section.track().cloned();
        section.agree(answered.stopped, drained);
        let subscription = self.subscriptions.get_mut(&track?)?;
        let outgoing = &subscription.outgoing;
        let chosen = codecs::for_track(&answered.codecs, outgoing.format, outgoing.red);
        let media = chosen.iter().find(|codec| !codec.is_redundancy());
        let Some(media) = media.filter(|_| !answered.stopped) else {
            section.drain();
            subscription.place = Place::Unsupported;
            return Some(subscription.outgoing.track.clone());
        };
        let feedback = feedback::agree(subscription.kind(), media.feedback);
        let mappings = extensions::agree(&answered.mappings);
        let sending = Sending {
            mid: section.mid.clone(),
            codecs: payload_types(&chosen),
            extensions: extensions::sent(&mappings, feedback.transport_wide),
            feedback,
        };
        let receives = answered.direction.receive;
        subscription.place = if receives {
            Place::On(sending)
        } else {
            Place::Waiting
        };
        None
    }

    fn mid_to_track(&self) -> BTreeMap<String, String> {
        let entry = |section: &Section| {
            let subscription = self.subscriptions.get(section.track()?)?;
            Some((
                section.mid.clone(),
                subscription.outgoing.msid.track().to_owned(),
            ))
        };
        self.sections.iter().filter_map(entry).collect()
    }
}
