//! Where the tracks that a client is sent find a section among those it offers.

use pipemesh_proto::ids::TrackId;

use crate::session::sdp::codecs;
use crate::session::sdp::description::{Description, MAX_SECTIONS};
use crate::session::sdp::outgoing::{Place, Subscription};
use crate::session::sdp::section::RemoteSection;
use crate::session::sdp::track::{MediaKind, SectionsNeeded};

use super::Answerer;
use super::section::{Carriage, Section};

impl Answerer {
    /// What every section of the offer is going to carry, and the tracks that turn out to have no
    /// codec in common with the client.
    pub(super) fn place(&mut self, offer: &Description<'_>) -> (Vec<Carriage>, Vec<TrackId>) {
        let added = self.added_sections(offer);
        let mut carriages: Vec<Carriage> = offer
            .sections
            .iter()
            .map(|section| self.carried(section))
            .collect();
        // Drained by this exchange, to be used in the next.
        let draining: Vec<bool> = offer
            .sections
            .iter()
            .map(|section| self.drains(section))
            .collect();

        let mut unsupported = Vec::new();
        for subscription in self.subscriptions.iter_mut() {
            let track = &subscription.outgoing.track;
            if carries(&carriages, track) {
                continue;
            }
            let candidates = || {
                offer
                    .sections
                    .iter()
                    .filter(|section| section.receives(subscription.kind()))
            };
            let decoding = || candidates().filter(|section| section.decodes(subscription));
            // A section on which the client may come to send as well is the second choice.
            let free = |section: &&RemoteSection<'_>| {
                carriages[section.index] == Carriage::Free && !draining[section.index]
            };
            let place = decoding()
                .filter(free)
                .min_by_key(|section| section.direction.send);
            let place = place.map(|section| section.index);
            let hopeless = candidates().next().is_some() && decoding().next().is_none();
            if let Some(index) = place {
                carriages[index] = Carriage::Carries(track.clone());
            } else if hopeless && subscription.place != Place::Unsupported {
                unsupported.push(track.clone());
            }
            subscription.place = if hopeless {
                Place::Unsupported
            } else {
                Place::Waiting
            };
        }
        let waits = |subscription: &Subscription| {
            subscription.is_waiting() && !carries(&carriages, &subscription.outgoing.track)
        };
        let waiting = self.subscriptions.iter().any(waits);
        self.needs.handle_offer(added, waiting);
        (carriages, unsupported)
    }

    /// A section keeps its track while the client goes on receiving it.
    fn carried(&self, section: &RemoteSection<'_>) -> Carriage {
        let carriage = self
            .section(section.mid)
            .filter(|_| !section.stopped)
            .map(|known| &known.carriage);
        let subscription = carriage
            .and_then(Carriage::track)
            .and_then(|track| self.subscriptions.get(track));
        match subscription {
            Some(subscription)
                if section.receives(subscription.kind()) && section.decodes(subscription) =>
            {
                Carriage::Carries(subscription.outgoing.track.clone())
            }
            _ => Carriage::Free,
        }
    }

    /// Whether the client still takes the section to carry something that it does not.
    fn drains(&self, section: &RemoteSection<'_>) -> bool {
        let carried = self
            .section(section.mid)
            .is_some_and(|known| known.carriage != Carriage::Free);
        carried && self.carried(section) == Carriage::Free
    }

    /// Receiving sections that the last offer did not have.
    fn added_sections(&self, offer: &Description<'_>) -> SectionsNeeded {
        let known = |mid: &str| {
            self.section(mid)
                .is_some_and(|section| !section.decoded.is_empty())
        };
        let added = |kind| {
            let receiving =
                |section: &&RemoteSection<'_>| section.receives(kind) && !known(section.mid);
            offer.sections.iter().filter(receiving).count()
        };
        SectionsNeeded {
            audio: added(MediaKind::Audio),
            video: added(MediaKind::Video),
        }
    }

    /// Sections that the client lacks for the tracks that wait, as far as it may have more.
    pub(super) fn missing_sections(&self) -> SectionsNeeded {
        let mut free: Vec<&Section> = self
            .sections
            .iter()
            .filter(|section| section.carriage == Carriage::Free)
            .collect();
        let mut missing = SectionsNeeded::default();
        for subscription in self
            .subscriptions
            .iter()
            .filter(|subscription| subscription.is_waiting())
        {
            let format = subscription.outgoing.format;
            let fits = |section: &&Section| {
                section
                    .decoded
                    .iter()
                    .any(|decoded| format.fit(*decoded).is_some())
            };
            match (free.iter().position(fits), subscription.kind()) {
                (Some(index), _) => {
                    free.swap_remove(index);
                }
                (None, MediaKind::Audio) => missing.audio += 1,
                (None, MediaKind::Video) => missing.video += 1,
            }
        }
        let room = MAX_SECTIONS.saturating_sub(self.m_lines);
        missing.audio = missing.audio.min(room);
        missing.video = missing.video.min(room - missing.audio);
        missing
    }
}

fn carries(carriages: &[Carriage], track: &TrackId) -> bool {
    carriages
        .iter()
        .any(|carriage| carriage.track() == Some(track))
}

impl RemoteSection<'_> {
    fn decodes(&self, subscription: &Subscription) -> bool {
        let outgoing = &subscription.outgoing;
        !codecs::for_track(&self.codecs, outgoing.format, outgoing.red).is_empty()
    }
}
