use expect_test::expect;
use pipemesh_proto::node::RelayRole::{Branch, Gateway, Leaf, Origin, Twig};

use super::path::{Unclear, path};
use super::tree::{Published, Tree, grow};
use super::*;

fn node(id: &str) -> NodeId {
    id.parse().unwrap()
}

/// What a node answers: to whom it has pipes, with their round trip in milliseconds, and its tracks: from whom,
/// as what, and how many watch.
fn answer(
    id: &str,
    region: &str,
    pipes: &[(&str, u64)],
    tracks: &[(&str, &str, &str, RelayRole, u32)],
) -> InspectPipesResponse {
    let pipe = |(other, rtt_ms): &(&str, u64)| PipeSummary {
        node_id: (*other).to_owned(),
        state: PipeState::Up.into(),
        rtt_us: rtt_ms * 1000,
        latency_us: rtt_ms * 600,
        loss: 0.005,
        sent_bits_per_second: 2_000_000,
        received_bits_per_second: 1_000_000,
        tracks_taken: 1,
        tracks_given: 2,
        connections: 1,
    };
    let track =
        |(track, origin, from, role, watchers): &(&str, &str, &str, RelayRole, u32)| TrackSummary {
            track_id: (*track).to_owned(),
            origin_node_id: (*origin).to_owned(),
            session_id: "S_ann".to_owned(),
            from_node_id: (*from).to_owned(),
            role: (*role).into(),
            watchers: *watchers,
        };
    InspectPipesResponse {
        node_id: id.to_owned(),
        region: region.to_owned(),
        pipes: pipes.iter().map(pipe).collect(),
        tracks: tracks.iter().map(track).collect(),
    }
}

fn survey(answers: impl IntoIterator<Item = InspectPipesResponse>) -> Survey {
    let mut survey = Survey::default();
    for answer in answers {
        survey.put(node(&answer.node_id), Ok(answer));
    }
    survey
}

/// Ann's camera goes from `a` in `eu` to `b` in the same region, and over `c` in `us` to `d` and `e`.
fn two_regions() -> Survey {
    let far = [("c", 80)];
    survey([
        answer(
            "a",
            "eu",
            &[("b", 1), ("c", 80)],
            &[("TR_cam", "a", "", Origin, 3)],
        ),
        answer("b", "eu", &[("a", 1)], &[("TR_cam", "a", "a", Leaf, 2)]),
        answer(
            "c",
            "us",
            &[("a", 81), ("d", 2), ("e", 2)],
            &[("TR_cam", "a", "a", Gateway, 0)],
        ),
        answer("d", "us", &far[..0], &[("TR_cam", "a", "c", Leaf, 7)]),
        answer("e", "us", &[("c", 2)], &[("TR_cam", "a", "c", Leaf, 1)]),
    ])
}

fn mute(survey: &mut Survey, id: &str, region: &str, why: Mute) {
    survey.put(node(id), Err(why));
    survey.regions.insert(node(id), region.parse().unwrap());
}

fn camera() -> Published {
    Published {
        track: "TR_cam".to_owned(),
        name: String::new(),
        kind: "video",
        source: "camera",
        publisher: "ann".to_owned(),
        origin: node("a"),
    }
}

fn told(survey: &Survey, own: &str) -> Vec<String> {
    let hops = path(survey, "TR_cam", &node("a"), &node(own)).unwrap();
    let hops = path::to_json(&hops);
    let hop = |hop: &Value| {
        let text = |name: &str| hop[name].as_str().unwrap_or("?").to_owned();
        let (node, region, role) = (text("node"), text("region"), text("role"));
        match hop.get("rtt_ms") {
            Some(rtt) => format!("{rtt} ms {node} {region} {role}"),
            None => format!("{node} {region} {role}"),
        }
    };
    hops.as_array().unwrap().iter().map(hop).collect()
}

#[test]
fn a_way_leads_from_the_origin_to_where_the_track_is_received() {
    let survey = two_regions();
    let check = |own: &str, expected: &[&str]| assert_eq!(told(&survey, own), expected, "{own}");
    check("a", &["a eu local"]);
    check("b", &["a eu origin", "1.0 ms b eu leaf"]);
    check("c", &["a eu origin", "80.0 ms c us gateway"]);
    // What the one end does not say of their pipe the other one does.
    check(
        "d",
        &["a eu origin", "80.0 ms c us gateway", "2.0 ms d us leaf"],
    );
}

