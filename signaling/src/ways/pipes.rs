//! All pipes of a mesh, each of which two nodes tell of. Pure.

use std::collections::BTreeSet;

use pipemesh_proto::ids::{NodeId, Region};
use pipemesh_proto::node::PipeSummary;
use serde_json::{Value, json};

use super::{Survey, millis, state_name, worst};

/// Each pair of nodes once, by their ids. What only one end says of the other way is unknown.
pub(crate) fn to_json(survey: &Survey) -> Value {
    let mut pairs: BTreeSet<(NodeId, NodeId)> = BTreeSet::new();
    for (node, answer) in survey.answers() {
        for pipe in &answer.pipes {
            if let Ok(other) = pipe.node_id.parse::<NodeId>() {
                let (first, second) = (node.clone().min(other.clone()), other.max(node.clone()));
                pairs.insert((first, second));
            }
        }
    }
    let pipes = pairs.iter().map(|(a, b)| {
        let (of_a, of_b) = (survey.pipe(a, b), survey.pipe(b, a));
        let states = [of_a, of_b].into_iter().flatten().map(PipeSummary::state);
        let known = of_a.or(of_b);
        let rtt = known.map(|pipe| pipe.rtt_us).filter(|rtt| *rtt > 0);
        let region = |node| survey.region(node).map(Region::as_str);
        json!({
            "nodes": [a.as_str(), b.as_str()],
            "regions": [region(a), region(b)],
            "state": worst(states).map_or("unknown", state_name),
            "rtt_ms": rtt.map(millis),
            "connections": known.map(|pipe| pipe.connections),
            "there": one_way(of_a, of_b),
            "back": one_way(of_b, of_a),
        })
    });
    json!({ "pipes": pipes.collect::<Vec<_>>(), "mute": survey.mute_json() })
}

/// What goes one way, as told by who sends it, and by who gets it.
fn one_way(sender: Option<&PipeSummary>, taker: Option<&PipeSummary>) -> Value {
    let sent = sender.map(|pipe| pipe.sent_bits_per_second);
    let received = taker.map(|pipe| pipe.received_bits_per_second);
    let given = sender.map(|pipe| pipe.tracks_given);
    let taken = taker.map(|pipe| pipe.tracks_taken);
    let latency = taker.map(|pipe| pipe.latency_us).filter(|it| *it > 0);
    json!({
        "one_way_ms": latency.map(millis),
        "loss": sender.map(|pipe| pipe.loss),
        "bits_per_second": sent.or(received),
        "tracks": given.or(taken),
    })
}
