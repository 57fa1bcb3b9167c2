use pipemesh_topology::{NodeRecord, NodeState, PipeAddress};

use super::*;

fn track() -> TrackId {
    "TR_a".parse().unwrap()
}

/// A node of region r2, in a mesh with the given ones.
fn decisions(nodes: &[(&str, &str)]) -> Decisions {
    let records = nodes.iter().map(|(id, region)| NodeRecord {
        id: id.parse().unwrap(),
        region: region.parse().unwrap(),
        grpc_address: String::new(),
        boot_id: 1,
        weight: 1,
        pipe: PipeAddress::new([format!("{id}:7000")], [0; 32]).ok(),
        state: NodeState::Serving,
    });
    let nodes = Arc::new(Snapshot::new(records));
    let (own, region) = ("own".parse().unwrap(), "r2".parse().unwrap());
    Decisions::new(own, region, 1, Arc::default(), nodes)
}

fn asked(node: &str, session: &str) -> News {
    News::Asked {
        subscription: 7,
        track: track(),
        publication: Publication {
            node: node.parse().unwrap(),
            session: session.parse().unwrap(),
            room: "RM_x".parse().unwrap(),
            role: Role::Leaf,
        },
    }
}

/// What follows, in short.
fn outputs(decisions: &mut Decisions) -> Vec<String> {
    let outputs = std::iter::from_fn(|| decisions.poll_output());
    let told = outputs.map(|output| match output {
        Output::Open(node, number) => format!("open {node} {number}"),
        Output::Part(number) => format!("part {number}"),
        Output::Link(node, Order::Serve(_)) => format!("serve {node}"),
        Output::Link(node, Order::Refuse(_)) => format!("refuse {node}"),
        Output::Link(node, Order::Defer(_)) => format!("defer {node}"),
        Output::Link(node, _) => format!("tell {node}"),
        Output::Shard(_, Command::Land(landing)) => format!("land {}", landing.origin.shard),
        Output::Shard(_, _) => "leave".to_owned(),
        Output::Known(session, ..) => format!("known {session}"),
        Output::Gone(session, ..) => format!("gone {session}"),
        Output::Forget(session) => format!("forget {session}"),
    });
    told.collect()
}

/// Who was on a node that died publishes on another one. This node knows, another one of its region does not
/// yet, and takes it for the gateway of what was published before.
#[test]
fn who_asks_for_what_was_published_before_does_not_end_what_is_published_now() {
    let mut decisions = decisions(&[("near", "r2"), ("own", "r2"), ("one", "r1"), ("two", "r1")]);
    outputs(&mut decisions);
    let elsewhere = Elsewhere {
        node: "two".parse().unwrap(),
        session: "s2".parse().unwrap(),
        room: "RM_x".parse().unwrap(),
    };
    decisions.want("ada".parse().unwrap(), 0, track(), elsewhere);
    let told = outputs(&mut decisions);
    assert!(
        told.last().is_some_and(|it| it.starts_with("land")),
        "{told:?}"
    );
    // It is not described yet, so nobody could have known by the tracks that are here.
    decisions.handle_news(FIRST_PIPE, asked("one", "s1"));
    assert_eq!(outputs(&mut decisions), ["defer near"]);
    // What is wanted here is served to others, too.
    decisions.handle_news(FIRST_PIPE, asked("two", "s2"));
    let told = outputs(&mut decisions);
    assert!(told.iter().all(|it| !it.starts_with("defer")), "{told:?}");
}

/// A node has started, and who asks has heard of it before this node has.
#[test]
fn what_is_on_a_node_that_is_not_known_yet_is_asked_for_again() {
    let mut decisions = decisions(&[("near", "r2"), ("own", "r2")]);
    outputs(&mut decisions);
    decisions.handle_news(FIRST_PIPE, asked("new", "s3"));
    assert_eq!(outputs(&mut decisions), ["defer near"]);
}
