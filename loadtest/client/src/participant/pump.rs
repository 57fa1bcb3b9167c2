//! Carries messages between a participant's WebSocket and its thread, keeps the connection alive,
//! and replaces it when the participant resumes.

use std::sync::Arc;
use std::time::Duration;

use livekit_protocol::signal_request::Message as Request;
use livekit_protocol::signal_response::Message as Response;
use livekit_protocol::{ClientInfo, ConnectionSettings, JoinRequest, Ping, client_info};
use rustls_pki_types::CertificateDer;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval};
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue};

use super::{Join, JoinError};
use crate::generator::{Command, SeatId, Thread};
use crate::signal::{Connect, ConnectError, ReceiveError, SignalClient, Tls};
use crate::url::Dialect;
use crate::user::{Layout, Wish};

/// What livekit-client says of itself.
const VERSION: &str = "2.23.0";
const PROTOCOL: i32 = 17;

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
    token: String,
    layout: Layout,
    auto_subscribe: bool,
    allow_pause: Option<bool>,
    parameters: Vec<(String, String)>,
    headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) sid: String,
}

impl Place {
    fn new(url: &str, roots: &[CertificateDer<'static>]) -> Result<Self, JoinError> {
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
        let tls = match secure {
            true => Some(Tls::trusting(roots)?),
            false => None,
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
            place: Place::new(&join.url, &join.roots)?,
            roots: join.roots.clone(),
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
    pub(super) patience: Duration,
}

impl Pump {
    pub(super) async fn run(
        mut self,
        mut client: SignalClient,
        mut requests: mpsc::UnboundedReceiver<Request>,
        mut orders: mpsc::Receiver<Order>,
    ) {
        let mut pings = interval(self.ping_every);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut lost = false;
        loop {
            tokio::select! {
                message = client.next(FOREVER), if !lost => match message {
                    Ok(Response::RefreshToken(token)) => self.server.token = token,
                    Ok(message) => {
                        self.thread.send(Command::Signal(self.seat, Box::new(message)));
                    }
                    Err(error) => {
                        lost = true;
                        self.thread.send(Command::SignalLost(self.seat, error.to_string()));
                    }
                },
                request = requests.recv() => match request {
                    // What cannot be sent is lost with the connection, as the next read tells.
                    Some(request) => { let _ = client.send(request).await; }
                    None => break,
                },
                Some(order) = orders.recv() => {
                    let Order::Resume(url, reply) = order;
                    // Without a goodbye, as when a network changes.
                    drop(client);
                    let resumed = self.resume(url).await;
                    let (fresh, outcome) = match resumed {
                        Ok(fresh) => (fresh, Ok(())),
                        Err(error) => {
                            let _ = reply.send(Err(error));
                            return;
                        }
                    };
                    (client, lost) = (fresh, false);
                    self.thread.send(Command::Wish(self.seat, Box::new(Wish::Resume)));
                    let _ = reply.send(outcome);
                },
                _ = pings.tick(), if !lost => {
                    let ping = Ping { timestamp: 1, rtt: 0 };
                    let _ = client.send(Request::PingReq(ping)).await;
                }
            }
        }
        let _ = client.close().await;
    }

    async fn resume(&mut self, url: Option<String>) -> Result<SignalClient, ResumeError> {
        if let Some(url) = url {
            let place = Place::new(&url, &self.server.roots);
            self.server.place = place.map_err(|error| ResumeError::Place(Box::new(error)))?;
        }
        let connect = self.server.connect(Some(&self.server.sid));
        let mut client = SignalClient::connect(&connect, self.patience).await?;
        client.resumed(self.patience).await?;
        Ok(client)
    }
}
