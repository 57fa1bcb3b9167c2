//! What holds whatever is pushed, popped and measured.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Frame {
        track: usize,
        packets: u8,
        key: bool,
        torn: bool,
    },
    Resend {
        track: usize,
    },
    Control,
    Pop {
        times: u8,
        space: usize,
    },
    Pad {
        space: usize,
    },
    Wait {
        millis: u64,
    },
    Path {
        kbps: u64,
        queue: u64,
    },
    Priority {
        track: usize,
        priority: u8,
    },
    Reopen {
        track: usize,
    },
}

const KINDS: [Kind; 7] = [
    Kind::Audio,
    Kind::Audio,
    Kind::Video {
        layer: 0,
        layers: 3,
    },
    Kind::Video {
        layer: 1,
        layers: 3,
    },
    Kind::Video {
        layer: 2,
        layers: 3,
    },
    Kind::Video {
        layer: 0,
        layers: 2,
    },
    Kind::Video {
        layer: 1,
        layers: 2,
    },
];

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let track = 0..KINDS.len();
    let space = prop_oneof![Just(ROOM), 0..3 * LEN];
    let step = prop_oneof![
        8 => (track.clone(), 1u8..6, prop::bool::weighted(0.15), prop::bool::weighted(0.05))
            .prop_map(|(track, packets, key, torn)| Step::Frame { track, packets, key, torn }),
        1 => track.clone().prop_map(|track| Step::Resend { track }),
        1 => Just(Step::Control),
        6 => (1u8..12, space.clone()).prop_map(|(times, space)| Step::Pop { times, space }),
        1 => space.prop_map(|space| Step::Pad { space }),
        6 => (0u64..70).prop_map(|millis| Step::Wait { millis }),
        // Silences in which layers come back.
        1 => (500u64..5_000).prop_map(|millis| Step::Wait { millis }),
        1 => (50u64..8_000, 0u64..20).prop_map(|(kbps, queue)| Step::Path { kbps, queue }),
        1 => (track.clone(), 0u8..20)
            .prop_map(|(track, priority)| Step::Priority { track, priority }),
        1 => track.prop_map(|track| Step::Reopen { track }),
    ];
    prop::collection::vec(step, 1..400)
}

/// What a packet is, beside what the schedule is told.
#[derive(Debug, Clone, Copy)]
struct Name {
    alias: u32,
    number: u64,
    resend: bool,
    begins_key_frame: bool,
}

struct Model {
    schedule: Schedule<Name>,
    now: Instant,
    /// By track: aliases are not used twice.
    aliases: Vec<u32>,
    pushed: BTreeMap<u32, u64>,
    /// A key frame has begun, and its end has not come.
    within_key_frame: BTreeSet<u32>,
    /// The last packet that left of each.
    left: BTreeMap<u32, Name>,
    resent: BTreeMap<u32, u64>,
    suspended: BTreeSet<u32>,
    /// A key frame was asked for, and none has begun since.
    asked: BTreeSet<u32>,
}

impl Model {
    fn new() -> Self {
        let now = start();
        let mut schedule = Schedule::new(now);
        let aliases: Vec<u32> = (0..KINDS.len() as u32).collect();
        for (&alias, kind) in aliases.iter().zip(KINDS) {
            schedule.open(alias, kind, 0, now).unwrap();
        }
        Self {
            schedule,
            now,
            aliases,
            pushed: BTreeMap::new(),
            within_key_frame: BTreeSet::new(),
            left: BTreeMap::new(),
            resent: BTreeMap::new(),
            suspended: BTreeSet::new(),
            asked: BTreeSet::new(),
        }
    }

    fn take(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match *step {
            Step::Frame {
                track,
                packets,
                key,
                torn,
            } => {
                for place in 0..packets {
                    let last = place + 1 == packets;
                    self.push(track, key, last && !torn, false);
                }
            }
            Step::Resend { track } => self.push(track, false, true, true),
            Step::Control => {
                let name = Name {
                    alias: u32::MAX,
                    number: 0,
                    resend: false,
                    begins_key_frame: false,
                };
                self.schedule.push_control(30, name, self.now);
            }
            Step::Pop { times, space } => {
                let mut space = space;
                for _ in 0..times {
                    let Some(name) = self.schedule.pop(self.now, space) else {
                        break;
                    };
                    self.leaves(name)?;
                    space = space.saturating_sub(LEN);
                }
            }
            Step::Pad { space } => {
                if self.schedule.poll_padding(self.now, space).is_some() {
                    prop_assert_eq!(self.schedule.waiting, 0);
                }
            }
            Step::Wait { millis: time } => {
                let end = self.now + millis(time);
                while let Some(at) = self.schedule.poll_timeout().filter(|&at| at <= end) {
                    self.now = self.now.max(at);
                    self.schedule.handle_timeout(self.now);
                    self.hear()?;
                    // Padding that nobody polls.
                    if self.schedule.poll_timeout() == Some(at) {
                        self.schedule.poll_padding(self.now, 0);
                    }
                }
                self.now = end;
            }
            Step::Path { kbps, queue } => {
                self.schedule
                    .set_path(Bitrate::from_kbps(kbps), millis(queue));
            }
            Step::Priority { track, priority } => {
                self.schedule
                    .set_demand(self.aliases[track], priority, true);
            }
            Step::Reopen { track } => {
                let (closed, opened) = (self.aliases[track], self.aliases[track] + 10);
                self.schedule.close(closed);
                self.suspended.remove(&closed);
                self.schedule
                    .open(opened, KINDS[track], 0, self.now)
                    .unwrap();
                self.aliases[track] = opened;
            }
        }
        self.hear()?;
        self.check()
    }

