//! A node without media: keeps the control contract, remembers what it was asked, and does what a
//! test tells it to.
//!
//! Runs in a runtime of its own, so that it can die as a process does.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use pipemesh_proto::node::node_server::{Node, NodeServer};
use pipemesh_proto::node::session_event::Event;
use pipemesh_proto::node::session_request::Request;
use pipemesh_proto::node::*;
use pipemesh_topology::{NodeRecord, NodeState as RecordState, PipeAddress};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_stream::{Stream, StreamExt};
use tonic::transport::Server;
use tonic::{Response, Status, Streaming};

/// Longest a test waits for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

type Sender = mpsc::Sender<Result<SessionEvent, Status>>;

#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) open: Open,
    /// Everything it was asked, in order.
    pub(crate) asked: Vec<Request>,
    announced: BTreeMap<String, AddTrack>,
    started: BTreeMap<String, TrackStarted>,
    pub(crate) subscribed: BTreeMap<String, Subscribe>,
    pub(crate) attached: usize,
    offers: u32,
    /// The highest that it was opened or attached by.
    pub(crate) claim: u64,
    events: Option<Sender>,
}

#[derive(Debug)]
pub(crate) struct State {
    id: String,
    region: String,
    boot_id: u64,
    pub(crate) sessions: BTreeMap<String, Session>,
    /// Why sessions ended.
    pub(crate) closed: Vec<(String, CloseReason)>,
    /// What callers showed.
    pub(crate) bearers: Vec<String>,
    state: NodeState,
    /// Refuses everybody who opens.
    refuse: Option<Code>,
    is_mute: bool,
    /// What it says of its pipes; `None`: it is of a version that does not say.
    pipes: Option<InspectPipesResponse>,
    reports: watch::Sender<u64>,
    breaks: watch::Sender<u64>,
}

/// A node, until it is dropped or killed.
pub(crate) struct FakeNode {
    state: Arc<Mutex<State>>,
    changed: watch::Receiver<u64>,
    runtime: Option<Runtime>,
    pub(crate) record: NodeRecord,
}

struct Service {
    state: Arc<Mutex<State>>,
    changes: watch::Sender<u64>,
}

