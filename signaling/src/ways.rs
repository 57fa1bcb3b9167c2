//! How tracks get from node to node, as the nodes say it when somebody looks: the paths of what one
//! participant receives, the tree of a room, all pipes.
//!
//! Asking is here, and what it brought; what is made of it is pure. What a node does not say is unknown, and
//! said to be, never guessed.

pub(crate) mod dot;
pub(crate) mod path;
pub(crate) mod pipes;
pub(crate) mod tree;

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;
use livekit_protocol::{TrackInfo, TrackSource, TrackType};
use pipemesh_proto::ids::{NodeId, Region};
use pipemesh_proto::node::{
    InspectPipesRequest, InspectPipesResponse, PipeState, PipeSummary, RelayRole, TrackSummary,
};
use pipemesh_service::Chain;
use serde_json::{Value, json};

use crate::nodes::{Nodes, StreamError};

/// Why nothing is known of a node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Mute {
    #[error("its version does not say which way tracks take")]
    TooOld,
    #[error("{0}")]
    Unreachable(String),
}

impl From<StreamError> for Mute {
    fn from(error: StreamError) -> Self {
        match &error {
            StreamError::Status(status) if status.code() == tonic::Code::Unimplemented => {
                Self::TooOld
            }
            _ => Self::Unreachable(Chain(&error).to_string()),
        }
    }
}

/// What nodes have answered, each at its own moment.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    answers: BTreeMap<NodeId, Result<InspectPipesResponse, Mute>>,
    regions: BTreeMap<NodeId, Region>,
}

impl Survey {
    /// Nothing has been answered yet; where the nodes are is known of the registry.
    pub(crate) fn of(nodes: &Nodes) -> Self {
        let mesh = nodes.mesh();
        let records = mesh.snapshot.nodes().iter();
        Self {
            answers: BTreeMap::new(),
            regions: records
                .map(|record| (record.id.clone(), record.region.clone()))
                .collect(),
        }
    }

    /// Asks those who have not been asked yet, all at once.
    pub(crate) async fn ask(
        &mut self,
        nodes: &Nodes,
        whom: BTreeSet<NodeId>,
        request: &InspectPipesRequest,
    ) {
        let asked: Vec<_> = whom
            .into_iter()
            .filter(|node| !self.answers.contains_key(node))
            .map(|node| async move {
                let answer = nodes.inspect_pipes(&node, request).await;
                (node, answer.map_err(Mute::from))
            })
            .collect();
        for (node, answer) in join_all(asked).await {
            self.put(node, answer);
        }
    }

    pub(crate) fn put(&mut self, node: NodeId, answer: Result<InspectPipesResponse, Mute>) {
        if let Ok(answer) = &answer
            && let Ok(region) = answer.region.parse()
        {
            self.regions.insert(node.clone(), region);
        }
        self.answers.insert(node, answer);
    }

    fn region(&self, node: &NodeId) -> Option<&Region> {
        self.regions.get(node)
    }

    fn answers(&self) -> impl Iterator<Item = (&NodeId, &InspectPipesResponse)> {
        let answers = self.answers.iter();
        answers.filter_map(|(node, answer)| Some((node, answer.as_ref().ok()?)))
    }

    /// Who was asked and did not say anything, and why.
    pub(crate) fn mute(&self) -> impl Iterator<Item = (&NodeId, &Mute)> {
        let answers = self.answers.iter();
        answers.filter_map(|(node, answer)| Some((node, answer.as_ref().err()?)))
    }

    /// A track as a node has it, if it is the one that is published there.
    fn track(&self, node: &NodeId, track: &str, origin: &NodeId) -> Option<&TrackSummary> {
        let answer = self.answers.get(node)?.as_ref().ok()?;
        let mut tracks = answer.tracks.iter();
        tracks.find(|it| it.track_id == track && it.origin_node_id == origin.as_str())
    }

