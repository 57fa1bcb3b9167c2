//! Signaling's end of the control channel: one stream per session, requests answered in order, events
//! kept until a test asks for them.

use std::collections::VecDeque;
use std::net::SocketAddr;

use pipemesh_proto::auth::{ClusterKey, ShowBearer};
use pipemesh_proto::node::node_client::NodeClient;
use pipemesh_proto::node::session_event::Event;
use pipemesh_proto::node::session_request::Request;
use pipemesh_proto::node::{
    AddTrack, AnswerCreated, Attach, ClientAnswer, ClientOffer, Close, CloseReason, Closed, Code,
    ConnectionLayout, ConnectionRole, ConnectionState, DataRights, HearNodes, InspectPipesRequest,
    InspectPipesResponse, InspectRoomRequest, LayerWish, MediaKind, MuteTrack, OfferCreated, Open,
    Origin, Refused, SessionEvent, SessionRequest, SessionSummary, Snapshot, Subscribe,
    TrackSource, Unsubscribe,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

use super::within;

/// Requests of one session on their way.
const PIPELINE: usize = 4096;

pub(crate) type Client = NodeClient<InterceptedService<Channel, ShowBearer>>;

/// A signaling process as the node sees it.
#[derive(Clone)]
pub(crate) struct Signaling {
    pub(crate) client: Client,
}

impl Signaling {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::with(endpoint(address), None).await
    }

    pub(crate) async fn with(endpoint: Endpoint, key: Option<ClusterKey>) -> Self {
        let channel = within("signaling connects", endpoint.connect()).await;
        let client = NodeClient::with_interceptor(channel.unwrap(), ShowBearer(key));
        Self { client }
    }

    /// Opens a session.
    pub(crate) async fn open(&self, open: Open) -> Session {
        let (mut session, answer) = self.begin(Request::Open(open)).await.unwrap();
        match answer {
            Event::Opened(_) => session,
            other => panic!("{other:?} for an open, then {:?}", session.next().await),
        }
    }

    /// Takes a session over, as a version does that knows of no claims.
    pub(crate) async fn attach(&self, session_id: &str) -> (Session, Snapshot) {
        self.attach_by(0, session_id).await
    }

    /// Takes a session over by a claim.
    pub(crate) async fn attach_by(&self, claim: u64, session_id: &str) -> (Session, Snapshot) {
        let (session, answer) = self.begin(attach(claim, session_id)).await.unwrap();
        match answer {
            Event::Snapshot(snapshot) => (session, snapshot),
            other => panic!("{other:?} for an attach"),
        }
    }

    /// Begins a stream with any request, and waits for the answer.
    pub(crate) async fn begin(&self, first: Request) -> Result<(Session, Event), Status> {
        let (requests, stream) = mpsc::channel(PIPELINE);
        let mut session = Session {
            requests,
            events: None,
            kept: VecDeque::new(),
            last_id: 0,
        };
        let id = session.send(first).await;
        let mut client = self.client.clone();
        let begun = client.session(ReceiverStream::new(stream));
        session.events = Some(within("a stream begins", begun).await?.into_inner());
        let answer = session.answer(id).await;
        Ok((session, answer))
    }

    /// Returns when the room's shards have done what they were told before, and what they told each
    /// other because of it.
    pub(crate) async fn settle(&self, room: &str) {
        /// Each time a shard is asked it has done what another said before that was asked.
        const ROUNDS: usize = 4;
        for _ in 0..ROUNDS {
            self.inspect(room).await;
        }
    }

    pub(crate) async fn inspect(&self, room: &str) -> Vec<SessionSummary> {
        let room_id = format!("RM_{room}");
        let mut client = self.client.clone();
        let inspected = client.inspect_room(InspectRoomRequest {
            room_id,
            ..InspectRoomRequest::default()
        });
        let inspected = within("the room is inspected", inspected).await.unwrap();
        inspected.into_inner().sessions
    }

    /// What a node says of its pipes, and of the way a room's tracks take.
    pub(crate) async fn inspect_pipes(&self, room: &str) -> InspectPipesResponse {
        let request = InspectPipesRequest {
            room_id: format!("RM_{room}"),
            count_watchers: true,
        };
        let mut client = self.client.clone();
        let inspected = client.inspect_pipes(request);
        let inspected = within("pipes are inspected", inspected).await.unwrap();
        inspected.into_inner()
    }

    /// The refusal of a stream's first request; the stream ends with it.
    pub(crate) async fn refused(&self, first: Request) -> Refused {
        let (mut session, answer) = self.begin(first).await.unwrap();
        let Event::Refused(refused) = answer else {
            panic!("{answer:?} instead of a refusal");
        };
        assert_eq!(session.next().await, None, "a refusal ends the stream");
        refused
    }
}

