//! A connection on which the client makes every offer: the only one of the single layout, and the
//! publisher's of the dual layout.

mod bind;
mod needs;
mod place;
mod reply;
mod section;
#[cfg(test)]
mod tests;

use pipemesh_proto::ids::TrackId;
use rand::Rng;

use super::description::{Description, Kind};
use super::error::{SdpError, TrackError};
use super::format::Format;
use super::local::{self, Origin, SectionHead};
use super::outgoing::{Place, Subscriptions};
use super::section::RemoteSection;
use super::text::Writer;
use super::track::{Exchange, MediaKind, Outgoing, Publication, SectionsNeeded, StartedTrack};
use super::transport::{LocalTransport, Setup};
use crate::session::ice::Credentials;
use crate::session::plan::{ConnectionPlan, DataPlan, RemoteTransport};
use needs::Needs;
use reply::{Reply, Wish};
use section::{Binding, Carriage, Section};

/// Announced tracks of one client.
const MAX_PUBLICATIONS: usize = 250;

/// Answers the offers of one peer connection. Offers have to be handled in the order in which they
/// were made.
///
/// Performs no I/O and reads no clock. Whatever is called, [`Answerer::plan`] holds at once for
/// what concerns our own sending, and for the client's sending once it has the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answerer {
    local: LocalTransport,
    origin: Origin,
    remote: Option<RemoteTransport>,
    data: Option<DataPlan>,
    /// Every one is bound to at most one section.
    publications: Vec<Publication>,
    subscriptions: Subscriptions,
    /// The audio and video sections of the last exchange, but for rejected ones.
    sections: Vec<Section>,
    /// Sections of every kind in the last offer.
    m_lines: usize,
    /// The client's msids have been seen to name its tracks.
    msids_name_tracks: bool,
    needs: Needs,
}

/// The answer to an offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub sdp: String,
    /// The offer restarted ICE: the answer has new credentials.
    pub restarted_ice: bool,
    pub exchange: Exchange,
}

impl Answerer {
    pub fn new(local: LocalTransport, rng: &mut impl Rng) -> Self {
        Self {
            local,
            origin: Origin::new(rng.random()),
            remote: None,
            data: None,
            publications: Vec::new(),
            subscriptions: Subscriptions::default(),
            sections: Vec::new(),
            m_lines: 0,
            msids_name_tracks: false,
            needs: Needs::default(),
        }
    }

    /// A track is going to be published, or already is: then it starts at once.
    pub fn announce(
        &mut self,
        publication: Publication,
    ) -> Result<Option<StartedTrack>, TrackError> {
        if self.publication(&publication.track).is_some() {
            return Err(TrackError::Exists);
        }
        if self.publications.len() == MAX_PUBLICATIONS {
            let limit = MAX_PUBLICATIONS;
            return Err(TrackError::Limit { limit });
        }
        let started = self.bind_late(&publication);
        self.publications.push(publication);
        Ok(started)
    }

    /// Ends a publication, whatever the client goes on sending. `false` if there is none.
    pub fn withdraw(&mut self, track: &TrackId) -> bool {
        for section in &mut self.sections {
            section.withdraw(track);
        }
        let before = self.publications.len();
        self.publications.retain(|known| known.track != *track);
        self.publications.len() < before
    }

    /// Sends the client a track, from the next offer on that has a place for it.
    pub fn add_outgoing(
        &mut self,
        outgoing: Outgoing,
        rng: &mut impl Rng,
    ) -> Result<(), TrackError> {
        self.subscriptions.add(outgoing, rng)
    }

    /// Stops at once. `false` if the track was not sent.
    pub fn remove_outgoing(&mut self, track: &TrackId) -> bool {
        for section in &mut self.sections {
            if section.carriage.track() == Some(track) {
                section.carriage = Carriage::Draining;
            }
        }
        self.subscriptions.remove(track).is_some()
    }

    /// What to ask the client for; to be polled after every other call that changes anything.
    pub fn poll_sections_needed(&mut self) -> Option<SectionsNeeded> {
        let missing = self.missing_sections();
        let waiting = self.subscriptions.iter().any(|known| known.is_waiting());
        // A client learns that a track is gone by an exchange, and only it can begin one.
        let draining = self
            .sections
            .iter()
            .any(|known| known.carriage == Carriage::Draining);
        self.needs.poll(missing, waiting || draining)
    }

    /// What holds now; `None` before the first exchange.
    pub fn plan(&self) -> Option<ConnectionPlan> {
        let receive = |section: &Section| section.plan(self.publication(section.track()?)?);
        Some(ConnectionPlan {
            remote: self.remote.clone()?,
            receive: self.sections.iter().filter_map(receive).collect(),
            send: self.subscriptions.plan(),
            data: self.data,
        })
    }

