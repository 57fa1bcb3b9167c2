//! Participants: what `sfu` asks for, to and from JSON.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use pipemesh_loadtest_client::{
    Audio, Bandwidth, DataMessage, Description, Join, Layer, LayerWish, Layout, Media, Network,
    Profile, Protocol, ReceiveMode, Recorded, Reliability, Scalable, ScalableCodec, TRIES, Video,
};
use rquickjs::Object;
use rquickjs::prelude::{Async, Func};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::oneshot;

use super::{Bytes, Outcome};
use crate::observe::{Asked, Room, Wanted};
use crate::script::Shared;
use crate::script::timers::span;
use crate::script::vu::Vu;

/// Of participants that are looked at in samples, one packet in so many is opened.
const ONE_IN: u32 = 20;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JoinOptions {
    region: Option<String>,
    network: Option<Directions>,
    tags: BTreeMap<String, serde_json::Value>,
    dialect: String,
    receive: Option<String>,
    tcp: bool,
    headers: BTreeMap<String, String>,
    timeout: f64,
    auto_subscribe: bool,
    dynacast: bool,
    /// How often in a row it tries to come back; none for as often as SDKs do.
    reconnect: Option<u32>,
}

#[derive(Deserialize)]
struct Directions {
    name: String,
    up: Direction,
    down: Direction,
}

