//! Layers of a track: their names, what bandwidth allows of them, and what each one costs.

use std::time::{Duration, Instant};

/// Spatial layers that are told apart. Browsers send three; what lies above counts as the highest.
pub const MAX_SPATIAL: usize = 4;
/// Temporal layers that are told apart (three in all browsers).
pub const MAX_TEMPORAL: usize = 4;

/// A layer of a track, with all that it needs.
///
/// `spatial` is the encoding of a simulcast track and the spatial layer of a scalable one; with either,
/// 0 is the lowest. Ordered by what is better: a sharper picture before a smoother one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Layer {
    pub spatial: u8,
    pub temporal: u8,
}

impl Layer {
    pub const MAX: Self = Self {
        spatial: u8::MAX,
        temporal: u8::MAX,
    };

    /// The lesser of both in each direction.
    pub fn min_each(self, other: Self) -> Self {
        Self {
            spatial: self.spatial.min(other.spatial),
            temporal: self.temporal.min(other.temporal),
        }
    }
}

/// What bandwidth allows of a track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    Paused,
    UpTo(Layer),
}

impl Limit {
    pub const NONE: Self = Self::UpTo(Layer::MAX);
}

/// Bytes and frames of each layer since the last measurement: an addition per packet.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    bytes: u32,
    frames: u32,
}

/// What a publisher sends of each layer of one encoding.
#[derive(Debug, Default)]
pub(crate) struct LayerMeter {
    counts: [[Count; MAX_TEMPORAL]; MAX_SPATIAL],
    rates: [[Rate; MAX_TEMPORAL]; MAX_SPATIAL],
    since: Option<Instant>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Rate {
    /// Bits a second.
    bits: u32,
    /// Frames in 16 seconds.
    frames: u32,
}

const FRAME_UNIT: u32 = 16;

impl LayerMeter {
    pub(crate) fn count(&mut self, layer: Layer, bytes: usize, ends_frame: bool, now: Instant) {
        self.since.get_or_insert(now);
        let row = self
            .counts
            .get_mut(usize::from(layer.spatial).min(MAX_SPATIAL - 1));
        let count =
            row.and_then(|row| row.get_mut(usize::from(layer.temporal).min(MAX_TEMPORAL - 1)));
        if let Some(count) = count {
            count.bytes = count.bytes.saturating_add(bytes as u32);
            count.frames += u32::from(ends_frame);
        }
    }

    /// Turns what was counted into rates; called every half second or so.
    ///
    /// A rate follows the last second or two. Faster would take a key frame for a trend, slower would
    /// have bandwidth given away to a layer that has grown.
    pub(crate) fn measure(&mut self, now: Instant) {
        const LEAST: Duration = Duration::from_millis(100);
        let Some(since) = self.since else {
            return;
        };
        let elapsed = now.saturating_duration_since(since);
        if elapsed < LEAST {
            return;
        }
        self.since = Some(now);
        let micros = elapsed.as_micros() as u64;
        let per_second =
            |amount: u64| (amount * 1_000_000 / micros).min(u64::from(u32::MAX)) as u32;
        let counts = self.counts.iter_mut().flatten();
        for (count, rate) in counts.zip(self.rates.iter_mut().flatten()) {
            let count = std::mem::take(count);
            let measured = Rate {
                bits: per_second(u64::from(count.bytes) * 8),
                frames: per_second(u64::from(count.frames) * u64::from(FRAME_UNIT)),
            };
            *rate = match (rate.bits, measured.bits) {
                (0, _) => measured,
                // Less than a packet a second: what is left of a layer that has ended.
                (before, 0) if before < 10_000 => measured,
                _ => Rate {
                    bits: approach(rate.bits, measured.bits),
                    frames: approach(rate.frames, measured.frames),
                },
            };
        }
    }

    fn row(&self, spatial: usize) -> [Rate; MAX_TEMPORAL] {
        self.rates.get(spatial).copied().unwrap_or_default()
    }
}

/// Three eighths of the way.
fn approach(from: u32, to: u32) -> u32 {
    let step = (i64::from(to) - i64::from(from)) * 3 / 8;
    (i64::from(from) + step) as u32
}

/// What it takes to forward each layer of a track, as measured over the last second or two.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LayerRates {
    rows: [[Rate; MAX_TEMPORAL]; MAX_SPATIAL],
    /// A spatial layer is sent with those below it.
    nested: bool,
}