impl FakeNode {
    pub(crate) fn start(id: &str, region: &str, boot_id: u64) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (changes, changed) = watch::channel(0);
        let state = Arc::new(Mutex::new(State {
            id: id.to_owned(),
            region: region.to_owned(),
            boot_id,
            sessions: BTreeMap::new(),
            closed: Vec::new(),
            bearers: Vec::new(),
            state: NodeState::Serving,
            refuse: None,
            is_mute: false,
            pipes: None,
            reports: watch::Sender::new(0),
            breaks: watch::Sender::new(0),
        }));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let service = NodeServer::new(Service {
            state: Arc::clone(&state),
            changes,
        });
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            Server::builder()
                .max_concurrent_streams(Some(10_000))
                .add_service(service)
                .serve_with_incoming(TcpListenerStream::new(listener).map(|stream| {
                    let stream = stream?;
                    // Else an answer may wait 40 ms for the other side's acknowledgement.
                    stream.set_nodelay(true)?;
                    Ok::<_, std::io::Error>(stream)
                }))
                .await
                .unwrap();
        });
        Self {
            state,
            changed,
            runtime: Some(runtime),
            record: NodeRecord {
                id: id.parse().unwrap(),
                region: region.parse().unwrap(),
                grpc_address: address.to_string(),
                boot_id,
                weight: 1,
                // Nobody calls there.
                pipe: PipeAddress::new(["127.0.0.1:9".to_owned()], [7; 32]).ok(),
                state: RecordState::Serving,
            },
        }
    }

    /// Everything ends at once, as in a process that is killed.
    pub(crate) fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// The streams break; the sessions live on.
    pub(crate) fn break_streams(&self) {
        let mut node = self.lock();
        for session in node.sessions.values_mut() {
            session.events = None;
        }
        node.breaks.send_modify(|breaks| *breaks += 1);
    }

    pub(crate) fn refuse(&self, code: Option<Code>) {
        self.lock().refuse = code;
    }

    /// Another process takes somebody's session over and is silent: who held it does not hear of that.
    pub(crate) fn is_taken_over(&self, identity: &str) {
        let mut node = self.lock();
        let mut sessions = node.sessions.values_mut();
        let session = sessions.find(|session| session.open.identity == identity);
        session.expect("it was opened").claim += 1;
    }

    /// Reports nothing from now on, whoever asks.
    pub(crate) fn falls_mute(&self) {
        self.lock().is_mute = true;
    }

    /// What it says of its pipes from now on.
    pub(crate) fn set_pipes(&self, pipes: InspectPipesResponse) {
        self.lock().pipes = Some(pipes);
    }

    pub(crate) fn set_state(&self, state: NodeState) {
        let mut node = self.lock();
        node.state = state;
        node.reports.send_modify(|reports| *reports += 1);
    }

    /// Waits until something is so.
    pub(crate) async fn until<T>(&self, what: &str, mut is: impl FnMut(&State) -> Option<T>) -> T {
        let mut changed = self.changed.clone();
        let so = async {
            loop {
                changed.borrow_and_update();
                if let Some(found) = is(&self.lock()) {
                    return found;
                }
                changed.changed().await.expect("the node lives");
            }
        };
        match tokio::time::timeout(PATIENCE, so).await {
            Ok(found) => found,
            Err(_) => panic!("{what}: {:#?}", self.lock()),
        }
    }

    /// Waits for the session of a participant and for what it has to be.
    pub(crate) async fn session(
        &self,
        identity: &str,
        what: &str,
        is: impl Fn(&Session) -> bool,
    ) -> Session {
        self.until(what, |node| {
            let mut sessions = node.sessions.values();
            sessions
                .find(|session| session.open.identity == identity && is(session))
                .cloned()
        })
        .await
    }

    /// The node says something to a participant's session of its own accord.
    pub(crate) async fn says(&self, identity: &str, event: Event) {
        let session = self
            .session(identity, "a stream", |session| session.events.is_some())
            .await;
        let event = SessionEvent {
            request_id: 0,
            event: Some(event),
        };
        session.events.unwrap().send(Ok(event)).await.unwrap();
    }

    /// Media of an announced track arrives.
    pub(crate) async fn starts(&self, identity: &str, track_id: &str) {
        let announced = |session: &Session| session.announced.contains_key(track_id);
        self.session(identity, "an announced track", announced)
            .await;
        let started = TrackStarted {
            track_id: track_id.to_owned(),
            mid: "0".to_owned(),
            mime_type: "video/VP8".to_owned(),
            layers: Vec::new(),
        };
        for session in self.lock().sessions.values_mut() {
            if session.announced.contains_key(track_id) {
                session.started.insert(track_id.to_owned(), started.clone());
            }
        }
        self.says(identity, Event::TrackStarted(started)).await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl Drop for FakeNode {
    fn drop(&mut self) {
        self.kill();
    }
}

impl State {
    fn report(&self) -> NodeReport {
        NodeReport {
            node_id: self.id.clone(),
            region: self.region.clone(),
            boot_id: self.boot_id,
            state: self.state.into(),
            load: Some(NodeLoad::default()),
            version_min: 1,
            version_max: 1,
            release: "fake".to_owned(),
            report_every_ms: 0,
        }
    }

    fn opened(&self) -> Opened {
        Opened {
            node_id: self.id.clone(),
            region: self.region.clone(),
            boot_id: self.boot_id,
        }
    }

    /// What is published in a room.
    fn published(&self, room_id: &str) -> BTreeSet<String> {
        let sessions = self
            .sessions
            .values()
            .filter(|one| one.open.room_id == room_id);
        sessions
            .flat_map(|session| session.started.keys().cloned())
            .collect()
    }

    /// Whether a stream is the one of a session.
    fn is_held(&self, id: &str, events: &Sender) -> bool {
        let session = self.sessions.get(id);
        let held = session.and_then(|session| session.events.as_ref());
        held.is_some_and(|held| held.same_channel(events))
    }

    fn open(&mut self, open: Open, events: &Sender) -> Event {
        if let Some(code) = self.refuse {
            return refused(code, "told to");
        }
        if self.sessions.contains_key(&open.session_id) {
            return refused(Code::SessionExists, "there is one");
        }
        let session = Session {
            asked: Vec::new(),
            announced: BTreeMap::new(),
            started: BTreeMap::new(),
            subscribed: BTreeMap::new(),
            attached: 1,
            offers: 0,
            claim: open.claim,
            events: Some(events.clone()),
            open: open.clone(),
        };
        self.sessions.insert(open.session_id, session);
        Event::Opened(self.opened())
    }

    fn attach(&mut self, attach: &Attach, events: &Sender) -> Event {
        let opened = self.opened();
        let Some(session) = self.sessions.get_mut(&attach.session_id) else {
            return refused(Code::SessionNotFound, "no such session");
        };
        if attach.claim != 0 && attach.claim < session.claim {
            return refused(Code::TakenOver, "by a later claim");
        }
        session.claim = session.claim.max(attach.claim);
        session.attached += 1;
        if let Some(older) = session.events.replace(events.clone()) {
            let closed = Closed {
                reason: CloseReason::TakenOver.into(),
                message: String::new(),
            };
            let _ = older.try_send(Ok(event(0, Event::Closed(closed))));
        }
        let tracks = session.announced.values().map(|announced| PublishedTrack {
            started: session.started.get(&announced.track_id).cloned(),
            announced: Some(announced.clone()),
            demand: None,
        });
        Event::Snapshot(Snapshot {
            open: Some(session.open.clone()),
            tracks: tracks.collect(),
            subscriptions: session.subscribed.values().cloned().collect(),
            opened: Some(opened),
            ..Default::default()
        })
    }

    /// Carries a request of a session out; `None`: the session is gone.
    fn carry_out(&mut self, id: &str, request: Request) -> Option<Event> {
        let published = self.published(&self.sessions.get(id)?.open.room_id);
        let taken: BTreeSet<String> = self
            .sessions
            .values()
            .flat_map(|session| session.announced.keys().cloned())
            .collect();
        let session = self.sessions.get_mut(id)?;
        session.asked.push(request.clone());
        let done = Event::Done(Done {});
        Some(match request {
            Request::Offer(offer) => Event::AnswerCreated(AnswerCreated {
                sdp: format!("answer to {}", offer.sdp),
                offer_id: offer.offer_id,
                mid_to_track: Default::default(),
            }),
            Request::AddTrack(add) if taken.contains(&add.track_id) => {
                refused(Code::TrackExists, "announced already")
            }
            Request::AddTrack(add) => {
                session.announced.insert(add.track_id.clone(), add);
                done
            }
            Request::RemoveTrack(remove) => {
                session.started.remove(&remove.track_id);
                match session.announced.remove(&remove.track_id) {
                    Some(_) => done,
                    None => refused(Code::TrackNotFound, "no such track"),
                }
            }
            Request::MuteTrack(mute) => match session.announced.get_mut(&mute.track_id) {
                Some(announced) => {
                    announced.muted = mute.muted;
                    done
                }
                None => refused(Code::TrackNotFound, "no such track"),
            },
            // What is published elsewhere is found out later.
            Request::Subscribe(subscribe)
                if subscribe.origin.is_none() && !published.contains(&subscribe.track_id) =>
            {
                refused(Code::TrackNotFound, "nobody publishes it")
            }
            Request::Subscribe(subscribe) => {
                session
                    .subscribed
                    .insert(subscribe.track_id.clone(), subscribe);
                done
            }
            Request::Unsubscribe(unsubscribe) => {
                session.subscribed.remove(&unsubscribe.track_id);
                done
            }
            Request::RestartIce(_) => {
                session.offers += 1;
                let created = OfferCreated {
                    sdp: "restarted".to_owned(),
                    offer_id: session.offers,
                    mid_to_track: Default::default(),
                };
                let events = session.events.clone()?;
                let _ = events.try_send(Ok(event(0, Event::OfferCreated(created))));
                done
            }
            Request::Close(close) => {
                let closed = Closed {
                    reason: close.reason,
                    message: String::new(),
                };
                let session = self.sessions.remove(id)?;
                self.closed.push((session.open.identity, close.reason()));
                Event::Closed(closed)
            }
            _ => done,
        })
    }
}

fn event(request_id: u64, event: Event) -> SessionEvent {
    SessionEvent {
        request_id,
        event: Some(event),
    }
}

fn refused(code: Code, message: &str) -> Event {
    Event::Refused(Refused {
        code: code.into(),
        message: message.to_owned(),
    })
}

/// One stream: requests in, an answer each, in order.
async fn converse(service: Arc<Service>, mut requests: Streaming<SessionRequest>, events: Sender) {
    let mut breaks = service.state.lock().unwrap().breaks.subscribe();
    let mut id: Option<String> = None;
    loop {
        let next = tokio::select! {
            next = requests.message() => next,
            _ = breaks.changed() => return,
        };
        let Ok(Some(SessionRequest {
            request_id,
            request: Some(request),
        })) = next
        else {
            break;
        };
        assert_ne!(request_id, 0, "a number is not optional");
        let answer = answer(&service, &mut id, request, &events);
        service.changes.send_modify(|changes| *changes += 1);
        let Some(answer) = answer else { return };
        let ends = matches!(
            answer,
            Event::Closed(_)
                | Event::Refused(Refused {
                    code: 3..=6 | 13,
                    ..
                })
        );
        if events.send(Ok(event(request_id, answer))).await.is_err() || ends {
            return;
        }
    }
    // The client's end is gone: the session goes on without a stream.
    if let Some(id) = id {
        detach(&service, &id, &events);
        service.changes.send_modify(|changes| *changes += 1);
    }
}

/// `None`: the stream has lost its session.
fn answer(
    service: &Service,
    id: &mut Option<String>,
    request: Request,
    events: &Sender,
) -> Option<Event> {
    let mut node = service.state.lock().unwrap();
    match (request, &*id) {
        (Request::Open(open), None) => {
            *id = Some(open.session_id.clone());
            Some(node.open(open, events))
        }
        (Request::Attach(attach), None) => {
            *id = Some(attach.session_id.clone());
            Some(node.attach(&attach, events))
        }
        (_, None) => panic!("the first request opens or attaches"),
        (request, Some(id)) => {
            if node.is_held(id, events) {
                node.carry_out(id, request)
            } else {
                None
            }
        }
    }
}

fn detach(service: &Service, id: &str, events: &Sender) {
    let mut node = service.state.lock().unwrap();
    if node.is_held(id, events)
        && let Some(session) = node.sessions.get_mut(id)
    {
        session.events = None;
    }
}

type Events<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Node for Service {
    type SessionStream = Events<SessionEvent>;
    type WatchStream = Events<NodeReport>;

    async fn session(
        &self,
        request: tonic::Request<Streaming<SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        if let Some(bearer) = request.metadata().get("authorization") {
            let bearer = bearer.to_str().unwrap().to_owned();
            self.state.lock().unwrap().bearers.push(bearer);
        }
        let (sender, receiver) = mpsc::channel(1024);
        let service = Arc::new(Self {
            state: Arc::clone(&self.state),
            changes: self.changes.clone(),
        });
        // Holding the sender would keep the stream alive that a test breaks.
        let weak = sender.downgrade();
        let requests = request.into_inner();
        tokio::spawn(async move {
            if let Some(events) = weak.upgrade() {
                drop(sender);
                converse(service, requests, events).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn watch(
        &self,
        _: tonic::Request<WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let state = Arc::clone(&self.state);
        let mut told = state.lock().unwrap().reports.subscribe();
        let reports = async_stream(move |sender| async move {
            loop {
                let report = {
                    let node = state.lock().unwrap();
                    (!node.is_mute).then(|| node.report())
                };
                if let Some(report) = report
                    && sender.send(Ok(report)).await.is_err()
                {
                    return;
                }
                let _ = tokio::time::timeout(Duration::from_millis(500), told.changed()).await;
            }
        });
        Ok(Response::new(reports))
    }

    async fn drain(&self, _: tonic::Request<DrainRequest>) -> Result<Response<NodeReport>, Status> {
        Err(Status::unimplemented("no test needs it"))
    }

    async fn undrain(
        &self,
        _: tonic::Request<UndrainRequest>,
    ) -> Result<Response<NodeReport>, Status> {
        Err(Status::unimplemented("no test needs it"))
    }

    async fn list_rooms(
        &self,
        _: tonic::Request<ListRoomsRequest>,
    ) -> Result<Response<ListRoomsResponse>, Status> {
        Err(Status::unimplemented("no test needs it"))
    }

    /// As a version does that knows of no sessions to ask for: all of the room.
    async fn inspect_room(
        &self,
        request: tonic::Request<InspectRoomRequest>,
    ) -> Result<Response<InspectRoomResponse>, Status> {
        let room = request.into_inner().room_id;
        let state = self.state.lock().unwrap();
        let sessions = state.sessions.values();
        let sessions = sessions.filter(|session| session.open.room_id == room);
        let summary = |session: &Session| SessionSummary {
            session_id: session.open.session_id.clone(),
            subscriptions: session
                .subscribed
                .keys()
                .map(|track| SubscriptionSummary {
                    track_id: track.clone(),
                    spatial: Some(1),
                    width: 640,
                    height: 360,
                    bits_per_second: 500_000,
                    ..SubscriptionSummary::default()
                })
                .collect(),
            ..SessionSummary::default()
        };
        Ok(Response::new(InspectRoomResponse {
            sessions: sessions.map(summary).collect(),
        }))
    }

    async fn inspect_pipes(
        &self,
        _: tonic::Request<InspectPipesRequest>,
    ) -> Result<Response<InspectPipesResponse>, Status> {
        let pipes = self.state.lock().unwrap().pipes.clone();
        let pipes = pipes.ok_or_else(|| Status::unimplemented("a version before this"))?;
        Ok(Response::new(pipes))
    }
}

/// A stream of what a task sends.
fn async_stream<T, F>(task: impl FnOnce(mpsc::Sender<Result<T, Status>>) -> F) -> Events<T>
where
    T: Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(4);
    tokio::spawn(task(sender));
    Box::pin(ReceiverStream::new(receiver).map(|item| item))
}
