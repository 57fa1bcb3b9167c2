use super::*;

fn track() -> TrackId {
    "TR_a".parse().unwrap()
}

fn node(id: &str) -> NodeId {
    id.parse().unwrap()
}

fn elsewhere(session: &str) -> Elsewhere {
    Elsewhere {
        node: node("origin"),
        session: session.parse().unwrap(),
        room: "RM_x".parse().unwrap(),
    }
}

fn session(name: &str) -> Wanter {
    Wanter::Session(name.parse().unwrap())
}

type Wants = (Wanter, relay_path::Role);

fn as_leaf(wanter: Wanter) -> Wants {
    (wanter, relay_path::Role::Leaf)
}

fn as_gateway(wanter: Wanter) -> Wants {
    (wanter, relay_path::Role::Gateway)
}

/// Leaves take from this node, gateways from the origin.
fn by(gate: &'static str) -> impl Fn(&TrackId, &NodeId, relay_path::Role, SentOn) -> Path {
    move |_, _, role, _| match role {
        relay_path::Role::Gateway => gateway(),
        _ => leaf(gate),
    }
}

fn leaf(from: &str) -> Path {
    Path {
        from: node(from),
        role: Role::Leaf,
    }
}

fn gateway() -> Path {
    Path {
        from: node("origin"),
        role: Role::Gateway,
    }
}

/// What follows, in short: `land gate 7`, `known ada`.
fn outputs(relays: &mut Relays) -> Vec<String> {
    let name = |wanter: Wanter| match wanter {
        Wanter::Session(session) => session.to_string(),
        Wanter::Pipe(number, subscription) => format!("pipe {number}/{subscription}"),
    };
    let outputs = std::iter::from_fn(|| relays.poll_output());
    let told = outputs.map(|output| match output {
        Output::Land {
            generation, from, ..
        } => format!("land {from} {generation}"),
        Output::Leave { generation, .. } => format!("leave {generation}"),
        Output::Known(_, _, wanter) => format!("known {}", name(wanter)),
        Output::Gone(_, _, wanter) => format!("gone {}", name(wanter)),
    });
    told.collect()
}

#[test]
fn a_track_is_taken_once_and_told_when_it_is_described() {
    let mut relays = Relays::default();
    relays.want(
        track(),
        elsewhere("s1"),
        as_leaf(session("ada")),
        2,
        7,
        by("gate"),
    );
    relays.want(
        track(),
        elsewhere("s1"),
        as_leaf(session("ben")),
        3,
        8,
        by("gate"),
    );
    assert_eq!(outputs(&mut relays), ["land gate 7"]);
    assert_eq!(relays.described(&track(), 8), None, "of no track here");
    let described = relays.described(&track(), 7).unwrap();
    assert_eq!(
        (described.shard, described.publication.role),
        (2, Role::Leaf)
    );
    assert_eq!(outputs(&mut relays), ["known ada", "known ben"]);
    assert_eq!(relays.described(&track(), 7), None, "told once");
    // Who comes later hears it at once.
    relays.want(
        track(),
        elsewhere("s1"),
        as_leaf(session("cyd")),
        3,
        9,
        by("gate"),
    );
    assert_eq!(outputs(&mut relays), ["known cyd"]);
    // The last one to leave ends it.
    for name in ["ben", "ada", "dan"] {
        relays.unwant(&track(), &session(name));
    }
    assert!(outputs(&mut relays).is_empty());
    relays.unwant(&track(), &session("cyd"));
    assert_eq!(outputs(&mut relays), ["leave 7"]);
    assert_eq!(relays.len(), 0);
}

#[test]
fn a_track_that_ends_is_over_for_all() {
    let mut relays = Relays::default();
    relays.want(
        track(),
        elsewhere("s1"),
        as_leaf(session("ada")),
        0,
        1,
        by("gate"),
    );
    relays.want(
        track(),
        elsewhere("s1"),
        as_gateway(Wanter::Pipe(64, 5)),
        0,
        2,
        by("gate"),
    );
    // A gateway takes from the origin, a session's track goes with it.
    assert_eq!(outputs(&mut relays), ["land gate 1", "land origin 1"]);
    relays.gone(&track(), 1, &node("gate"));
    assert!(
        outputs(&mut relays).is_empty(),
        "that is not where it comes from"
    );
    relays.moved(&track(), 1, &node("gate"));
    relays.gone(&track(), 1, &node("origin"));
    assert_eq!(
        outputs(&mut relays),
        ["leave 1", "gone ada", "gone pipe 64/5"]
    );
    relays.gone(&track(), 1, &node("origin"));
    assert!(outputs(&mut relays).is_empty());
}

