//! The ring in Redis: one hash that everybody reads and one writer at a time changes.
//!
//! Here is what is asked and what the answers mean; who may write, and when, is `ring_keeper`'s
//! affair, and what to believe of what is read `shared_ring`'s. Schema: `docs/redis.md`.

use std::sync::Arc;

use pipemesh_proto::ids::{NodeId, Region};
use redis::{Script, ScriptInvocation, Value};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::failure::Failure;
use super::keys::Keys;
use super::link::Link;
use super::reply::Reply;
use super::session::Session;
use crate::ring::{ALGORITHM, Collision, Member, Members, Record};
use crate::store::Unavailable;

/// What is read of the hash.
const FIELDS: [&str; 5] = ["term", "epoch", "algorithm", "digest", "members"];
type Fields = [Option<String>; FIELDS.len()];

/// Why what Redis holds is not used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum UnreadableRing {
    #[error("lacks {0}")]
    Lacks(&'static str),
    #[error("is computed with {0:?} instead of {ALGORITHM:?}")]
    Algorithm(String),
    #[error("has members that cannot be read: {0}")]
    Members(String),
    #[error("is said to be {stored}, and is {computed} as computed here")]
    Digest { stored: String, computed: String },
    #[error(transparent)]
    Collision(#[from] Collision),
}

/// What Redis holds.
#[derive(Debug)]
pub enum Stored {
    Nothing,
    /// What was known.
    Same,
    Ring(Box<Record>),
    Unreadable(UnreadableRing),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutRing {
    Done {
        epoch: u64,
    },
    /// A later term was drawn.
    Superseded,
}

/// A member as it is stored.
#[derive(Debug, Serialize, Deserialize)]
struct StoredMember {
    id: String,
    region: String,
    weight: u32,
}

/// The ring's place in Redis. Nothing is tried twice.
#[derive(Clone)]
pub struct RedisRing {
    link: Link,
    key: String,
    channel: String,
    scripts: Arc<Scripts>,
}

struct Scripts {
    draw_term: Script,
    put: Script,
    restore: Script,
}

impl RedisRing {
    pub(super) fn new(link: Link, keys: &Keys) -> Self {
        let scripts = Scripts {
            draw_term: Script::new(include_str!("scripts/draw_term.lua")),
            put: Script::new(include_str!("scripts/put_ring.lua")),
            restore: Script::new(include_str!("scripts/restore_ring.lua")),
        };
        Self {
            link,
            key: keys.ring(),
            channel: keys.ring_channel(),
            scripts: Arc::new(scripts),
        }
    }

    /// Whether Redis can be reached.
    #[must_use]
    pub fn up(&self) -> watch::Receiver<bool> {
        self.link.up()
    }

    /// # Errors
    /// When Redis cannot be reached.
    pub async fn read(&self, known: &Record) -> Result<Stored, Unavailable> {
        let session = self.link.session()?;
        let mut commands = session.commands();
        let read = redis::cmd("HMGET").arg(&self.key).arg(&FIELDS).to_owned();
        let answer: Value = session.run(read.query_async(&mut commands)).await?;
        let mut answer = Reply::new(answer)?;
        let mut fields: Fields = Default::default();
        for field in &mut fields {
            // What is not text is nothing that we have written.
            let bytes: Option<Vec<u8>> = answer.take()?;
            *field = bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        }
        if fields.iter().all(Option::is_none) {
            return Ok(Stored::Nothing);
        }
        Ok(match record(fields, known) {
            Ok(Some(record)) => Stored::Ring(Box::new(record)),
            Ok(None) => Stored::Same,
            Err(unreadable) => Stored::Unreadable(unreadable),
        })
    }

    /// A term of one's own, above all that were drawn and `seen`. No earlier one can write any more.
    ///
    /// # Errors
    /// When Redis cannot be reached; the term may be drawn all the same.
    pub async fn draw_term(&self, seen: u64) -> Result<u64, Unavailable> {
        let mut call = self.scripts.draw_term.key(&self.key);
        let session = self.link.session()?;
        let mut commands = session.commands();
        let call = call.arg(seen).invoke_async(&mut commands);
        Ok(session.run(call).await?)
    }

    /// Writes the ring of these members behind `seen` and behind what Redis holds, if no later term
    /// was drawn.
    ///
    /// # Errors
    /// When Redis cannot be reached; the ring may be written all the same.
    pub async fn put(
        &self,
        term: u64,
        seen: u64,
        members: &Members,
        digest: u64,
    ) -> Result<PutRing, Unavailable> {
        let mut call = self.scripts.put.key(&self.key);
        call.arg(&self.channel).arg(term).arg(seen);
        let mut answer = Reply::new(self.call(ring(&mut call, members, digest)).await?)?;
        match answer.outcome()?.as_str() {
            "done" => Ok(PutRing::Done {
                epoch: answer.take()?,
            }),
            "superseded" => Ok(PutRing::Superseded),
            other => Err(Failure::Answer(format!("an outcome named {other:?}")).into()),
        }
    }

    /// Writes a ring that was written before, unless Redis holds it or a later one. Anybody may.
    /// Whether it was missing.
    ///
    /// # Errors
    /// When Redis cannot be reached; the ring may be written all the same.
    pub async fn restore(&self, record: &Record) -> Result<bool, Unavailable> {
        let mut call = self.scripts.restore.key(&self.key);
        call.arg(&self.channel).arg(record.term).arg(record.epoch);
        let call = ring(&mut call, &record.members, record.digest);
        let restored = redis::from_redis_value(self.call(call).await?);
        restored.map_err(|error| Failure::Answer(error.to_string()).into())
    }

    /// Begins to listen, and answers what then tells of changes, if that is not what told before.
    ///
    /// # Errors
    /// When Redis cannot be reached.
    pub(crate) async fn listen(&self, ears: &mut Ears) -> Result<(), Unavailable> {
        let session = self.link.session()?;
        if ears.0.as_ref().is_none_or(|it| !Arc::ptr_eq(it, &session)) {
            session.listen_to_ring(&self.channel).await?;
            ears.0 = Some(session);
        }
        Ok(())
    }

    async fn call(&self, call: &ScriptInvocation<'_>) -> Result<Value, Failure> {
        let session = self.link.session()?;
        let mut commands = session.commands();
        session.run(call.invoke_async(&mut commands)).await
    }
}

/// With what is listened, if anything is.
#[derive(Default)]
pub(crate) struct Ears(Option<Arc<Session>>);

impl Ears {
    /// Waits until the ring is said to have changed.
    pub(crate) async fn hear(&self) {
        match &self.0 {
            Some(session) => session.ring_changed().await,
            None => std::future::pending().await,
        }
    }
}

/// Adds what both scripts that write take last.
fn ring<'a, 'b>(
    call: &'a mut ScriptInvocation<'b>,
    members: &Members,
    digest: u64,
) -> &'a ScriptInvocation<'b> {
    let members: Vec<StoredMember> = members
        .iter()
        .map(|member| StoredMember {
            id: member.id.to_string(),
            region: member.region.to_string(),
            weight: member.weight,
        })
        .collect();
    let members = serde_json::to_string(&members).expect("texts and numbers are JSON");
    call.arg(ALGORITHM).arg(hex(digest)).arg(members)
}

/// As long as any other: texts compare as the numbers do.
fn hex(digest: u64) -> String {
    format!("{digest:016x}")
}

/// `None`: it is what is known.
fn record(fields: Fields, known: &Record) -> Result<Option<Record>, UnreadableRing> {
    let [term, epoch, algorithm, stored, members] = fields;
    let algorithm = algorithm.ok_or(UnreadableRing::Lacks("algorithm"))?;
    if algorithm != ALGORITHM {
        return Err(UnreadableRing::Algorithm(algorithm));
    }
    let number = |text: Option<String>| text.and_then(|text| text.parse().ok());
    let term = number(term).ok_or(UnreadableRing::Lacks("term"))?;
    let epoch = number(epoch).ok_or(UnreadableRing::Lacks("epoch"))?;
    let stored = stored.ok_or(UnreadableRing::Lacks("digest"))?;
    let members = members.ok_or(UnreadableRing::Lacks("members"))?;
    let members: Vec<StoredMember> = serde_json::from_str(&members)
        .map_err(|error| UnreadableRing::Members(error.to_string()))?;
    let members: Result<Vec<Member>, String> = members.into_iter().map(member).collect();
    let members = Members::new(members.map_err(UnreadableRing::Members)?);
    let is_known = (term, epoch, &members) == (known.term, known.epoch, &known.members);
    // To compute a large ring takes a while.
    if is_known && stored == hex(known.digest) {
        return Ok(None);
    }
    let record = Record::new(term, epoch, members)?;
    let computed = hex(record.digest);
    if stored == computed {
        Ok(Some(record))
    } else {
        Err(UnreadableRing::Digest { stored, computed })
    }
}

fn member(stored: StoredMember) -> Result<Member, String> {
    let StoredMember { id, region, weight } = stored;
    let id: NodeId = id.parse().map_err(|what| format!("{id:?} {what}"))?;
    let region: Region = region
        .parse()
        .map_err(|what| format!("{region:?} {what}"))?;
    Ok(Member { id, region, weight })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::Ring;

    #[test]
    fn what_is_stored_is_read_or_refused() {
        let check = |changed: [(usize, Option<&str>); 1], expected: Result<usize, &str>| {
            let members = r#"[{"id":"b","region":"eu","weight":2,"later":true},{"id":"a","region":"us","weight":1}]"#;
            let read = |id: &str, region: &str, weight| Member {
                id: id.parse().unwrap(),
                region: region.parse().unwrap(),
                weight,
            };
            let made = Members::new([read("a", "us", 1), read("b", "eu", 2)]);
            let digest = hex(Ring::new(&made).unwrap().digest());
            let mut fields =
                ["3", "7", ALGORITHM, digest.as_str(), members].map(|it| Some(it.to_owned()));
            for (i, field) in changed {
                fields[i] = field.map(str::to_owned);
            }
            match (record(fields, &Record::none()), expected) {
                (Ok(Some(record)), Ok(count)) => {
                    assert_eq!((record.term, record.epoch), (3, 7));
                    assert_eq!((record.members.len(), &record.members), (count, &made));
                }
                (Err(error), Err(expected)) => {
                    let error = error.to_string();
                    assert!(error.contains(expected), "{error}");
                }
                (read, expected) => panic!("{read:?} instead of {expected:?}"),
            }
        };
        check([(0, Some("3"))], Ok(2));
        check([(0, None)], Err("lacks term"));
        check([(1, Some("x"))], Err("lacks epoch"));
        check([(2, Some("sip13/v2"))], Err("instead of \"sip13/v1\""));
        check([(3, Some("0000000000000000"))], Err("as computed here"));
        check([(4, Some("[]"))], Err("as computed here"));
        check([(4, Some("{}"))], Err("cannot be read"));
        let nameless = r#"[{"id":"","region":"eu","weight":1}]"#;
        check([(4, Some(nameless))], Err("is empty"));
    }
}
