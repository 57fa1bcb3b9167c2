//! What came, left and was dropped, by class.

use super::class::Class;

/// Why a packet does not leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It waited for longer than it is worth anything, or needs one that did.
    Expired,
    /// Too much waits.
    Full,
    /// Its layer is suspended.
    Suspended,
    /// Something was dropped that it needs.
    AwaitingKeyFrame,
    /// Its alias was closed while it waited.
    Closed,
    /// It was asked for again, and so was too much else of its alias.
    RepairLimit,
}

impl Reason {
    pub const COUNT: usize = 6;
    pub const ALL: [Self; Self::COUNT] = [
        Self::Expired,
        Self::Full,
        Self::Suspended,
        Self::AwaitingKeyFrame,
        Self::Closed,
        Self::RepairLimit,
    ];

    /// The value of the metric label `reason`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Full => "full",
            Self::Suspended => "suspended",
            Self::AwaitingKeyFrame => "awaiting_key_frame",
            Self::Closed => "closed",
            Self::RepairLimit => "repair_limit",
        }
    }
}

/// Packets and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    pub packets: u64,
    pub bytes: u64,
}

impl Count {
    fn add(&mut self, len: usize) {
        self.packets += 1;
        self.bytes += len as u64;
    }
}

/// Since the beginning. What was pushed was popped, was dropped, or waits.
#[derive(Debug, Clone, Default)]
pub struct Stats {
    pushed: [Count; Class::COUNT],
    popped: [Count; Class::COUNT],
    dropped: [[Count; Reason::COUNT]; Class::COUNT],
    /// Packets of aliases that are not open.
    pub unknown: u64,
}

impl Stats {
    pub fn pushed(&self, class: Class) -> Count {
        self.pushed[class as usize]
    }

    pub fn popped(&self, class: Class) -> Count {
        self.popped[class as usize]
    }

    pub fn dropped(&self, class: Class, reason: Reason) -> Count {
        self.dropped[class as usize][reason as usize]
    }

    pub(super) fn push(&mut self, class: Class, len: usize) {
        self.pushed[class as usize].add(len);
    }

    pub(super) fn pop(&mut self, class: Class, len: usize) {
        self.popped[class as usize].add(len);
    }

    pub(super) fn drop(&mut self, class: Class, reason: Reason, len: usize) {
        self.dropped[class as usize][reason as usize].add(len);
    }
}
