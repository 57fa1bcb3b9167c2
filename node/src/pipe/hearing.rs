//! Whose rooms are listened to: which sessions want to hear what is said in their room on other nodes. Pure.

use std::collections::{BTreeMap, BTreeSet};

use pipemesh_proto::ids::{NodeId, RoomId, SessionId};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Hearing {
    sessions: BTreeMap<SessionId, (RoomId, BTreeSet<NodeId>)>,
    listeners: BTreeMap<(NodeId, RoomId), usize>,
}

/// What follows for the pipe to a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Output {
    /// Listen to the room there, or say again who speaks.
    Follow(NodeId, RoomId),
    Unfollow(NodeId, RoomId),
}

impl Hearing {
    /// A session says where it wants to listen to its room; nowhere when it is over.
    pub(super) fn hear(
        &mut self,
        session: SessionId,
        room: RoomId,
        nodes: BTreeSet<NodeId>,
    ) -> Vec<Output> {
        let mut outputs = Vec::new();
        let (known, before) = match self.sessions.remove(&session) {
            Some((known, before)) if known == room => (known, before),
            _ => (room, BTreeSet::new()),
        };
        for node in nodes.difference(&before) {
            let listeners = self.listeners.entry((node.clone(), known.clone()));
            *listeners.or_default() += 1;
            outputs.push(Output::Follow(node.clone(), known.clone()));
        }
        for node in before.difference(&nodes) {
            let pair = (node.clone(), known.clone());
            if let Some(listeners) = self.listeners.get_mut(&pair) {
                *listeners -= 1;
                if *listeners == 0 {
                    self.listeners.remove(&pair);
                    outputs.push(Output::Unfollow(pair.0, pair.1));
                }
            }
        }
        if !nodes.is_empty() {
            self.sessions.insert(session, (known, nodes));
        }
        outputs
    }

    pub(super) fn forget(&mut self, session: &SessionId) -> Vec<Output> {
        match self.sessions.get(session) {
            Some((room, _)) => {
                let room = room.clone();
                self.hear(session.clone(), room, BTreeSet::new())
            }
            None => Vec::new(),
        }
    }

    /// Rooms that are listened to on a node, for a pipe that begins anew.
    pub(super) fn rooms_of(&self, node: &NodeId) -> Vec<RoomId> {
        let pairs = self.listeners.keys();
        let of_node = pairs.filter(|(other, _)| other == node);
        of_node.map(|(_, room)| room.clone()).collect()
    }

    /// Whether nobody listens.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.sessions.is_empty() && self.listeners.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hear(hearing: &mut Hearing, session: &str, nodes: &[&str]) -> Vec<String> {
        let nodes = nodes.iter().map(|node| node.parse().unwrap()).collect();
        let room = "RM_x".parse().unwrap();
        said(hearing.hear(session.parse().unwrap(), room, nodes))
    }

    fn said(outputs: Vec<Output>) -> Vec<String> {
        let outputs = outputs.into_iter().map(|output| match output {
            Output::Follow(node, _) => format!("follow {node}"),
            Output::Unfollow(node, _) => format!("unfollow {node}"),
        });
        outputs.collect()
    }

    #[test]
    fn a_room_is_listened_to_as_long_as_anybody_wants_to() {
        let mut hearing = Hearing::default();
        assert_eq!(
            hear(&mut hearing, "ada", &["b", "c"]),
            ["follow b", "follow c"]
        );
        // A newcomer has to hear who speaks already.
        assert_eq!(hear(&mut hearing, "ben", &["b"]), ["follow b"]);
        assert!(hear(&mut hearing, "ben", &["b"]).is_empty(), "no news");
        assert_eq!(
            hear(&mut hearing, "ada", &["d"]),
            ["follow d", "unfollow c"]
        );
        assert_eq!(hearing.rooms_of(&"b".parse().unwrap()).len(), 1);
        assert_eq!(
            said(hearing.forget(&"ben".parse().unwrap())),
            ["unfollow b"]
        );
        assert!(hearing.forget(&"ben".parse().unwrap()).is_empty());
        assert_eq!(hear(&mut hearing, "ada", &[]), ["unfollow d"]);
        assert!(hearing.is_idle());
    }
}
