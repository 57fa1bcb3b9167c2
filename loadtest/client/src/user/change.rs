//! What the participant changes while it is there: of a track that it publishes, of itself, of what it
//! is sent.

use std::collections::BTreeMap;
use std::time::Instant;

use livekit_protocol::request_response::Reason;
use livekit_protocol::signal_request::Message as Request;
use livekit_protocol::{RequestResponse, UpdateParticipantMetadata};

use super::User;

/// Answers that are kept for who waits for one.
const MAX_ANSWERS: usize = 64;

/// What others see of the participant; what is empty stays as it is, and so do attributes that are not
/// named. An attribute without text goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Description {
    pub name: String,
    pub metadata: String,
    pub attributes: BTreeMap<String, String>,
}

impl User {
    /// Others are told by the server.
    pub(super) fn unpublish(&mut self, name: &str) {
        let before = self.published.len();
        self.published.retain(|it| it.name != name);
        if self.published.len() == before {
            return;
        }
        let outgoing = &mut self.connections[0].outgoing;
        outgoing.retain(|it| it.client_id != name);
        self.negotiation.end_sending(name);
        self.offer();
    }

    /// Of a track with several layers only these are sent from now on.
    pub(super) fn set_layers(&mut self, name: &str, rids: &[String], now: Instant) {
        let mut published = self.published.iter_mut();
        let published = published.find(|it| it.name == name);
        if let Some(former) = published.and_then(|it| it.former.as_mut()) {
            former.set_layers(rids, now);
        }
        let mut outgoing = self.connections[0].outgoing.iter_mut();
        if let Some(outgoing) = outgoing.find(|it| it.client_id == name) {
            outgoing.publication.set_layers(rids, now);
        }
    }

    /// The server answers under this number, unless it is one that never does.
    pub(super) fn describe(&mut self, number: u32, description: Description) {
        let Description {
            name,
            metadata,
            attributes,
        } = description;
        let update = UpdateParticipantMetadata {
            metadata,
            name,
            attributes: attributes.into_iter().collect(),
            request_id: number,
        };
        self.signals.push_back(Request::UpdateMetadata(update));
    }

    pub(super) fn handle_answered(&mut self, response: &RequestResponse) {
        let refusal = match response.reason() {
            Reason::Ok | Reason::Queued => None,
            reason if response.message.is_empty() => Some(format!("{reason:?}")),
            _ => Some(response.message.clone()),
        };
        if self.answers.len() == MAX_ANSWERS {
            self.answers.pop_first();
        }
        self.answers.insert(response.request_id, refusal);
    }

    pub(super) fn request_key_frame(&mut self, sid: &str) {
        self.downlink().request_key_frame(sid);
    }
}
