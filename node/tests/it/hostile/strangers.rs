//! Who has proved nothing: forged addresses, scanners, those who know the names of others' sessions.

use std::collections::HashMap;

use rand::Rng;
use rand::rngs::StdRng;
use tokio::net::UdpSocket;

use super::{
    BATCH, Before, CLIENT, DATAGRAMS, IpAddr, Ipv4Addr, MAX_LEFT, MAX_LEFT_IN_ALL, Tally, WARM_UP,
};
use crate::support::call::Call;
use crate::support::node::TestNode;
use crate::support::publisher::Publisher;
use crate::support::sdp::Remote;
use crate::support::wire::check;
use crate::support::{garbage, random, within};

const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 66));

/// A class of datagrams (RFC 7983), and whether all of it goes unanswered.
struct Kind<'a> {
    name: &'a str,
    is_silent: bool,
    make: Box<dyn FnMut() -> Vec<u8> + 'a>,
}

/// What was sent by an address, and what came back to it.
#[derive(Debug, Default)]
struct Exchange {
    datagrams: usize,
    bytes: usize,
    answers: usize,
    returned: usize,
}

impl Exchange {
    /// An answer to a check is no longer than that check, and all answers together are no more than what
    /// has come.
    fn note_answer(&mut self, answer: &[u8], checks: &mut HashMap<Vec<u8>, usize>) {
        self.answers += 1;
        self.returned += answer.len();
        assert!(self.returned <= self.bytes, "{self:?}");
        if let (Some(0..=3), Some(transaction)) = (answer.first(), answer.get(8..20)) {
            let asked = checks.remove(transaction);
            let asked = asked.unwrap_or_else(|| panic!("nobody asked for {answer:02x?}"));
            assert!(answer.len() <= asked, "{} bytes for {asked}", answer.len());
        }
    }
}

/// Sends datagrams from `socket` while the call goes on.
async fn flood(
    call: &mut Call,
    socket: &UdpSocket,
    target: &Remote,
    datagrams: usize,
    make: &mut dyn FnMut() -> Vec<u8>,
) -> Exchange {
    let mut exchange = Exchange::default();
    let mut checks = HashMap::new();
    let mut buffer = [0; 2048];
    for _ in 0..datagrams / BATCH {
        for _ in 0..BATCH {
            let datagram = make();
            exchange.datagrams += 1;
            exchange.bytes += datagram.len();
            if let Some(transaction) = datagram.get(8..20) {
                checks.insert(transaction.to_vec(), datagram.len());
            }
            let to = target.candidates[0];
            socket.send_to(&datagram, to).await.unwrap();
        }
        call.goes_on_and_on().await;
        while let Ok((len, _)) = socket.try_recv_from(&mut buffer) {
            exchange.note_answer(&buffer[..len], &mut checks);
        }
        checks.clear();
    }
    exchange
}

#[tokio::test]
async fn strangers_are_told_nothing_and_hurt_nobody() {
    let mut random = random();
    let node = TestNode::start().await;
    let signaling = node.signaling().await;
    let mut call = Call::begin(&signaling, "call", &mut random).await;
    // Its address and names are known to the stranger, as they are to everybody on the way.
    let known = call.ann.remote().clone();
    let nobody = Remote {
        ufrag: "nobodynobody".to_owned(),
        ..known.clone()
    };
    let ssrcs = [Publisher::ssrc(0), call.stream.ssrc];
    let rng = |random: &mut StdRng| -> StdRng { rand::SeedableRng::from_rng(random) };
    let (mut r0, mut r1, mut r2) = (rng(&mut random), rng(&mut random), rng(&mut random));
    let (mut r3, mut r4, mut r5) = (rng(&mut random), rng(&mut random), rng(&mut random));
    let mut r6 = rng(&mut random);
    let kind = |name, is_silent, make| Kind {
        name,
        is_silent,
        make,
    };
    let mut kinds: [Kind<'_>; 7] = [
        kind(
            "STUN for nobody",
            true,
            Box::new(|| garbage::forged_stun(&nobody, &mut r0)),
        ),
        kind(
            "STUN for somebody",
            false,
            Box::new(|| garbage::forged_stun(&known, &mut r1)),
        ),
        kind("DTLS hellos", true, Box::new(|| garbage::dtls(&mut r2))),
        kind("DTLS records", true, Box::new(|| garbage::record(&mut r3))),
        kind("RTP", true, Box::new(|| garbage::rtp(&ssrcs, &mut r4))),
        kind("RTCP", true, Box::new(|| garbage::rtcp(&ssrcs, &mut r5))),
        kind(
            "anything else",
            true,
            Box::new(|| garbage::unclassified(&mut r6)),
        ),
    ];
    let mut before = None;
    for datagrams in [WARM_UP, DATAGRAMS] {
        before = Some(Before::note(&node, 2.0).await);
        for Kind {
            name,
            is_silent,
            make,
        } in &mut kinds
        {
            let already = Tally::Dropped.settled(&node, &mut call).await;
            let socket = UdpSocket::bind((STRANGER, 0)).await.unwrap();
            let exchange = flood(&mut call, &socket, &known, datagrams, make).await;
            eprintln!("{name}: {exchange:?}");
            assert!(!*is_silent || exchange.answers == 0, "{name}");
            let unanswered = exchange.datagrams - exchange.answers;
            Tally::Dropped.has_grown(&node, already, unanswered).await;
        }
    }
    before.expect("it was noted").check(&node, MAX_LEFT_IN_ALL);
    call.check();
    node.stop().await;
}

/// Who knows a client's credentials can have checks answered at any address, forged or not. Nothing more
/// comes there than goes out: checks refused or accepted, the server's cookie, alerts.
#[tokio::test]
async fn an_address_that_has_shown_no_cookie_gets_no_more_than_it_sends() {
    let mut random = random();
    let node = TestNode::start().await;
    let signaling = node.signaling().await;
    let mut call = Call::begin(&signaling, "call", &mut random).await;
    let (session, wire, remote) = super::dtls::unconnected(&signaling, "mallory").await;
    let local = wire.local().ufrag.clone();
    let socket = UdpSocket::bind((CLIENT, 0)).await.unwrap();
    let proof = check::request(&local, &remote.ufrag, &remote.password, true);
    socket.send_to(&proof, remote.candidates[0]).await.unwrap();
    let mut buffer = [0; 2048];
    let answered = socket.recv(&mut buffer);
    let len = within("a check is answered", answered).await.unwrap();
    assert!(check::is_success(&buffer[..len]) && len <= proof.len());
    let hellos = crate::support::wire::hello();
    let make = |random: &mut StdRng| match random.random_range(0..4) {
        0 => garbage::stun(&remote, random),
        1 => hellos[0].clone(),
        2 => garbage::record(random),
        _ => garbage::dtls(random),
    };
    let mut before = None;
    for datagrams in [WARM_UP, DATAGRAMS] {
        before = Some(Before::note(&node, 3.0).await);
        let mut make = || make(&mut random);
        let exchange = flood(&mut call, &socket, &remote, datagrams, &mut make).await;
        eprintln!("{exchange:?}");
        assert!(exchange.answers > 0, "somebody listens");
    }
    before.expect("it was noted").check(&node, MAX_LEFT);
    call.check();
    drop(session);
    node.stop().await;
}
