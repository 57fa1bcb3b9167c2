//! What has to hold: some of it always, all of it once there was time to recover from what happened last.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use pipemesh_proto::ids::TrackId;
use pipemesh_topology::relay_path;

use super::node::Dialect;
use super::people::{Member, State};
use super::world::World;

/// After so long everything has recovered: a pipe is given up after three seconds, a call after as many, and
/// the next call is up to five seconds later.
pub(super) const RECOVERED_AFTER: Duration = Duration::from_secs(11);
/// Layers come back later: what was suspended in vain is tried again ever more rarely.
const WIDE_AFTER: Duration = Duration::from_secs(50);
/// Audio that was sent between these times ago has arrived.
const ARRIVED: (Duration, Duration) = (Duration::from_millis(3_000), Duration::from_millis(1_200));
/// Of it, under whatever loss the path has: asked for again, hardly any is missing.
const AUDIO: f64 = 0.95;
/// The last frame of a picture that moves is no older.
const MOVES: Duration = Duration::from_millis(1_800);
/// Nodes that a packet has been at after each other, at any time.
const LONGEST_CHAIN: usize = 6;
/// … and as soon as all agree on their paths: origin, gateway, branch, twig.
const SETTLED_CHAIN: usize = relay_path::LONGEST_PATH;

/// Between which nodes packets of a source got to a region.
type Copies = BTreeMap<(u32, usize), BTreeSet<(usize, usize)>>;

struct Source {
    origin: usize,
    track: TrackId,
}

/// What has happened since all was settled.
enum Unrest {
    /// So many hand-overs at most.
    Moving(usize),
    Broken,
}

/// See the module.
pub(super) struct Checks {
    disturbed_at: Instant,
    unrest: Unrest,
    demanded_at: Instant,
    /// When there was a narrow place last.
    narrow_at: Option<Instant>,
    pub(super) is_narrow: bool,
    sources: BTreeMap<u32, Source>,
    /// Where the packets of a source have been that a node gets, by node.
    chains: BTreeMap<(usize, u32), Vec<usize>>,
    longest_chain: usize,
    /// Who sent packets of a source to a region, within the present second.
    copies: Copies,
}

impl Checks {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            disturbed_at: now,
            unrest: Unrest::Broken,
            demanded_at: now,
            narrow_at: None,
            is_narrow: false,
            sources: BTreeMap::new(),
            chains: BTreeMap::new(),
            longest_chain: 0,
            copies: BTreeMap::new(),
        }
    }

    /// Something happens that takes time to recover from.
    pub(super) fn disturb(&mut self, now: Instant) {
        if self.is_settled(now) {
            self.unrest = Unrest::Moving(0);
        }
        self.disturbed_at = now;
    }

    /// Tracks may be taken another way from now on, and all that is there goes on.
    pub(super) fn hand_over(&mut self) {
        if let Unrest::Moving(count) = &mut self.unrest {
            *count += 1;
        }
    }

    /// Something is broken: whoever notices looks for a way of its own.
    pub(super) fn break_off(&mut self) {
        self.unrest = Unrest::Broken;
    }

    /// Copies of a layer that may go to a region within one second.
    fn most_copies(&self, now: Instant) -> usize {
        match self.unrest {
            // The second that is over was one of peace as a whole.
            _ if self.is_settled(now - Duration::from_secs(1)) => 1,
            // Each hand-over makes its way before it breaks the one before.
            Unrest::Moving(count) => 1 + count,
            Unrest::Broken => usize::MAX,
        }
    }

    /// Other layers are wanted than before.
    pub(super) fn demand(&mut self, now: Instant) {
        self.demanded_at = now;
    }

    pub(super) fn publish(&mut self, ssrc: u32, origin: usize, track: &TrackId) {
        let track = track.clone();
        self.sources.insert(ssrc, Source { origin, track });
    }

    /// A packet gets from one node to another; answers what is wrong about it.
    pub(super) fn note_arrival(&mut self, ssrc: u32, from: usize, to: usize) -> Option<String> {
        let source = self.sources.get(&ssrc)?;
        let mut chain = match from == source.origin {
            true => vec![from],
            false => self.chains.get(&(from, ssrc)).cloned().unwrap_or_default(),
        };
        let track = &source.track;
        let is_loop = to == source.origin;
        chain.push(to);
        self.longest_chain = self.longest_chain.max(chain.len());
        if is_loop || chain.len() > LONGEST_CHAIN {
            return Some(format!("loop: a packet of {track} has been at {chain:?}"));
        }
        self.chains.insert((to, ssrc), chain);
        None
    }

    pub(super) fn note_copy(&mut self, ssrc: u32, region: usize, way: (usize, usize)) {
        self.copies.entry((ssrc, region)).or_default().insert(way);
    }

    fn is_settled(&self, now: Instant) -> bool {
        now >= self.disturbed_at + RECOVERED_AFTER
    }

    fn is_wide(&self, now: Instant) -> bool {
        !self.is_narrow && self.narrow_at.is_none_or(|at| now >= at + WIDE_AFTER)
    }
}