#[test]
fn a_track_that_is_published_anew_is_another_one() {
    let mut relays = Relays::default();
    relays.want(
        track(),
        elsewhere("s1"),
        as_leaf(session("ada")),
        0,
        1,
        by("gate"),
    );
    relays.want(
        track(),
        elsewhere("s2"),
        as_leaf(session("ben")),
        0,
        2,
        by("gate"),
    );
    assert_eq!(
        outputs(&mut relays),
        ["land gate 1", "leave 1", "gone ada", "land gate 2"]
    );
    relays.gone(&track(), 1, &node("gate"));
    assert!(outputs(&mut relays).is_empty());
}

#[test]
fn paths_follow_the_nodes_that_are_there() {
    let mut relays = Relays::default();
    relays.want(
        track(),
        elsewhere("s1"),
        as_leaf(session("ada")),
        0,
        1,
        by("gate"),
    );
    relays.follow(by("gate"));
    assert_eq!(outputs(&mut relays), ["land gate 1"]);
    relays.follow(|_, _, role, _| {
        assert_eq!(role, relay_path::Role::Leaf);
        leaf("other")
    });
    assert_eq!(outputs(&mut relays), ["land other 1"]);
    // What the former node says of it does not count any more.
    relays.gone(&track(), 1, &node("gate"));
    assert!(outputs(&mut relays).is_empty());
}

#[test]
fn what_a_pipe_wanted_ends_with_it() {
    let mut relays = Relays::default();
    relays.want(
        track(),
        elsewhere("s1"),
        as_gateway(Wanter::Pipe(64, 5)),
        0,
        1,
        by("gate"),
    );
    relays.want(
        track(),
        elsewhere("s1"),
        as_gateway(Wanter::Pipe(65, 5)),
        0,
        2,
        by("gate"),
    );
    relays.end_pipe(64);
    assert_eq!(outputs(&mut relays), ["land origin 1"]);
    relays.end_pipe(65);
    assert_eq!(outputs(&mut relays), ["leave 1"]);
}

#[test]
fn a_node_that_does_not_bring_a_track_leaves_it_with_who_did() {
    let mut relays = Relays::default();
    relays.want(
        track(),
        elsewhere("s1"),
        as_leaf(session("ada")),
        0,
        1,
        by("gate"),
    );
    relays.follow(by("other"));
    relays.gone(&track(), 1, &node("other"));
    assert_eq!(outputs(&mut relays), ["land gate 1", "land other 1"]);
    // It is worked out anew with the next change.
    relays.follow(by("other"));
    assert_eq!(outputs(&mut relays), ["land other 1"]);
    // This time it came, and the former one was let go.
    relays.moved(&track(), 1, &node("gate"));
    relays.gone(&track(), 1, &node("other"));
    assert_eq!(outputs(&mut relays), ["leave 1", "gone ada"]);
}

#[test]
fn news_of_two_pipes_may_come_in_either_order() {
    let mut relays = Relays::default();
    relays.want(
        track(),
        elsewhere("s1"),
        as_leaf(session("ada")),
        0,
        1,
        by("gate"),
    );
    relays.follow(by("other"));
    relays.gone(&track(), 1, &node("other"));
    relays.moved(&track(), 1, &node("gate"));
    assert_eq!(
        outputs(&mut relays),
        ["land gate 1", "land other 1", "leave 1", "gone ada"]
    );
    // There and back: that the first was left once says nothing.
    relays.want(
        track(),
        elsewhere("s1"),
        as_leaf(session("ada")),
        0,
        2,
        by("gate"),
    );
    relays.follow(by("other"));
    relays.follow(by("gate"));
    relays.moved(&track(), 2, &node("gate"));
    assert_eq!(
        outputs(&mut relays),
        ["land gate 2", "land other 2", "land gate 2"]
    );
}