pub(crate) fn attach(claim: u64, session_id: &str) -> Request {
    Request::Attach(Attach {
        session_id: session_id.to_owned(),
        claim,
    })
}

pub(crate) fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint::from_shared(format!("http://{address}"))
        .unwrap()
        .tcp_nodelay(true)
}

/// A participant's session, for [`Signaling::open`].
pub(crate) fn participant(name: &str, room: &str, layout: ConnectionLayout) -> Open {
    Open {
        session_id: format!("S_{room}_{name}"),
        room_id: format!("RM_{room}"),
        participant_id: format!("PA_{name}"),
        identity: name.to_owned(),
        layout: layout.into(),
        data: Some(DataRights {
            send: true,
            receive: true,
        }),
        ..Open::default()
    }
}

/// A camera as a client announces it.
pub(crate) fn camera(track: &str, client_track: &str) -> AddTrack {
    AddTrack {
        track_id: track.to_owned(),
        client_track_id: client_track.to_owned(),
        kind: MediaKind::Video.into(),
        source: TrackSource::Camera.into(),
        ..AddTrack::default()
    }
}

/// A microphone as a client announces it.
pub(crate) fn microphone(track: &str, client_track: &str) -> AddTrack {
    AddTrack {
        kind: MediaKind::Audio.into(),
        source: TrackSource::Microphone.into(),
        ..camera(track, client_track)
    }
}

/// Up to so many of a track's encodings; 0 is no limit.
pub(crate) fn layers(spatial_layers: u32) -> LayerWish {
    LayerWish {
        spatial_layers,
        ..LayerWish::default()
    }
}

/// One stream of one session.
pub(crate) struct Session {
    requests: mpsc::Sender<SessionRequest>,
    events: Option<Streaming<SessionEvent>>,
    /// Events that nobody has asked for yet.
    kept: VecDeque<SessionEvent>,
    last_id: u64,
}

impl Session {
    /// Sends a request without waiting; its answer is [`Self::answer`]'s business.
    pub(crate) async fn send(&mut self, request: Request) -> u64 {
        self.last_id += 1;
        let request = SessionRequest {
            request_id: self.last_id,
            request: Some(request),
        };
        self.send_raw(request).await;
        self.last_id
    }

    /// Sends a request of a later version of the contract.
    pub(crate) async fn send_unknown(&mut self) -> u64 {
        self.last_id += 1;
        let request = SessionRequest {
            request_id: self.last_id,
            request: None,
        };
        self.send_raw(request).await;
        self.last_id
    }

    pub(crate) async fn send_raw(&mut self, request: SessionRequest) {
        let sent = within("a request is taken", self.requests.send(request)).await;
        assert!(sent.is_ok(), "the stream has ended");
    }

    /// The event that answers a request.
    pub(crate) async fn answer(&mut self, request_id: u64) -> Event {
        let is_answer = |event: &SessionEvent| {
            let answer = event.event.as_ref();
            answer.filter(|_| event.request_id == request_id).cloned()
        };
        self.take(&format!("the answer to request {request_id}"), is_answer)
            .await
    }

    /// Sends a request and waits for what it is answered.
    pub(crate) async fn request(&mut self, request: Request) -> Event {
        let id = self.send(request).await;
        self.answer(id).await
    }

    /// … which has to be `Done`.
    pub(crate) async fn done(&mut self, request: Request) {
        let asked = format!("{request:?}");
        match self.request(request).await {
            Event::Done(_) => {}
            other => panic!("{other:?} for {asked}"),
        }
    }

    /// … which has to be a refusal.
    pub(crate) async fn refused(&mut self, request: Request) -> Code {
        match self.request(request).await {
            Event::Refused(refused) => refused.code(),
            other => panic!("{other:?} instead of a refusal"),
        }
    }

    pub(crate) async fn offer(&mut self, sdp: &str) -> AnswerCreated {
        let offer = ClientOffer {
            sdp: sdp.to_owned(),
            offer_id: 1,
        };
        match self.request(Request::Offer(offer)).await {
            Event::AnswerCreated(answer) => answer,
            other => panic!("{other:?} for an offer"),
        }
    }

    /// The next offer of the node.
    pub(crate) async fn next_offer(&mut self) -> OfferCreated {
        self.event("an offer", |event| match event {
            Event::OfferCreated(offer) => Some(offer.clone()),
            _ => None,
        })
        .await
    }

    pub(crate) async fn accept(&mut self, offer_id: u32, sdp: String) {
        self.done(Request::Answer(ClientAnswer { sdp, offer_id }))
            .await;
    }

