//! What the participant receives: who publishes what, what is wanted of it, what the node was asked.
//!
//! A track is wanted if the client wants it (or did not say and subscribes to everything), its token
//! lets it subscribe and the publisher permits it. Where it is published on another node, the participant's
//! own node is told which, and takes it from there.

use std::collections::BTreeMap;

use livekit_protocol::signal_response::Message;
use livekit_protocol::{
    StreamState, StreamStateInfo, StreamStateUpdate, SubscriptionError,
    SubscriptionPermissionUpdate, SubscriptionResponse, TrackInfo,
};
use pipemesh_proto::ids::{NodeId, ParticipantId, SessionId, TrackId};
use pipemesh_proto::node;
use pipemesh_proto::node::session_request::Request;
use pipemesh_topology::Identity;

use super::link::{Asked, Link};
use super::outbox::Outbox;
use crate::livekit::wish::{Settings, layer_wish};
use crate::rooms::record::{Member, Presence};

/// Choices and settings kept for tracks that are not there (yet). Beyond, those are forgotten.
const MAX_ABSENT: usize = 512;

/// Who receives.
#[derive(Debug)]
pub(super) struct Receiver {
    pub(super) identity: Identity,
    pub(super) id: ParticipantId,
    pub(super) node: NodeId,
    /// The token lets them subscribe.
    pub(super) may_subscribe: bool,
    /// Publishers' permissions do not apply: recorders cannot ask for permission.
    pub(super) exempt: bool,
    /// What the client did not speak of is wanted.
    pub(super) auto: bool,
    /// The client will tell what it shows.
    pub(super) adaptive: bool,
}

#[derive(Debug)]
struct Remote {
    publisher: ParticipantId,
    /// A track that is published again in another session is another one.
    session: SessionId,
    /// Where it is published, if that is another node than the receiver's.
    origin: Option<node::Origin>,
    info: TrackInfo,
    permitted: bool,
    /// What the client was told, or assumes.
    told_permitted: bool,
    /// The bandwidth does not suffice for it.
    paused: bool,
    state: State,
}

#[derive(Debug, PartialEq)]
enum State {
    /// The node was not asked, or to end it.
    Idle,
    Asked(node::LayerWish),
    /// The node refused, or the track ended: the next change of the publisher is awaited.
    Over,
}

#[derive(Debug)]
pub(super) struct Subscriptions {
    receiver: Receiver,
    tracks: BTreeMap<TrackId, Remote>,
    by_publisher: BTreeMap<Identity, Vec<TrackId>>,
    choices: BTreeMap<TrackId, bool>,
    settings: BTreeMap<TrackId, Settings>,
    /// What the client can use of tracks as the node was told by another process: holds until the client says
    /// more.
    adopted: BTreeMap<TrackId, node::LayerWish>,
    /// The client has not said yet what it does not want: no other track is subscribed to.
    held: bool,
}

impl Subscriptions {
    pub(super) fn new(receiver: Receiver) -> Self {
        Self {
            receiver,
            tracks: BTreeMap::new(),
            by_publisher: BTreeMap::new(),
            choices: BTreeMap::new(),
            settings: BTreeMap::new(),
            adopted: BTreeMap::new(),
            held: false,
        }
    }

    /// Goes on with what the node has, and with that alone until [`Subscriptions::release`].
    pub(super) fn adopt(&mut self, on_node: &[node::Subscribe]) {
        self.held = true;
        for subscribed in on_node {
            if let Ok(id) = subscribed.track_id.parse::<TrackId>() {
                if !self.receiver.auto {
                    self.choices.insert(id.clone(), true);
                }
                self.adopted.insert(id, subscribed.wish.unwrap_or_default());
            }
        }
    }

    /// Whether it is still to be said what is wanted.
    pub(super) fn are_held(&self) -> bool {
        self.held
    }

    /// The client has said what it wants.
    pub(super) fn release(&mut self, link: &mut Link, outbox: &mut Outbox) {
        self.held = false;
        self.settle_all(link, outbox);
    }

