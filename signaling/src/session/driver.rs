//! The task around a session: its node's stream, its timer, its record, its client's sockets.
//!
//! Decides nothing. Sockets come and go beneath it, which is what a resume is.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use livekit_protocol::ParticipantInfo;
use livekit_protocol::signal_request::Message as FromClient;
use livekit_protocol::signal_response::Message;
use pipemesh_proto::ids::{NodeId, SessionId};
use pipemesh_proto::node::{SessionEvent, SessionRequest};
use pipemesh_service::Chain;
use tokio::sync::{mpsc, oneshot, watch};

use super::socket::SocketHandle;
use super::{Attach, End, Farewell, Fate, Output, Session};
use crate::auth::{Current, Grants, Rights};
use crate::context::Context;
use crate::metrics::SessionEnd;
use crate::nodes::{Attached, NodeStream, StreamError};
use crate::orders::{Answer, What};
use crate::rooms::record::MemberRecord;
use crate::rooms::{Claim, RoomState, RoomView, WriteError};

/// Inputs that wait for the session. Full: a socket stops reading, so its client is slowed down.
pub(crate) const INPUTS: usize = 64;

/// Pause before a record that could not be written is written again.
const WRITE_RETRY: Duration = Duration::from_millis(500);

/// Time for the node to end a session that was closed.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// A node that leaves a busy session without answers for this long has lost it.
const STALL_LIMIT: Duration = Duration::from_secs(10);

/// Requests taken from the session that the stream has not taken yet. Full: nothing more is taken
/// from the client or the room, so no more are made; only events still add to them.
const UNSENT: usize = 256;

/// What comes from outside, beside node and room.
#[derive(Debug)]
pub(crate) enum Input {
    Attach(Box<Attaching>),
    /// From the socket with this number.
    Client(u64, Box<FromClient>),
    Detached(u64),
    /// Of the server API. Whoever waits for the answer may have given up.
    Order(Box<What>, oneshot::Sender<Answer>),
    Stop,
}

pub(crate) struct Attaching {
    pub(crate) attach: Attach,
    pub(crate) socket: SocketHandle,
}

impl std::fmt::Debug for Attaching {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Attaching").finish_non_exhaustive()
    }
}

type Writing = Pin<Box<dyn Future<Output = Written> + Send>>;
type Attachment = Pin<Box<dyn Future<Output = Result<Box<Attached>, StreamError>> + Send>>;

pub(crate) struct Driver {
    context: Arc<Context>,
    session: Session,
    id: SessionId,
    node_id: NodeId,
    grants: Grants,
    inputs: mpsc::Receiver<Input>,
    farewell: Arc<OnceLock<Farewell>>,
    room: watch::Receiver<Option<Arc<RoomState>>>,
    /// Keeps the room followed.
    _view: Arc<RoomView>,
    node: Link,
    unsent: VecDeque<SessionRequest>,
    socket: Option<SocketHandle>,
    /// `None` while it is used to write.
    claim: Option<Claim>,
    /// Its number.
    claim_number: u64,
    /// To be written.
    record: Option<Box<MemberRecord>>,
    writing: Option<Writing>,
    retry_at: Option<Instant>,
    ended: Option<End>,
    /// Those who wait for the end, and what they are told then.
    await_end: Vec<(oneshot::Sender<Answer>, Answer)>,
    last_request: u64,
    /// Since when nothing is taken from the client or the room.
    stalled: Option<Instant>,
}

/// The stream to the node.
enum Link {
    Up(Box<NodeStream>),
    Restoring(Attachment),
    /// Not needed any more.
    Gone,
}

/// What a driver begins with: a session that is open on its node.
pub(crate) struct Parts {
    pub(crate) context: Arc<Context>,
    pub(crate) session: Session,
    pub(crate) id: SessionId,
    pub(crate) node_id: NodeId,
    pub(crate) grants: Grants,
    pub(crate) inputs: mpsc::Receiver<Input>,
    pub(crate) farewell: Arc<OnceLock<Farewell>>,
    pub(crate) view: Arc<RoomView>,
    /// `None`: the node has lost it.
    pub(crate) node: Option<NodeStream>,
    pub(crate) claim: Claim,
}

