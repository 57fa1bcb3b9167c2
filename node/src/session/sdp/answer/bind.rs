//! Which announced track the client sends on which section.

use pipemesh_proto::ids::TrackId;

use crate::session::sdp::description::Description;
use crate::session::sdp::section::RemoteSection;
use crate::session::sdp::track::{Publication, StartedTrack};

use super::Answerer;
use super::section::{Binding, Section};

impl Answerer {
    /// The binding of every section of the offer, and the tracks that no section has any more.
    ///
    /// A section keeps its track while the client goes on sending under the same msid; the others
    /// are bound by name. Where names cannot be had, a client is taken to publish in the order in
    /// which it announces: Firefox makes all its msids up, and libwebrtc does when an earlier
    /// section still has the name.
    pub(super) fn bind(&mut self, offer: &Description<'_>) -> (Vec<Binding>, Vec<TrackId>) {
        let mut bindings: Vec<Binding> = offer
            .sections
            .iter()
            .map(|section| self.kept(section))
            .collect();
        let was_bound = |track| {
            self.sections
                .iter()
                .any(|section| section.track() == Some(track))
        };
        let mut unbound: Vec<&Publication> = self
            .publications
            .iter()
            .filter(|publication| !was_bound(&publication.track))
            .collect();

        let mut named = false;
        for section in &offer.sections {
            let binding = &mut bindings[section.index];
            // A client that publishes a track again announces it again: the latest counts.
            let is_named = |publication: &&Publication| {
                section.sends(publication.kind)
                    && section.client_track() == publication.client_track
            };
            let found = unbound.iter().rposition(is_named);
            if let (None, Some(found)) = (binding.track(), found) {
                *binding = Binding::Bound(unbound.remove(found).track.clone());
                named = true;
            }
        }
        let msids_name_tracks = self.msids_name_tracks || named;
        let is_taken = |name: &str| {
            offer
                .sections
                .iter()
                .any(|section| section.client_track() == name)
        };
        unbound.retain(|publication| !msids_name_tracks || is_taken(&publication.client_track));
        for section in &offer.sections {
            let binding = &mut bindings[section.index];
            let found = unbound
                .iter()
                .position(|publication| section.sends(publication.kind));
            if let (Binding::Open, Some(found)) = (&binding, found) {
                *binding = Binding::Bound(unbound.remove(found).track.clone());
            }
        }

        let gone = |track: &&TrackId| {
            !bindings
                .iter()
                .any(|binding| binding.track() == Some(*track))
        };
        let ended = self
            .sections
            .iter()
            .filter_map(Section::track)
            .filter(gone)
            .cloned()
            .collect();
        self.msids_name_tracks = msids_name_tracks;
        (bindings, ended)
    }

    /// Binds a track that is announced only now to a section that the client already sends on.
    pub(super) fn bind_late(&mut self, publication: &Publication) -> Option<StartedTrack> {
        let is = |section: &Section, binding: &Binding| {
            let reception = section.reception.as_ref();
            section.kind == publication.kind
                && reception.is_some_and(|known| known.binding == *binding)
        };
        let name = &publication.client_track;
        let is_named = |section: &Section| {
            section.client_track == *name
                && (is(section, &Binding::Open) || is(section, &Binding::Withdrawn))
        };
        let named = self.sections.iter().position(is_named);
        let is_taken = self
            .sections
            .iter()
            .any(|section| section.client_track == *name);
        let may_be_made_up = !self.msids_name_tracks || is_taken;
        let open = |section: &Section| may_be_made_up && is(section, &Binding::Open);
        let found = named.or_else(|| self.sections.iter().position(open))?;
        self.msids_name_tracks |= named.is_some();
        let section = &mut self.sections[found];
        section.reception.as_mut()?.binding = Binding::Bound(publication.track.clone());
        section.started(publication)
    }

    fn kept(&self, offered: &RemoteSection<'_>) -> Binding {
        let known = self.section(offered.mid).filter(|known| {
            offered.sends(known.kind) && offered.client_track() == known.client_track
        });
        let reception = known.and_then(|known| known.reception.as_ref());
        reception.map_or(Binding::Open, |known| known.binding.clone())
    }
}
