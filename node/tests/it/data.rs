//! Data channels between peers: whom a packet reaches, and what the node writes on it.

use pipemesh_proto::node::session_request::Request;
use pipemesh_proto::node::{Configure, ConnectionLayout, DataRights, SendData};

use crate::support::control::{self, Session, Signaling};
use crate::support::node::TestNode;
use crate::support::rtc::{Peer, Received};

const RELIABLE: &str = "_reliable";
const LOSSY: &str = "_lossy";

/// Fields of the envelope, with their wire types.
const KIND: u8 = 1 << 3;
/// A message of a kind that the node does not know.
const MESSAGE: u8 = 15 << 3 | 2;
const SENDER: u8 = 4 << 3 | 2;
const DESTINATION: u8 = 5 << 3 | 2;
const SENDER_ID: [u8; 2] = [0x8a, 1];

fn field(key: &[u8], content: &str) -> Vec<u8> {
    [key, &[content.len() as u8], content.as_bytes()].concat()
}

fn packet(text: &str, destinations: &[&str]) -> Vec<u8> {
    let destinations = destinations.iter().map(|name| field(&[DESTINATION], name));
    [
        field(&[MESSAGE], text),
        destinations.collect::<Vec<_>>().concat(),
    ]
    .concat()
}

/// What others get of a packet.
fn stamped(packet: &[u8], sender: &str, reliable: bool) -> Vec<u8> {
    let kind: &[u8] = if reliable { &[] } else { &[KIND, 1] };
    let sender_id = field(&SENDER_ID, &format!("PA_{sender}"));
    [kind, packet, &field(&[SENDER], sender), &sender_id].concat()
}

struct Member {
    session: Session,
    peer: Peer,
}

impl Member {
    /// With one connection, whose channels the client opens.
    async fn single(signaling: &Signaling, name: &str) -> Self {
        let open = control::participant(name, "room", ConnectionLayout::Single);
        let mut session = signaling.open(open).await;
        let peer = Peer::new().await;
        peer.open_channel(RELIABLE, false).await;
        peer.open_channel(LOSSY, true).await;
        peer.offer(&mut session).await;
        peer.connected().await;
        let member = Self { session, peer };
        member.ready().await;
        member
    }

    /// With a connection to receive on, whose channels the node opens.
    async fn receiving(signaling: &Signaling, name: &str) -> Self {
        let open = control::participant(name, "room", ConnectionLayout::Dual);
        let mut session = signaling.open(open).await;
        let peer = Peer::new().await;
        peer.answer(&mut session).await;
        peer.connected().await;
        let mut member = Self { session, peer };
        // The node has heard that the channels are open when signaling's words come through.
        for reliable in [true, false] {
            member.greet(reliable).await;
        }
        member
    }

    async fn ready(&self) {
        for label in [RELIABLE, LOSSY] {
            let open = |received: &Received| received.is_open(label).then_some(());
            self.peer.until("the channel is open", open).await;
        }
    }

    /// Has signaling send words until they arrive.
    async fn greet(&mut self, reliable: bool) {
        let label = if reliable { RELIABLE } else { LOSSY };
        let greeting = packet("hello", &[]);
        let greeted = |received: &Received| {
            let mut messages = received.messages.iter();
            messages.any(|(from, message)| from == label && *message == greeting)
        };
        while !greeted(&self.peer.received()) {
            let packet = greeting.clone();
            let send = SendData { packet, reliable };
            self.session.done(Request::SendData(send)).await;
        }
    }

    async fn gets(&self, label: &str, message: &[u8]) {
        let look = |received: &Received| {
            let mut messages = received.messages.iter();
            messages.find(|(from, content)| from == label && content == message)?;
            Some(())
        };
        self.peer
            .until(&format!("{message:02x?} on {label}"), look)
            .await;
    }

    /// How many messages contain this text.
    fn count(&self, text: &str) -> usize {
        let received = self.peer.received();
        let messages = received.messages.iter();
        messages
            .filter(|(_, message)| contains(message, text))
            .count()
    }
}

fn contains(message: &[u8], text: &str) -> bool {
    message.windows(text.len()).any(|w| w == text.as_bytes())
}

#[tokio::test]
async fn packets_reach_the_others_with_their_true_sender() {
    packets_reach_the_others_with_their_true_sender_on(TestNode::start().await).await;
}

pub(crate) async fn packets_reach_the_others_with_their_true_sender_on(node: TestNode) {
    let signaling = node.signaling().await;
    let ann = Member::single(&signaling, "ann").await;
    let bob = Member::single(&signaling, "bob").await;
    let eve = Member::receiving(&signaling, "eve").await;
    for (label, reliable) in [(RELIABLE, true), (LOSSY, false)] {
        let text = format!("to all {label}");
        // Says that it is from somebody else.
        let honest = packet(&text, &[]);
        let forged = [honest.clone(), field(&[SENDER], "bob")].concat();
        ann.peer.send(label, &forged).await;
        for receiver in [&bob, &eve] {
            receiver
                .gets(label, &stamped(&honest, "ann", reliable))
                .await;
        }
        let private = packet(&format!("to eve {label}"), &["eve"]);
        bob.peer.send(label, &private).await;
        eve.gets(label, &stamped(&private, "bob", reliable)).await;
    }
    // Behind everything else: who has this has all that was meant for them.
    let last = packet("last", &[]);
    bob.peer.send(RELIABLE, &last).await;
    ann.gets(RELIABLE, &stamped(&last, "bob", true)).await;
    eve.gets(RELIABLE, &stamped(&last, "bob", true)).await;
    assert_eq!(ann.count("to all"), 0, "nobody hears themselves");
    assert_eq!(ann.count("to eve"), 0, "what is private stays so");
    assert_eq!((bob.count("to all"), eve.count("to all")), (2, 2));
    node.stop().await;
}

