//! Offers and answers: which section of which connection carries what.
//!
//! On the publishing connection the participant offers, and in the single layout it is sent its
//! tracks there as well; on the subscribing one the server offers.

use std::time::Instant;

use livekit_protocol::SessionDescription;
use livekit_protocol::signal_request::Message as Request;
use livekit_protocol::{SignalTarget, TrickleRequest};

use super::{Layout, User};
use crate::media::receiver::Setup as Incoming;
use crate::media::sender::Terms;
use crate::sdp::{
    Description, Direction, Format, Local, Media, Outline, Section, read_candidate, write,
};

/// Receiving sections of the first offer in the single layout, as livekit-client's.
const FIRST_SECTIONS: u32 = 3;
/// Of either kind. Servers are asked for more than they need by nobody else.
const MAX_SECTIONS: usize = 600;

const RECEIVE: Direction = Direction {
    send: false,
    receive: true,
};
const INACTIVE: Direction = Direction {
    send: false,
    receive: false,
};
const SEND: Direction = Direction {
    send: true,
    receive: false,
};

/// The publishing connection's sections, in order; the mid is the place.
pub(super) struct Negotiation {
    fingerprint: String,
    sections: Vec<Use>,
    version: u64,
    /// Of the offer that is not answered.
    outstanding: Option<u32>,
    next_id: u32,
    /// Something changed since.
    changed: bool,
    /// For the server, should it have forgotten.
    pub(super) last_offer: Option<SessionDescription>,
    pub(super) last_answer: Option<SessionDescription>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Use {
    Receive(Media),
    Data,
    /// By the client's id of the track.
    Send(Format, String),
    /// Its track is not published any more.
    Ended(Format, Stage),
}

/// How far an end has come. A section changes hands by way of being inactive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Wanted,
    Offered,
    /// Another track may have it.
    Free,
}

impl Negotiation {
    pub(super) fn new(fingerprint: &str) -> Self {
        Self {
            fingerprint: fingerprint.to_owned(),
            sections: Vec::new(),
            version: 1,
            outstanding: None,
            next_id: 1,
            changed: false,
            last_offer: None,
            last_answer: None,
        }
    }

    /// The sections of the first offer.
    pub(super) fn begin(&mut self, layout: Layout, data: bool) {
        if layout == Layout::Single {
            self.add_receiving(FIRST_SECTIONS, FIRST_SECTIONS);
        }
        self.sections.extend(data.then_some(Use::Data));
    }

    pub(super) fn add_receiving(&mut self, audio: u32, video: u32) {
        for (media, count) in [(Media::Audio, audio), (Media::Video, video)] {
            let room = MAX_SECTIONS.saturating_sub(self.sections.len());
            let count = room.min(count as usize);
            self.sections
                .extend(std::iter::repeat_n(Use::Receive(media), count));
        }
    }

    pub(super) fn add_sending(&mut self, format: Format, client_id: &str) {
        let is_free = |it: &&mut Use| match it {
            Use::Ended(former, Stage::Free) => former.media() == format.media(),
            _ => false,
        };
        let sending = Use::Send(format, client_id.to_owned());
        match self.sections.iter_mut().find(is_free) {
            Some(section) => *section = sending,
            None => self.sections.push(sending),
        }
    }

    pub(super) fn end_sending(&mut self, client_id: &str) {
        for section in &mut self.sections {
            if let Use::Send(format, sent) = section
                && sent == client_id
            {
                *section = Use::Ended(*format, Stage::Wanted);
            }
        }
    }

    fn note_offered(&mut self) {
        for section in &mut self.sections {
            if let Use::Ended(_, stage @ Stage::Wanted) = section {
                *stage = Stage::Offered;
            }
        }
    }

    /// What the server has rejected stays so.
    fn note_answered(&mut self, place: usize, rejected: bool) {
        if let Some(Use::Ended(_, stage @ Stage::Offered)) = self.sections.get_mut(place)
            && !rejected
        {
            *stage = Stage::Free;
        }
    }

    /// The server may never have seen it.
    pub(super) fn forget_outstanding(&mut self) {
        self.outstanding = None;
    }
}

impl User {
    /// Offers what is wanted, or does when the offer before is answered.
    pub(super) fn offer(&mut self) {
        if self.negotiation.outstanding.is_some() {
            self.negotiation.changed = true;
            return;
        }
        let outlines: Vec<Outline> = (0..)
            .zip(&self.negotiation.sections)
            .map(|(place, section)| self.outline(place, section))
            .collect();
        let negotiation = &mut self.negotiation;
        let local = Local {
            credentials: self.connections[0].transport.credentials(),
            fingerprint: &negotiation.fingerprint,
            is_answer: false,
            version: negotiation.version,
        };
        let offer = SessionDescription {
            r#type: "offer".to_owned(),
            sdp: write(&local, &outlines),
            id: negotiation.next_id,
            ..Default::default()
        };
        negotiation.note_offered();
        negotiation.outstanding = Some(offer.id);
        negotiation.changed = false;
        negotiation.next_id += 1;
        negotiation.version += 1;
        negotiation.last_offer = Some(offer.clone());
        self.signals.push_back(Request::Offer(offer));
    }

