//! An event as it is published: a line of JSON, then a body as it is.
//!
//! Fields that are not known are skipped, so that a later version may add some. Whatever else cannot
//! be read is an error: the watcher reads the room instead.

use bytes::Bytes;
use pipemesh_proto::ids::InvalidId;
use serde::Deserialize;

use crate::names::InvalidName;
use crate::store::{Change, Member, Room, RoomEvent};

#[derive(Debug, thiserror::Error)]
pub(super) enum Unreadable {
    #[error("has no line of JSON")]
    NoHeader,
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error("has an id that {0}")]
    Id(#[from] InvalidId),
    #[error("has an identity that {0}")]
    Identity(#[from] InvalidName),
    #[error("lacks {0}")]
    Lacks(&'static str),
}

#[derive(Debug, Deserialize)]
struct Header<'a> {
    room: &'a str,
    sequence: u64,
    change: Kind,
    identity: Option<String>,
    version: Option<u64>,
    home: Option<&'a str>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Opened,
    RoomUpdated,
    MemberPut,
    MemberRemoved,
    Ended,
}

pub(super) fn decode(message: &[u8]) -> Result<RoomEvent, Unreadable> {
    let line = message.iter().position(|byte| *byte == b'\n');
    let (header, body) = message.split_at(line.ok_or(Unreadable::NoHeader)?);
    let header: Header<'_> = serde_json::from_slice(header)?;
    let body = Bytes::copy_from_slice(&body[1..]);
    let change = match header.change {
        Kind::Opened => Change::Opened(header.room(body)?),
        Kind::RoomUpdated => Change::RoomUpdated(header.room(body)?),
        Kind::MemberPut => Change::MemberPut(Member {
            identity: header.identity()?,
            version: header.version()?,
            body,
        }),
        Kind::MemberRemoved => Change::MemberRemoved(header.identity()?),
        Kind::Ended => Change::Ended,
    };
    Ok(RoomEvent {
        room: header.room.parse()?,
        sequence: header.sequence,
        change,
    })
}

impl Header<'_> {
    fn room(&self, body: Bytes) -> Result<Room, Unreadable> {
        Ok(Room {
            id: self.room.parse()?,
            homes: self.home.ok_or(Unreadable::Lacks("home"))?.parse()?,
            version: self.version()?,
            body,
        })
    }

    fn identity(&self) -> Result<crate::Identity, Unreadable> {
        let identity = self.identity.as_ref();
        Ok(identity.ok_or(Unreadable::Lacks("identity"))?.parse()?)
    }

    fn version(&self) -> Result<u64, Unreadable> {
        self.version.ok_or(Unreadable::Lacks("version"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_later_version_adds_is_skipped() {
        let later = b"{\"change\":\"member_put\",\"room\":\"RM_1\",\"sequence\":7,\"identity\":\"a \\\"b\\\" \\u0000\",\
            \"version\":3,\"trace\":{\"id\":[1,2]}}\nbody\n\0\xff";
        let event = decode(later).unwrap();
        assert_eq!((event.room.as_str(), event.sequence), ("RM_1", 7));
        let Change::MemberPut(member) = event.change else {
            panic!("{event:?}")
        };
        assert_eq!(member.identity.as_str(), "a \"b\" \0");
        assert_eq!(member.version, 3);
        assert_eq!(&member.body[..], b"body\n\0\xff");
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        let check = |message: &str, expected: &str| {
            let error = decode(message.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expected), "{message}: {error}");
        };
        check("", "no line");
        check("{\"room\":\"RM_1\"}\n", "missing field `sequence`");
        let with = |rest: &str| format!("{{\"room\":\"RM_1\",\"sequence\":1,{rest}}}\n");
        check(&with("\"change\":\"painted\""), "unknown variant `painted`");
        check(&with("\"change\":\"opened\""), "lacks home");
        check(&with("\"change\":\"member_removed\""), "lacks identity");
        check(
            &with("\"change\":\"ended\"").replace("RM_1", "R"),
            "has an id that does not start",
        );
    }
}