/// Between people whose nodes listen to each other.
pub(crate) async fn packets_cross_nodes(here: &Signaling, there: &Signaling) {
    let mut ann = Member::single(here, "ann").await;
    let mut bob = Member::single(there, "bob").await;
    let mut eve = Member::receiving(there, "eve").await;
    ann.session.hear(&["node-b"]).await;
    for member in [&mut bob, &mut eve] {
        member.session.hear(&["node-a"]).await;
    }
    // Until it has got about that they listen, nobody does.
    let hello = packet("hello over there", &[]);
    while bob.count("over there") == 0 || eve.count("over there") == 0 {
        ann.peer.send(RELIABLE, &hello).await;
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    for (label, reliable) in [(RELIABLE, true), (LOSSY, false)] {
        let all = packet(&format!("to all {label}"), &[]);
        ann.peer.send(label, &all).await;
        for receiver in [&bob, &eve] {
            receiver.gets(label, &stamped(&all, "ann", reliable)).await;
        }
        let private = packet(&format!("to eve {label}"), &["eve"]);
        ann.peer.send(label, &private).await;
        eve.gets(label, &stamped(&private, "ann", reliable)).await;
    }
    let last = packet("last", &[]);
    bob.peer.send(RELIABLE, &last).await;
    ann.gets(RELIABLE, &stamped(&last, "bob", true)).await;
    eve.gets(RELIABLE, &stamped(&last, "bob", true)).await;
    assert_eq!(bob.count("to eve"), 0, "what is private stays so");
    assert_eq!(ann.count("to all"), 0, "nobody hears themselves");
    assert_eq!((bob.count("to all"), eve.count("to all")), (2, 2));
}

#[tokio::test]
async fn reliable_packets_arrive_in_order_and_whole() {
    reliable_packets_arrive_in_order_and_whole_on(TestNode::start().await).await;
}

pub(crate) async fn reliable_packets_arrive_in_order_and_whole_on(node: TestNode) {
    const PACKETS: usize = 300;
    let signaling = node.signaling().await;
    let ann = Member::single(&signaling, "ann").await;
    let bob = Member::single(&signaling, "bob").await;
    // Longer than a datagram, now and then.
    let content = |number: usize| {
        let mut packet = vec![MESSAGE, 0x80 | 0x20, 0x10 + (number % 16) as u8];
        let len = 0x20 + (0x10 + number % 16) * 128;
        packet.extend(format!("{number:08}").bytes());
        packet.resize(3 + len, b'.');
        packet
    };
    for number in 0..PACKETS {
        ann.peer.send(RELIABLE, &content(number)).await;
    }
    let all = |received: &Received| (received.messages.len() >= PACKETS).then_some(());
    bob.peer.until("every packet", all).await;
    let messages = bob.peer.received().messages.clone();
    for (number, (label, message)) in messages.iter().enumerate() {
        assert_eq!(label, RELIABLE);
        let expected = stamped(&content(number), "ann", true);
        assert!(*message == expected, "packet {number} is another");
    }
    node.stop().await;
}

#[tokio::test]
async fn rights_are_kept() {
    rights_are_kept_on(TestNode::start().await).await;
}

pub(crate) async fn rights_are_kept_on(node: TestNode) {
    let signaling = node.signaling().await;
    let mut ann = Member::single(&signaling, "ann").await;
    let mut bob = Member::single(&signaling, "bob").await;
    let eve = Member::receiving(&signaling, "eve").await;
    let configure = async |member: &mut Member, send, receive| {
        let data = Some(DataRights { send, receive });
        let configure = Request::Configure(Configure { data });
        member.session.done(configure).await;
        signaling.settle("room").await;
    };
    configure(&mut ann, false, true).await;
    configure(&mut bob, true, false).await;
    // Refused: the node counts it, and nobody gets it. What was refused before came too early.
    let (refused, forbidden) = ("pipemesh_data_dropped_total", [("reason", "forbidden")]);
    let before = node.metric(refused, &forbidden);
    ann.peer.send(RELIABLE, &packet("forbidden", &[])).await;
    node.until_metric(refused, &forbidden, |dropped| dropped > before)
        .await;
    configure(&mut ann, true, true).await;
    ann.peer.send(RELIABLE, &packet("allowed", &[])).await;
    eve.gets(RELIABLE, &stamped(&packet("allowed", &[]), "ann", true))
        .await;
    bob.peer.send(RELIABLE, &packet("from bob", &[])).await;
    ann.gets(RELIABLE, &stamped(&packet("from bob", &[]), "bob", true))
        .await;
    configure(&mut bob, true, true).await;
    ann.peer.send(RELIABLE, &packet("again", &[])).await;
    bob.gets(RELIABLE, &stamped(&packet("again", &[]), "ann", true))
        .await;
    assert_eq!(eve.count("forbidden") + bob.count("forbidden"), 0);
    assert_eq!(bob.count("allowed"), 0);
    node.stop().await;
}
