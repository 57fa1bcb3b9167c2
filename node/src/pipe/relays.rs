//! Which tracks of other nodes this node takes, for whom, and from where. Pure.
//!
//! A track is taken once, however many sessions and other nodes want it, on the shard of the first who did.
//! Nobody hears of it before it is described, since nothing can be negotiated of what is not known. Who
//! asks from elsewhere says as what this node has to take the track: mostly as its region's gateway, from the
//! origin, so that none can go round.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use pipemesh_proto::ids::{NodeId, RoomId, SessionId, TrackId};
use pipemesh_proto::pipe::Role;
use pipemesh_topology::relay_path::{self, SentOn};

use crate::shard::Publication;

/// Who wants a track.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wanter {
    Session(SessionId),
    /// A node at the other end of a pipe, under its number for it.
    Pipe(u16, u32),
}

/// A track of another node, as whoever wants it names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Elsewhere {
    pub(crate) node: NodeId,
    pub(crate) session: SessionId,
    pub(crate) room: RoomId,
}

/// From whom a track is taken, and as what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Path {
    pub(super) from: NodeId,
    pub(super) role: Role,
}

/// What follows, to be done in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Output {
    /// The shard is to take the track from this node; if it does from another one, from this one instead; if it
    /// does from this one, in this role from now on.
    Land {
        track: TrackId,
        shard: u16,
        generation: u64,
        from: NodeId,
        publication: Arc<Publication>,
    },
    Leave {
        track: TrackId,
        shard: u16,
        generation: u64,
    },
    /// The track, published by this session, is described, and can be had.
    Known(TrackId, SessionId, Wanter),
    /// It is no more, or never was.
    Gone(TrackId, SessionId, Wanter),
}

#[derive(Debug)]
struct Wanted {
    publication: Arc<Publication>,
    shard: u16,
    generation: u64,
    from: NodeId,
    /// Where it comes from until it has come from there: what the shard goes back to if it does not.
    former: Option<Path>,
    /// It has gone back.
    is_back: bool,
    is_described: bool,
    sent_on: SentOn,
    /// With what this node has to be for each.
    wanters: BTreeMap<Wanter, relay_path::Role>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Relays {
    tracks: BTreeMap<TrackId, Wanted>,
    outputs: VecDeque<Output>,
}

impl Relays {
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.tracks.len()
    }

    pub(super) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Somebody wants a track, and needs this node to take it as `role` at least. `generation` is a number that
    /// no other publication of this node has; `shard` takes it if nobody wanted it before. `path`: from where
    /// to take a track that is published there.
    pub(super) fn want(
        &mut self,
        track: TrackId,
        elsewhere: Elsewhere,
        (wanter, role): (Wanter, relay_path::Role),
        shard: u16,
        generation: u64,
        path: impl Fn(&TrackId, &NodeId, relay_path::Role, SentOn) -> Path,
    ) {
        let known = self.tracks.get_mut(&track);
        if let Some(known) = known
            && known.publication.session == elsewhere.session
        {
            if known.is_described {
                let of = known.publication.session.clone();
                let output = Output::Known(track.clone(), of, wanter.clone());
                self.outputs.push_back(output);
            }
            let before = known.role();
            known.wanters.insert(wanter, role);
            if known.role() != before {
                self.follow_one(&track, path);
            }
            return;
        }
        // It was published anew: what others still want of the former one is no more.
        self.end(&track);
        let path = path(&track, &elsewhere.node, role, SentOn::Not);
        let publication = Arc::new(Publication {
            node: elsewhere.node,
            session: elsewhere.session,
            room: elsewhere.room,
            role: path.role,
        });
        let wanted = Wanted {
            publication,
            shard,
            generation,
            from: path.from,
            former: None,
            is_back: false,
            is_described: false,
            sent_on: SentOn::Not,
            wanters: BTreeMap::from([(wanter, role)]),
        };
        self.outputs.push_back(wanted.land(&track));
        self.tracks.insert(track, wanted);
    }