#[test]
fn a_gateway_that_no_node_asks_any_more_is_a_leaf() {
    let mut relays = Relays::default();
    let pipe = Wanter::Pipe(64, 5);
    relays.want(
        track(),
        elsewhere("s1"),
        as_gateway(pipe.clone()),
        0,
        1,
        by("gate"),
    );
    relays.want(
        track(),
        elsewhere("s1"),
        as_leaf(session("ada")),
        0,
        2,
        by("gate"),
    );
    assert_eq!(outputs(&mut relays), ["land origin 1"]);
    relays.follow_one(&track(), by("gate"));
    assert!(outputs(&mut relays).is_empty());
    relays.unwant(&track(), &pipe);
    relays.follow_one(&track(), by("gate"));
    assert_eq!(outputs(&mut relays), ["land gate 1"]);
}

/// As in the origin's own region, of which `gate` is the gateway and `branch` a branch.
fn near(_: &TrackId, _: &NodeId, role: relay_path::Role, sent_on: SentOn) -> Path {
    match (role, sent_on) {
        (relay_path::Role::Gateway, _) => gateway(),
        (relay_path::Role::Branch, _) => Path {
            role: Role::Branch,
            ..leaf("gate")
        },
        (_, SentOn::Not) => leaf("origin"),
        (_, SentOn::ByOrigin) => leaf("gate"),
        (_, SentOn::ByGateway) => Path {
            role: Role::Twig,
            ..leaf("branch")
        },
    }
}

#[test]
fn who_is_sent_on_goes_there_and_stays() {
    let mut relays = Relays::default();
    relays.want(
        track(),
        elsewhere("s1"),
        as_leaf(session("ada")),
        0,
        1,
        near,
    );
    relays.send_on(&track(), 2, &node("origin"), near);
    relays.send_on(&track(), 1, &node("gate"), near);
    assert_eq!(outputs(&mut relays), ["land origin 1"], "that is not it");
    relays.send_on(&track(), 1, &node("origin"), near);
    relays.follow(near);
    assert_eq!(outputs(&mut relays), ["land gate 1"]);
    // It has not got it; the origin, which is asked again, says the same again.
    relays.gone(&track(), 1, &node("gate"));
    relays.send_on(&track(), 1, &node("origin"), near);
    assert!(outputs(&mut relays).is_empty());
    relays.follow(near);
    relays.moved(&track(), 1, &node("origin"));
    relays.send_on(&track(), 1, &node("gate"), near);
    assert_eq!(outputs(&mut relays), ["land gate 1", "land branch 1"]);
    relays.moved(&track(), 1, &node("gate"));
    // Nobody is sent on from there.
    relays.send_on(&track(), 1, &node("branch"), near);
    relays.follow(near);
    assert!(outputs(&mut relays).is_empty());
    // A twig of its own makes it a branch, a leaf a gateway.
    let twig = (Wanter::Pipe(64, 5), relay_path::Role::Twig.server());
    relays.want(track(), elsewhere("s1"), twig, 0, 2, near);
    let pipe = Wanter::Pipe(64, 6);
    relays.want(
        track(),
        elsewhere("s1"),
        as_gateway(pipe.clone()),
        0,
        2,
        near,
    );
    assert_eq!(outputs(&mut relays), ["land gate 1", "land origin 1"]);
    relays.unwant(&track(), &pipe);
    relays.follow_one(&track(), near);
    assert_eq!(outputs(&mut relays), ["land gate 1"]);
    assert_eq!(relays.role(&track()), Some(relay_path::Role::Branch));
}

/// Where it comes from does not change: nothing is let go of, and it ends when it does.
#[test]
fn another_role_at_the_same_node_is_no_other_way() {
    let mut relays = Relays::default();
    relays.want(
        track(),
        elsewhere("s1"),
        as_leaf(session("ada")),
        0,
        1,
        near,
    );
    relays.want(
        track(),
        elsewhere("s1"),
        as_gateway(Wanter::Pipe(64, 5)),
        0,
        2,
        near,
    );
    assert_eq!(outputs(&mut relays), ["land origin 1", "land origin 1"]);
    relays.gone(&track(), 1, &node("origin"));
    assert_eq!(
        outputs(&mut relays),
        ["leave 1", "gone ada", "gone pipe 64/5"]
    );
}
