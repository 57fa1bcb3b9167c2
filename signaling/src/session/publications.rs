//! What the participant publishes: announced by the client, then started by the node.

use std::collections::BTreeMap;

use livekit_protocol::request_response::Reason;
use livekit_protocol::{AddTrackRequest, SubscribedQualityUpdate, TrackInfo};
use pipemesh_proto::ids::TrackId;
use pipemesh_proto::node;

use crate::livekit::client::Client;
use crate::livekit::demand::quality_update;
use crate::livekit::track;

/// Tracks one participant may have announced, started ones included. More are refused.
const MAX_TRACKS: usize = 64;

/// Announcements that may wait for an earlier track of the same client id to end.
const MAX_QUEUED: usize = 16;

/// Bytes of each text in what a client says of a track.
const MAX_TEXT: usize = 1024;

/// Layers of a track, and codecs in which it may be announced. SDKs send three and two.
const MAX_LAYERS: usize = 8;
const MAX_CODECS: usize = 8;

/// Features of a track. The protocol has eight.
pub(super) const MAX_FEATURES: usize = 32;

/// Pixels of a video's width or height: the largest that codecs can say. A product of two fits a u32.
pub(super) const MAX_SIDE: u32 = 65_535;

#[derive(Debug)]
struct Publication {
    client_id: String,
    info: TrackInfo,
    /// As the node was asked.
    ask: node::AddTrack,
    /// Whether the node started it: only then others know of it.
    started: bool,
    /// Tracks are listed in the order in which they were announced.
    place: u64,
    /// What anybody can use of it; `None` while that is everything.
    demand: Option<node::TrackDemandChanged>,
}

#[derive(Debug)]
pub(super) struct Publications {
    tracks: BTreeMap<TrackId, Publication>,
    announced: u64,
    /// By the client's id.
    queued: BTreeMap<String, AddTrackRequest>,
    /// Ids that tracks of these client ids had before the client joined anew.
    former: BTreeMap<String, TrackId>,
}

/// What becomes of an announcement.
#[derive(Debug, PartialEq)]
pub(super) enum Added {
    /// The node has to be asked.
    New(Box<TrackInfo>, Box<node::AddTrack>),
    /// It is known already: a repetition, or a further codec of a track.
    Known(Box<TrackInfo>),
    /// A track of the same client id has to end first.
    Queued,
    Refused(Reason, String),
}

impl Added {
    fn refused(reason: Reason, text: impl Into<String>) -> Self {
        Self::Refused(reason, text.into())
    }
}

impl Publications {
    pub(super) fn new(former: BTreeMap<String, TrackId>) -> Self {
        Self {
            tracks: BTreeMap::new(),
            announced: 0,
            queued: BTreeMap::new(),
            former,
        }
    }

    /// Goes on with tracks that others have been told of. What the node was asked of them is as new as anything:
    /// it hears of a change first.
    pub(super) fn adopt(&mut self, published: Vec<TrackInfo>, on_node: &[node::PublishedTrack]) {
        for mut info in published {
            let Ok(id) = info.sid.parse::<TrackId>() else {
                continue;
            };
            let mut announced = on_node.iter().filter_map(|track| track.announced.as_ref());
            let ask = announced.find(|ask| ask.track_id == info.sid);
            let ask = ask.cloned().unwrap_or_default();
            info.muted = ask.muted;
            self.announced += 1;
            let publication = Publication {
                client_id: track::client_track_id(&info).unwrap_or_default().to_owned(),
                info,
                ask,
                started: true,
                place: self.announced,
                demand: None,
            };
            self.tracks.insert(id, publication);
        }
    }

