//! What the participant publishes: announced to signaling, then offered, then sent.

use std::time::Instant;

use livekit_protocol::signal_request::Message as Request;
use livekit_protocol::{
    AddTrackRequest, AudioTrackFeature, MuteTrackRequest, SimulcastCodec, SubscribedQualityUpdate,
    SyncState, TrackInfo, TrackPublishedResponse, TrackSource, TrackType, UpdateSubscription,
    VideoLayer, VideoQuality,
};
use rand::{Rng, SeedableRng};

use super::{LayerWish, User};
use crate::connection::Outgoing;
use crate::media::publication::Publication;
use crate::media::sender::Terms;
use crate::media::stamp::TrackStamp;
use crate::media::{Layer, Media, Recorded, ScalableCodec};

#[derive(Debug)]
pub(super) struct Published {
    /// Also the client's id of the track.
    pub(super) name: String,
    pub(super) media: Media,
    /// Once the server has accepted it.
    pub(super) info: Option<TrackInfo>,
    /// It was negotiated.
    pub(super) active: bool,
    /// As it was sent before the participant joined anew, until the server has accepted it again.
    pub(super) former: Option<Publication>,
}

impl Published {
    pub(super) fn sid(&self) -> Option<&str> {
        self.info.as_ref().map(|info| info.sid.as_str())
    }

    /// Empty without simulcast.
    pub(super) fn rids(&self) -> Vec<String> {
        match &self.media {
            Media::Video(video) if video.layers.len() > 1 => {
                video.layers.iter().map(|layer| layer.rid.clone()).collect()
            }
            _ => Vec::new(),
        }
    }
}

impl User {
    pub(super) fn published(&self, name: &str) -> Option<&Published> {
        self.published.iter().find(|it| it.name == name)
    }

    pub(super) fn outgoing(&self, name: &str) -> Option<&Publication> {
        let mut outgoing = self.connections[0].outgoing.iter();
        outgoing
            .find(|it| it.client_id == name)
            .map(|it| &it.publication)
    }

    /// A name that is taken is no new track.
    pub(super) fn publish(&mut self, name: &str, media: Media) {
        if self.published(name).is_some() {
            return;
        }
        self.signals
            .push_back(Request::AddTrack(announcement(name, &media)));
        self.published.push(Published {
            name: name.to_owned(),
            media,
            info: None,
            active: false,
            former: None,
        });
    }

    pub(super) fn handle_published(&mut self, published: TrackPublishedResponse, now: Instant) {
        let Some(known) = self
            .published
            .iter_mut()
            .find(|it| it.name == published.cid)
        else {
            return;
        };
        let is_new = known.info.is_none();
        known.info = published.track;
        if !is_new {
            return;
        }
        // It was announced as it was then, and may have changed while the server had no name for it.
        let muted = known.former.as_ref().map(Publication::is_muted);
        if let (Some(info), Some(muted)) = (&known.info, muted)
            && info.muted != muted
        {
            let sid = info.sid.clone();
            self.signals
                .push_back(Request::Mute(MuteTrackRequest { sid, muted }));
        }
        let stamp = TrackStamp::of(&self.room, &self.identity, &known.name);
        let rng = rand::rngs::StdRng::seed_from_u64(self.rng.random());
        let publication = match known.former.take() {
            Some(mut former) => {
                former.begin_anew(rng);
                former
            }
            None => Publication::new(&known.media, stamp, rng, now),
        };
        self.negotiation
            .add_sending(known.media.format(), &published.cid);
        self.connections[0].outgoing.push(Outgoing {
            client_id: published.cid,
            publication,
        });
        self.offer();
    }

    /// What anybody can use of a track; the first codec's, as it has no other.
    pub(super) fn handle_demand(&mut self, update: &SubscribedQualityUpdate, now: Instant) {
        let sid = Some(update.track_sid.as_str());
        let published = self.published.iter().find(|it| it.sid() == sid);
        let (Some(published), Some(codec)) = (published, update.subscribed_codecs.first()) else {
            return;
        };
        if !self.setup.dynacast {
            return;
        }
        let enabled = codec.qualities.iter().filter(|it| it.enabled);
        let highest = enabled.map(|it| it.quality).max();
        let mut outgoing = self.connections[0].outgoing.iter_mut();
        if let Some(outgoing) = outgoing.find(|it| it.client_id == published.name) {
            let layers = published.media.layers();
            let wanted =
                (0..layers).filter(|place| Some(i32::from(quality(*place, layers))) <= highest);
            outgoing.publication.set_wanted(wanted.count(), now);
        }
    }

    pub(super) fn set_terms(&mut self, name: &str, terms: Option<Terms>, now: Instant) {
        if let Some(published) = self.published.iter_mut().find(|it| it.name == name) {
            published.active = terms.is_some();
        }
        let mut outgoing = self.connections[0].outgoing.iter_mut();
        if let Some(outgoing) = outgoing.find(|it| it.client_id == name) {
            outgoing.publication.set_terms(terms, now);
        }
    }