#[derive(Deserialize)]
struct Direction {
    kbps: Option<u32>,
    delay: f64,
    jitter: f64,
    loss: f64,
    burst: f64,
    reorder: f64,
    duplicate: f64,
    queue: f64,
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Published {
    Audio {
        kbps: u32,
        dtx: bool,
        speech: f64,
    },
    Video {
        layers: Vec<LayerOptions>,
        gop: Option<f64>,
    },
    Svc {
        codec: String,
        layers: Vec<LayerOptions>,
    },
    File {
        file: usize,
        r#loop: bool,
    },
}

#[derive(Deserialize)]
struct LayerOptions {
    rid: String,
    width: u32,
    height: u32,
    fps: u32,
    kbps: u32,
}

#[derive(Deserialize)]
struct Wish {
    /// Whatever there is.
    on: bool,
    rid: Option<String>,
    height: Option<u32>,
    off: bool,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Described {
    name: String,
    metadata: String,
    attributes: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Envelope {
    topic: String,
    reliable: bool,
    to: Vec<String>,
}

pub(super) fn install(host: &Object<'_>, vu: &Rc<Vu>) -> rquickjs::Result<()> {
    joining(host, vu)?;
    publishing(host, vu)?;
    receiving(host, vu)?;
    knowing(host, vu)
}

fn joining(host: &Object<'_>, vu: &Rc<Vu>) -> rquickjs::Result<()> {
    let user = Rc::clone(vu);
    let join = move |url: String, token: String, options: String| {
        let user = Rc::clone(&user);
        async move { worked(&user, async { join(&user, url, token, &options).await }).await }
    };
    host.set("join", Func::from(Async(join)))?;
    let user = Rc::clone(vu);
    let leave = move |id: u32| {
        let user = Rc::clone(&user);
        async move {
            worked(&user, async {
                // It stays the user's until it has left: who is interrupted leaves it then.
                let room = user.rooms.borrow().get(&id).cloned();
                if let Some(room) = room {
                    room.leave().await;
                    user.rooms.borrow_mut().remove(&id);
                }
                Ok(())
            })
            .await
        }
    };
    host.set("roomLeave", Func::from(Async(leave)))?;
    let user = Rc::clone(vu);
    let simulate = move |id: u32, what: String| {
        let user = Rc::clone(&user);
        async move { worked(&user, async { user.room(id)?.simulate(&what).await }).await }
    };
    host.set("roomSimulate", Func::from(Async(simulate)))?;
    let user = Rc::clone(vu);
    let network = move |id: u32, options: String| {
        Outcome(user.room(id).and_then(|room| {
            let given: Option<Directions> = parsed(&options)?;
            room.set_network(given.as_ref().map(network).unwrap_or_default());
            Ok(())
        }))
    };
    host.set("roomNetwork", Func::from(network))?;
    let user = Rc::clone(vu);
    let cut = move |id: u32, pause: f64| Outcome(user.room(id).map(|room| room.cut(span(pause))));
    host.set("roomCut", Func::from(cut))
}

fn publishing(host: &Object<'_>, vu: &Rc<Vu>) -> rquickjs::Result<()> {
    let user = Rc::clone(vu);
    let publish = move |id: u32, name: String, media: String, within: f64| {
        let user = Rc::clone(&user);
        async move {
            worked(&user, async {
                let media = media_of(&user.shared, &media)?;
                user.room(id)?.publish(&name, media, span(within)).await
            })
            .await
        }
    };
    host.set("roomPublish", Func::from(Async(publish)))?;
    let user = Rc::clone(vu);
    let mute = move |id: u32, name: String, muted: bool| {
        Outcome(user.room(id).map(|room| room.mute(&name, muted)))
    };
    host.set("roomMute", Func::from(mute))?;
    let user = Rc::clone(vu);
    let unpublish =
        move |id: u32, name: String| Outcome(user.room(id).map(|room| room.unpublish(&name)));
    host.set("roomUnpublish", Func::from(unpublish))?;
    let user = Rc::clone(vu);
    let layers = move |id: u32, name: String, rids: Vec<String>| {
        Outcome(user.room(id).map(|room| room.set_layers(&name, rids)))
    };
    host.set("roomSendLayers", Func::from(layers))?;
    let user = Rc::clone(vu);
    let describe = move |id: u32, wanted: String, within: f64| {
        let user = Rc::clone(&user);
        async move {
            worked(&user, async {
                let Described {
                    name,
                    metadata,
                    attributes,
                } = parsed(&wanted)?;
                let description = Description {
                    name,
                    metadata,
                    attributes,
                };
                user.room(id)?.describe(description, span(within)).await
            })
            .await
        }
    };
    host.set("roomDescribe", Func::from(Async(describe)))?;
    let user = Rc::clone(vu);
    let send = move |id: u32, envelope: String, payload: Bytes| {
        Outcome(user.room(id).and_then(|room| {
            let envelope: Envelope = parsed(&envelope)?;
            room.send(DataMessage {
                reliability: match envelope.reliable {
                    true => Reliability::Reliable,
                    false => Reliability::Lossy,
                },
                topic: envelope.topic,
                payload: payload.0,
                to: envelope.to,
            });
            Ok(())
        }))
    };
    host.set("roomSend", Func::from(send))
}

fn receiving(host: &Object<'_>, vu: &Rc<Vu>) -> rquickjs::Result<()> {
    let user = Rc::clone(vu);
    let subscribe_all = move |id: u32, wanted: String, wait: f64| {
        let user = Rc::clone(&user);
        async move {
            worked(&user, async {
                let wanted: Wanted = parsed(&wanted)?;
                let told = user.room(id)?.subscribe_all(wanted, span(wait)).await?;
                Ok(told.to_string())
            })
            .await
        }
    };
    host.set("roomSubscribeAll", Func::from(Async(subscribe_all)))?;
    let user = Rc::clone(vu);
    let unsubscribe = move |id: u32, sid: String| {
        let user = Rc::clone(&user);
        async move {
            worked(&user, async {
                user.room(id)?.unsubscribe(&sid).await;
                Ok(())
            })
            .await
        }
    };
    host.set("roomUnsubscribe", Func::from(Async(unsubscribe)))?;
    let user = Rc::clone(vu);
    let layer = move |id: u32, sid: String, wish: String, wait: f64| {
        let user = Rc::clone(&user);
        async move {
            worked(&user, async {
                let (wish, layer) = layer_wish(&parsed(&wish)?);
                Ok(user
                    .room(id)?
                    .set_layer(&sid, wish, layer, span(wait))
                    .await)
            })
            .await
        }
    };
    host.set("roomLayer", Func::from(Async(layer)))?;
    let user = Rc::clone(vu);
    let key_frame =
        move |id: u32, sid: String| Outcome(user.room(id).map(|room| room.request_key_frame(&sid)));
    host.set("roomKeyFrame", Func::from(key_frame))?;
    let user = Rc::clone(vu);
    let received = move |id: u32, sid: String, within: f64| {
        let user = Rc::clone(&user);
        async move {
            worked(&user, async {
                Ok(user.room(id)?.received(&sid, span(within)).await)
            })
            .await
        }
    };
    host.set("roomReceived", Func::from(Async(received)))
}

fn knowing(host: &Object<'_>, vu: &Rc<Vu>) -> rquickjs::Result<()> {
    let user = Rc::clone(vu);
    // Nobody waits for what may never happen: an iteration ends although somebody listens.
    let events = move |id: u32| {
        let user = Rc::clone(&user);
        async move {
            let room = user.room(id).ok();
            let events = match room {
                Some(room) => room.events().await,
                None => None,
            };
            events.map(|events| events.to_string())
        }
    };
    host.set("roomEvents", Func::from(Async(events)))?;
    let user = Rc::clone(vu);
    let stats = move |id: u32| {
        let user = Rc::clone(&user);
        async move { worked(&user, async { told(&user, id).await }).await }
    };
    host.set("roomStats", Func::from(Async(stats)))?;
    let user = Rc::clone(vu);
    let participants = move |id: u32| {
        let user = Rc::clone(&user);
        async move {
            worked(&user, async {
                let stats = user.room(id)?.stats().await?;
                let others = stats.others.iter().map(|it| {
                    json!({
                        "identity": it.identity,
                        "sid": it.sid,
                        "node": it.place.node,
                        "region": it.place.region,
                        "name": it.name,
                        "metadata": it.metadata,
                        "attributes": it.attributes,
                    })
                });
                Ok(serde_json::Value::from_iter(others).to_string())
            })
            .await
        }
    };
    host.set("roomParticipants", Func::from(Async(participants)))
}

/// Something that the iteration waits for.
async fn worked<T>(vu: &Vu, work: impl Future<Output = Result<T, String>>) -> Outcome<T> {
    let _working = vu.busy.begin();
    Outcome(work.await)
}

async fn join(vu: &Rc<Vu>, url: String, token: String, options: &str) -> Result<String, String> {
    if vu.is_loading.get() {
        return Err("join() works in functions, not in the init context".to_owned());
    }
    let options: JoinOptions = parsed(options)?;
    let shared = &vu.shared;
    let mut own_tags = BTreeMap::new();
    own_tags.extend(
        options
            .region
            .iter()
            .map(|region| ("region".to_owned(), region.clone())),
    );
    own_tags.extend(
        options
            .network
            .iter()
            .map(|network| ("network".to_owned(), network.name.clone())),
    );
    for (name, value) in &options.tags {
        let value = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        own_tags.insert(name.clone(), value);
    }
    let number = vu.last_room.get();
    let id = number + 1;
    vu.last_room.set(id);
    let seed = shared
        .seed
        .wrapping_add(vu.id_in_test() << 20)
        .wrapping_add(u64::from(number));
    let local = match shared.settings.get().map(|it| it.local_ips.as_slice()) {
        None | Some([]) => Ipv4Addr::UNSPECIFIED.into(),
        Some(several) => several[vu.id as usize % several.len()],
    };
    let layout = match options.dialect.as_str() {
        "dual" => Layout::Dual,
        _ => Layout::Single,
    };
    let join = Join {
        protocol: if options.tcp {
            Protocol::Tcp
        } else {
            Protocol::Udp
        },
        auto_subscribe: options.auto_subscribe,
        dynacast: options.dynacast,
        mode: match options.receive.as_deref() {
            Some("full") => ReceiveMode::Full,
            Some("sampled") => ReceiveMode::Sampled(ONE_IN),
            Some("drain") => ReceiveMode::Drain,
            _ => shared.receive(),
        },
        network: options.network.as_ref().map(network).unwrap_or_default(),
        region: options.region.clone(),
        headers: options.headers.into_iter().collect(),
        seed,
        local,
        patience: span(options.timeout),
        trusts_anybody: shared.settings.get().is_some_and(|it| it.trusts_anybody),
        come_back: options.reconnect.unwrap_or(TRIES),
        ..Join::new(url, token, layout)
    };
    // Only the first join of an iteration waited for the iteration to begin.
    let queued = vu.queued.take();
    let asked = Asked {
        patience: join.patience,
        expects_data: join.data,
        join,
        queued,
        tags: vu.tags.all(),
        own_tags,
    };
    let room = joined(shared, asked).await?;
    vu.rooms.borrow_mut().insert(id, Rc::clone(&room));
    let place = room.place().await;
    let (identity, sid) = room.identity();
    let told = json!({
        "id": id,
        "sid": sid,
        "identity": identity,
        "node": { "id": place.node, "region": place.region },
    });
    Ok(told.to_string())
}

/// Joins in a task of its own: whoever is interrupted meanwhile leaves nobody behind in the room.
async fn joined(shared: &Arc<Shared>, asked: Asked) -> Result<Rc<Room>, String> {
    let (reply, answer) = oneshot::channel();
    let shared = Arc::clone(shared);
    tokio::task::spawn_local(async move {
        let joined = Room::join(&shared, asked).await;
        if let Err(Ok(room)) = reply.send(joined) {
            room.leave().await;
        }
    });
    answer.await.map_err(|_| "the test is over".to_owned())?
}

/// What a script sees of its participant.
async fn told(vu: &Vu, id: u32) -> Result<String, String> {
    let room = vu.room(id)?;
    let (stats, age) = (room.stats().await?, room.age());
    let of_kind = |is_video: bool| {
        let tracks = stats.tracks.iter().filter(|it| it.is_video == is_video);
        let mut total = match is_video {
            true => stats.forgotten.video,
            false => stats.forgotten.audio,
        };
        let (mut count, mut fps) = (0_u32, 0.0);
        for track in tracks {
            total.add(track);
            // It came over a connection that was lost, or is not wanted any more.
            if track.ended {
                continue;
            }
            count += 1;
            let since = track.first_frame.map(|first| age.saturating_sub(first));
            let seconds = since.unwrap_or_default().as_secs_f64();
            fps += if seconds > 0.0 {
                track.frames.decoded as f64 / seconds
            } else {
                0.0
            };
        }
        json!({
            "tracks": count,
            "packets": total.packets,
            "bytes": total.bytes,
            "lost": total.lost,
            "frames": total.frames,
            "fps": if count > 0 { fps / f64::from(count) } else { 0.0 },
        })
    };
    let (wanted, received) = room.wanted(&stats);
    Ok(json!({
        "connected": stats.connected && room.is_here(),
        "reconnects": room.returns(),
        "inbound": { "audio": of_kind(false), "video": of_kind(true) },
        "outbound": {
            "packets": stats.sent.packets,
            "bytes": stats.sent.bytes,
            "frames": stats.sent.frames,
        },
        "tracks": { "wanted": wanted, "received": received, "missing": wanted - received },
        "rtt": stats.round_trip.map(|it| it.as_secs_f64() * 1_000.0),
        "integrityErrors": stats.integrity.errors(),
        "data": { "sent": stats.data.sent, "received": stats.data.received },
    })
    .to_string())
}

fn parsed<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

fn network(given: &Directions) -> Network {
    let profile = |it: &Direction| Profile {
        loss: it.loss,
        burst: it.burst,
        delay: span(it.delay),
        jitter: span(it.jitter),
        reorder: it.reorder,
        reorder_by: REORDERED_BY,
        duplicate: it.duplicate,
        bandwidth: it.kbps.map(|kbps| Bandwidth {
            kbps,
            queue: span(it.queue),
        }),
    };
    Network {
        up: profile(&given.up),
        down: profile(&given.down),
    }
}

/// What is reordered comes so much later: several packets of video overtake it.
const REORDERED_BY: Duration = Duration::from_millis(30);

fn media_of(shared: &Shared, text: &str) -> Result<Media, String> {
    let layer = |it: LayerOptions| Layer {
        rid: it.rid,
        width: it.width,
        height: it.height,
        fps: it.fps,
        kbps: it.kbps,
    };
    Ok(match parsed(text)? {
        Published::Audio { kbps, dtx, speech } => Media::Audio(Audio { kbps, dtx, speech }),
        Published::Video { layers, gop } => Media::Video(Video {
            layers: layers.into_iter().map(layer).collect(),
            key_frame_every: gop.map(span),
            steady: false,
        }),
        Published::Svc { codec, layers } => Media::Scalable(Scalable {
            codec: match codec.as_str() {
                "av1" => ScalableCodec::Av1,
                _ => ScalableCodec::Vp9,
            },
            layers: layers.into_iter().map(layer).collect(),
            temporal_layers: 3,
            key_only: false,
        }),
        Published::File { file, r#loop } => Media::Recorded(Recorded {
            recording: shared
                .recordings
                .get(file)
                .ok_or_else(|| "this is not what media.file() answered".to_owned())?,
            loops: r#loop,
        }),
    })
}

/// And which layer it is, for those that have names.
fn layer_wish(wish: &Wish) -> (LayerWish, Option<u8>) {
    let place = match wish.rid.as_deref() {
        Some("q") => Some(0),
        Some("h") => Some(1),
        Some(_) => Some(2),
        None => None,
    };
    match (place, wish.height) {
        _ if wish.off => (LayerWish::Off, None),
        _ if wish.on => (LayerWish::Quality(2), None),
        (Some(place), _) => (LayerWish::Quality(place), Some(place)),
        (None, Some(height)) => (LayerWish::Size(height.saturating_mul(16) / 9, height), None),
        (None, None) => (LayerWish::Off, None),
    }
}
