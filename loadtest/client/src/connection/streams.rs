//! Which track a packet is of, by its SSRC: looked up for every one.

/// In the order of SSRCs, side by side: there are few, and each watcher's have left the cache since its
/// last packet.
#[derive(Debug, Default)]
pub(super) struct Streams(Vec<Stream>);

#[derive(Debug, Clone, Copy)]
struct Stream {
    ssrc: u32,
    /// Of the track, in `incoming`.
    place: u16,
    is_repair: bool,
}

impl Streams {
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// The place of its track, and whether it carries retransmissions.
    pub(super) fn get(&self, ssrc: u32) -> Option<(usize, bool)> {
        let found = self.0.binary_search_by_key(&ssrc, |it| it.ssrc).ok()?;
        let Stream {
            place, is_repair, ..
        } = self.0[found];
        Some((place.into(), is_repair))
    }

    pub(super) fn insert(&mut self, ssrc: u32, place: usize, is_repair: bool) {
        // An offer has fewer sections.
        let Ok(place) = u16::try_from(place) else {
            return;
        };
        let stream = Stream {
            ssrc,
            place,
            is_repair,
        };
        match self.0.binary_search_by_key(&ssrc, |it| it.ssrc) {
            Ok(known) => self.0[known] = stream,
            Err(before) => self.0.insert(before, stream),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_that_was_said_of_a_stream_holds() {
        let mut streams = Streams::default();
        for (ssrc, place) in [(30, 0), (10, 1), (20, 2), (40, 3), (0, 4)] {
            streams.insert(ssrc, place, place % 2 == 1);
        }
        streams.insert(20, 7, true);
        let found = [0, 10, 20, 30, 40, 15].map(|ssrc| streams.get(ssrc));
        let expected = [
            Some((4, false)),
            Some((1, true)),
            Some((7, true)),
            Some((0, false)),
            Some((3, true)),
            None,
        ];
        assert_eq!(found, expected);
        streams.clear();
        assert_eq!(streams.get(20), None);
    }
}