impl World {
    /// Once a second.
    pub(super) fn check(&mut self) {
        let now = self.now;
        if self.checks.is_narrow {
            self.checks.narrow_at = Some(now);
        }
        self.complain();
        self.tell_suspended();
        let copies = std::mem::take(&mut self.checks.copies);
        let chain = std::mem::take(&mut self.checks.longest_chain);
        if let Some(wrong) = self.check_copies(copies) {
            return self.fail(wrong);
        }
        if !self.checks.is_settled(now - Duration::from_secs(1)) {
            return;
        }
        self.coverage.checks += 1;
        if chain > SETTLED_CHAIN {
            return self.fail(format!("path: a packet went over {} pipes", chain - 1));
        }
        if let Err(wrong) = self.check_people() {
            self.fail(wrong);
        }
    }

    /// A layer goes to a region once, and twice while one way is handed over to another.
    fn check_copies(&self, copies: Copies) -> Option<String> {
        let most = self.checks.most_copies(self.now);
        let ((ssrc, region), ways) = copies.into_iter().find(|(_, ways)| ways.len() > most)?;
        let track = &self.checks.sources.get(&ssrc)?.track;
        let ways = ways.iter();
        let ways = ways.map(|(from, to)| format!("{} → {}", self.name(*from), self.name(*to)));
        let ways: Vec<String> = ways.collect();
        Some(format!(
            "copies: {track} goes to region r{region} {} times, {most} at most: {}",
            ways.len(),
            ways.join(", ")
        ))
    }

    /// What pipes have no room for, where it has changed.
    fn tell_suspended(&mut self) {
        let mut told = Vec::new();
        for (index, node) in self.nodes.iter_mut().enumerate() {
            let links = node.iter_mut().flat_map(|node| node.links.values_mut());
            for link in links {
                let suspended = link.exchange.suspended();
                if suspended != link.suspended {
                    link.suspended.clone_from(&suspended);
                    told.push((index, link.peer, suspended));
                }
            }
        }
        for (index, peer, suspended) in told {
            self.coverage.suspended += suspended.len() as u64;
            self.tell(|it| {
                let (own, peer) = (it.name(index), it.name(peer));
                format!("{own}: towards {peer} there is no room for {suspended:?}")
            });
        }
    }

    /// Everybody sees and hears everybody.
    fn check_people(&self) -> Result<(), String> {
        for (index, member) in self.members.iter().enumerate() {
            if !member.is_here {
                continue;
            }
            let others = self.members.iter().enumerate();
            let others = others.filter(|(other, it)| *other != index && it.room == member.room);
            for (other, publisher) in others {
                if publisher.is_here && publisher.publishes && member.watches {
                    self.check_pair(member, other)?;
                }
            }
            if member.publishes {
                self.check_demand(index)?;
            }
        }
        Ok(())
    }

    /// Nodes that no pipe can be between.
    fn are_apart(&self, one: usize, other: usize) -> bool {
        let foreign = |node: usize| self.places[node].dialect == Dialect::Foreign;
        one != other && (foreign(one) || foreign(other))
    }