    /// Whether something else is taken under this id, by whomever it is published.
    pub(super) fn takes_another(&self, track: &TrackId, session: &SessionId) -> bool {
        let wanted = self.tracks.get(track);
        wanted.is_some_and(|wanted| wanted.publication.session != *session)
    }

    /// … or does not any more.
    pub(super) fn unwant(&mut self, track: &TrackId, wanter: &Wanter) {
        let Some(wanted) = self.tracks.get_mut(track) else {
            return;
        };
        wanted.wanters.remove(wanter);
        if wanted.wanters.is_empty() {
            self.end(track);
        }
    }

    /// All that a pipe wanted, its other end wants no more: it has to ask again.
    pub(super) fn end_pipe(&mut self, number: u16) {
        let of_pipe =
            |wanter: &&Wanter| matches!(wanter, Wanter::Pipe(other, _) if *other == number);
        let wants = self.tracks.iter().flat_map(|(track, wanted)| {
            let wanters = wanted.wanters.keys().filter(of_pipe);
            wanters.map(move |wanter| (track.clone(), wanter.clone()))
        });
        for (track, wanter) in wants.collect::<Vec<_>>() {
            self.unwant(&track, &wanter);
        }
    }

    /// A shard has been told what a track is; answers whose it is if that is news.
    pub(super) fn described(&mut self, track: &TrackId, generation: u64) -> Option<Described> {
        let wanted = self.tracks.get_mut(track);
        let wanted = wanted.filter(|wanted| wanted.generation == generation)?;
        if std::mem::replace(&mut wanted.is_described, true) {
            return None;
        }
        for wanter in wanted.wanters.keys() {
            let of = wanted.publication.session.clone();
            let output = Output::Known(track.clone(), of, wanter.clone());
            self.outputs.push_back(output);
        }
        Some(Described {
            publication: Arc::clone(&wanted.publication),
            shard: wanted.shard,
        })
    }

    /// A shard does not take a track from `from` any more: it has ended, or is not to be had. If it came from
    /// elsewhere before, it still does.
    pub(super) fn gone(&mut self, track: &TrackId, generation: u64, from: &NodeId) {
        let wanted = self.tracks.get_mut(track);
        // One that comes from another node by now goes on.
        let wanted = wanted.filter(|it| it.generation == generation && it.from == *from);
        let Some(wanted) = wanted else {
            return;
        };
        let Some(former) = wanted.former.take() else {
            return self.end(track);
        };
        wanted.is_back = true;
        wanted.set_path(former);
    }

    /// A shard takes a track from elsewhere than from `from` by now: it has come from there.
    pub(super) fn moved(&mut self, track: &TrackId, generation: u64, from: &NodeId) {
        let wanted = self.tracks.get_mut(track);
        let Some(wanted) = wanted.filter(|it| it.generation == generation) else {
            return;
        };
        if wanted.is_back && wanted.from == *from {
            // It came from elsewhere, and has ended there; that was heard first.
            self.end(track);
        } else if wanted.former.as_ref().is_some_and(|it| it.from == *from) {
            wanted.former = None;
        }
    }

    /// Whether any track comes from a node, or does so until it has come from elsewhere.
    pub(super) fn is_taken_from(&self, node: &NodeId) -> bool {
        let mut taken = self.tracks.values();
        taken.any(|wanted| {
            let former = wanted.former.as_ref().map(|former| &former.from);
            wanted.from == *node || former == Some(node)
        })
    }

    /// A link was lost with all it took.
    pub(super) fn end_all_from(&mut self, from: &NodeId) {
        let taken = self.tracks.iter().filter(|(_, it)| it.from == *from);
        for track in taken.map(|(track, _)| track.clone()).collect::<Vec<_>>() {
            self.end(&track);
        }
    }

    /// Who gives a track serves too many.
    pub(super) fn send_on(
        &mut self,
        track: &TrackId,
        generation: u64,
        from: &NodeId,
        path: impl Fn(&TrackId, &NodeId, relay_path::Role, SentOn) -> Path,
    ) {
        let wanted = self.tracks.get_mut(track);
        let wanted = wanted.filter(|it| it.generation == generation && it.from == *from);
        // Who was asked instead had not got it.
        let Some(wanted) = wanted.filter(|it| !it.is_back) else {
            return;
        };
        let by = match wanted.publication.role {
            Role::Twig => return,
            _ if *from == wanted.publication.node => SentOn::ByOrigin,
            _ => SentOn::ByGateway,
        };
        wanted.sent_on = wanted.sent_on.max(by);
        self.follow_one(track, path);
    }

