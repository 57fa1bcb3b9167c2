//! What arrives from strangers, clients and other nodes, fed to what reads it inside: for fuzzers (`make fuzz`), and for
//! the test that repeats every input worth keeping. What other crates can reach is fed from without, in
//! `node/fuzz/src`.

mod association;
mod door;

pub use crate::pipe::fuzz::run as pipe;
pub use crate::shard::fuzz::run as clients;
pub use association::run as association;
pub use door::run as door;

/// A reader, and the folder of its inputs below `fuzz/corpus`.
pub type Target = (&'static str, fn(&[u8]));

pub const TARGETS: &[Target] = &[
    ("association", association),
    ("clients", clients),
    ("door", door),
    ("pipe", pipe),
];

/// Takes an input apart into pieces, each preceded by its length in two bytes.
pub(crate) fn pieces(mut input: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = input.split_first_chunk()?;
        let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
        let (piece, rest) = rest.split_at(length);
        input = rest;
        Some(piece)
    })
}

#[cfg(test)]
mod tests;