    /// Somebody else changed; `None`: they left or cannot be seen.
    pub(super) fn handle_member(
        &mut self,
        identity: &Identity,
        member: Option<&Member>,
        link: &mut Link,
        outbox: &mut Outbox,
    ) {
        let published = member
            .filter(|member| member.is_visible())
            .filter(|member| matches!(member.presence, Presence::Here | Presence::Away));
        let mut tracks = Vec::new();
        for info in published.into_iter().flat_map(|member| &member.info.tracks) {
            if let Ok(id) = info.sid.parse::<TrackId>() {
                tracks.push((id, info));
            }
        }
        for id in self.by_publisher.remove(identity).unwrap_or_default() {
            if !tracks.iter().any(|(other, _)| *other == id) {
                self.forget(&id, link);
            }
        }
        let Some(member) = published else {
            return;
        };
        let ids = tracks.iter().map(|(id, _)| id.clone()).collect::<Vec<_>>();
        let origin = (member.node != self.receiver.node).then(|| node::Origin {
            node_id: member.node.to_string(),
            session_id: member.session.to_string(),
        });
        for (id, info) in tracks {
            let permitted = self.receiver.exempt
                || member.permits(id.as_str(), &self.receiver.identity, &self.receiver.id);
            match self.tracks.get_mut(&id) {
                Some(remote) if remote.session == member.session && remote.origin == origin => {
                    remote.info = info.clone();
                    remote.permitted = permitted;
                    if remote.state == State::Over {
                        remote.state = State::Idle;
                    }
                }
                before => {
                    if let Some(remote) = before {
                        remote.set_paused(false, outbox);
                    }
                    self.forget(&id, link);
                    let remote = Remote {
                        publisher: member.id.clone(),
                        session: member.session.clone(),
                        origin: origin.clone(),
                        info: info.clone(),
                        permitted,
                        told_permitted: true,
                        paused: false,
                        state: State::Idle,
                    };
                    self.tracks.insert(id.clone(), remote);
                }
            }
            self.settle(&id, link, outbox);
        }
        if !ids.is_empty() {
            self.by_publisher.insert(identity.clone(), ids);
        }
    }

    /// The client wants tracks, or no longer does.
    pub(super) fn choose<'a>(
        &mut self,
        tracks: impl IntoIterator<Item = &'a String>,
        wanted: bool,
        link: &mut Link,
        outbox: &mut Outbox,
    ) {
        for id in tracks
            .into_iter()
            .filter_map(|id| id.parse::<TrackId>().ok())
        {
            make_room(&mut self.choices, &self.tracks, &id);
            self.choices.insert(id.clone(), wanted);
            if let Some(remote) = self.tracks.get_mut(&id) {
                if wanted {
                    // A client that asks again assumes to be permitted.
                    remote.told_permitted = true;
                }
                if remote.state == State::Over {
                    remote.state = State::Idle;
                }
            }
            self.settle(&id, link, outbox);
        }
    }

    /// The client tells what it can use of tracks.
    pub(super) fn set<'a>(
        &mut self,
        tracks: impl IntoIterator<Item = &'a String>,
        settings: Settings,
        link: &mut Link,
        outbox: &mut Outbox,
    ) {
        for id in tracks
            .into_iter()
            .filter_map(|id| id.parse::<TrackId>().ok())
        {
            make_room(&mut self.settings, &self.tracks, &id);
            self.settings.insert(id.clone(), settings);
            self.adopted.remove(&id);
            self.settle(&id, link, outbox);
        }
    }

    /// What the receiver may do has changed.
    pub(super) fn permit(
        &mut self,
        may_subscribe: bool,
        exempt: bool,
        link: &mut Link,
        outbox: &mut Outbox,
    ) {
        self.receiver.may_subscribe = may_subscribe;
        self.receiver.exempt = exempt;
        self.settle_all(link, outbox);
    }

    /// Tells the client what it was not told while it was away.
    pub(super) fn settle_all(&mut self, link: &mut Link, outbox: &mut Outbox) {
        let ids: Vec<TrackId> = self.tracks.keys().cloned().collect();
        for id in ids {
            self.settle(&id, link, outbox);
        }
    }

    /// The node paused a track for want of bandwidth, or resumed it.
    pub(super) fn handle_paused(&mut self, track_id: &str, paused: bool, outbox: &mut Outbox) {
        let remote = track_id.parse::<TrackId>().ok();
        if let Some(remote) = remote.and_then(|id| self.tracks.get_mut(&id)) {
            remote.set_paused(paused, outbox);
        }
    }

    /// Says which tracks are paused to a client that may not have heard it.
    pub(super) fn say_paused(&self, outbox: &mut Outbox) {
        if self.tracks.values().any(|remote| remote.paused) {
            let paused = self.tracks.values().filter(|remote| remote.paused);
            outbox.say(stream_states(paused));
        }
    }

    /// The node ended a subscription because its track did.
    pub(super) fn handle_ended(&mut self, track_id: &str, link: &Link) {
        if let Ok(id) = track_id.parse::<TrackId>()
            && let Some(remote) = self.concerned(&id, link)
        {
            remote.state = State::Over;
        }
    }

    /// The node refused a subscription.
    pub(super) fn handle_refused(
        &mut self,
        id: &TrackId,
        code: node::Code,
        link: &Link,
        outbox: &mut Outbox,
    ) {
        let Some(remote) = self.concerned(id, link) else {
            return;
        };
        remote.state = State::Over;
        let is_quiet = match code {
            // A track that has just ended is taken from the client by the publisher's next update.
            node::Code::TrackNotFound => true,
            // A node of a version that does not relay: without its tracks the publisher is still there.
            node::Code::Unimplemented => remote.origin.is_some(),
            _ => false,
        };
        if !is_quiet {
            outbox.say(Message::SubscriptionResponse(SubscriptionResponse {
                track_sid: id.to_string(),
                err: SubscriptionError::SeUnknown.into(),
            }));
        }
    }

    /// The track of which the node said that it is not sent, unless that was said of a subscription which was
    /// ended since: the node has yet to answer the one that is.
    fn concerned(&mut self, id: &TrackId, link: &Link) -> Option<&mut Remote> {
        let remote = self.tracks.get_mut(id)?;
        let is_asked = matches!(remote.state, State::Asked(_));
        (is_asked && !link.awaits(&Asked::Subscribe(id.clone()))).then_some(remote)
    }

    /// Compares with what the node has and asks for the difference.
    pub(super) fn reconcile(
        &mut self,
        on_node: &[node::Subscribe],
        paused: &[String],
        link: &mut Link,
        outbox: &mut Outbox,
    ) {
        for (id, remote) in &mut self.tracks {
            remote.set_paused(paused.iter().any(|paused| paused == id.as_str()), outbox);
            remote.state = State::Idle;
        }
        for subscribed in on_node {
            let id = subscribed.track_id.parse::<TrackId>().ok();
            match id.and_then(|id| self.tracks.get_mut(&id)) {
                Some(remote) if remote.origin == subscribed.origin => {
                    remote.state = State::Asked(subscribed.wish.unwrap_or_default());
                }
                // Nobody publishes it any more, or it is published elsewhere by now.
                remote => {
                    link.ask(Asked::Other, unsubscribe(&subscribed.track_id));
                    if let Some(remote) = remote {
                        remote.set_paused(false, outbox);
                    }
                }
            }
        }
        self.settle_all(link, outbox);
    }

    /// Asks the node for what is wanted and is not there, and the other way round.
    fn settle(&mut self, id: &TrackId, link: &mut Link, outbox: &mut Outbox) {
        let Some(remote) = self.tracks.get_mut(id) else {
            return;
        };
        let receiver = &self.receiver;
        let desired = self.choices.get(id).copied().unwrap_or(receiver.auto);
        if desired && remote.permitted != remote.told_permitted && outbox.is_attached() {
            remote.told_permitted = remote.permitted;
            let update = SubscriptionPermissionUpdate {
                participant_sid: remote.publisher.to_string(),
                track_sid: id.to_string(),
                allowed: remote.permitted,
            };
            outbox.say(Message::SubscriptionPermissionUpdate(update));
        }
        if desired && remote.permitted && receiver.may_subscribe {
            if self.held && remote.state == State::Idle {
                return;
            }
            let wish = match self.adopted.get(id) {
                Some(wish) => *wish,
                None => layer_wish(&remote.info, self.settings.get(id), receiver.adaptive),
            };
            if remote.state != State::Over && remote.state != State::Asked(wish) {
                remote.state = State::Asked(wish);
                let subscribe = node::Subscribe {
                    track_id: id.to_string(),
                    origin: remote.origin.clone(),
                    wish: Some(wish),
                    // Firefox keeps neither the track's id nor a stream of several tracks: each
                    // track is a stream of its own that names it.
                    msid_stream: format!("{}|{id}", remote.publisher),
                    msid_track: id.to_string(),
                };
                link.ask(Asked::Subscribe(id.clone()), Request::Subscribe(subscribe));
            }
        } else if matches!(remote.state, State::Asked(_)) {
            remote.state = State::Idle;
            remote.paused = false;
            link.ask(Asked::Other, unsubscribe(id.as_str()));
        }
    }

    fn forget(&mut self, id: &TrackId, link: &mut Link) {
        let Some(remote) = self.tracks.remove(id) else {
            return;
        };
        self.adopted.remove(id);
        if matches!(remote.state, State::Asked(_)) {
            link.ask(Asked::Other, unsubscribe(id.as_str()));
        }
    }
}