    fn outline(&self, place: u32, section: &Use) -> Outline {
        let mid = place.to_string();
        match section {
            Use::Receive(media) => Outline::offer(*media, mid, RECEIVE),
            Use::Ended(format, _) => {
                let mut outline = Outline::offer(format.media(), mid, INACTIVE);
                outline.formats = vec![format.numbered()];
                outline
            }
            Use::Data => Outline::offer(Media::Application, mid, SEND),
            Use::Send(format, client_id) => {
                let mut outline = Outline::offer(format.media(), mid, SEND);
                outline.formats = vec![format.numbered()];
                outline.track = Some(client_id.clone());
                if let Some(published) = self.published(client_id) {
                    outline.rids = published.rids();
                    if outline.rids.is_empty() {
                        outline.ssrcs = self.outgoing(client_id).map(|it| it.ssrcs());
                    }
                }
                outline
            }
        }
    }

    pub(super) fn handle_answer(&mut self, answer: &SessionDescription, now: Instant) {
        // Servers that know no ids answer one offer after the other.
        if answer.id != 0 && self.negotiation.outstanding != Some(answer.id) {
            return;
        }
        self.negotiation.outstanding = None;
        let description = Description::parse(&answer.sdp);
        self.set_remote_end(0, &description, now);
        let mut incoming = Vec::new();
        for section in &description.sections {
            let place = section.mid.parse::<usize>().ok();
            match place.and_then(|place| self.negotiation.sections.get(place)) {
                Some(Use::Send(format, client_id)) => {
                    let (client_id, terms) = (client_id.clone(), terms(section, *format));
                    self.set_terms(&client_id, terms, now);
                }
                Some(Use::Receive(_)) => {
                    let told = answer.mid_to_track_id.get(&section.mid);
                    incoming.extend(carried(section, told));
                }
                Some(Use::Data | Use::Ended(..)) | None => {}
            }
            if let Some(place) = place {
                self.negotiation.note_answered(place, section.rejected);
            }
        }
        if self.setup.layout == Layout::Single {
            self.set_incoming(incoming, &description);
        }
        if self.negotiation.changed {
            self.offer();
        }
    }

    /// The server's offer on the subscribing connection.
    pub(super) fn handle_offer(&mut self, offer: &SessionDescription, now: Instant) {
        let Some(place) = self
            .connections
            .len()
            .checked_sub(1)
            .filter(|place| *place > 0)
        else {
            return;
        };
        let description = Description::parse(&offer.sdp);
        // New credentials of the server's ask for new ones of ours (RFC 8839 section 4.4.1.1.1).
        if let Some(end) = description.remote_end(self.setup.protocol)
            && self.connections[place]
                .transport
                .ice()
                .is_restart(&end.credentials)
        {
            self.connections[place].transport.restart_ice();
        }
        self.set_remote_end(place, &description, now);
        let tracks = description.sections.iter().filter_map(|section| {
            let told = offer.mid_to_track_id.get(&section.mid);
            carried(section, told)
        });
        let incoming: Vec<_> = tracks.collect();
        self.set_incoming(incoming, &description);
        let outlines: Vec<Outline> = description.sections.iter().map(answer_to).collect();
        let negotiation = &mut self.negotiation;
        let local = Local {
            credentials: self.connections[place].transport.credentials(),
            fingerprint: &negotiation.fingerprint,
            is_answer: true,
            version: negotiation.version,
        };
        let answer = SessionDescription {
            r#type: "answer".to_owned(),
            sdp: write(&local, &outlines),
            id: offer.id,
            ..Default::default()
        };
        negotiation.version += 1;
        negotiation.last_answer = Some(answer.clone());
        self.signals.push_back(Request::Answer(answer));
    }

    pub(super) fn handle_trickle(&mut self, trickle: &TrickleRequest, now: Instant) {
        let place = match trickle.target() {
            SignalTarget::Publisher => 0,
            SignalTarget::Subscriber => self.connections.len() - 1,
        };
        let init: Option<serde_json::Value> = serde_json::from_str(&trickle.candidate_init).ok();
        let candidate = init.as_ref().and_then(|init| init["candidate"].as_str());
        if let Some((protocol, candidate)) = candidate.and_then(read_candidate)
            && protocol == self.setup.protocol
            && candidate.is_ipv4() == self.setup.ipv4
        {
            self.connections[place]
                .transport
                .add_candidate(candidate, now);
        }
    }

