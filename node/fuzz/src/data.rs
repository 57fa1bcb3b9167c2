//! The envelope of a data packet.

use pipemesh_node_core::data::{DataPacket, Sender};

pub fn run(message: &[u8]) {
    let Ok(packet) = DataPacket::parse(message) else {
        return;
    };
    for destination in packet.destinations() {
        let _ = destination.is("ann", "PA_ann");
    }
    let sender = Sender {
        id: "PA_ann",
        identity: "ann",
    };
    let mut stamped = Vec::new();
    packet.stamp(sender, false, &mut stamped);
    // No claim of the client survives, however often it is stamped.
    let again = DataPacket::parse(&stamped).expect("what we write can be read");
    let mut twice = Vec::new();
    again.stamp(sender, false, &mut twice);
    assert_eq!(stamped, twice);
    assert!(stamped.len() <= message.len() + 32);
}