/// What one layer takes, without those it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MeasuredLayer {
    pub layer: Layer,
    /// Bits a second.
    pub bits: u32,
    /// Frames in 16 seconds.
    pub frames: u32,
}

impl LayerRates {
    /// Of encodings that are alternatives to each other.
    pub(crate) fn of_encodings<'a>(meters: impl Iterator<Item = &'a LayerMeter>) -> Self {
        let mut rates = Self::default();
        for (row, meter) in rates.rows.iter_mut().zip(meters) {
            // An encoding that is scalable in itself is forwarded whole.
            for spatial in 0..MAX_SPATIAL {
                for (sum, rate) in row.iter_mut().zip(meter.row(spatial)) {
                    sum.bits = sum.bits.saturating_add(rate.bits);
                    sum.frames = sum.frames.max(rate.frames);
                }
            }
        }
        rates
    }

    /// Of one scalable encoding. `nested`: a layer's pictures need those of the layers below.
    pub(crate) fn of_layers(meter: &LayerMeter, nested: bool) -> Self {
        Self {
            rows: meter.rates,
            nested,
        }
    }

    /// What was measured of each layer that is being sent, for who has to tell others.
    pub fn measured(&self) -> impl Iterator<Item = MeasuredLayer> + '_ {
        let rows = (0..).zip(&self.rows);
        rows.flat_map(|(spatial, row)| {
            let rates = (0..).zip(row).filter(|(_, rate)| **rate != Rate::default());
            rates.map(move |(temporal, rate)| MeasuredLayer {
                layer: Layer { spatial, temporal },
                bits: rate.bits,
                frames: rate.frames,
            })
        })
    }

    /// Whether a spatial layer is sent with those below it.
    pub fn is_nested(&self) -> bool {
        self.nested
    }

    /// From what somebody else has measured.
    pub fn of_measured(layers: impl IntoIterator<Item = MeasuredLayer>, nested: bool) -> Self {
        let mut rates = Self {
            nested,
            ..Self::default()
        };
        for measured in layers {
            let row = rates.rows.get_mut(usize::from(measured.layer.spatial));
            let place = row.and_then(|row| row.get_mut(usize::from(measured.layer.temporal)));
            if let Some(rate) = place {
                *rate = Rate {
                    bits: measured.bits,
                    frames: measured.frames,
                };
            }
        }
        rates
    }

    /// Bits a second of everything that is forwarded for `layer`.
    pub fn up_to(&self, layer: Layer) -> u64 {
        let spatial = self.highest_sent(layer.spatial);
        let first = if self.nested { 0 } else { spatial };
        let rows = self.rows.iter().take(spatial + 1).skip(first);
        let temporal = usize::from(layer.temporal).min(MAX_TEMPORAL - 1);
        let rates = rows.flat_map(|row| row.iter().take(temporal + 1));
        rates.map(|rate| u64::from(rate.bits)).sum()
    }

    /// The layers that are being sent, lowest first, each with what it takes to forward it.
    pub fn layers(&self) -> impl Iterator<Item = (Layer, u64)> + '_ {
        let rows = self.rows.iter().enumerate();
        let sent = rows.flat_map(|(spatial, row)| {
            let rates = row.iter().enumerate();
            rates.filter_map(move |(temporal, rate)| {
                (rate.bits > 0).then_some(Layer {
                    spatial: spatial as u8,
                    temporal: temporal as u8,
                })
            })
        });
        sent.map(|layer| (layer, self.up_to(layer)))
    }

    /// Frames a second of `layer`, rounded.
    pub fn frames_per_second(&self, layer: Layer) -> u32 {
        let temporal = usize::from(layer.temporal).min(MAX_TEMPORAL - 1);
        let row = self.rows.get(self.highest_sent(layer.spatial));
        let frames: u32 = row.map_or(0, |row| {
            row.iter().take(temporal + 1).map(|rate| rate.frames).sum()
        });
        (frames + FRAME_UNIT / 2) / FRAME_UNIT
    }

    /// The lowest temporal layer of `spatial` that has so many frames a second; the highest of all if
    /// none has, and while nothing has been measured.
    pub(crate) fn temporal_for(&self, spatial: u8, frames_per_second: u32) -> u8 {
        // A camera of 30 frames a second often makes 28.
        let enough = |temporal: &u8| {
            let layer = Layer {
                spatial,
                temporal: *temporal,
            };
            self.frames_per_second(layer) * 10 >= frames_per_second * 9
        };
        let lower = 0..MAX_TEMPORAL as u8 - 1;
        lower.into_iter().find(enough).unwrap_or(u8::MAX)
    }

    /// The best spatial layer up to `limit` that is being sent.
    fn highest_sent(&self, limit: u8) -> usize {
        let top = usize::from(limit).min(MAX_SPATIAL - 1);
        let sent = |spatial: &usize| {
            self.rows
                .get(*spatial)
                .is_some_and(|row| row.iter().any(|rate| rate.bits > 0))
        };
        (0..=top).rev().find(sent).unwrap_or(top)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(spatial: u8, temporal: u8) -> Layer {
        Layer { spatial, temporal }
    }

    /// Two seconds of packets of 1000 bytes every 10 ms, placed by their number; frames end at each.
    fn measured(place: impl Fn(u64) -> Layer) -> LayerMeter {
        #[expect(clippy::disallowed_methods, reason = "an origin for virtual time")]
        let start = Instant::now();
        let mut meter = LayerMeter::default();
        for packet in 0..200 {
            let now = start + Duration::from_millis(packet * 10);
            meter.count(place(packet), 1000, true, now);
            if packet % 50 == 49 {
                meter.measure(now + Duration::from_millis(10));
            }
        }
        meter
    }

    #[test]
    fn what_a_layer_needs_is_part_of_its_rate() {
        // Half of the packets in temporal layer 1, spatial layer 1 three times layer 0.
        let place = |packet: u64| layer(u8::from(packet % 8 > 1), (packet % 2) as u8);
        let meter = measured(place);
        let check = |nested: bool, wanted: Layer, kilobits: u64| {
            let rates = LayerRates::of_layers(&meter, nested);
            assert_eq!(
                (rates.up_to(wanted) + 8_000) / 16_000 * 16,
                kilobits / 16 * 16,
                "{wanted:?} {nested}"
            );
        };
        check(true, layer(0, 0), 96);
        check(true, layer(0, 1), 192);
        check(true, layer(1, 0), 400);
        check(true, layer(1, 1), 800);
        check(true, Layer::MAX, 800);
        check(false, layer(1, 0), 304);
        check(false, Layer::MAX, 608);
        let rates = LayerRates::of_layers(&meter, true);
        let sent: Vec<Layer> = rates.layers().map(|(layer, _)| layer).collect();
        assert_eq!(sent, [layer(0, 0), layer(0, 1), layer(1, 0), layer(1, 1)]);
    }

    #[test]
    fn encodings_are_alternatives() {
        let (low, high) = (
            measured(|_| layer(0, 0)),
            measured(|packet| layer(0, (packet % 2) as u8)),
        );
        let rates = LayerRates::of_encodings([&low, &high].into_iter());
        assert_eq!(rates.up_to(layer(0, 3)), 800_000);
        assert_eq!(rates.up_to(layer(1, 0)), 400_000);
        assert_eq!(rates.up_to(layer(3, 3)), 800_000, "nothing above is sent");
    }

    #[test]
    fn a_frame_rate_names_a_temporal_layer() {
        // 25, 25 and 50 frames a second.
        let place = |packet: u64| layer(0, [0, 2, 1, 2][packet as usize % 4]);
        let rates = LayerRates::of_layers(&measured(place), true);
        let check = |wanted: u32, expected: u8| {
            assert_eq!(rates.temporal_for(0, wanted), expected, "{wanted}");
        };
        check(10, 0);
        check(25, 0);
        check(27, 0);
        check(30, 1);
        check(50, 1);
        check(60, 2);
        check(100, 2);
        check(200, u8::MAX);
        assert_eq!(
            LayerRates::default().temporal_for(0, 15),
            u8::MAX,
            "not measured yet"
        );
    }

    #[test]
    fn a_layer_that_ends_costs_nothing_soon() {
        let mut meter = measured(|_| layer(0, 0));
        let mut now = meter.since.unwrap();
        for _ in 0..12 {
            now += Duration::from_millis(500);
            meter.measure(now);
        }
        assert_eq!(LayerRates::of_layers(&meter, true).up_to(Layer::MAX), 0);
    }
}