    fn set_remote_end(&mut self, place: usize, description: &Description, now: Instant) {
        if let Some(mut end) = description.remote_end(self.setup.protocol) {
            let ipv4 = self.setup.ipv4;
            end.candidates
                .retain(|candidate| candidate.is_ipv4() == ipv4);
            self.connections[place].transport.set_remote(&end, now);
        }
    }

    fn set_incoming(
        &mut self,
        sections: Vec<(String, String, Incoming)>,
        description: &Description,
    ) {
        let extensions = description.sections.iter().find(|it| it.extensions.mid > 0);
        let feedback =
            |it: &&Section| it.direction.send && it.codecs.iter().any(|codec| codec.transport_cc);
        let feedback = description.sections.iter().find(feedback);
        let mid = extensions.map_or(0, |it| it.extensions.mid);
        let transport_cc = feedback.map_or(0, |it| it.extensions.transport_cc);
        let place = self.connections.len() - 1;
        let expected = |sid: &str| self.remote.get(sid).map(|it| it.stamp(&self.room));
        let connection = &mut self.connections[place];
        connection.set_extensions(mid, transport_cc);
        let ended = connection.set_incoming(sections, expected);
        ended.into_iter().for_each(|it| self.lose(it));
        for incoming in self.connections[place].incoming_mut() {
            if let Some(former) = self.lost.remove(&incoming.sid) {
                incoming.receiver.follow(former);
            }
        }
    }
}

/// What we send on a section that the server accepted.
fn terms(answered: &Section, format: Format) -> Option<Terms> {
    if answered.rejected || !answered.direction.receive {
        return None;
    }
    let mut formats = answered.formats().map(|(numbered, _)| numbered);
    let numbered = formats.find(|numbered| numbered.format == format)?;
    Some(Terms {
        payload_type: numbered.payload_type,
        repair_payload_type: numbered.repair,
        extensions: answered.extensions,
        mid: answered.mid.clone(),
    })
}

/// What the server sends on a section.
fn carried(section: &Section, told: Option<&String>) -> Option<(String, String, Incoming)> {
    if section.rejected || !section.direction.send || section.media == Media::Application {
        return None;
    }
    let sid = told.or(section.track.as_ref())?;
    // An answer lists what is sent, and nothing else.
    let (numbered, codec) = section.formats().next()?;
    let ssrc = match section.repair {
        Some((media, _)) => media,
        None => *section.ssrcs.first()?,
    };
    let incoming = Incoming {
        format: numbered.format,
        ssrc,
        repair_ssrc: section
            .repair
            .map(|(_, repair)| repair)
            .filter(|_| numbered.repair.is_some()),
        payload_type: numbered.payload_type,
        repair_payload_type: numbered.repair,
        nack: codec.nack,
    };
    Some((section.mid.clone(), sid.clone(), incoming))
}

/// Our answer to a section: what is sent is received, if we have its codec.
fn answer_to(offered: &Section) -> Outline {
    let formats: Vec<_> = offered.formats().collect();
    let direction = Direction {
        send: false,
        receive: offered.direction.send,
    };
    let is_data = offered.media == Media::Application;
    Outline {
        media: offered.media,
        mid: offered.mid.clone(),
        rejected: offered.rejected || (formats.is_empty() && !is_data),
        direction,
        formats: formats.iter().map(|(numbered, _)| *numbered).collect(),
        transport_cc: formats.iter().any(|(_, codec)| codec.transport_cc),
        extensions: offered.extensions,
        track: None,
        rids: Vec::new(),
        ssrcs: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_has_another_track_once_the_server_knows_that_its_own_ended() {
        let mut negotiation = Negotiation::new("");
        negotiation.add_sending(Format::Vp8, "first");
        negotiation.end_sending("first");
        let sent = |it: &Negotiation| -> Vec<Option<String>> {
            let sent = it.sections.iter().map(|section| match section {
                Use::Send(_, client_id) => Some(client_id.clone()),
                _ => None,
            });
            sent.collect()
        };
        let some = |name: &str| Some(name.to_owned());
        // The answer to an offer before is not about it, nor is one that is not there yet.
        negotiation.note_answered(0, false);
        negotiation.add_sending(Format::Vp8, "second");
        assert_eq!(sent(&negotiation), [None, some("second")]);
        negotiation.note_offered();
        negotiation.add_sending(Format::Vp8, "third");
        assert_eq!(sent(&negotiation), [None, some("second"), some("third")]);
        negotiation.note_answered(0, false);
        negotiation.add_sending(Format::Opus, "voice");
        negotiation.add_sending(Format::H264, "fourth");
        let expected = ["fourth", "second", "third", "voice"].map(some);
        assert_eq!(sent(&negotiation), expected);
        // What was rejected is no section any more.
        negotiation.end_sending("second");
        negotiation.note_offered();
        negotiation.note_answered(1, true);
        negotiation.add_sending(Format::Vp8, "fifth");
        assert_eq!(sent(&negotiation).last(), Some(&some("fifth")));
    }
}
