//! What things are called in Redis: `docs/redis.md` is the list.
//!
//! Everything of a room has its name in braces, so that a cluster keeps it in one slot. The name is
//! escaped, so that no name can break out of them.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use pipemesh_proto::ids::ProcessId;

use crate::names::RoomName;

/// Version of what is stored and published. Whoever changes either in a way that the version before
/// cannot work beside counts it up.
const SCHEMA: &str = "v1";

const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

#[derive(Debug, Clone)]
pub(super) struct Keys {
    /// The key prefix with the schema.
    base: String,
    /// Events know no databases: two of one server would hear each other.
    database: i64,
}

/// What belongs to one room name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RoomKeys {
    pub(super) room: String,
    pub(super) members: String,
    pub(super) channel: String,
}

impl Keys {
    pub(super) fn new(prefix: &str, database: i64) -> Self {
        Self {
            base: format!("{prefix}:{SCHEMA}"),
            database,
        }
    }

    pub(super) fn room(&self, name: &RoomName) -> RoomKeys {
        let Self { base, database } = self;
        let name = utf8_percent_encode(name.as_str(), ESCAPED);
        RoomKeys {
            room: format!("{base}:{{{name}}}:room"),
            members: format!("{base}:{{{name}}}:members"),
            channel: format!("{base}:{database}:{{{name}}}:events"),
        }
    }

    /// On which is said what one process says to another. Without braces, so no room's.
    pub(super) fn process_channel(&self, process: &ProcessId) -> String {
        format!("{}:{}:process:{process}", self.base, self.database)
    }

    /// Without braces, so no room's.
    pub(super) fn ring(&self) -> String {
        format!("{}:ring", self.base)
    }

    /// On which is said that the ring has changed.
    pub(super) fn ring_channel(&self) -> String {
        format!("{}:{}:ring", self.base, self.database)
    }

    /// Matches the keys of rooms, and others that begin and end alike.
    pub(super) fn room_pattern(&self) -> String {
        let mut pattern = String::new();
        for character in self.base.chars() {
            if matches!(character, '*' | '?' | '[' | ']' | '^' | '\\') {
                pattern.push('\\');
            }
            pattern.push(character);
        }
        pattern + ":{*}:room"
    }

    /// The room that a key belongs to, if it is one of a room.
    pub(super) fn room_name(&self, key: &str) -> Option<RoomName> {
        let rest = key.strip_prefix(&self.base)?.strip_prefix(":{")?;
        let name = percent_decode_str(rest.strip_suffix("}:room")?);
        name.decode_utf8().ok()?.parse().ok()
    }

    /// What processes say of themselves.
    pub(super) fn leases(&self) -> String {
        format!("{}:leases", self.base)
    }

    /// What the server remembers of itself.
    pub(super) fn memory(&self) -> String {
        format!("{}:memory", self.base)
    }

    /// A key that holds nothing.
    pub(super) fn probe_key(&self) -> String {
        format!("{}:probe", self.base)
    }

    /// A channel on which nothing is said.
    pub(super) fn probe_channel(&self) -> String {
        format!("{}:{}:probe", self.base, self.database)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_breaks_out_of_its_braces() {
        let keys = Keys::new("pipemesh", 3);
        let check = |name: &str, tag: &str| {
            let keys = keys.room(&name.parse().unwrap());
            assert_eq!(keys.room, format!("pipemesh:v1:{{{tag}}}:room"));
            assert_eq!(keys.members, format!("pipemesh:v1:{{{tag}}}:members"));
            assert_eq!(keys.channel, format!("pipemesh:v1:3:{{{tag}}}:events"));
        };
        check("room-1_a.b~", "room-1_a.b~");
        check("{}", "%7B%7D");
        check("a}:room", "a%7D%3Aroom");
        check("a%7D", "a%257D");
        check("Küche\n", "K%C3%BCche%0A");
    }

    #[test]
    fn rooms_are_told_by_their_keys() {
        let keys = Keys::new("pipe[*]mesh", 0);
        assert_eq!(keys.room_pattern(), "pipe\\[\\*\\]mesh:v1:{*}:room");
        for name in ["room", "{}", "a}:room", "Küche\n"] {
            let name: RoomName = name.parse().unwrap();
            let room = keys.room(&name);
            assert_eq!(keys.room_name(&room.room), Some(name));
            assert_eq!(keys.room_name(&room.members), None);
        }
        assert_eq!(keys.room_name(&keys.leases()), None);
    }
}
