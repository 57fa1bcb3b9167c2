//! Moves people from nodes that drain: gives their rooms another home, room by room, at a rate.
//!
//! Whoever is in a room follows it, in whichever process his session is: it tells him to join anew, and he
//! is who he was. What makes a node drain is not known here; when it serves again, whoever has not been
//! moved stays.

mod pace;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use pipemesh_proto::ids::NodeId;
use pipemesh_service::Chain;
use pipemesh_topology::RoomName;
use pipemesh_topology::placement::Request;
use tokio::time::sleep_until;

use crate::context::Context;
use crate::metrics::DrainMove;
use crate::rooms::Moved;
use pace::Pace;

/// How often it is looked who is left on a node that drains.
const LOOK: Duration = Duration::from_millis(100);

/// Until the process stops.
pub(crate) async fn move_people(context: &Context) {
    let mut changes = context.nodes.changes();
    let mut drains: BTreeMap<NodeId, Drain> = BTreeMap::new();
    loop {
        changes.borrow_and_update();
        let draining = context.nodes.draining();
        drains.retain(|node, _| {
            let drains = draining.contains_key(node);
            if !drains {
                tracing::info!(%node, "the node drains no more, or is gone");
            }
            drains
        });
        let now = Instant::now();
        let mut next = None;
        for (node, participants) in draining {
            let drain = drains.entry(node.clone()).or_insert_with(|| {
                tracing::info!(%node, participants, "the node drains: its rooms move");
                Drain::new(node, context.drain_rate, now)
            });
            let at = drain.go_on(context, participants).await;
            next = Some(next.map_or(at, |next: Instant| next.min(at)));
        }
        let time = async {
            match next {
                Some(at) => sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = context.stop.cancelled() => return,
            changed = changes.changed() => if changed.is_err() { return },
            () = time => {}
        }
    }
}

struct Drain {
    node: NodeId,
    pace: Pace,
    /// Rooms of which it was said that no node takes them.
    stuck: BTreeSet<RoomName>,
}

impl Drain {
    fn new(node: NodeId, rate: u32, now: Instant) -> Self {
        Self {
            node,
            pace: Pace::new(rate, now),
            stuck: BTreeSet::new(),
        }
    }

    /// Moves what is due, and answers when to look again.
    async fn go_on(&mut self, context: &Context, participants: u32) -> Instant {
        let mut stays = context.rooms.at_home(&self.node);
        while let Some(stay) = self.pace.poll(&stays, Instant::now()) {
            let (room, members) = (stay.room.clone(), stay.members);
            let outcome = self.relocate(context, &room).await;
            context.metrics.drain_move(outcome);
            let now = Instant::now();
            match outcome {
                DrainMove::Moved => {
                    let served = stays.iter().map(|stay| stay.served).sum();
                    self.pace.handle_moved(members, served, participants, now);
                }
                DrainMove::NotThere | DrainMove::NoNode | DrainMove::StoreUnavailable => {
                    self.pace.handle_refused(&room, now);
                }
            }
            // The view may not show yet that it is gone.
            stays.retain(|stay| stay.room != room);
        }
        let now = Instant::now();
        self.pace
            .poll_timeout()
            .clamp(now, now + LOOK)
            .max(now + LOOK / 10)
    }

    async fn relocate(&mut self, context: &Context, room: &RoomName) -> DrainMove {
        let mesh = context.nodes.mesh();
        let Some(record) = mesh.snapshot.node(&self.node) else {
            return DrainMove::NotThere;
        };
        let excluded = BTreeSet::from([self.node.clone()]);
        // Everybody in the room may be in this region. Whether they may be elsewhere, only their tokens said.
        let allowed = BTreeSet::from([record.region.clone()]);
        // One that spans nodes may be at home on another one with room left.
        let homes = match context.rooms_span() {
            true => context.rooms.known_homes(room),
            false => None,
        };
        let request = Request {
            room,
            region: &record.region,
            others: &[],
            allowed: Some(&allowed),
            homes: homes.as_ref(),
            spans: context.rooms_span(),
            excluded: &excluded,
        };
        let placement = match context.nodes.place(&request) {
            Ok(placement) => placement,
            Err(error) => {
                if self.stuck.insert(room.clone()) {
                    let error = error.to_string();
                    tracing::warn!(%room, node = %self.node, error, "a room stays on a node that drains");
                }
                return DrainMove::NoNode;
            }
        };
        context.metrics.placement(Some(placement.reason));
        match context
            .rooms
            .relocate(room, &self.node, &placement.node)
            .await
        {
            Ok(Moved::Done) => DrainMove::Moved,
            Ok(Moved::NotThere) => DrainMove::NotThere,
            Err(error) => {
                let error = Chain(&error).to_string();
                tracing::warn!(%room, node = %self.node, error, "a room cannot be moved yet");
                DrainMove::StoreUnavailable
            }
        }
    }
}