impl Remote {
    /// Says it to the client if it is news.
    fn set_paused(&mut self, paused: bool, outbox: &mut Outbox) {
        if std::mem::replace(&mut self.paused, paused) != paused {
            outbox.say(stream_states([&*self]));
        }
    }
}

fn stream_states<'a>(remotes: impl IntoIterator<Item = &'a Remote>) -> Message {
    let states = remotes.into_iter().map(|remote| StreamStateInfo {
        participant_sid: remote.publisher.to_string(),
        track_sid: remote.info.sid.clone(),
        state: match remote.paused {
            true => StreamState::Paused.into(),
            false => StreamState::Active.into(),
        },
    });
    Message::StreamStateUpdate(StreamStateUpdate {
        stream_states: states.collect(),
    })
}

fn unsubscribe(track_id: &str) -> Request {
    Request::Unsubscribe(node::Unsubscribe {
        track_id: track_id.to_owned(),
    })
}

/// Forgets what is kept for absent tracks if there is too much of it.
fn make_room<T>(
    kept: &mut BTreeMap<TrackId, T>,
    present: &BTreeMap<TrackId, Remote>,
    next: &TrackId,
) {
    if kept.len() >= MAX_ABSENT + present.len() && !kept.contains_key(next) {
        kept.retain(|id, _| present.contains_key(id));
    }
}
