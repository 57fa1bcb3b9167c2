//! Packets that came in pieces, put together again.

use std::collections::VecDeque;

use pipemesh_node_core::pipe::frame::{MAX_PIECES, MediaHead, Piece, Stream};

/// Packets of which pieces are missing: at worst every packet of a burst, and those that will never be
/// whole.
const WAITING: usize = 64;

/// First pieces without their second ones, and the other way round, oldest first.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    key: (Stream, u8, u32),
    index: u8,
    part: Vec<u8>,
}

impl Pieces {
    /// Answers the packet that a piece completes.
    pub(super) fn join(
        &mut self,
        head: &MediaHead,
        piece: Piece,
        part: &[u8],
    ) -> Option<(MediaHead, Vec<u8>)> {
        const { assert!(MAX_PIECES == 2, "a piece has one other") };
        // A first piece is never the last one, the second always.
        if piece.is_last != (piece.index == 1) {
            return None;
        }
        let key = (head.stream, head.restarts, head.number);
        let other = self.waiting.iter().position(|other| other.key == key);
        let other = match other {
            Some(place) if self.waiting[place].index == piece.index => return None,
            Some(place) => self.waiting.remove(place)?,
            None => {
                if self.waiting.len() == WAITING {
                    self.waiting.pop_front();
                }
                self.waiting.push_back(Waiting {
                    key,
                    index: piece.index,
                    part: part.to_vec(),
                });
                return None;
            }
        };
        let packet = match piece.index {
            0 => [part, other.part.as_slice()].concat(),
            _ => [other.part.as_slice(), part].concat(),
        };
        Some((*head, packet))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pipemesh_node_core::pipe::frame::Marks;

    fn head(number: u32) -> MediaHead {
        MediaHead {
            stream: Stream {
                subscription: 1,
                encoding: 0,
            },
            number,
            restarts: 0,
            sent: 0,
            marks: Marks::default(),
            is_repair: false,
        }
    }

    fn piece(index: u8) -> Piece {
        Piece {
            index,
            is_last: index == 1,
        }
    }

    #[test]
    fn two_pieces_are_a_packet_in_whichever_order() {
        let mut pieces = Pieces::default();
        assert_eq!(pieces.join(&head(1), piece(0), b"ab"), None);
        assert_eq!(pieces.join(&head(2), piece(1), b"d"), None);
        assert_eq!(pieces.join(&head(1), piece(0), b"ab"), None, "came twice");
        let joined = pieces.join(&head(1), piece(1), b"c");
        assert_eq!(joined, Some((head(1), b"abc".to_vec())));
        let joined = pieces.join(&head(2), piece(0), b"c");
        assert_eq!(joined, Some((head(2), b"cd".to_vec())));
        // Neither a first piece that is the last one nor the other way round.
        let odd = Piece {
            index: 0,
            is_last: true,
        };
        assert_eq!(pieces.join(&head(3), odd, b"ab"), None);
        assert!(pieces.waiting.is_empty());
    }

    #[test]
    fn what_never_becomes_whole_makes_room() {
        let mut pieces = Pieces::default();
        for number in 0..WAITING as u32 + 1 {
            assert_eq!(pieces.join(&head(number), piece(0), b"a"), None);
        }
        assert_eq!(pieces.waiting.len(), WAITING);
        assert_eq!(pieces.join(&head(0), piece(1), b"b"), None, "forgotten");
        assert!(pieces.join(&head(5), piece(1), b"b").is_some());
    }
}
