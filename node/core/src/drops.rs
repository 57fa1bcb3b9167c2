//! Why packets go nowhere, counted. The same words for what is lost of data channels, and for what clients
//! ask for in vain.

/// Every reason for which something that arrived, or was to be sent, goes nowhere. What each means is said
/// by [`Self::meaning`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DropReason {
    Malformed,
    UnknownAddress,
    Unauthenticated,
    Replayed,
    UnknownSource,
    UnknownPayloadType,
    Muted,
    Limit,
    QueueFull,
    Congested,
    NoKeys,
    NotOpen,
    Forbidden,
    Gone,
    NotKept,
    Overrun,
}

impl DropReason {
    pub const ALL: [Self; 16] = [
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
        Self::NotOpen,
        Self::Forbidden,
        Self::Gone,
        Self::NotKept,
        Self::Overrun,
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
            Self::NotOpen => "not_open",
            Self::Forbidden => "forbidden",
            Self::Gone => "gone",
            Self::NotKept => "not_kept",
            Self::Overrun => "overrun",
        }
    }

    pub fn meaning(self) -> &'static str {
        match self {
            Self::Malformed => {
                "Cannot be read: neither STUN, DTLS, RTP nor RTCP, or against the rules of what it is."
            }
            Self::UnknownAddress => {
                "From an address that no authenticated check came from, or to a client without one."
            }
            Self::Unauthenticated => "Authentication failed.",
            Self::Replayed => "Seen before.",
            Self::UnknownSource => {
                "Belongs to no announced track, subscription or channel, or is sent again and was never missed."
            }
            Self::UnknownPayloadType => {
                "Of a payload type that was not negotiated, by the sender or by the receiver."
            }
            Self::Muted => "The track is muted.",
            Self::Limit => {
                "More than one connection or address may use, or longer than what can be sent."
            }
            Self::QueueFull => "A queue is full.",
            Self::Congested => "Waited for bandwidth in vain, or for a shard that is busy.",
            Self::NoKeys => {
                "Before keys are there, or before the client's certificate is verified."
            }
            Self::NotOpen => "Before the receiver's data channel is open.",
            Self::Forbidden => "The client may not send it.",
            Self::Gone => "Whom or what it was for has ended.",
            Self::NotKept => {
                "Asked for again, and not in the cache: too old, taken back, or never sent."
            }
            Self::Overrun => "The receiver takes what is reliable more slowly than it is sent.",
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