#[test]
fn a_way_may_lead_over_a_branch() {
    let mut survey = two_regions();
    let f = [("c", 3)];
    survey.put(
        node("f"),
        Ok(answer("f", "us", &f, &[("TR_cam", "a", "c", Branch, 0)])),
    );
    let g = [("f", 4)];
    survey.put(
        node("g"),
        Ok(answer("g", "us", &g, &[("TR_cam", "a", "f", Twig, 2)])),
    );
    let expected = [
        "a eu origin",
        "80.0 ms c us gateway",
        "3.0 ms f us branch",
        "4.0 ms g us leaf",
    ];
    assert_eq!(told(&survey, "g"), expected);
    let tree = grow(&survey, camera());
    assert_eq!((tree.watchers(), tree.detached.len()), (15, 0));
    // From whom a branch has it may be anybody.
    mute(&mut survey, "f", "us", Mute::TooOld);
    let unclear = path(&survey, "TR_cam", &node("a"), &node("g"));
    let expected = Unclear::Mute(node("f"), Mute::TooOld);
    assert_eq!(unclear.unwrap_err(), expected);
    assert_eq!(grow(&survey, camera()).detached, [node("g")]);
}

#[test]
fn who_sends_says_what_is_lost_and_who_receives_how_long_it_takes() {
    let mut survey = two_regions();
    let legs = |survey: &Survey| {
        let hops = path(survey, "TR_cam", &node("a"), &node("e")).unwrap();
        let legs = hops.into_iter().filter_map(|hop| hop.leg);
        let told = legs.map(|leg| (leg.state, leg.latency_us, leg.loss));
        told.collect::<Vec<_>>()
    };
    let (up, lost) = (Some(PipeState::Up), Some(0.005));
    let from_c = (up, Some(1_200), lost);
    assert_eq!(legs(&survey), [(up, Some(48_600), lost), from_c]);
    // A gateway that says nothing takes from the origin, and its pipes are known from their other ends alone.
    mute(&mut survey, "c", "us", Mute::TooOld);
    assert_eq!(legs(&survey), [(up, None, lost), (up, Some(1_200), None)]);
}

#[test]
fn a_way_that_is_not_known_is_not_guessed() {
    let mut survey = two_regions();
    let unclear =
        |survey: &Survey, own: &str| path(survey, "TR_cam", &node("a"), &node(own)).unwrap_err();
    assert_eq!(unclear(&survey, "f"), Unclear::NotAsked(node("f")));
    survey.put(node("f"), Ok(answer("f", "us", &[], &[])));
    assert_eq!(unclear(&survey, "f"), Unclear::NotTaken(node("f")));
    // The same track of who published it before elsewhere.
    let former = answer("f", "us", &[], &[("TR_cam", "z", "z", Gateway, 0)]);
    survey.put(node("f"), Ok(former));
    assert_eq!(unclear(&survey, "f"), Unclear::NotTaken(node("f")));
    mute(&mut survey, "f", "us", Mute::TooOld);
    assert_eq!(
        unclear(&survey, "f"),
        Unclear::Mute(node("f"), Mute::TooOld)
    );
    // Two answers of different moments.
    let to_d = answer("c", "us", &[], &[("TR_cam", "a", "d", Leaf, 0)]);
    survey.put(node("c"), Ok(to_d));
    assert_eq!(unclear(&survey, "d"), Unclear::Changing);
}

