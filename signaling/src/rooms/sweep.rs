//! Keeps this process's lease, and removes what processes that are gone have left in rooms.
//!
//! Any process does: what it removes it removes by version, so it does no harm that several do. Whose
//! lease it is and how long to wait is judged in `lease`.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use livekit_protocol::Room as RoomInfo;
use pipemesh_proto::ids::ProcessId;
use pipemesh_service::Chain;
use pipemesh_topology::RoomName;
use pipemesh_topology::store::{Lease, RemoveOutcome, Unavailable, WhenEmpty};
use prost::Message;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use super::lease::{Duty, Others, RENEW};
use super::record::Member;
use super::{Rooms, lock};
use crate::metrics::Metrics;

/// Pause between two attempts to say for the first time that this process lives.
const FIRST: Duration = Duration::from_millis(50);

/// How often each process looks through all rooms for what nobody else would remove. Longer: it stays
/// longer. Shorter: the store is read more often.
const LOOK: Duration = Duration::from_secs(600);

/// When it does so after the store was away, or has gone back to what it was some time ago.
const LOOK_SOON: Duration = Duration::from_secs(5);

/// Pause between two rooms if nobody waits for the outcome.
const PACE: Duration = Duration::from_millis(2);

/// Rooms that may fail one after the other: one that cannot be read must not hide the others.
const FAILURES: u32 = 3;

/// What a process is said to have said that is named in a room and says nothing itself: it is looked at
/// from then on like any other.
const SUSPECTED: &str = "0";

/// What keeping the lease finds, and sweeping takes.
struct Found {
    others: Mutex<Others>,
    /// Those whose lease was ended and who did not come back.
    gone: Mutex<BTreeSet<ProcessId>>,
    look_at: Mutex<Instant>,
    wake: Notify,
}

impl Rooms {
    /// For as long as the process lives. `grace`: time for people to go on with another process.
    pub(crate) async fn keep_lease(&self, grace: Duration, metrics: &Metrics) {
        let found = Found {
            others: Mutex::new(Others::new(self.process.clone(), grace)),
            gone: Mutex::default(),
            look_at: Mutex::new(Instant::now() + spread(LOOK)),
            wake: Notify::new(),
        };
        tokio::join!(self.renew(&found, metrics), self.sweep(&found, metrics));
    }

    async fn renew(&self, found: &Found, metrics: &Metrics) {
        let my_spread = rand::random();
        let mut was_away = false;
        let mut pause = Duration::ZERO;
        loop {
            sleep(pause).await;
            let (said, asked) = (self.served.says(), Instant::now());
            let Ok(renewed) = self.store.renew_lease(&self.process, &said).await else {
                lock(&found.others).handle_failure();
                was_away = true;
                // For the first time as soon as the store is there: people may come in then.
                pause = pause.max(FIRST);
                continue;
            };
            pause = RENEW;
            let before = renewed.before.as_ref();
            if self.served.handle_renewed(before, asked) {
                let what = "others took this process to be gone, or the store has forgotten it";
                tracing::warn!("{what}");
                metrics.leases_lost.inc();
            }
            if std::mem::take(&mut was_away) {
                let mut look_at = lock(&found.look_at);
                *look_at = (*look_at).min(Instant::now() + spread(LOOK_SOON));
                found.wake.notify_one();
            }
            let is_back = |process: &ProcessId| {
                let lease = renewed.leases.get(process);
                matches!(lease, Some(Lease::Held(_)))
            };
            lock(&found.gone).retain(|process| !is_back(process));
            let now = Instant::now();
            let duties = lock(&found.others).handle_leases(renewed.leases, my_spread, now);
            for duty in duties {
                self.attend(duty, found).await;
            }
        }
    }

    async fn attend(&self, duty: Duty, found: &Found) {
        let process = match duty {
            Duty::Remove(process) => process,
            Duty::End(process, lease) => {
                let ended = Some(&Lease::Ended);
                match self.store.change_lease(&process, Some(&lease), ended).await {
                    Ok(true) => tracing::warn!(%process, "a signaling process is gone"),
                    // Somebody else was faster, or it spoke at last.
                    Ok(false) => return,
                    // It is silent for as long again, then.
                    Err(_) => return,
                }
                process
            }
        };
        lock(&found.gone).insert(process);
        found.wake.notify_one();
    }