    fn push(&mut self, track: usize, key: bool, end: bool, resend: bool) {
        let alias = self.aliases[track];
        // Two key frames whose border is lost are taken for one.
        let begins = key && !self.within_key_frame.contains(&alias);
        if key && !end {
            self.within_key_frame.insert(alias);
        } else if !resend {
            self.within_key_frame.remove(&alias);
        }
        let number = self.pushed.entry(alias).or_default();
        *number += 1;
        if begins {
            self.asked.remove(&alias);
        }
        let name = Name {
            alias,
            number: *number,
            resend,
            begins_key_frame: begins,
        };
        let packet = Packet {
            alias,
            len: LEN,
            key_frame: key,
            frame_end: end,
            resend,
        };
        self.schedule.push(packet, name, self.now);
    }

    fn leaves(&mut self, name: Name) -> Result<(), TestCaseError> {
        if name.alias == u32::MAX {
            return Ok(());
        }
        prop_assert!(self.aliases.contains(&name.alias), "{name:?} is closed");
        prop_assert!(!self.suspended.contains(&name.alias), "{name:?}");
        prop_assert_eq!(self.schedule.queued(Class::Control), 0, "before control");
        let track = self.aliases.iter().position(|&alias| alias == name.alias);
        let kind = KINDS[track.unwrap()];
        if name.resend {
            let last = self.resent.insert(name.alias, name.number);
            prop_assert!(last < Some(name.number), "{name:?} after {last:?}");
        } else if let Some(last) = self.left.insert(name.alias, name) {
            prop_assert!(last.number < name.number, "{name:?} after {last:?}");
        }
        if kind != Kind::Audio {
            // So no audio is dropped because video went before it.
            prop_assert_eq!(self.schedule.queued(Class::Audio), 0, "{:?}", name);
        }
        Ok(())
    }

    fn hear(&mut self) -> Result<(), TestCaseError> {
        while let Some(event) = self.schedule.poll_event() {
            match event {
                Event::Suspended(alias) => {
                    let track = self.aliases.iter().position(|&open| open == alias);
                    let kind = KINDS[track.unwrap()];
                    prop_assert!(
                        !matches!(kind, Kind::Audio | Kind::Video { layer: 0, .. }),
                        "{kind:?}"
                    );
                    prop_assert!(self.suspended.insert(alias));
                }
                Event::Resumed(alias) => prop_assert!(self.suspended.remove(&alias)),
                Event::KeyFrameNeeded(alias) => {
                    prop_assert!(self.aliases.contains(&alias));
                    self.asked.insert(alias);
                }
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let stats = self.schedule.stats();
        let mut waiting = 0;
        for class in Class::ALL {
            let dropped: u64 = Reason::ALL
                .into_iter()
                .map(|reason| stats.dropped(class, reason).packets)
                .sum();
            let queued = self.schedule.queued(class) as u64;
            let known = stats.popped(class).packets + dropped + queued;
            prop_assert_eq!(stats.pushed(class).packets, known, "{:?}", class);
            waiting += queued as usize * if class == Class::Control { 30 } else { LEN };
        }
        prop_assert_eq!(self.schedule.waiting, waiting);
        for alias in self.schedule.aliases.iter().flatten() {
            let suspended = alias.flow == Flow::Suspended;
            prop_assert_eq!(suspended, self.suspended.contains(&alias.id));
            if alias.flow == Flow::AwaitingKeyFrame {
                prop_assert!(
                    self.asked.contains(&alias.id),
                    "{} waits for ever",
                    alias.id
                );
            }
            if alias.flow != Flow::Open {
                prop_assert!(alias.media.entries.is_empty());
            }
        }
        Ok(())
    }
}

proptest! {
    #[test]
    fn order_counts_and_promises_hold(steps in steps()) {
        let mut model = Model::new();
        for step in &steps {
            model.take(step)?;
        }
    }

    /// A gap in what leaves of a video layer is followed by a key frame, always.
    #[test]
    fn after_a_drop_a_key_frame_comes_first(steps in steps()) {
        let mut model = Model::new();
        for step in &steps {
            let Step::Pop { times, space } = *step else {
                if !matches!(step, Step::Resend { .. }) {
                    model.take(step)?;
                }
                continue;
            };
            for _ in 0..times {
                let Some(name) = model.schedule.pop(model.now, space) else {
                    break;
                };
                let last = model.left.get(&name.alias).map_or(0, |last| last.number);
                let track = model.aliases.iter().position(|&alias| alias == name.alias);
                let video = track.is_some_and(|track| KINDS[track] != Kind::Audio);
                if video && name.number != last + 1 {
                    prop_assert!(name.begins_key_frame, "{name:?} after {last}");
                }
                model.leaves(name)?;
            }
            model.hear()?;
            model.check()?;
        }
    }
}
