//! Carries messages between a participant's WebSocket and its thread, keeps the connection alive,
//! and replaces it when the participant resumes or joins anew; [`super::comeback`] says when.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use livekit_protocol::leave_request::Action;
use livekit_protocol::signal_request::Message as Request;
use livekit_protocol::signal_response::Message as Response;
use livekit_protocol::{
    ClientInfo, ConnectionSettings, JoinRequest, JoinResponse, LeaveRequest, Ping, client_info,
};
use rustls_pki_types::CertificateDer;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval, sleep_until};
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue};

use super::comeback::{ComeBack, Event, Loss, Refusal, Way};
use super::{Join, JoinError};
use crate::generator::{Command, Said, SeatId, Thread};
use crate::signal::{Connect, ConnectError, ReceiveError, SignalClient, Tls};
use crate::stats::Left;
use crate::url::Dialect;
use crate::user::{Layout, Notice, Wish};

/// What livekit-client says of itself.
const VERSION: &str = "2.23.0";
const PROTOCOL: i32 = 17;

/// Said while nobody hears it, and to be said when somebody does. More is forgotten.
const MAX_HELD: usize = 1_024;

/// No message for so long is no error, so the wait for one may be long.
const FOREVER: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(Debug, thiserror::Error)]
pub enum ResumeError {
    #[error("signaling cannot be reached")]
    Connect(#[from] ConnectError),
    #[error("the server does not take us back")]
    Refused(#[from] ReceiveError),
    #[error("it cannot be told where the server is")]
    Place(#[source] Box<JoinError>),
    #[error("the participant is gone")]
    Ended,
}

pub(super) enum Order {
    /// At this URL, if not where it was.
    Resume(Option<String>, oneshot::Sender<Result<(), ResumeError>>),
    /// The connection breaks, without a goodbye.
    Break,
    /// From the beginning, although nothing is lost.
    Rejoin,
}

/// Where a server is.
struct Place {
    address: String,
    tls: Option<Tls>,
    prefix: String,
}

/// Where and as whom to connect.
pub(super) struct Server {
    place: Place,
    roots: Vec<CertificateDer<'static>>,
    trusts_anybody: bool,
    token: String,
    layout: Layout,
    auto_subscribe: bool,
    allow_pause: Option<bool>,
    parameters: Vec<(String, String)>,
    headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) sid: String,
}

impl Place {
    /// `roots`: whom to trust; nothing is asked if they are none.
    fn new(url: &str, roots: Option<&[CertificateDer<'static>]>) -> Result<Self, JoinError> {
        let schemes = [
            ("ws://", false),
            ("http://", false),
            ("wss://", true),
            ("https://", true),
        ];
        let known = schemes
            .iter()
            .find_map(|(scheme, secure)| Some((url.strip_prefix(scheme)?, *secure)));
        let (rest, secure) = known.ok_or_else(|| JoinError::Url(url.to_owned()))?;
        let tls = match (secure, roots) {
            (true, Some(roots)) => Some(Tls::trusting(roots)?),
            (true, None) => Some(Tls::trusting_anybody()?),
            (false, _) => None,
        };
        let (address, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let address = match address.contains(':') {
            true => address.to_owned(),
            false => format!("{address}:{}", if secure { 443 } else { 80 }),
        };
        Ok(Self {
            address,
            tls,
            prefix: match prefix.trim_end_matches('/') {
                "" => String::new(),
                prefix => format!("/{prefix}"),
            },
        })
    }
}

impl Server {
    pub(super) fn new(join: &Join) -> Result<Self, JoinError> {
        let region = join.region.clone().into_iter();
        let headers = join.headers.iter().map(|(name, value)| {
            let wrong = || JoinError::Header(format!("{name}: {value}"));
            let parsed = (HeaderName::try_from(name), HeaderValue::try_from(value));
            let (Ok(name), Ok(value)) = parsed else {
                return Err(wrong());
            };
            Ok((name, value))
        });
        Ok(Self {
            place: Place::new(&join.url, (!join.trusts_anybody).then_some(&join.roots[..]))?,
            roots: join.roots.clone(),
            trusts_anybody: join.trusts_anybody,
            token: join.token.clone(),
            layout: join.layout,
            auto_subscribe: join.auto_subscribe,
            allow_pause: join.allow_pause,
            parameters: region.map(|it| ("region".to_owned(), it)).collect(),
            headers: headers.collect::<Result<_, _>>()?,
            sid: String::new(),
        })
    }

    /// `resume`: as whom.
    pub(super) fn connect(&self, resume: Option<&str>) -> Connect {
        let dialect = match self.layout {
            Layout::Single => Dialect::single(JoinRequest {
                client_info: Some(ClientInfo {
                    sdk: client_info::Sdk::Js.into(),
                    version: VERSION.to_owned(),
                    protocol: PROTOCOL,
                    ..Default::default()
                }),
                connection_settings: Some(ConnectionSettings {
                    auto_subscribe: self.auto_subscribe,
                    subscriber_allow_pause: self.allow_pause,
                    ..Default::default()
                }),
                reconnect: resume.is_some(),
                participant_sid: resume.unwrap_or_default().to_owned(),
                ..Default::default()
            }),
            Layout::Dual => {
                let auto = if self.auto_subscribe { "1" } else { "0" };
                let mut parameters = vec![
                    ("sdk", "js".to_owned()),
                    ("version", VERSION.to_owned()),
                    ("protocol", PROTOCOL.to_string()),
                    ("auto_subscribe", auto.to_owned()),
                ];
                if let Some(allow) = self.allow_pause {
                    let allow = if allow { "1" } else { "0" };
                    parameters.push(("subscriber_allow_pause", allow.to_owned()));
                }
                if let Some(sid) = resume {
                    parameters.push(("reconnect", "1".to_owned()));
                    parameters.push(("sid", sid.to_owned()));
                }
                Dialect::dual(parameters)
            }
        };
        let Place {
            address,
            tls,
            prefix,
        } = &self.place;
        let mut connect = Connect::new(address.clone(), self.token.clone(), dialect);
        connect.prefix.clone_from(prefix);
        connect.tls.clone_from(tls);
        connect.parameters.clone_from(&self.parameters);
        connect.headers.clone_from(&self.headers);
        connect
    }
}

pub(super) struct Pump {
    pub(super) thread: Arc<Thread>,
    pub(super) seat: SeatId,
    pub(super) server: Server,
    pub(super) ping_every: Duration,
    /// A server that says nothing for so long is not there.
    pub(super) silent_after: Duration,
    pub(super) patience: Duration,
    pub(super) comeback: ComeBack,
    pub(super) events: mpsc::Sender<Event>,
}

/// What an attempt to come back led to.
enum Admitted {
    Resumed(SignalClient),
    Joined(SignalClient, Box<JoinResponse>),
}

impl Pump {
    pub(super) async fn run(
        mut self,
        client: SignalClient,
        mut said: mpsc::UnboundedReceiver<Said>,
        mut orders: mpsc::Receiver<Order>,
    ) {
        let mut pings = interval(self.ping_every);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut client = Some(client);
        let mut heard = Instant::now();
        let mut held = VecDeque::new();
        loop {
            // 1. What there is to tell, and to try.
            while let Some(event) = self.comeback.poll_event() {
                if let (Event::Back(_), Some(client)) = (&event, &mut client) {
                    for request in held.drain(..) {
                        let _ = client.send(request).await;
                    }
                }
                // Whoever watches is behind by many outages: he learns of the next.
                let _ = self.events.try_send(event);
            }
            if let Some(way) = self.comeback.handle_timeout(Instant::now()) {
                client = None;
                let attempt = tokio::select! {
                    attempt = self.attempt(way) => attempt,
                    () = ended(&mut said, &mut held) => return,
                };
                match attempt {
                    Ok(admitted) => client = Some(self.admit(admitted, &mut said, &mut held)),
                    Err(refusal) => self.comeback.handle_refusal(&refusal, Instant::now()),
                }
                heard = Instant::now();
                continue;
            }
            // 2. What comes.
            let due = self.comeback.poll_timeout();
            tokio::select! {
                message = next(&mut client) => {
                    heard = Instant::now();
                    match message {
                        Ok(message) => self.handle_message(message),
                        Err(error) => {
                            client = None;
                            self.handle_signal_lost(error.to_string());
                        }
                    }
                },
                said = said.recv() => match said {
                    Some(Said::Request(request)) => {
                        if self.comeback.holds() && !is_about_connections(&request) {
                            hold(&mut held, *request);
                        } else if let Some(client) = &mut client {
                            // What cannot be sent is lost with the connection, as the next read tells.
                            let _ = client.send(*request).await;
                        }
                    }
                    Some(Said::Notice(notice)) => self.handle_notice(notice),
                    None => break,
                },
                Some(order) = orders.recv() => match order {
                    Order::Resume(url, reply) => {
                        // Without a goodbye, as when a network changes.
                        client = None;
                        let outcome = match Box::pin(self.resume(url)).await {
                            Ok(fresh) => {
                                (client, heard) = (Some(fresh), Instant::now());
                                self.wish_resume();
                                Ok(())
                            }
                            Err(error) => Err(error),
                        };
                        let failed = outcome.is_err();
                        let _ = reply.send(outcome);
                        if failed {
                            return;
                        }
                    }
                    Order::Break => {
                        client = None;
                        self.handle_loss(Loss::Asked(Way::Resume));
                    }
                    Order::Rejoin => self.handle_loss(Loss::Asked(Way::Rejoin)),
                },
                _ = pings.tick() => if let Some(lively) = &mut client {
                    let ping = Ping { timestamp: 1, rtt: 0 };
                    let _ = lively.send(Request::PingReq(ping)).await;
                    if heard.elapsed() > self.silent_after && self.comeback.may_come_back() {
                        client = None;
                        self.handle_signal_lost("the server does not answer".to_owned());
                    }
                },
                () = sleep_until(due.unwrap_or_else(Instant::now).into()), if due.is_some() => {}
            }
        }
        if let Some(client) = client {
            let _ = client.close().await;
        }
    }

    fn handle_message(&mut self, message: Response) {
        match &message {
            Response::RefreshToken(token) => {
                self.server.token.clone_from(token);
                return;
            }
            Response::Leave(leave) => {
                self.handle_loss(Loss::Told(left(leave.action()), leave.reason()));
            }
            _ => {}
        }
        self.thread
            .send(Command::Signal(self.seat, Box::new(message)));
    }

    fn handle_signal_lost(&mut self, why: String) {
        self.thread
            .send(Command::SignalLost(self.seat, why.clone()));
        self.handle_loss(Loss::Signal(why));
    }

    fn handle_loss(&mut self, loss: Loss) {
        self.comeback.handle_loss(loss, Instant::now());
    }

    fn handle_notice(&mut self, notice: Notice) {
        match notice {
            Notice::Flowing => self.comeback.handle_flowing(Instant::now()),
            Notice::Broken(why) => self.handle_loss(Loss::Media(why.to_owned())),
        }
    }

    /// Asks the server to be let in again.
    async fn attempt(&self, way: Way) -> Result<Admitted, Refusal> {
        let resumes = way == Way::Resume;
        if !resumes {
            let (reply, answer) = oneshot::channel();
            self.thread.send(Command::Rejoin(self.seat, reply));
            match answer.await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return Err(Refusal::Unreachable),
            }
        }
        let sid = self.server.sid.as_str();
        let connect = self.server.connect(resumes.then_some(sid));
        let client = SignalClient::connect(&connect, self.patience).await;
        let mut client = client.map_err(|error| match error {
            ConnectError::Refused {
                status: 401 | 403, ..
            } => Refusal::Forbidden,
            _ => Refusal::Unreachable,
        })?;
        match client.next(self.patience).await {
            Ok(Response::Join(joined)) if !resumes => {
                Ok(Admitted::Joined(client, Box::new(joined)))
            }
            Ok(Response::Reconnect(_)) if resumes => Ok(Admitted::Resumed(client)),
            Ok(Response::Leave(leave)) => Err(refusal(&leave)),
            Ok(_) => Err(Refusal::Unknown),
            Err(_) => Err(Refusal::Unreachable),
        }
    }

    fn admit(
        &mut self,
        admitted: Admitted,
        said: &mut mpsc::UnboundedReceiver<Said>,
        held: &mut VecDeque<Request>,
    ) -> SignalClient {
        let client = match admitted {
            Admitted::Resumed(client) => {
                self.wish_resume();
                client
            }
            Admitted::Joined(client, joined) => {
                // All of it is about a session that is no more, and what is wished is wished again.
                held.clear();
                while said.try_recv().is_ok() {}
                let me = joined.participant.as_ref();
                self.server.sid = me.map(|it| it.sid.clone()).unwrap_or_default();
                let joined = Response::Join(*joined);
                self.thread
                    .send(Command::Signal(self.seat, Box::new(joined)));
                client
            }
        };
        self.comeback.handle_admitted(Instant::now());
        client
    }

    fn wish_resume(&self) {
        self.thread
            .send(Command::Wish(self.seat, Box::new(Wish::Resume)));
    }

    async fn resume(&mut self, url: Option<String>) -> Result<SignalClient, ResumeError> {
        if let Some(url) = url {
            let Server {
                roots,
                trusts_anybody,
                ..
            } = &self.server;
            let place = Place::new(&url, (!trusts_anybody).then_some(&roots[..]));
            self.server.place = place.map_err(|error| ResumeError::Place(Box::new(error)))?;
        }
        let connect = self.server.connect(Some(&self.server.sid));
        let mut client = SignalClient::connect(&connect, self.patience).await?;
        client.resumed(self.patience).await?;
        Ok(client)
    }
}

async fn next(client: &mut Option<SignalClient>) -> Result<Response, ReceiveError> {
    match client {
        Some(client) => client.next(FOREVER).await,
        None => std::future::pending().await,
    }
}

/// Until the participant's seat is gone. What it says meanwhile is held.
async fn ended(said: &mut mpsc::UnboundedReceiver<Said>, held: &mut VecDeque<Request>) {
    while let Some(said) = said.recv().await {
        if let Said::Request(request) = said
            && !is_about_connections(&request)
        {
            hold(held, *request);
        }
    }
}

fn hold(held: &mut VecDeque<Request>, request: Request) {
    if held.len() < MAX_HELD {
        held.push_back(request);
    }
}

/// What a session that goes on begins with, or what is worth nothing to it.
fn is_about_connections(request: &Request) -> bool {
    matches!(
        request,
        Request::SyncState(_)
            | Request::Offer(_)
            | Request::Answer(_)
            | Request::Trickle(_)
            | Request::Simulate(_)
            | Request::Leave(_)
    )
}

fn refusal(leave: &LeaveRequest) -> Refusal {
    match leave.action() {
        Action::Disconnect => Refusal::Forbidden,
        Action::Resume => Refusal::Unreachable,
        Action::Reconnect => Refusal::Unknown,
    }
}

fn left(action: Action) -> Left {
    match action {
        Action::Disconnect => Left::Over,
        Action::Resume => Left::Resume,
        Action::Reconnect => Left::Rejoin,
    }
}