    /// Works every path out anew: nodes have come or gone.
    pub(super) fn follow(
        &mut self,
        path: impl Fn(&TrackId, &NodeId, relay_path::Role, SentOn) -> Path,
    ) {
        for track in self.tracks.keys().cloned().collect::<Vec<_>>() {
            self.follow_one(&track, &path);
        }
    }

    /// The same for one track, if it is taken: who wants it has changed. Who was a gateway and is asked by no
    /// other node any more is a leaf again, beside the gateway that its region has.
    pub(super) fn follow_one(
        &mut self,
        track: &TrackId,
        path: impl Fn(&TrackId, &NodeId, relay_path::Role, SentOn) -> Path,
    ) {
        let Some(wanted) = self.tracks.get_mut(track) else {
            return;
        };
        let origin = &wanted.publication.node;
        let path = path(track, origin, wanted.role(), wanted.sent_on);
        if path.from != wanted.from {
            self.reroute(track, path);
        } else if path.role != wanted.publication.role {
            // Told with the next request, if there is one: it is served as before.
            wanted.set_path(path);
            self.outputs.push_back(wanted.land(track));
        }
    }

    /// As what this node takes a track for others; `None`: it does not.
    pub(super) fn role(&self, track: &TrackId) -> Option<relay_path::Role> {
        Some(self.tracks.get(track)?.role())
    }

    /// For inspection.
    pub(super) fn of_room(&self, room: &RoomId) -> Vec<Relayed> {
        let of_room = self
            .tracks
            .iter()
            .filter(|(_, it)| it.publication.room == *room);
        let relayed = of_room.map(|(track, wanted)| Relayed {
            track: track.clone(),
            publication: Arc::clone(&wanted.publication),
            from: wanted.from.clone(),
        });
        relayed.collect()
    }

    fn reroute(&mut self, track: &TrackId, path: Path) {
        let Some(wanted) = self.tracks.get_mut(track) else {
            return;
        };
        wanted.former = Some(Path {
            from: wanted.from.clone(),
            role: wanted.publication.role,
        });
        wanted.is_back = false;
        wanted.set_path(path);
        self.outputs.push_back(wanted.land(track));
    }

    fn end(&mut self, track: &TrackId) {
        let Some(wanted) = self.tracks.remove(track) else {
            return;
        };
        self.outputs.push_back(Output::Leave {
            track: track.clone(),
            shard: wanted.shard,
            generation: wanted.generation,
        });
        for wanter in wanted.wanters.into_keys() {
            let of = wanted.publication.session.clone();
            self.outputs
                .push_back(Output::Gone(track.clone(), of, wanter));
        }
    }
}

impl Wanted {
    /// As what it has to be taken, for all who want it.
    fn role(&self) -> relay_path::Role {
        let roles = self.wanters.values().copied();
        roles.max().unwrap_or(relay_path::Role::Leaf)
    }

    fn land(&self, track: &TrackId) -> Output {
        Output::Land {
            track: track.clone(),
            shard: self.shard,
            generation: self.generation,
            from: self.from.clone(),
            publication: Arc::clone(&self.publication),
        }
    }

    fn set_path(&mut self, path: Path) {
        self.publication = Arc::new(Publication {
            role: path.role,
            ..Publication::clone(&self.publication)
        });
        self.from = path.from;
    }
}

/// A track that can be had from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Described {
    pub(super) publication: Arc<Publication>,
    pub(super) shard: u16,
}

/// A track that is taken from another node, as somebody sees it who looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Relayed {
    pub(crate) track: TrackId,
    pub(crate) publication: Arc<Publication>,
    pub(crate) from: NodeId,
}

#[cfg(test)]
mod tests;
