//! What is stored of a room itself: what clients are told of it, and what only signaling knows.
//!
//! In one message, since the store knows one text of a room: ours are fields of LiveKit's that it has no use for.
//! A version before this passes them over.

use bytes::Bytes;
use livekit_protocol::{Room as RoomInfo, RoomConfiguration};
use prost::Message;

use crate::auth::RESERVED_ATTRIBUTES;

/// The tag by which a room's configuration says how many microphones are heard.
const LOUDEST_MICROPHONES: &str = "pipemesh.loudest_microphones";

/// More streams of audio than anybody can follow.
pub(crate) const MAX_LOUDEST_MICROPHONES: u32 = 250;

/// See the module.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct RoomBody {
    pub(crate) info: RoomInfo,
    /// Of the room's microphones so many are heard, the loudest; 0: all.
    pub(crate) loudest_microphones: u32,
}

/// Far above what the protocol has, or will soon.
#[derive(Clone, PartialEq, Message)]
struct Ours {
    #[prost(uint32, tag = "1000")]
    loudest_microphones: u32,
}

impl RoomBody {
    /// One that cannot be read says nothing.
    pub(crate) fn decode(body: &Bytes) -> Self {
        let ours = Ours::decode(body.clone()).unwrap_or_default();
        Self {
            info: RoomInfo::decode(body.clone()).unwrap_or_default(),
            loudest_microphones: ours.loudest_microphones,
        }
    }

    pub(crate) fn encode(&self) -> Bytes {
        let mut body = self.info.encode_to_vec();
        let ours = Ours {
            loudest_microphones: self.loudest_microphones,
        };
        body.extend(ours.encode_to_vec());
        body.into()
    }
}

/// A room's configuration asks for something that there is not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidTag {
    #[error(
        "the room's tag {LOUDEST_MICROPHONES} is {0:?}, not a number from 0 to \
         {MAX_LOUDEST_MICROPHONES}"
    )]
    LoudestMicrophones(String),
    #[error("{0:?} is no tag of a room; those that begin with {RESERVED_ATTRIBUTES} are ours")]
    Unknown(String),
}

/// How many microphones a configuration wants to be heard; `None`: it does not say.
pub(crate) fn loudest_microphones(config: &RoomConfiguration) -> Result<Option<u32>, InvalidTag> {
    let mut reserved: Vec<_> = config
        .tags
        .keys()
        .filter(|tag| tag.starts_with(RESERVED_ATTRIBUTES) && *tag != LOUDEST_MICROPHONES)
        .collect();
    reserved.sort();
    if let Some(unknown) = reserved.first() {
        return Err(InvalidTag::Unknown((*unknown).clone()));
    }
    let Some(text) = config.tags.get(LOUDEST_MICROPHONES) else {
        return Ok(None);
    };
    let number = text.parse::<u32>().ok();
    let number = number.filter(|number| *number <= MAX_LOUDEST_MICROPHONES);
    let invalid = || InvalidTag::LoudestMicrophones(text.clone());
    number.map(Some).ok_or_else(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_we_know_is_kept_and_is_nothing_to_others() {
        let known = RoomBody {
            info: RoomInfo {
                sid: "RM_a".to_owned(),
                metadata: "here".to_owned(),
                ..RoomInfo::default()
            },
            loudest_microphones: 3,
        };
        let body = known.encode();
        assert_eq!(RoomBody::decode(&body), known);
        assert_eq!(RoomInfo::decode(body).unwrap(), known.info);
        // Written by a version before this.
        let before = RoomBody::decode(&known.info.encode_to_vec().into());
        assert_eq!((before.info, before.loudest_microphones), (known.info, 0));
        let broken = RoomBody::decode(&Bytes::from_static(&[0xff]));
        assert_eq!(broken, RoomBody::default());
    }

    #[test]
    fn a_configuration_says_how_many_are_heard_or_what_is_wrong() {
        let check = |tag: &str, value: &str, expected: Result<Option<u32>, &str>| {
            let config = RoomConfiguration {
                tags: [(tag.to_owned(), value.to_owned())].into(),
                ..RoomConfiguration::default()
            };
            let read = loudest_microphones(&config);
            let read = read.map_err(|invalid| invalid.to_string());
            match expected {
                Ok(expected) => assert_eq!(read, Ok(expected), "{tag}={value}"),
                Err(named) => assert!(read.unwrap_err().contains(named), "{tag}={value}"),
            }
        };
        check("team", "red", Ok(None));
        check(LOUDEST_MICROPHONES, "0", Ok(Some(0)));
        check(LOUDEST_MICROPHONES, "3", Ok(Some(3)));
        check(LOUDEST_MICROPHONES, "251", Err("\"251\""));
        check(LOUDEST_MICROPHONES, "-1", Err("from 0 to 250"));
        check(LOUDEST_MICROPHONES, "", Err(LOUDEST_MICROPHONES));
        check("pipemesh.loudest", "3", Err("pipemesh.loudest"));
        assert_eq!(loudest_microphones(&RoomConfiguration::default()), Ok(None));
    }
}