#[test]
fn a_tree_has_every_node_that_takes_the_track() {
    let mut survey = two_regions();
    let branches = |tree: &Tree| {
        let all = tree.root.all();
        let told = all.iter().map(|branch| {
            let watchers = branch.watchers.map_or("?".to_owned(), |it| it.to_string());
            let below: String = branch.branches.iter().map(|it| it.node.as_str()).collect();
            format!("{} {watchers} > {below}", branch.node)
        });
        told.collect::<Vec<_>>()
    };
    let tree = grow(&survey, camera());
    assert_eq!(
        branches(&tree),
        ["a 3 > bc", "b 2 > ", "c 0 > de", "d 7 > ", "e 1 > "]
    );
    assert_eq!((tree.watchers(), tree.detached.len()), (13, 0));

    let silent = Mute::Unreachable("it is gone".to_owned());
    mute(&mut survey, "c", "us", silent);
    let tree = grow(&survey, camera());
    assert_eq!(
        branches(&tree),
        ["a 3 > bc", "b 2 > ", "c ? > de", "d 7 > ", "e 1 > "]
    );
    assert_eq!(tree.root.branches[1].role, Gateway);

    // It says that it does not take it (any more).
    survey.put(node("c"), Ok(answer("c", "us", &[], &[])));
    let tree = grow(&survey, camera());
    assert_eq!(branches(&tree), ["a 3 > b", "b 2 > "]);
    assert_eq!(tree.detached, [node("d"), node("e")]);
}

#[test]
fn answers_that_go_round_end() {
    let survey = survey([
        answer("a", "eu", &[], &[("TR_cam", "a", "", Origin, 0)]),
        answer("b", "us", &[], &[("TR_cam", "a", "c", Leaf, 1)]),
        answer("c", "us", &[], &[("TR_cam", "a", "b", Leaf, 1)]),
    ]);
    let tree = grow(&survey, camera());
    assert!(tree.root.branches.is_empty());
    assert_eq!(tree.detached, [node("b"), node("c")]);
}