    pub(super) fn add(
        &mut self,
        request: &AddTrackRequest,
        client: &Client,
        new_id: &mut dyn FnMut() -> TrackId,
    ) -> Added {
        if let Err(text) = check_limits(request) {
            return Added::refused(Reason::LimitExceeded, text);
        }
        if !request.sid.is_empty() {
            return self.add_codec(request, client);
        }
        if request.cid.is_empty() {
            return Added::refused(Reason::InvalidRequest, "the track has no cid");
        }
        let same = self
            .tracks
            .values_mut()
            .find(|track| track.client_id == request.cid);
        if let Some(track) = same {
            if !track.started && track.info.r#type == request.r#type {
                return Added::Known(Box::new(track.info.clone()));
            }
            if self.queued.len() >= MAX_QUEUED && !self.queued.contains_key(&request.cid) {
                return Added::refused(
                    Reason::LimitExceeded,
                    format!(
                        "at most {MAX_QUEUED} tracks may wait for an earlier one of their id to end"
                    ),
                );
            }
            self.queued.insert(request.cid.clone(), request.clone());
            return Added::Queued;
        }
        if self.tracks.len() >= MAX_TRACKS {
            return Added::refused(
                Reason::LimitExceeded,
                format!("a participant may publish at most {MAX_TRACKS} tracks"),
            );
        }
        let former = self.former.remove(&request.cid);
        let id = former
            .filter(|id| !self.tracks.contains_key(id))
            .unwrap_or_else(new_id);
        let announcement = match track::announce(request, &id, client) {
            Ok(announcement) => announcement,
            Err(track::UnsupportedKind) => {
                return Added::refused(Reason::UnsupportedType, "neither audio nor video");
            }
        };
        self.announced += 1;
        let publication = Publication {
            client_id: request.cid.clone(),
            info: announcement.info.clone(),
            ask: announcement.ask.clone(),
            started: false,
            place: self.announced,
            demand: None,
        };
        self.tracks.insert(id, publication);
        Added::New(Box::new(announcement.info), Box::new(announcement.ask))
    }

    /// A second encoding of a track in another codec. The node is not asked: the section that
    /// carries it belongs to no announced track.
    fn add_codec(&mut self, request: &AddTrackRequest, client: &Client) -> Added {
        let not_found = Added::refused(Reason::NotFound, "no such track");
        let Ok(id) = request.sid.parse::<TrackId>() else {
            return not_found;
        };
        let Some(publication) = self.tracks.get_mut(&id) else {
            return not_found;
        };
        if let Ok(second) = track::announce(request, &id, client) {
            for codec in second.info.codecs {
                let known = publication.info.codecs.iter_mut().skip(1);
                if let Some(known) = { known }.find(|known| known.mime_type == codec.mime_type) {
                    *known = codec;
                }
            }
        }
        Added::Known(Box::new(publication.info.clone()))
    }

    /// `true`: others have to be told.
    pub(super) fn handle_started(&mut self, started: &node::TrackStarted) -> bool {
        self.change(&started.track_id, |publication| {
            publication.started = true;
            track::start(&mut publication.info, started);
        })
    }

    /// `true`: others have to be told.
    pub(super) fn handle_layers(&mut self, layers: &node::TrackLayers) -> bool {
        self.change(&layers.track_id, |publication| {
            track::set_layers(&mut publication.info, &layers.layers);
        })
    }

    /// The node said what anybody can use of a track: what to tell the client of it.
    pub(super) fn handle_demand(
        &mut self,
        demand: node::TrackDemandChanged,
    ) -> Option<SubscribedQualityUpdate> {
        let id: TrackId = demand.track_id.parse().ok()?;
        let publication = self.tracks.get_mut(&id)?;
        if publication.demand.as_ref() == Some(&demand) {
            return None;
        }
        let update = quality_update(&publication.info, &demand.codecs);
        publication.demand = Some(demand);
        Some(update)
    }

    /// What a client is to be told again that may not have heard it.
    pub(super) fn demands(&self) -> impl Iterator<Item = SubscribedQualityUpdate> + '_ {
        self.tracks.values().filter_map(|publication| {
            let demand = publication.demand.as_ref()?;
            Some(quality_update(&publication.info, &demand.codecs))
        })
    }

    /// The track ended, on the node or because it was refused. Answers what was queued behind it.
    pub(super) fn remove(
        &mut self,
        track_id: &str,
    ) -> Option<(TrackInfo, Option<AddTrackRequest>)> {
        let id: TrackId = track_id.parse().ok()?;
        let publication = self.tracks.remove(&id)?;
        let next = self.queued.remove(&publication.client_id);
        Some((publication.info, next))
    }

    /// `None`: there is no such track. `Some(true)`: others have to be told.
    pub(super) fn set_muted(&mut self, track_id: &str, muted: bool) -> Option<bool> {
        let publication = self.tracks.get_mut(&track_id.parse().ok()?)?;
        publication.ask.muted = muted;
        let changed = publication.info.muted != muted;
        publication.info.muted = muted;
        Some(changed && publication.started)
    }

    /// `None`: there is no such track. `Some(true)`: others have to be told.
    pub(super) fn update(
        &mut self,
        track_id: &str,
        update: impl FnOnce(&mut TrackInfo),
    ) -> Option<bool> {
        let publication = self.tracks.get_mut(&track_id.parse().ok()?)?;
        let before = publication.info.clone();
        update(&mut publication.info);
        Some(publication.started && publication.info != before)
    }

    pub(super) fn info(&self, track_id: &str) -> Option<&TrackInfo> {
        let publication = self.tracks.get(&track_id.parse().ok()?)?;
        Some(&publication.info)
    }

    /// The tracks whose source is such a one.
    pub(super) fn of_sources(&self, is: impl Fn(i32) -> bool) -> Vec<TrackId> {
        let tracks = self.tracks.iter();
        let tracks = tracks.filter(|(_, publication)| is(publication.info.source));
        tracks.map(|(id, _)| id.clone()).collect()
    }

    pub(super) fn is_known(&self, track_id: &str) -> bool {
        track_id
            .parse()
            .is_ok_and(|id: TrackId| self.tracks.contains_key(&id))
    }

    /// What others are told.
    pub(super) fn started(&self) -> Vec<TrackInfo> {
        let mut started: Vec<&Publication> =
            self.tracks.values().filter(|track| track.started).collect();
        started.sort_by_key(|track| track.place);
        started
            .into_iter()
            .map(|track| track.info.clone())
            .collect()
    }

    /// Compares with what the node has: what to ask of it, and whether others have to be told.
    pub(super) fn reconcile(
        &mut self,
        on_node: &[node::PublishedTrack],
    ) -> (Vec<node::session_request::Request>, bool) {
        use node::session_request::Request;
        let mut requests = Vec::new();
        let mut changed = false;
        let mut seen = Vec::new();
        for published in on_node {
            let Some(announced) = &published.announced else {
                continue;
            };
            let Ok(id) = announced.track_id.parse::<TrackId>() else {
                continue;
            };
            let Some(publication) = self.tracks.get(&id) else {
                requests.push(Request::RemoveTrack(node::RemoveTrack {
                    track_id: announced.track_id.clone(),
                }));
                continue;
            };
            if publication.ask.muted != announced.muted {
                requests.push(Request::MuteTrack(node::MuteTrack {
                    track_id: announced.track_id.clone(),
                    muted: publication.ask.muted,
                }));
            }
            let was_started = publication.started;
            match &published.started {
                Some(started) => changed |= self.handle_started(started),
                // It ended and was announced again is not to be told from never started.
                None if was_started => {
                    changed = true;
                    self.tracks
                        .get_mut(&id)
                        .expect("it was found above")
                        .started = false;
                }
                None => {}
            }
            seen.push(id);
        }
        let lost = |id: &&TrackId| !seen.contains(id);
        let lost: Vec<TrackId> = self.tracks.keys().filter(lost).cloned().collect();
        for id in lost {
            if self.tracks[&id].started {
                // It ended while nobody listened.
                changed = true;
                self.tracks.remove(&id);
            } else {
                requests.push(Request::AddTrack(self.tracks[&id].ask.clone()));
            }
        }
        (requests, changed)
    }

    fn change(&mut self, track_id: &str, change: impl FnOnce(&mut Publication)) -> bool {
        let Ok(id) = track_id.parse::<TrackId>() else {
            return false;
        };
        let Some(publication) = self.tracks.get_mut(&id) else {
            return false;
        };
        let before = (publication.started, publication.info.clone());
        change(publication);
        publication.started && before != (publication.started, publication.info.clone())
    }
}

