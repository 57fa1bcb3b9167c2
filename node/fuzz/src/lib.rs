//! What is fed to every reader of a stranger's bytes, and what has to hold whatever the bytes are.
//!
//! Plain functions over plain interfaces: a fuzzer calls them to find inputs (`make fuzz`), and an
//! ordinary test of the node calls them with every input that was worth keeping.

pub mod bandwidth;
pub mod codec;
pub mod data;
pub mod dtls;
pub mod framing;
pub mod pipe_frame;
pub mod rtcp;
pub mod rtp;
pub mod sctp;
pub mod sdp;
pub mod srtp;
pub mod stun;

/// A reader, and the folder of its inputs below `corpus`.
pub type Target = (&'static str, fn(&[u8]));

pub const TARGETS: &[Target] = &[
    ("bandwidth", bandwidth::run),
    ("codec", codec::run),
    ("data", data::run),
    ("dtls", dtls::run),
    ("framing", framing::run),
    ("pipe_frame", pipe_frame::run),
    ("rtcp", rtcp::run),
    ("rtp", rtp::run),
    ("sctp", sctp::run),
    ("sdp", sdp::run),
    ("srtp", srtp::run),
    ("stun", stun::run),
];

/// Takes an input apart into pieces, each preceded by its length in two bytes.
fn pieces(mut input: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = input.split_first_chunk()?;
        let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
        let (piece, rest) = rest.split_at(length);
        input = rest;
        Some(piece)
    })
}
