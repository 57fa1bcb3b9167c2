use pipemesh_topology::{NodeRecord, NodeState, PipeAddress};

use super::*;
use crate::shard::Publication;

const FAN_OUT: FanOut = FanOut {
    direct: 2,
    gateway: 2,
};

fn track() -> TrackId {
    "TR_a".parse().unwrap()
}

/// A node of region r2, in a mesh with the given ones.
fn decisions(nodes: &[(&str, &str)]) -> Decisions {
    let (own, region) = ("own".parse().unwrap(), "r2".parse().unwrap());
    Decisions::new(own, region, 1, Arc::default(), mesh(nodes), FAN_OUT)
}

fn mesh(nodes: &[(&str, &str)]) -> Arc<Snapshot> {
    let records = nodes.iter().map(|(id, region)| NodeRecord {
        id: id.parse().unwrap(),
        region: region.parse().unwrap(),
        grpc_address: String::new(),
        boot_id: 1,
        weight: 1,
        pipe: PipeAddress::new([format!("{id}:7000")], [0; 32]).ok(),
        state: NodeState::Serving,
    });
    Arc::new(Snapshot::new(records))
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
        Output::Part(node, number) => format!("part {node} {number}"),
        Output::Link(node, Order::Serve(_)) => format!("serve {node}"),
        Output::Link(node, Order::Refuse(_)) => format!("refuse {node}"),
        Output::Link(node, Order::Defer(_)) => format!("defer {node}"),
        Output::Link(node, Order::SendOn(_)) => format!("send on {node}"),
        Output::Link(node, Order::List(is_listed)) => format!("list {node} {is_listed}"),
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

fn given(role: Role) -> News {
    News::Given {
        subscription: 7,
        track: track(),
        role,
    }
}

/// Who is sent on of six neighbours, each of which does this.
fn sent_on(news: impl Fn() -> News) -> usize {
    let names: Vec<String> = (0..6).map(|number| format!("near-{number}")).collect();
    let nodes = names.iter().map(|name| (name.as_str(), "r2"));
    let nodes: Vec<_> = nodes.chain([("own", "r2"), ("far", "r1")]).collect();
    let mut decisions = decisions(&nodes);
    for pipe in 0..6 {
        decisions.handle_news(FIRST_PIPE + pipe, news());
    }
    let told = outputs(&mut decisions).into_iter();
    told.filter(|it| it.starts_with("send on")).count()
}

#[test]
fn who_is_too_many_is_sent_on() {
    // Two stay beside the gateway.
    assert_eq!(sent_on(|| given(Role::Leaf)), 3);
    assert_eq!(sent_on(|| given(Role::Branch)), 0);
    let asked = |role| {
        move || {
            let mut news = asked("far", "s1");
            if let News::Asked { publication, .. } = &mut news {
                publication.role = role;
            }
            news
        }
    };
    // As a gateway this node serves two in all; branches stay.
    assert_eq!(sent_on(asked(Role::Leaf)), 4);
    assert_eq!(sent_on(asked(Role::Branch)), 0);
    // As a branch it serves whoever comes.
    assert_eq!(sent_on(asked(Role::Twig)), 0);
}

#[test]
fn who_does_not_take_it_any_more_does_not_count() {
    let near = ["a", "b", "c", "d", "e", "f"].map(|node| (node, "r2"));
    let nodes: Vec<_> = near.into_iter().chain([("own", "r2")]).collect();
    let mut decisions = decisions(&nodes);
    for pipe in 0..6 {
        decisions.handle_news(FIRST_PIPE + pipe, given(Role::Leaf));
        let released = News::Released {
            subscription: 7,
            track: track(),
        };
        decisions.handle_news(FIRST_PIPE + pipe, released);
    }
    let told = outputs(&mut decisions);
    assert!(told.iter().all(|it| !it.starts_with("send on")), "{told:?}");
    assert!(decisions.is_idle());
}

#[test]
fn who_is_no_node_any_more_is_parted_with_once_nothing_comes_from_there() {
    let all = [("near", "r2"), ("own", "r2"), ("one", "r1")];
    let mut decisions = decisions(&all);
    let hosts = BTreeSet::from(["one".parse().unwrap()]);
    decisions.hear("ada".parse().unwrap(), "RM_x".parse().unwrap(), hosts);
    let told = outputs(&mut decisions);
    assert_eq!(
        told,
        ["open near 64", "tell near", "open one 65", "tell one"]
    );
    decisions.handle_nodes(mesh(&all[..2]));
    assert_eq!(outputs(&mut decisions), ["list one false"]);
    decisions.handle_nodes(mesh(&all));
    assert_eq!(outputs(&mut decisions), ["list one true"]);
    decisions.handle_nodes(mesh(&all[..2]));
    decisions.forget(&"ada".parse().unwrap());
    assert_eq!(
        outputs(&mut decisions),
        ["list one false", "tell one", "forget ada"]
    );
    // It may still take something from here.
    decisions.handle_news(65, News::LetGo);
    assert_eq!(outputs(&mut decisions), ["part one 65"]);
    // A node that calls before it is known to be one stays.
    decisions.handle_call(&"one".parse().unwrap());
    decisions.handle_nodes(mesh(&all[..2]));
    assert_eq!(outputs(&mut decisions), ["open one 66"]);
    decisions.handle_nodes(mesh(&all));
    assert!(outputs(&mut decisions).is_empty());
}

/// A pipe's number is its place in what every shard keeps.
#[test]
fn nodes_that_come_and_go_do_not_use_numbers_up() {
    let mut decisions = decisions(&[("own", "r2")]);
    let mut highest = 0;
    for round in 0..1000 {
        let name = format!("n{round}");
        decisions.handle_nodes(mesh(&[(&name, "r2"), ("own", "r2")]));
        decisions.handle_nodes(mesh(&[("own", "r2")]));
        let number = decisions.links.values().next().unwrap().number;
        decisions.handle_news(number, News::LetGo);
        while let Some(output) = decisions.poll_output() {
            if let Output::Part(_, number) = output {
                highest = highest.max(number);
                decisions.handle_freed(number);
            }
        }
    }
    assert_eq!(decisions.links.len(), 0);
    assert!(highest < FIRST_PIPE + 32, "{highest}");
}
