mod publishing;
mod subscribing;
mod whole;

use super::*;
use crate::session::plan::{Extensions, ReceiveEncoding};
use crate::session::sdp::testing::{
    Client, answer, credentials, direction, lines, outgoing, port, publication, rng, sections,
    transport,
};

fn answerer() -> Answerer {
    Answerer::new(transport(), &mut rng())
}

fn track(name: &str) -> TrackId {
    format!("TR_{name}").parse().unwrap()
}

/// A client with these sections: `a` and `v`, with the track that it sends, or none if it receives.
fn client(sections: &[(char, Option<&str>)]) -> Client {
    let mut client = Client::default();
    for (kind, track) in sections {
        let kind = if *kind == 'a' {
            MediaKind::Audio
        } else {
            MediaKind::Video
        };
        client.add(
            kind,
            if track.is_some() {
                "sendonly"
            } else {
                "recvonly"
            },
            *track,
        );
    }
    client
}

/// An exchange that both sides complete.
fn exchange(client: &mut Client, answerer: &mut Answerer) -> Answer {
    let answer = answer(answerer, &client.offer());
    client.handle_answer(&answer.sdp);
    assert_eq!(answer.exchange.mid_to_track, client.carried());
    answer
}
