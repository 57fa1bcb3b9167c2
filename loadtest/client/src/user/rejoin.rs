//! Joining anew under the same identity, as a client does whose session is lost: other connections, and
//! everything that was wished is wished again. What was seen stays counted.

use std::collections::BTreeSet;
use std::time::Instant;

use livekit_protocol::ParticipantInfo;
use livekit_protocol::signal_request::Message as Request;

use super::negotiation::Negotiation;
use super::publish::announcement;
use super::remote::{settings, subscription};
use super::{User, connections};
use crate::connection::Incoming;

/// Tracks that are not published just now, and of which it is known what is wished of them.
const MAX_ABSENT: usize = 1_024;

/// What decides whether the participant is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Notice {
    /// Media and data flow: for the first time, again after joining anew, or after ICE has restarted.
    Flowing,
    /// A connection is over.
    Broken(&'static str),
}

impl User {
    pub(crate) fn poll_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    /// Says goodbye on all connections.
    pub(crate) fn close(&mut self, now: Instant) {
        for connection in &mut self.connections {
            connection.transport.close(now);
            connection.flush(&mut self.outbox);
        }
    }

    /// Begins anew. The next word is the response to another join.
    pub(crate) fn rejoin(&mut self, now: Instant) {
        let fresh = connections(
            &self.setup,
            &self.certificate,
            &mut self.rng,
            self.began,
            now,
        );
        let former = std::mem::replace(&mut self.connections, fresh);
        for (place, former) in former.into_iter().enumerate() {
            let (incoming, outgoing) = self.connections[place].follow(former);
            incoming.into_iter().for_each(|it| self.lose(it));
            for outgoing in outgoing {
                let mut published = self.published.iter_mut();
                if let Some(published) = published.find(|it| it.name == outgoing.client_id) {
                    published.former = Some(outgoing.publication);
                }
            }
        }
        for published in &mut self.published {
            published.info = None;
            published.active = false;
        }
        self.negotiation = Negotiation::new(self.certificate.fingerprint());
        self.secured.fill(false);
        self.signals.clear();
        self.notices.clear();
        self.left = None;
        self.rejoins += 1;
        (self.rejoining, self.awaited, self.restarting) = (true, true, false);
    }

    /// Of others only those are there of whom the join response speaks.
    pub(super) fn forget_others(&mut self, others: &[ParticipantInfo]) {
        let tracks = others.iter().flat_map(|it| &it.tracks);
        let listed: BTreeSet<&str> = tracks.map(|it| it.sid.as_str()).collect();
        self.others.clear();
        let known: Vec<String> = self.remote.keys().cloned().collect();
        for sid in known {
            match self.remote.get_mut(&sid) {
                Some(track) if listed.contains(sid.as_str()) => track.paused = false,
                _ => self.miss(&sid),
            }
        }
    }

    /// A track is not published any more; it may be again, by a publisher who joins anew.
    pub(super) fn miss(&mut self, sid: &str) {
        let Some(track) = self.remote.remove(sid) else {
            return;
        };
        if self.absent.len() >= MAX_ABSENT {
            // Whoever has not come back for so long took it away.
            let oldest = self.absent.iter().min_by_key(|(_, (number, _))| *number);
            if let Some(oldest) = oldest.map(|(sid, _)| sid.clone()) {
                self.absent.remove(&oldest);
                self.lost.remove(&oldest);
            }
        }
        self.misses += 1;
        self.absent.insert(sid.to_owned(), (self.misses, track));
    }

    /// Somebody has left.
    pub(super) fn forget(&mut self, identity: &str) {
        self.absent.retain(|_, (_, it)| it.identity != identity);
        let (remote, absent) = (&self.remote, &self.absent);
        self.lost
            .retain(|sid, _| remote.contains_key(sid) || absent.contains_key(sid));
    }

    /// A track does not come any more.
    pub(super) fn lose(&mut self, incoming: Incoming) {
        self.finish(&incoming);
        let known = self.remote.get(&incoming.sid);
        let known = known.or_else(|| self.absent.get(&incoming.sid).map(|(_, track)| track));
        if known.is_some_and(|it| it.wanted != Some(false)) {
            self.lost.insert(incoming.sid, incoming.receiver);
        }
    }

    pub(super) fn publish_again(&mut self) {
        for published in &self.published {
            let announcement = announcement(&published.name, &published.media);
            let muted = published.former.as_ref().is_some_and(|it| it.is_muted());
            self.signals
                .push_back(Request::AddTrack(livekit_protocol::AddTrackRequest {
                    muted,
                    ..announcement
                }));
        }
    }

    pub(super) fn wish_all_again(&mut self) {
        let sids: Vec<String> = self.remote.keys().cloned().collect();
        sids.iter().for_each(|sid| self.wish_again(sid));
    }

    /// Says what is wished of a track to a server that does not know it.
    pub(super) fn wish_again(&mut self, sid: &str) {
        let Some(track) = self.remote.get(sid) else {
            return;
        };
        let subscription = track.wanted.map(|wanted| subscription(sid, wanted));
        let settings = track.wish.map(|wish| settings(sid, wish));
        self.signals.extend(subscription);
        self.signals.extend(settings);
    }

    /// Tells once when everything flows that is waited for.
    pub(super) fn note_flow(&mut self) {
        if self.awaited && !self.restarting && self.is_connected() && self.is_data_open() {
            self.awaited = false;
            self.notices.push_back(Notice::Flowing);
        }
    }
}

#[cfg(test)]
mod tests;
