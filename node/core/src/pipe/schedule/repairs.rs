//! How much of an alias is sent again: a share of what it sends. A path that loses a lot is not filled with
//! repairs, nor can a node that asks for everything have it twice.

/// Of what is sent, in percent. A loss of a tenth is repaired, repairs of repairs included; where more is lost,
/// layers go. Higher takes their room from other tracks.
const SHARE: u64 = 15;
/// Bytes a second that are sent again in any case: a few packets. What sends little is asked for little, and its
/// share may be less than a packet.
const LEAST: u64 = 6_000;
/// Bytes that may be sent again at once: a large key frame that was lost as a whole.
const SAVED: u64 = 64_000;

/// Bytes are counted in hundredths.
const UNIT: u64 = 100;

#[derive(Debug)]
pub(super) struct Repairs {
    left: u64,
    /// What time gives is counted in up to here, in microseconds.
    counted: u64,
}

impl Repairs {
    pub(super) fn new(at: u64) -> Self {
        Self {
            left: SAVED * UNIT,
            counted: at,
        }
    }

    /// So many bytes are sent for the first time.
    #[inline]
    pub(super) fn earn(&mut self, bytes: usize) {
        self.left = (self.left + bytes as u64 * SHARE).min(SAVED * UNIT);
    }

    /// Whether so many bytes may be sent again; counts them if so.
    pub(super) fn allow(&mut self, bytes: usize, at: u64) -> bool {
        let passed = at.saturating_sub(self.counted);
        self.counted = at.max(self.counted);
        let earned = passed.saturating_mul(LEAST * UNIT) / 1_000_000;
        self.left = self.left.saturating_add(earned).min(SAVED * UNIT);
        let Some(left) = self.left.checked_sub(bytes as u64 * UNIT) else {
            return false;
        };
        self.left = left;
        true
    }
}