#[test]
fn of_a_pipe_both_ends_tell() {
    let mut quiet = answer("b", "us", &[("a", 50)], &[]);
    quiet.pipes[0].state = PipeState::Silent.into();
    quiet.pipes[0].tracks_given = 0;
    let mut survey = survey([answer("a", "eu", &[("b", 51), ("c", 0)], &[]), quiet]);
    mute(&mut survey, "c", "us", Mute::TooOld);
    let told = serde_json::to_string_pretty(&pipes::to_json(&survey)).unwrap();
    expect![[r#"
        {
          "mute": [
            {
              "node": "c",
              "region": "us",
              "why": "its version does not say which way tracks take"
            }
          ],
          "pipes": [
            {
              "back": {
                "bits_per_second": 2000000,
                "loss": 0.005,
                "one_way_ms": 30.6,
                "tracks": 0
              },
              "connections": 1,
              "nodes": [
                "a",
                "b"
              ],
              "regions": [
                "eu",
                "us"
              ],
              "rtt_ms": 51.0,
              "state": "silent",
              "there": {
                "bits_per_second": 2000000,
                "loss": 0.005,
                "one_way_ms": 30.0,
                "tracks": 2
              }
            },
            {
              "back": {
                "bits_per_second": 1000000,
                "loss": null,
                "one_way_ms": null,
                "tracks": 1
              },
              "connections": 1,
              "nodes": [
                "a",
                "c"
              ],
              "regions": [
                "eu",
                "us"
              ],
              "rtt_ms": null,
              "state": "up",
              "there": {
                "bits_per_second": 2000000,
                "loss": 0.005,
                "one_way_ms": null,
                "tracks": 2
              }
            }
          ]
        }"#]]
    .assert_eq(&told);
}

#[test]
fn a_room_is_drawn() {
    let mut survey = two_regions();
    let silent = Mute::Unreachable("the node did not answer in time".to_owned());
    mute(&mut survey, "f", "us", silent);
    let microphone = Published {
        track: "TR_mic".to_owned(),
        name: "say \"hi\" \\ to\nall of the forty characters of this name".to_owned(),
        kind: "audio",
        source: "microphone",
        publisher: "ben".to_owned(),
        origin: node("b"),
    };
    let trees = [grow(&survey, camera()), grow(&survey, microphone)];
    let text = dot::draw("demo", &survey, &trees);
    expect![[r#"
        digraph "room" {
          rankdir=LR;
          label="demo: 2 tracks, 13 subscriptions";
          node [shape=box, fontname="sans-serif"];
          edge [fontname="sans-serif"];
          subgraph "cluster_0" {
            label="eu";
            "node a" [label="a\n3 subscriptions"];
            "track TR_cam" [shape=note, label="ann\ncamera\nTR_cam\n13 subscriptions"];
            "node b" [label="b\n2 subscriptions"];
            "track TR_mic" [shape=note, label="ben\nmicrophone say \"hi\" \\ to all of the forty character…\nTR_mic\n0 subscriptions"];
          }
          subgraph "cluster_1" {
            label="us";
            "node c" [label="c\n0 subscriptions"];
            "node d" [label="d\n7 subscriptions"];
            "node e" [label="e\n1 subscription"];
            "node f" [label="f\ndoes not answer", style=dashed];
          }
          "track TR_cam" -> "node a" [style=dotted, arrowhead=none];
          "track TR_mic" -> "node b" [style=dotted, arrowhead=none];
          "node a" -> "node b" [label="TR_cam\n1.0 ms, 0.5 % lost"];
          "node a" -> "node c" [label="TR_cam\n80.0 ms, 0.5 % lost"];
          "node c" -> "node d" [label="TR_cam\n2.0 ms, 0.5 % lost"];
          "node c" -> "node e" [label="TR_cam\n2.0 ms, 0.5 % lost"];
        }
    "#]].assert_eq(&text);
    well_formed(&text);
}

#[test]
fn names_do_not_end_the_text_they_are_in() {
    let mut survey = two_regions();
    for id in ["x", "y", "z"] {
        mute(&mut survey, id, "ap", Mute::TooOld);
    }
    let names = ["\"]; }", "\\", "a\\\"", "->", "{", "\r\n//", "<b>", "ö", ""];
    for name in names {
        let published = Published {
            name: name.to_owned(),
            publisher: name.to_owned(),
            ..camera()
        };
        let trees = [grow(&survey, published)];
        well_formed(&dot::draw(name, &survey, &trees));
    }
    well_formed(&dot::draw("empty", &Survey::default(), &[]));
}

/// Reads a picture as Graphviz's grammar has it, as far as we write it: everything that is opened is closed,
/// and both ends of every arrow are declared, in one cluster each.
fn well_formed(text: &str) {
    let tokens = tokens(text);
    let mut depth = Vec::new();
    for token in &tokens {
        match token.as_str() {
            "{" | "[" => depth.push(token.as_str()),
            "}" => assert_eq!(depth.pop(), Some("{"), "{text}"),
            "]" => assert_eq!(depth.pop(), Some("["), "{text}"),
            _ => {}
        }
    }
    assert!(depth.is_empty(), "{text}");
    assert_eq!(tokens[0], "digraph", "{text}");
    let is_text = |token: &String| token.starts_with('"');
    let is = |place: usize, what: &str| tokens.get(place).is_some_and(|token| token == what);
    let (mut declared, mut used, mut clusters) =
        (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for (place, token) in tokens.iter().enumerate() {
        let follows = place.checked_sub(1);
        if is(place, "->") {
            assert!(
                is_text(&tokens[place - 1]) && is_text(&tokens[place + 1]),
                "{text}"
            );
            used.extend([tokens[place - 1].clone(), tokens[place + 1].clone()]);
        } else if follows.is_some_and(|before| is(before, "subgraph")) {
            assert!(token.starts_with("\"cluster_"), "{text}");
            assert!(clusters.insert(token.clone()), "{token} twice: {text}");
        } else if is_text(token)
            && is(place + 1, "[")
            && !follows.is_some_and(|before| is(before, "->"))
        {
            assert!(declared.insert(token.clone()), "{token} twice: {text}");
        }
    }
    let missing: Vec<_> = used.difference(&declared).collect();
    assert!(missing.is_empty(), "{missing:?} in {text}");
}

fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = text.chars().peekable();
    while let Some(first) = rest.next() {
        let mut token = String::from(first);
        match first {
            '"' => loop {
                let next = rest.next().expect("a text ends");
                assert!(next != '\n', "a text ends on its line");
                token.push(next);
                match next {
                    '\\' => token.push(rest.next().expect("something is escaped")),
                    '"' => break,
                    _ => {}
                }
            },
            '-' if rest.peek() == Some(&'>') => token.push(rest.next().unwrap()),
            _ if first.is_alphanumeric() => {
                while let Some(next) = rest.next_if(|next| next.is_alphanumeric() || *next == '_') {
                    token.push(next);
                }
            }
            _ if first.is_whitespace() => continue,
            '{' | '}' | '[' | ']' | ';' | '=' | ',' => {}
            other => panic!("{other:?} outside a text in {text}"),
        }
        tokens.push(token);
    }
    tokens
}
