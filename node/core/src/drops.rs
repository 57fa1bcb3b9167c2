//! Why packets are not forwarded, counted.

/// Every reason for which a packet that arrived goes nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DropReason {
    /// Neither STUN, DTLS, RTP nor RTCP, or its header cannot be read.
    Malformed,
    /// From an address that no authenticated check came from.
    UnknownAddress,
    /// Authentication failed.
    Unauthenticated,
    /// Seen before.
    Replayed,
    /// Belongs to no announced track.
    UnknownSource,
    /// Of a payload type that was not negotiated.
    UnknownPayloadType,
    /// The track is muted.
    Muted,
    /// More than the connection may use.
    Limit,
    /// A queue is full.
    QueueFull,
    /// Waited for bandwidth in vain.
    Congested,
    /// Before keys are there, or before the client's certificate is verified.
    NoKeys,
}

impl DropReason {
    pub const ALL: [Self; 11] = [
        Self::Malformed,
        Self::UnknownAddress,
        Self::Unauthenticated,
        Self::Replayed,
        Self::UnknownSource,
        Self::UnknownPayloadType,
        Self::Muted,
        Self::Limit,
        Self::QueueFull,
        Self::Congested,
        Self::NoKeys,
    ];

    /// The value of the metric label `reason`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::UnknownAddress => "unknown_address",
            Self::Unauthenticated => "unauthenticated",
            Self::Replayed => "replayed",
            Self::UnknownSource => "unknown_source",
            Self::UnknownPayloadType => "unknown_payload_type",
            Self::Muted => "muted",
            Self::Limit => "limit",
            Self::QueueFull => "queue_full",
            Self::Congested => "congested",
            Self::NoKeys => "no_keys",
        }
    }
}

/// Dropped packets by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Drops([u64; DropReason::ALL.len()]);

impl Drops {
    pub fn count(&mut self, reason: DropReason) {
        self.0[reason as usize] += 1;
    }

    pub fn add(&mut self, reason: DropReason, packets: usize) {
        self.0[reason as usize] += packets as u64;
    }

    pub fn get(&self, reason: DropReason) -> u64 {
        self.0[reason as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_counter() {
        let mut drops = Drops::default();
        for (times, reason) in DropReason::ALL.into_iter().enumerate() {
            drops.count(reason);
            drops.add(reason, times);
        }
        for (times, reason) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(drops.get(reason), times as u64 + 1, "{reason:?}");
        }
    }
}
