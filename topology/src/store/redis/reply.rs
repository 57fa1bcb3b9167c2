//! What a script answered, taken apart from its beginning to its end.

use std::fmt::Display;
use std::str::FromStr;

use bytes::Bytes;
use redis::{FromRedisValue, Value, from_redis_value};

use super::failure::Failure;
use crate::names::Identity;
use crate::store::{Member, Room};

#[derive(Debug)]
pub(super) struct Reply(std::vec::IntoIter<Value>);

impl Reply {
    pub(super) fn new(value: Value) -> Result<Self, Failure> {
        match value {
            Value::Array(values) => Ok(Self(values.into_iter())),
            _ => Err(Failure::Answer("it is no list".to_owned())),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.len() == 0
    }

    pub(super) fn take<T: FromRedisValue>(&mut self) -> Result<T, Failure> {
        let value = self.0.next();
        let value = value.ok_or_else(|| Failure::Answer("it ends too early".to_owned()))?;
        from_redis_value(value).map_err(|error| Failure::Answer(error.to_string()))
    }

    /// How the operation went: the first of all answers that say so.
    pub(super) fn outcome(&mut self) -> Result<String, Failure> {
        self.take()
    }

    pub(super) fn room(&mut self) -> Result<Room, Failure> {
        Ok(Room {
            id: self.parse("a room's id")?,
            homes: self.parse("one of a room's homes")?,
            version: self.take()?,
            body: self.bytes()?,
        })
    }

    /// A member's version and body.
    pub(super) fn member(&mut self, identity: Identity) -> Result<Member, Failure> {
        Ok(Member {
            identity,
            version: self.take()?,
            body: self.bytes()?,
        })
    }

    /// All members as they are stored, sorted by identity.
    pub(super) fn members(&mut self) -> Result<Vec<Member>, Failure> {
        let mut stored = Self::new(self.take()?)?;
        let mut members = Vec::with_capacity(stored.0.len() / 2);
        while !stored.is_empty() {
            members.push(split(stored.parse("an identity")?, stored.bytes()?)?);
        }
        members.sort_unstable_by(|a, b| a.identity.cmp(&b.identity));
        Ok(members)
    }

    fn bytes(&mut self) -> Result<Bytes, Failure> {
        self.take::<Vec<u8>>().map(Bytes::from)
    }

    fn parse<T: FromStr<Err: Display>>(&mut self, what: &str) -> Result<T, Failure> {
        let text: String = self.take()?;
        text.parse()
            .map_err(|error| Failure::Answer(format!("{what} {error}")))
    }
}

/// What is stored of a member is its version, a space, and its body.
fn split(identity: Identity, mut stored: Bytes) -> Result<Member, Failure> {
    let space = stored.iter().position(|byte| *byte == b' ');
    let version = space.and_then(|space| {
        let version = stored.split_to(space);
        std::str::from_utf8(&version).ok()?.parse().ok()
    });
    let version = version.ok_or_else(|| Failure::Answer("a member has no version".to_owned()))?;
    Ok(Member {
        identity,
        version,
        body: stored.slice(1..),
    })
}
