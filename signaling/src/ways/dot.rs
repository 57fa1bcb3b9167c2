//! A room's tree as a picture: text in Graphviz's language (<https://graphviz.org/doc/info/lang.html>). Pure.
//!
//! A node of the mesh is drawn once, in its region, however many tracks go over it; a track is a note beside the
//! node it is published on. An arrow stands for all tracks that one node takes from another.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use pipemesh_proto::ids::{NodeId, Region};
use pipemesh_proto::node::PipeState;

use super::tree::Tree;
use super::{Leg, Survey};

/// Tracks that are named on an arrow. More make a list that nobody reads.
const NAMED: usize = 4;
/// Characters of a name that somebody has given.
const LONGEST: usize = 40;

/// What is drawn of a node.
#[derive(Default)]
struct Place {
    region: Option<Region>,
    watchers: Option<u32>,
    is_mute: bool,
}

#[derive(Default)]
struct Arrow<'a> {
    tracks: Vec<&'a str>,
    leg: Option<Leg>,
}

pub(crate) fn draw(room: &str, survey: &Survey, trees: &[Tree]) -> String {
    let mut places: BTreeMap<NodeId, Place> = BTreeMap::new();
    let mut arrows: BTreeMap<(NodeId, NodeId), Arrow<'_>> = BTreeMap::new();
    for tree in trees {
        for branch in tree.root.all() {
            let place = places.entry(branch.node.clone()).or_default();
            place.region.clone_from(&branch.region);
            if let Some(watchers) = branch.watchers {
                *place.watchers.get_or_insert(0) += watchers;
            }
            for taker in &branch.branches {
                let pair = (branch.node.clone(), taker.node.clone());
                let arrow = arrows.entry(pair).or_default();
                arrow.tracks.push(&tree.published.track);
                arrow.leg = taker.leg;
            }
        }
    }
    for (node, _) in survey.mute() {
        let place = places.entry(node.clone()).or_default();
        place.is_mute = true;
        place.region = survey.region(node).cloned();
    }
    let mut text = String::new();
    // Writing to a text cannot fail.
    let _ = write(&mut text, room, &places, &arrows, trees);
    text
}

fn write(
    text: &mut String,
    room: &str,
    places: &BTreeMap<NodeId, Place>,
    arrows: &BTreeMap<(NodeId, NodeId), Arrow<'_>>,
    trees: &[Tree],
) -> std::fmt::Result {
    let watchers: u32 = trees.iter().map(Tree::watchers).sum();
    let title = format!(
        "{}: {}, {}",
        shortened(room),
        counted(trees.len(), "track"),
        counted(watchers as usize, "subscription")
    );
    writeln!(text, "digraph {} {{", quoted("room"))?;
    writeln!(text, "  rankdir=LR;")?;
    writeln!(text, "  label={};", quoted(&title))?;
    writeln!(text, "  node [shape=box, fontname=\"sans-serif\"];")?;
    writeln!(text, "  edge [fontname=\"sans-serif\"];")?;
    let regions: BTreeSet<Option<&Region>> = places.values().map(|it| it.region.as_ref()).collect();
    for (number, region) in regions.iter().enumerate() {
        let name = region.map_or("unknown region", |region| region.as_str());
        writeln!(
            text,
            "  subgraph {} {{",
            quoted(&format!("cluster_{number}"))
        )?;
        writeln!(text, "    label={};", quoted(name))?;
        for (node, place) in places {
            if place.region.as_ref() != *region {
                continue;
            }
            write_place(text, node, place)?;
            let here = trees.iter().filter(|tree| tree.published.origin == *node);
            for tree in here {
                write_track(text, tree)?;
            }
        }
        writeln!(text, "  }}")?;
    }
    for tree in trees {
        let (track, node) = (of_track(tree), of_node(&tree.published.origin));
        writeln!(text, "  {track} -> {node} [style=dotted, arrowhead=none];")?;
    }
    for ((from, to), arrow) in arrows {
        write_arrow(text, from, to, arrow)?;
    }
    writeln!(text, "}}")
}

fn write_place(text: &mut String, node: &NodeId, place: &Place) -> std::fmt::Result {
    let said = match (place.is_mute, place.watchers) {
        (true, _) => "does not answer".to_owned(),
        (false, None) => "does not say".to_owned(),
        (false, Some(watchers)) => counted(watchers as usize, "subscription"),
    };
    let label = quoted_lines(&[node.as_str(), &said]);
    let style = if place.is_mute { ", style=dashed" } else { "" };
    writeln!(text, "    {} [label={label}{style}];", of_node(node))
}

fn write_track(text: &mut String, tree: &Tree) -> std::fmt::Result {
    let published = &tree.published;
    let what = match published.name.as_str() {
        "" => published.source.to_owned(),
        name => format!("{} {}", published.source, shortened(name)),
    };
    let watched = counted(tree.watchers() as usize, "subscription");
    let publisher = shortened(&published.publisher);
    let label = quoted_lines(&[&publisher, &what, &published.track, &watched]);
    writeln!(text, "    {} [shape=note, label={label}];", of_track(tree))
}

fn write_arrow(
    text: &mut String,
    from: &NodeId,
    to: &NodeId,
    arrow: &Arrow<'_>,
) -> std::fmt::Result {
    let mut lines: Vec<String> = Vec::new();
    if arrow.tracks.len() <= NAMED {
        lines.extend(arrow.tracks.iter().map(ToString::to_string));
    } else {
        lines.push(counted(arrow.tracks.len(), "track"));
    }
    let leg = arrow.leg;
    let rtt = leg.and_then(|leg| leg.rtt_ms());
    let loss = leg.and_then(|leg| leg.loss);
    match (rtt, loss) {
        (Some(rtt), Some(loss)) => lines.push(format!("{rtt:.1} ms, {:.1} % lost", loss * 100.0)),
        (Some(rtt), None) => lines.push(format!("{rtt:.1} ms")),
        (None, _) => {}
    }
    let is_up = leg.and_then(|leg| leg.state) == Some(PipeState::Up);
    let style = if is_up { "" } else { ", style=dashed" };
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let label = quoted_lines(&lines);
    let (from, to) = (of_node(from), of_node(to));
    writeln!(text, "  {from} -> {to} [label={label}{style}];")
}

fn of_node(node: &NodeId) -> String {
    quoted(&format!("node {node}"))
}

fn of_track(tree: &Tree) -> String {
    quoted(&format!("track {}", tree.published.track))
}

fn counted(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

fn shortened(name: &str) -> String {
    let mut characters = name.chars();
    let kept: String = characters.by_ref().take(LONGEST).collect();
    match characters.next() {
        Some(_) => format!("{kept}…"),
        None => kept,
    }
}

fn quoted(line: &str) -> String {
    quoted_lines(&[line])
}

/// Names come from people: what would end the text, or mean something within it, is written as itself.
fn quoted_lines(lines: &[&str]) -> String {
    let mut quoted = String::from("\"");
    for (number, line) in lines.iter().enumerate() {
        if number > 0 {
            quoted.push_str("\\n");
        }
        for character in line.chars() {
            match character {
                '"' => quoted.push_str("\\\""),
                '\\' => quoted.push_str("\\\\"),
                control if control.is_control() => quoted.push(' '),
                other => quoted.push(other),
            }
        }
    }
    quoted.push('"');
    quoted
}