    pub(super) fn mute(&mut self, name: &str, muted: bool, now: Instant) {
        let mut published = self.published.iter_mut();
        let published = published.find(|it| it.name == name);
        if let Some(former) = published.and_then(|it| it.former.as_mut()) {
            former.set_muted(muted, now);
        }
        let sid = self
            .published(name)
            .and_then(Published::sid)
            .map(str::to_owned);
        let mut outgoing = self.connections[0].outgoing.iter_mut();
        if let (Some(sid), Some(outgoing)) = (sid, outgoing.find(|it| it.client_id == name)) {
            outgoing.publication.set_muted(muted, now);
            self.signals
                .push_back(Request::Mute(MuteTrackRequest { sid, muted }));
        }
    }

    /// What the server may have forgotten when the participant comes back.
    pub(super) fn sync_state(&self) -> SyncState {
        let publish_tracks = self.published.iter().filter_map(|it| {
            Some(TrackPublishedResponse {
                cid: it.name.clone(),
                track: Some(it.info.clone()?),
            })
        });
        let with = |wanted: bool| {
            let chosen = self
                .remote
                .values()
                .filter(move |it| it.wanted == Some(wanted));
            chosen.map(|it| it.sid.clone()).collect::<Vec<_>>()
        };
        let disabled = self
            .remote
            .values()
            .filter(|it| it.wish == Some(LayerWish::Off));
        // One list has to do: what is not wanted of everything, or what is wanted of nothing.
        let (unwanted, wanted) = (with(false), with(true));
        let subscribe = unwanted.is_empty();
        SyncState {
            offer: self.negotiation.last_offer.clone(),
            answer: self.negotiation.last_answer.clone(),
            subscription: Some(UpdateSubscription {
                track_sids: if subscribe { wanted } else { unwanted },
                subscribe,
                ..Default::default()
            }),
            publish_tracks: publish_tracks.collect(),
            track_sids_disabled: disabled.map(|it| it.sid.clone()).collect(),
            ..Default::default()
        }
    }
}

/// What the layer at a place of so many is called.
fn quality(place: usize, layers: usize) -> VideoQuality {
    match place {
        _ if layers == 1 => VideoQuality::High,
        0 => VideoQuality::Low,
        1 => VideoQuality::Medium,
        _ => VideoQuality::High,
    }
}

pub(super) fn announcement(name: &str, media: &Media) -> AddTrackRequest {
    let request = AddTrackRequest {
        cid: name.to_owned(),
        name: name.to_owned(),
        ..Default::default()
    };
    match media {
        Media::Audio(audio) => microphone(request, audio.dtx),
        Media::Recorded(Recorded { recording, .. }) if !recording.is_video() => {
            microphone(request, true)
        }
        Media::Recorded(Recorded { recording, .. }) => {
            camera(request, recording.codec(), &[recording.layer()])
        }
        Media::Video(video) => camera(request, "vp8", &video.layers),
        Media::Scalable(scalable) => {
            let codec = match scalable.codec {
                ScalableCodec::Vp9 => "vp9",
                ScalableCodec::Av1 => "av1",
            };
            camera(request, codec, &scalable.layers)
        }
    }
}

/// `dtx`: it may fall silent.
fn microphone(request: AddTrackRequest, dtx: bool) -> AddTrackRequest {
    AddTrackRequest {
        r#type: TrackType::Audio.into(),
        source: TrackSource::Microphone.into(),
        audio_features: match dtx {
            true => Vec::new(),
            false => vec![AudioTrackFeature::TfNoDtx.into()],
        },
        disable_red: true,
        ..request
    }
}

fn camera(request: AddTrackRequest, codec: &str, layers: &[Layer]) -> AddTrackRequest {
    let largest = layers.last();
    let (width, height) = largest.map_or((0, 0), |layer| (layer.width, layer.height));
    let count = layers.len();
    let layers = layers.iter().enumerate().map(|(place, layer)| VideoLayer {
        quality: quality(place, count).into(),
        width: layer.width,
        height: layer.height,
        bitrate: layer.kbps * 1_000,
        spatial_layer: place as i32,
        rid: layer.rid.clone(),
        ..Default::default()
    });
    let layers: Vec<VideoLayer> = layers.collect();
    AddTrackRequest {
        r#type: TrackType::Video.into(),
        source: TrackSource::Camera.into(),
        width,
        height,
        simulcast_codecs: vec![SimulcastCodec {
            codec: codec.to_owned(),
            cid: request.cid.clone(),
            layers: layers.clone(),
            ..Default::default()
        }],
        layers,
        ..request
    }
}