    async fn sweep(&self, found: &Found, metrics: &Metrics) {
        loop {
            let look_at = *lock(&found.look_at);
            tokio::select! {
                () = found.wake.notified() => {}
                () = sleep_until(look_at) => {}
            }
            let gone = lock(&found.gone).clone();
            let looks = *lock(&found.look_at) <= Instant::now();
            if looks {
                *lock(&found.look_at) = Instant::now() + spread(LOOK);
            } else if gone.is_empty() {
                continue;
            }
            match self.look_through(found, gone.is_empty(), metrics).await {
                Ok(()) => self.forget(&gone, found).await,
                Err(error) => {
                    let error = Chain(&error).to_string();
                    tracing::warn!(error, "not all rooms could be looked through");
                }
            }
        }
    }

    /// Nothing is left of them.
    async fn forget(&self, gone: &BTreeSet<ProcessId>, found: &Found) {
        for process in gone {
            let ended = Some(&Lease::Ended);
            // Failing that, whoever looks next finds nothing more of it.
            let _ = self.store.change_lease(process, ended, None).await;
            lock(&found.gone).remove(process);
        }
    }

    async fn look_through(
        &self,
        found: &Found,
        at_leisure: bool,
        metrics: &Metrics,
    ) -> Result<(), Unavailable> {
        let (mut from, mut failures) = (None, 0);
        let mut named = BTreeSet::new();
        loop {
            let page = self.store.list_rooms(from).await?;
            for name in &page.names {
                match self.look_into(name, found, &mut named).await {
                    Ok(removed) => {
                        failures = 0;
                        metrics.orphans_removed.inc_by(removed);
                    }
                    Err(_) if failures < FAILURES => failures += 1,
                    Err(error) => return Err(error),
                }
                if at_leisure {
                    sleep(PACE).await;
                }
            }
            from = page.next;
            if from.is_none() {
                break;
            }
        }
        let unknown = lock(&found.others).unknown(named);
        for process in unknown {
            let suspected = Lease::Held(SUSPECTED.to_owned());
            let lease = Some(&suspected);
            self.store.change_lease(&process, None, lease).await?;
        }
        Ok(())
    }

    /// Removes from a room who is not served by anybody; how many that were. A room that is empty ends, if
    /// nobody comes.
    async fn look_into(
        &self,
        name: &RoomName,
        found: &Found,
        named: &mut BTreeSet<ProcessId>,
    ) -> Result<u64, Unavailable> {
        let Some(room) = self.store.read_room(name).await? else {
            return Ok(0);
        };
        let id = room.room.id;
        if room.members.is_empty() && awaits_people(&room.room.body, SystemTime::now()) {
            return Ok(0);
        }
        let mut empty_since = room.members.is_empty().then_some(room.sequence);
        let mut removed = 0;
        for stored in &room.members {
            let Some(member) = Member::decode(stored) else {
                continue;
            };
            // A version that knows no leases.
            let Some(process) = member.process.clone() else {
                continue;
            };
            let is_left = if process == self.process {
                !self.served.serves(member.session.as_str())
            } else {
                lock(&found.gone).contains(&process)
            };
            if !is_left {
                named.insert(process);
                continue;
            }
            let (who, version) = (&stored.identity, stored.version);
            let gone = self
                .store
                .remove_member(name, &id, who, version, WhenEmpty::Keep)
                .await?;
            if let RemoveOutcome::Done { sequence, empty } = gone {
                tracing::info!(room = %name, participant = %who, %process, "nobody serves them");
                self.tell_changed(name, &id, Some(&member), None);
                removed += 1;
                empty_since = empty.then_some(sequence);
            }
        }
        if let Some(sequence) = empty_since {
            self.end_later(name.clone(), id, sequence).await;
        }
        Ok(removed)
    }
}

/// Whether a room without anybody was opened for people who may still come.
fn awaits_people(body: &Bytes, now: SystemTime) -> bool {
    let info = RoomInfo::decode(body.clone()).unwrap_or_default();
    let opened = Duration::from_secs(info.creation_time.try_into().unwrap_or(0));
    let timeout = Duration::from_secs(info.empty_timeout.into());
    // A clock that is behind keeps no room for ever.
    now.duration_since(UNIX_EPOCH + opened)
        .is_ok_and(|passed| passed < timeout)
}

/// So long, or up to twice as long: processes that began together do not look together.
fn spread(time: Duration) -> Duration {
    time.mul_f64(rand::random_range(1.0..2.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_waits_for_people_as_long_as_it_was_asked_to() {
        let opened = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let info = RoomInfo {
            creation_time: 1_700_000_000,
            empty_timeout: 60,
            ..Default::default()
        };
        let body = Bytes::from(info.encode_to_vec());
        let check = |now: SystemTime, expected: bool| {
            assert_eq!(awaits_people(&body, now), expected, "{now:?}");
        };
        check(opened, true);
        check(opened + Duration::from_secs(59), true);
        check(opened + Duration::from_secs(60), false);
        check(opened - Duration::from_secs(1), false);
    }
}