    fn check_pair(&self, member: &Member, publisher: usize) -> Result<(), String> {
        let now = self.now;
        let id = &member.id;
        let of = &self.members[publisher];
        let Some(seat) = &member.seat else {
            return Err(format!("lost: {id} is on no node"));
        };
        let Some((there, camera)) = of.seat.as_ref().zip(of.camera()) else {
            return Err(format!("lost: {} is on no node", of.id));
        };
        if self.are_apart(seat.node, there.node) {
            return Ok(());
        }
        let place = format!("{id} on {}", self.name(seat.node));
        let there = self.name(there.node);
        for track in camera.tracks() {
            let Some(want) = seat.wants.get(track) else {
                return Err(format!("lost: {place} was never told of {track}"));
            };
            let State::Has(_) = want.state else {
                let state = want.state;
                return Err(format!(
                    "lost: {place} has not got {track} of {there}: {state:?}"
                ));
            };
        }
        let audio = &seat.wants[&camera.audio_track].got;
        let due = camera
            .audio_sent
            .iter()
            .filter(|(at, ..)| *at + ARRIVED.0 >= now && *at + ARRIVED.1 <= now);
        let due: Vec<_> = due.collect();
        let came = due
            .iter()
            .filter(|(_, ssrc, number)| audio.packets.contains(&(*ssrc, *number)));
        let came = came.count();
        if (came as f64) < AUDIO * due.len() as f64 - 0.999 || due.is_empty() {
            let audio = &camera.audio_track;
            return Err(format!(
                "audio: {place} got {came} of the last {} packets of {audio} of {there}",
                due.len()
            ));
        }
        self.check_picture(member, publisher, &place)
    }

    fn check_picture(&self, member: &Member, publisher: usize, place: &str) -> Result<(), String> {
        let now = self.now;
        let of = &self.members[publisher];
        let Some((seat, camera)) = member.seat.as_ref().zip(of.camera()) else {
            return Ok(());
        };
        if of.is_muted || member.layers == 0 {
            return Ok(());
        }
        let track = &camera.video_track;
        let want = &seat.wants[track];
        if want.got.frame_at.is_none_or(|at| at + MOVES < now) {
            let since = want.got.frame_at.map(|at| (now - at).as_secs_f32());
            return Err(format!(
                "video: {place} sees {track} stand still, for {since:?} s"
            ));
        }
        let node = self.nodes[seat.node].as_ref();
        let layer =
            node.and_then(|node| node.shards[usize::from(seat.shard)].layer(seat.key, track));
        if self.checks.is_wide(now) && layer != Some(member.layers - 1) {
            return Err(format!(
                "layer: {place} sees {layer:?} of {track}, and wants {}",
                member.layers - 1
            ));
        }
        Ok(())
    }

    /// A publisher sends what somebody wants, wherever they are, and nothing else.
    fn check_demand(&self, index: usize) -> Result<(), String> {
        let of = &self.members[index];
        let Some((there, camera)) = of.seat.as_ref().zip(of.camera()) else {
            return Err(format!("lost: {} is on no node", of.id));
        };
        if !self.checks.is_wide(self.now) {
            return Ok(());
        }
        let others = self.members.iter().enumerate();
        let wanted = others.filter(|(other, it)| {
            let seat = it.seat.as_ref();
            let is_near = seat.is_some_and(|seat| !self.are_apart(seat.node, there.node));
            *other != index && it.room == of.room && it.watches && is_near
        });
        let wanted = wanted.map(|(_, it)| it.layers).max().unwrap_or_default();
        if camera.demand != wanted {
            return Err(format!(
                "demand: {} is told to send {} layers, and {wanted} are wanted",
                of.id, camera.demand
            ));
        }
        Ok(())
    }

    /// Everybody has left, some time ago.
    pub(super) fn check_empty(&mut self) {
        for index in self.living() {
            let Some(node) = &self.nodes[index] else {
                continue;
            };
            let name = self.name(index);
            let mut left: Vec<String> = node.shards.iter().flat_map(|shard| shard.left()).collect();
            if !node.decisions.is_idle() {
                left.push("tracks or rooms that are decided about".to_owned());
            }
            if !node.tracks.count_by_room().is_empty() {
                left.push("tracks that can be subscribed to".to_owned());
            }
            let pipes = node.links.values().filter(|link| link.exchange.is_used());
            left.extend(pipes.map(|link| {
                let (taken, given) = link.exchange.counts();
                let peer = self.name(link.peer);
                format!("a pipe to {peer} with {taken} taken and {given} given")
            }));
            if !left.is_empty() {
                let left = left.join(", ");
                return self.fail(format!("left behind: on {name} {left}"));
            }
        }
    }
}