/// Others are told what a client says of its tracks, and the node is asked for it: it has to fit.
fn check_limits(request: &AddTrackRequest) -> Result<(), &'static str> {
    let codecs = &request.simulcast_codecs;
    let of_codecs = codecs.iter().flat_map(|codec| &codec.layers);
    let layers = || request.layers.iter().chain(of_codecs.clone());
    let texts = [&request.cid, &request.name, &request.stream].into_iter();
    let texts = texts.chain(codecs.iter().flat_map(|codec| [&codec.cid, &codec.codec]));
    let mut texts = texts.chain(layers().map(|layer| &layer.rid));
    let sides = layers().flat_map(|layer| [layer.width, layer.height]);
    let mut sides = sides.chain([request.width, request.height]);
    let features = request
        .audio_features
        .len()
        .max(request.packet_trailer_features.len());
    if codecs.len() > MAX_CODECS {
        return Err("too many codecs");
    }
    let mut lists = codecs
        .iter()
        .map(|codec| codec.layers.len())
        .chain([request.layers.len()]);
    if lists.any(|layers| layers > MAX_LAYERS) {
        return Err("too many layers");
    }
    if features > MAX_FEATURES {
        return Err("too many features");
    }
    if texts.any(|text| text.len() > MAX_TEXT) {
        return Err("a name in the announcement of the track is too long");
    }
    if sides.any(|side| side > MAX_SIDE) {
        return Err("the video is too large");
    }
    Ok(())
}