    /// A pipe as its one end sees it.
    fn pipe(&self, from: &NodeId, to: &NodeId) -> Option<&PipeSummary> {
        let answer = self.answers.get(from)?.as_ref().ok()?;
        let mut pipes = answer.pipes.iter();
        pipes.find(|pipe| pipe.node_id == to.as_str())
    }

    /// Nodes that others say they take tracks from.
    pub(crate) fn sources(&self) -> BTreeSet<NodeId> {
        let tracks = self.answers().flat_map(|(_, answer)| &answer.tracks);
        tracks
            .filter_map(|track| track.from_node_id.parse().ok())
            .collect()
    }

    /// The way to a node from the one before it.
    fn leg(&self, from: &NodeId, to: &NodeId) -> Leg {
        let (there, back) = (self.pipe(from, to), self.pipe(to, from));
        let states = [there, back].into_iter().flatten().map(PipeSummary::state);
        Leg {
            state: worst(states),
            rtt_us: there
                .or(back)
                .map(|pipe| pipe.rtt_us)
                .filter(|rtt| *rtt > 0),
            // Who gets it knows what it takes, who sends it what is lost.
            latency_us: back.map(|pipe| pipe.latency_us).filter(|it| *it > 0),
            loss: there.map(|pipe| pipe.loss),
        }
    }

    fn mute_json(&self) -> Value {
        let mute = self.mute().map(|(node, why)| {
            json!({
                "node": node.as_str(),
                "region": self.region(node).map(Region::as_str),
                "why": why.to_string(),
            })
        });
        mute.collect()
    }
}

/// The pipe between two nodes on a way.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Leg {
    /// `None`: neither end says.
    pub(crate) state: Option<PipeState>,
    pub(crate) rtt_us: Option<u64>,
    /// Towards the node that comes later, as is what follows.
    pub(crate) latency_us: Option<u64>,
    pub(crate) loss: Option<f64>,
}

impl Leg {
    fn rtt_ms(&self) -> Option<f64> {
        self.rtt_us.map(millis)
    }

    /// Added to what is said of the node it leads to.
    fn add_to(&self, told: &mut Value) {
        told["pipe"] = json!(self.state.map(state_name));
        told["rtt_ms"] = json!(self.rtt_ms());
        told["one_way_ms"] = json!(self.latency_us.map(millis));
        told["loss"] = json!(self.loss);
    }
}

fn millis(micros: u64) -> f64 {
    micros as f64 / 1000.0
}

/// How a pipe is of which both ends may say something: it is no better than either says.
fn worst(states: impl Iterator<Item = PipeState>) -> Option<PipeState> {
    let rank = |state: &PipeState| match state {
        PipeState::Unspecified => 0,
        PipeState::Up => 1,
        PipeState::Silent => 2,
        PipeState::Down => 3,
    };
    states.max_by_key(rank).filter(|state| rank(state) > 0)
}

fn state_name(state: PipeState) -> &'static str {
    match state {
        PipeState::Unspecified => "unknown",
        PipeState::Up => "up",
        PipeState::Silent => "silent",
        PipeState::Down => "down",
    }
}

fn role_name(role: RelayRole) -> &'static str {
    match role {
        RelayRole::Unspecified => "unknown",
        RelayRole::Origin => "origin",
        RelayRole::Gateway => "gateway",
        RelayRole::Branch => "branch",
        RelayRole::Leaf | RelayRole::Twig => "leaf",
    }
}

pub(crate) fn kind_name(info: &TrackInfo) -> &'static str {
    match info.r#type() {
        TrackType::Audio => "audio",
        TrackType::Video => "video",
        TrackType::Data => "data",
    }
}

pub(crate) fn source_name(info: &TrackInfo) -> &'static str {
    match info.source() {
        TrackSource::Unknown => "unknown",
        TrackSource::Camera => "camera",
        TrackSource::Microphone => "microphone",
        TrackSource::ScreenShare => "screen_share",
        TrackSource::ScreenShareAudio => "screen_share_audio",
    }
}

#[cfg(test)]
mod tests;