    /// Answers an offer. `fresh` is asked for credentials if the offer restarts ICE (RFC 8839
    /// section 4.4.1.1.1).
    pub fn handle_offer(
        &mut self,
        sdp: &str,
        fresh: impl FnOnce() -> Credentials,
    ) -> Result<Answer, SdpError> {
        let offer = Description::parse(sdp, Kind::Offer)?;
        let Some(remote) = offer.transport.clone().or(self.remote.clone()) else {
            return Err(SdpError::Session {
                expected: "an m-section",
            });
        };

        // Nothing below fails.
        let restarted_ice = self
            .remote
            .as_ref()
            .is_some_and(|known| restarts(known, &remote));
        if restarted_ice {
            self.local.credentials = fresh();
        }
        self.remote = Some(remote);
        self.data = offer.data().map(|(_, plan)| plan);
        self.origin.advance();

        let (bindings, ended) = self.bind(&offer);
        self.publications
            .retain(|known| !ended.contains(&known.track));
        let (carriages, unsupported) = self.place(&offer);
        let wishes = self.wishes(&offer, &bindings, &carriages);
        let replies: Vec<Option<Reply<'_, '_>>> = offer
            .sections
            .iter()
            .zip(&wishes)
            .map(|(section, wish)| Reply::new(section, wish))
            .collect();
        let answer = self.write(sdp.len(), &offer, &replies);
        let sections: Vec<Section> = replies.iter().flatten().map(Section::new).collect();
        let sendings: Vec<_> = replies
            .iter()
            .flatten()
            .filter_map(Reply::sending)
            .collect();

        let started = sections
            .iter()
            .filter_map(|section| self.newly_started(section))
            .collect();
        self.sections = sections;
        self.m_lines = offer.sections.len();
        for (track, sending) in sendings {
            if let Some(subscription) = self.subscriptions.get_mut(&track) {
                subscription.place = Place::On(sending);
            }
        }
        let plan = self
            .plan()
            .expect("the peer's transport is known from above");
        let mid_to_track = self.subscriptions.mid_to_track();
        let exchange = Exchange {
            plan,
            mid_to_track,
            started,
            ended,
            unsupported,
        };
        Ok(Answer {
            sdp: answer,
            restarted_ice,
            exchange,
        })
    }

    /// What is wanted of each section of the offer.
    fn wishes<'s>(
        &'s self,
        offer: &Description<'_>,
        bindings: &'s [Binding],
        carriages: &'s [Carriage],
    ) -> Vec<Wish<'s>> {
        let publication = |binding: &Binding| self.publication(binding.track()?);
        let audio = |publication: &&Publication| publication.kind == MediaKind::Audio;
        let opus = bindings
            .iter()
            .filter_map(publication)
            .find(audio)
            .map(reply::opus_fmtp);
        let opus = opus.unwrap_or_else(|| Format::Opus { stereo: false }.fmtp().into_owned());
        let wish = |section: &RemoteSection<'_>| {
            let (binding, carriage) = (&bindings[section.index], &carriages[section.index]);
            Wish {
                binding,
                publication: publication(binding),
                started: self.started_format(section.mid, binding.track()),
                carriage,
                subscription: carriage
                    .track()
                    .and_then(|track| self.subscriptions.get(track)),
                opus: opus.clone(),
            }
        };
        offer.sections.iter().map(wish).collect()
    }

    fn write(
        &self,
        size: usize,
        offer: &Description<'_>,
        replies: &[Option<Reply<'_, '_>>],
    ) -> String {
        let data = offer.data().map(|(section, _)| section.index);
        let accepted = |mid: &&str| {
            let is = |section: &&RemoteSection<'_>| !section.stopped && section.mid == *mid;
            let index = offer.sections.iter().find(is).map(|section| section.index);
            index.is_some_and(|index| replies[index].is_some() || data == Some(index))
        };
        let bundle: Vec<&str> = offer.bundle().filter(accepted).collect();
        let mut out = Writer::with_capacity(size);
        local::write_session(
            self.origin,
            bundle.iter().copied(),
            offer.allow_mixed,
            &mut out,
        );
        let shared = self.local.section_lines(Setup::Server);
        let candidates = self.local.candidate_lines();
        for (section, reply) in offer.sections.iter().zip(replies) {
            let tagged = !section.stopped && bundle.first() == Some(&section.mid);
            let transport = [shared.as_str(), if tagged { &candidates } else { "" }];
            let RemoteSection {
                name: media,
                protocol,
                payload_types,
                mid,
                ..
            } = *section;
            match reply {
                Some(reply) => reply.write(transport, &mut out),
                None if data == Some(section.index) => {
                    let head = SectionHead {
                        media,
                        protocol,
                        mid,
                        transport,
                    };
                    head.write_data(self.local.max_message_size, &mut out);
                }
                None => local::write_stopped(media, protocol, payload_types, mid, &mut out),
            }
        }
        out.finish()
    }

    /// A track that was not agreed on before, or not with this codec.
    fn newly_started(&self, section: &Section) -> Option<StartedTrack> {
        let before = self.started_format(&section.mid, section.track());
        let is_new = before != section.format();
        section
            .started(self.publication(section.track()?)?)
            .filter(|_| is_new)
    }

    /// The format that a track was last agreed on with.
    fn started_format(&self, mid: &str, track: Option<&TrackId>) -> Option<Format> {
        let section = self.section(mid).filter(|section| section.track() == track);
        section.filter(|_| track.is_some())?.format()
    }

    fn publication(&self, track: &TrackId) -> Option<&Publication> {
        self.publications.iter().find(|known| known.track == *track)
    }

    fn section(&self, mid: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.mid == mid)
    }
}

fn restarts(known: &RemoteTransport, offered: &RemoteTransport) -> bool {
    known.ufrag != offered.ufrag || known.password != offered.password
}