    pub(crate) async fn add_track(&mut self, track: AddTrack) {
        self.done(Request::AddTrack(track)).await;
    }

    /// Subscribes, or changes the wish. The client sees the track under its own id.
    pub(crate) async fn subscribe(&mut self, track: &str, wish: LayerWish) {
        self.done(Request::Subscribe(subscription(track, wish)))
            .await;
    }

    /// Subscribes to a track that a session of another node publishes.
    pub(crate) async fn subscribe_at(
        &mut self,
        track: &str,
        (node_id, session_id): (&str, &str),
        wish: LayerWish,
    ) {
        let origin = Some(Origin {
            node_id: node_id.to_owned(),
            session_id: session_id.to_owned(),
        });
        let subscribe = Subscribe {
            origin,
            ..subscription(track, wish)
        };
        self.done(Request::Subscribe(subscribe)).await;
    }

    /// Listens to its room on these nodes.
    pub(crate) async fn hear(&mut self, nodes: &[&str]) {
        let node_ids = nodes.iter().map(ToString::to_string).collect();
        self.done(Request::HearNodes(HearNodes { node_ids })).await;
    }

    pub(crate) async fn unsubscribe(&mut self, track: &str) {
        let track_id = track.to_owned();
        self.done(Request::Unsubscribe(Unsubscribe { track_id }))
            .await;
    }

    pub(crate) async fn mute(&mut self, track: &str, muted: bool) {
        let track_id = track.to_owned();
        self.done(Request::MuteTrack(MuteTrack { track_id, muted }))
            .await;
    }

    /// Leaves; the stream has to end with it.
    pub(crate) async fn close(&mut self) {
        let reason = CloseReason::Left.into();
        let answer = self.request(Request::Close(Close { reason })).await;
        assert!(matches!(answer, Event::Closed(_)), "{answer:?}");
        assert_eq!(self.next().await, None, "the stream ends with Closed");
    }

    /// The end of the session, as the node tells it.
    pub(crate) async fn closed(&mut self) -> Closed {
        let is_closed = |event: &Event| match event {
            Event::Closed(closed) => Some(closed.clone()),
            _ => None,
        };
        self.event("the session's end", is_closed).await
    }

    /// Waits until a connection is in a state.
    pub(crate) async fn connection(&mut self, role: ConnectionRole, state: ConnectionState) {
        let is_it = |event: &Event| match event {
            Event::ConnectionChanged(changed) => {
                ((changed.connection(), changed.state()) == (role, state)).then_some(())
            }
            _ => None,
        };
        self.event(&format!("{role:?} to be {state:?}"), is_it)
            .await;
    }

    /// The next event of the node's own accord, kept or new, that `pick` wants. Others are kept.
    pub(crate) async fn event<T>(&mut self, what: &str, pick: impl Fn(&Event) -> Option<T>) -> T {
        let pick = |event: &SessionEvent| match event.request_id {
            0 => event.event.as_ref().and_then(&pick),
            _ => None,
        };
        self.take(what, pick).await
    }

    /// Events that have been kept, and those that come until the stream ends.
    pub(crate) async fn last_words(&mut self) -> Vec<SessionEvent> {
        let mut events: Vec<_> = self.kept.drain(..).collect();
        while let Some(event) = self.next().await {
            events.push(event);
        }
        events
    }

    /// The next event as it comes; `None`: the stream has ended.
    pub(crate) async fn next(&mut self) -> Option<SessionEvent> {
        let events = self.events.as_mut().expect("the stream has begun");
        within("an event", events.message()).await.unwrap()
    }

    async fn take<T>(&mut self, what: &str, pick: impl Fn(&SessionEvent) -> Option<T>) -> T {
        let mut passed_over = VecDeque::new();
        let mut kept = std::mem::take(&mut self.kept);
        let picked = loop {
            let event = match kept.pop_front() {
                Some(event) => event,
                None => {
                    let events = self.events.as_mut().expect("the stream has begun");
                    let next = within(what, events.message()).await.unwrap();
                    next.unwrap_or_else(|| panic!("the stream ended before {what}"))
                }
            };
            match pick(&event) {
                Some(picked) => break picked,
                None => passed_over.push_back(event),
            }
        };
        passed_over.append(&mut kept);
        self.kept = passed_over;
        picked
    }
}

pub(crate) fn subscription(track: &str, wish: LayerWish) -> Subscribe {
    Subscribe {
        track_id: track.to_owned(),
        wish: Some(wish),
        msid_stream: "room".to_owned(),
        msid_track: track.to_owned(),
        ..Subscribe::default()
    }
}
