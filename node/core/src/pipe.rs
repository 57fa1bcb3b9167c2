//! What travels between nodes: the wire format of datagrams. Pure; knows nothing of QUIC.

pub mod frame;