/// A record that was written, or not.
struct Written {
    claim: Claim,
    record: Box<MemberRecord>,
    outcome: Result<(), WriteError>,
}

/// One of the things a driver waits for.
#[expect(clippy::large_enum_variant, reason = "one at a time, used at once")]
enum Happened {
    Node(Result<SessionEvent, StreamError>),
    Restored(Result<Box<Attached>, StreamError>),
    Room(bool),
    Input(Option<Input>),
    Written(Written),
    Sent,
    Time,
}

impl Driver {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            context: parts.context,
            session: parts.session,
            id: parts.id,
            node_id: parts.node_id,
            grants: parts.grants,
            inputs: parts.inputs,
            farewell: parts.farewell,
            room: parts.view.state(),
            _view: parts.view,
            node: parts
                .node
                .map_or(Link::Gone, |node| Link::Up(Box::new(node))),
            unsent: VecDeque::new(),
            socket: None,
            claim_number: parts.claim.number(),
            claim: Some(parts.claim),
            record: None,
            writing: None,
            retry_at: None,
            ended: None,
            await_end: Vec::new(),
            last_request: 0,
            stalled: None,
        }
    }

    pub(crate) async fn run(mut self) {
        self.room.mark_changed();
        self.drain();
        while self.ended.is_none() {
            let happened = self.wait().await;
            self.take(happened);
            self.session.handle_timeout(Instant::now());
            self.drain();
        }
        self.finish().await;
    }

    /// Waits for the next thing, in this order when several have happened.
    async fn wait(&mut self) -> Happened {
        let now = Instant::now();
        self.start_write(now);
        let hungry = !self.session.is_busy() && self.unsent.len() < UNSENT;
        self.stalled = if hungry {
            None
        } else {
            self.stalled.or(Some(now))
        };
        let stalled = self.stalled.map(|since| since + STALL_LIMIT);
        let session = self.session.poll_timeout(now);
        let deadline = session
            .into_iter()
            .chain(self.retry_at)
            .chain(stalled)
            .min();
        let time = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        let (events, permits) = match &mut self.node {
            Link::Up(stream) => {
                let requests = stream.requests().clone();
                (
                    Events::Stream(stream),
                    (!self.unsent.is_empty()).then_some(requests),
                )
            }
            Link::Restoring(attachment) => (Events::Attachment(attachment), None),
            Link::Gone => (Events::None, None),
        };
        let permit = async {
            match &permits {
                Some(requests) => requests.reserve().await.is_ok(),
                None => std::future::pending().await,
            }
        };
        let written = async {
            match &mut self.writing {
                Some(writing) => writing.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            // 1. What the node says: media has happened already.
            happened = events.next() => happened,
            // 2. What the session said to it, before it says more.
            true = permit => Happened::Sent,
            // 3. The record that was written.
            written = written => Happened::Written(written),
            // 4. The room, which is always the latest and cannot pile up.
            changed = self.room.changed(), if hungry => Happened::Room(changed.is_ok()),
            // 5. The client.
            input = self.inputs.recv(), if hungry => Happened::Input(input),
            // 6. Time.
            () = time => Happened::Time,
        }
    }

    fn take(&mut self, happened: Happened) {
        let now = Instant::now();
        match happened {
            Happened::Node(Ok(event)) => self.session.handle_node(event, now),
            // Somebody has asked it, in vain.
            Happened::Node(Err(error @ StreamError::Silent)) => self.node_is_lost(&error, now),
            Happened::Node(Err(error)) => self.node_broke(&error),
            Happened::Restored(Ok(attached)) => {
                tracing::info!("the node's stream stands again");
                self.node = Link::Up(Box::new(attached.stream));
                self.session.handle_snapshot(attached.snapshot, now);
            }
            // The store may not have said so: this process was frozen, or is cut off.
            Happened::Restored(Err(error)) if error.is_taken_over() => {
                self.node = Link::Gone;
                self.session.handle_taken_over();
            }
            Happened::Restored(Err(error)) => self.node_is_lost(&error, now),
            Happened::Room(true) => {
                let room = self.room.borrow_and_update().clone();
                self.session.handle_room(room.as_ref(), now);
            }
            // The view lives as long as this driver holds it.
            Happened::Room(false) => {}
            Happened::Input(Some(input)) => self.take_input(input, now),
            // No socket is left, and the directory has another session of this participant.
            Happened::Input(None) => self.session.handle_superseded(),
            Happened::Written(written) => self.written(written, now),
            Happened::Sent => {
                if let (Link::Up(stream), Some(request)) = (&self.node, self.unsent.pop_front()) {
                    // A stream that broke meanwhile reports that itself.
                    let _ = stream.requests().try_send(request);
                }
            }
            Happened::Time => {
                let stalled = self.stalled.is_some_and(|since| since + STALL_LIMIT <= now);
                if stalled && matches!(self.node, Link::Up(_)) {
                    self.stalled = None;
                    self.node_broke(&StreamError::Timeout);
                }
            }
        }
    }

    fn take_input(&mut self, input: Input, now: Instant) {
        let current = self.socket.as_ref().map(|socket| socket.number);
        match input {
            Input::Attach(attaching) => {
                // The one before closes when its handle is dropped.
                if attaching.attach.resume.is_some() {
                    tracing::info!("the client is back");
                }
                self.socket = Some(attaching.socket);
                self.session.handle_attach(attaching.attach, now);
            }
            Input::Client(number, message) if current == Some(number) => {
                self.session.handle_client(*message, now);
            }
            Input::Detached(number) if current == Some(number) => {
                tracing::debug!("the client's socket is gone");
                self.socket = None;
                self.session.handle_detach(now);
            }
            // From a socket that another one has replaced.
            Input::Client(..) | Input::Detached(_) => {}
            Input::Order(what, answer) => {
                let answered = self.session.handle_order(*what, now);
                if self.session.has_ended() {
                    self.await_end.push((answer, answered));
                } else {
                    // Fails when nobody waits any more.
                    let _ = answer.send(answered);
                }
            }
            Input::Stop => self.session.handle_stop(),
        }
    }

    fn node_is_lost(&mut self, error: &StreamError, now: Instant) {
        self.unsent.clear();
        let error = Chain(error).to_string();
        tracing::warn!(error, "the node's session is lost");
        self.node = Link::Gone;
        self.session.handle_node_lost(now);
    }

    fn node_broke(&mut self, error: &StreamError) {
        self.unsent.clear();
        if !self.session.is_served() {
            self.node = Link::Gone;
            return;
        }
        let error = Chain(error).to_string();
        tracing::warn!(error, "the node's stream broke");
        self.session.handle_node_broken();
        let (context, node, id) = (
            Arc::clone(&self.context),
            self.node_id.clone(),
            self.id.clone(),
        );
        let claim = self.claim_number;
        self.node = Link::Restoring(Box::pin(async move {
            let attached = context.nodes.attach(&node, &id, claim).await;
            attached.map(Box::new)
        }));
    }

    fn written(&mut self, written: Written, now: Instant) {
        self.writing = None;
        self.claim_number = written.claim.number();
        self.claim = Some(written.claim);
        match written.outcome {
            Ok(()) => {}
            Err(WriteError::Lost) => {
                self.record = None;
                self.session.handle_superseded();
            }
            Err(WriteError::TakenOver) => {
                self.record = None;
                self.session.handle_taken_over();
            }
            Err(WriteError::Unavailable(error)) => {
                if self.retry_at.is_none() {
                    let error = Chain(&error).to_string();
                    tracing::warn!(error, "a participant's record was not written");
                }
                self.retry_at = Some(now + WRITE_RETRY);
                // Unless there is a newer one by now.
                self.record.get_or_insert(written.record);
                return;
            }
        }
        self.retry_at = None;
    }

    /// Writes the record, one write at a time; what changes meanwhile is the next one.
    fn start_write(&mut self, now: Instant) {
        if self.writing.is_some() || self.retry_at.is_some_and(|at| at > now) {
            return;
        }
        if self.record.is_some()
            && let Some(claim) = self.claim.take()
        {
            self.writing = self.record.take().map(|record| self.write(claim, record));
        }
    }

    fn write(&self, mut claim: Claim, record: Box<MemberRecord>) -> Writing {
        let context = Arc::clone(&self.context);
        Box::pin(async move {
            let outcome = context.rooms.write(&mut claim, &record).await;
            Written {
                claim,
                record,
                outcome,
            }
        })
    }

    fn drain(&mut self) {
        while let Some(output) = self.session.poll_output() {
            match output {
                Output::Client(message) => self.say(message),
                Output::CloseSocket(close) => {
                    if let Some(socket) = &self.socket {
                        socket.close(close);
                    }
                }
                Output::Node(request) => {
                    self.last_request = request.request_id;
                    self.unsent.push_back(*request);
                }
                Output::Record(record) => self.record = Some(record),
                Output::RefreshToken(info) => self.refresh_token(&info),
                Output::Ended(end) => self.ended = Some(end),
            }
        }
    }

    fn say(&self, message: Box<Message>) {
        if let Some(socket) = &self.socket
            && !socket.say(message)
        {
            tracing::info!("the client is too slow, its socket is closed");
        }
    }

    fn refresh_token(&self, info: &ParticipantInfo) {
        let attributes = info.attributes.clone().into_iter().collect();
        let current = Current {
            name: &info.name,
            metadata: &info.metadata,
            attributes: &attributes,
            rights: info.permission.as_ref().map(Rights::of).unwrap_or_default(),
        };
        match self
            .context
            .keys
            .renew(&self.grants, &current, SystemTime::now())
        {
            Some(token) => self.say(Box::new(Message::RefreshToken(token))),
            None => tracing::warn!("no fresh token could be made"),
        }
    }

    async fn finish(mut self) {
        let end = self
            .ended
            .take()
            .expect("a driver runs until its session has ended");
        let (room, identity) = (&self.grants.room, &self.grants.identity);
        self.context.sessions.remove(room, identity, &self.farewell);
        // Sockets that find nobody here any more are told why, the last that came included.
        let _ = self.farewell.set(end.farewell());
        self.inputs.close();
        // Waits for those who are sending in this moment: what is closed takes what was begun.
        while let Some(input) = self.inputs.recv().await {
            if let Input::Attach(attaching) = input {
                attaching
                    .socket
                    .say(Box::new(self.session.farewell(end.farewell())));
            }
        }
        self.socket = None;
        let node = std::mem::replace(&mut self.node, Link::Gone);
        if let (Link::Up(stream), Some(reason)) = (node, end.close) {
            stream
                .close(self.last_request + 1, reason, CLOSE_LIMIT)
                .await;
        }
        if let Some(writing) = self.writing.take() {
            self.claim = Some(writing.await.claim);
        }
        let claim = self
            .claim
            .take()
            .expect("it is held unless it is used to write");
        let ended = match end.record {
            Fate::Remove => {
                self.context.rooms.vacate(claim).await;
                SessionEnd::Left
            }
            Fate::Keep => {
                if let Some(record) = self.record.take() {
                    self.write(claim, record).await;
                }
                SessionEnd::Moved
            }
            Fate::TakenOver => {
                self.context.rooms.let_go(&claim);
                SessionEnd::TakenOver
            }
            Fate::Lost => {
                // If it is not, nobody else would.
                self.context.rooms.vacate(claim).await;
                SessionEnd::Replaced
            }
        };
        for (waiting, answer) in self.await_end {
            let _ = waiting.send(answer);
        }
        self.context.metrics.session_ended(ended);
        tracing::info!(?ended, "session ended");
    }
}

/// Where events come from.
enum Events<'a> {
    Stream(&'a mut NodeStream),
    Attachment(&'a mut Attachment),
    None,
}

impl Events<'_> {
    async fn next(self) -> Happened {
        match self {
            Self::Stream(stream) => Happened::Node(stream.event().await),
            Self::Attachment(attachment) => Happened::Restored(attachment.await),
            Self::None => std::future::pending().await,
        }
    }
}
