//! HTTP for scripts: what it takes to talk to an application's own server.

use std::collections::BTreeMap;
use std::sync::mpsc::sync_channel;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use reqwest::redirect::Policy;
use serde::Deserialize;
use serde_json::json;
use tokio::runtime::Handle;

use crate::options::duration;

/// Unless a request says otherwise.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Redirections that are followed, as k6's `maxRedirects`.
const REDIRECTS: usize = 10;
/// Clients for other numbers of redirections, at most.
const CLIENTS: usize = 32;
/// A longer answer is an error: scripts hold little.
const LONGEST_BODY: usize = 8 << 20;

/// Clients of this process; the requests of all virtual users share its connections.
pub struct Http {
    agent: String,
    trusts_anybody: bool,
    /// Each follows so many redirections: reqwest has that of a client, scripts of a request. Locked for
    /// a look, or to make another.
    clients: Mutex<BTreeMap<usize, reqwest::Client>>,
    handle: Handle,
}

#[derive(Debug, thiserror::Error)]
#[error("no HTTP client can be made")]
pub struct HttpError(#[from] reqwest::Error);

pub(crate) struct Request {
    method: reqwest::Method,
    url: String,
    body: Option<Vec<u8>>,
    params: Params,
    timeout: Duration,
    redirects: usize,
    wanted: Wanted,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Params {
    headers: BTreeMap<String, serde_json::Value>,
    timeout: Option<serde_json::Value>,
    redirects: Option<serde_json::Value>,
    response_type: Option<String>,
}

/// What a script wants of the body.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Wanted {
    #[default]
    Text,
    Binary,
    Nothing,
}

/// What came, or why nothing did.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answer {
    method: String,
    url: String,
    /// Where it came from, after redirections.
    final_url: String,
    status: u16,
    status_text: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
    wanted: Wanted,
    /// Empty if there was an answer.
    error: String,
    error_code: u32,
    /// Milliseconds.
    pub(crate) duration: f64,
    waiting: f64,
    pub(crate) sent: u64,
    pub(crate) received: u64,
}

impl Http {
    /// Its requests run on the runtime of whoever calls this.
    ///
    /// # Errors
    /// When the system's certificates cannot be read.
    pub fn new(user_agent: &str, trusts_anybody: bool) -> Result<Self, HttpError> {
        let client = client(user_agent, trusts_anybody, REDIRECTS)?;
        Ok(Self {
            agent: user_agent.to_owned(),
            trusts_anybody,
            clients: Mutex::new(BTreeMap::from([(REDIRECTS, client)])),
            handle: Handle::current(),
        })
    }

    fn client(&self, request: &Request) -> Result<reqwest::Client, String> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = clients.get(&request.redirects) {
            return Ok(known.clone());
        }
        if clients.len() == CLIENTS {
            return Err(format!(
                "requests have {CLIENTS} different values of redirects"
            ));
        }
        let made = client(&self.agent, self.trusts_anybody, request.redirects);
        let made = made.map_err(|error| crate::script::chain(&error))?;
        clients.insert(request.redirects, made.clone());
        Ok(made)
    }

    /// Stops the thread until the answer is there.
    pub(crate) fn blocking(&self, request: Request) -> Result<Answer, String> {
        let (reply, answer) = sync_channel(1);
        let client = self.client(&request)?;
        self.handle.spawn(async move {
            let _ = reply.send(exchange(&client, request).await);
        });
        answer.recv().map_err(|_| "the test is over".to_owned())
    }

    pub(crate) async fn send(&self, request: Request) -> Result<Answer, String> {
        let client = self.client(&request)?;
        let sent = self
            .handle
            .spawn(async move { exchange(&client, request).await });
        sent.await.map_err(|_| "the test is over".to_owned())
    }
}

impl Request {
    pub(crate) fn new(
        method: String,
        url: String,
        body: Option<Vec<u8>>,
        params: &str,
    ) -> Result<Self, String> {
        let method = reqwest::Method::from_bytes(method.as_bytes())
            .map_err(|_| format!("'{method}' is no HTTP method"))?;
        let params: Params = serde_json::from_str(params)
            .map_err(|error| format!("params of the request: {error}"))?;
        let timeout = match &params.timeout {
            None => TIMEOUT,
            Some(given) => timeout(given)
                .ok_or_else(|| format!("timeout of the request: {given} is no duration"))?,
        };
        let redirects = match &params.redirects {
            None => REDIRECTS,
            Some(given) => given
                .as_u64()
                .and_then(|count| usize::try_from(count).ok())
                .ok_or_else(|| format!("redirects of the request: {given} is no number"))?,
        };
        let wanted = match params.response_type.as_deref() {
            None | Some("text") => Wanted::Text,
            Some("binary") => Wanted::Binary,
            Some("none") => Wanted::Nothing,
            Some(other) => {
                return Err(format!(
                    "responseType of the request: text, binary or none, not {other}"
                ));
            }
        };
        Ok(Self {
            method,
            url,
            body,
            params,
            timeout,
            redirects,
            wanted,
        })
    }
}

/// The answer that redirects further than it may is the answer, as in k6.
fn client(
    agent: &str,
    trusts_anybody: bool,
    redirects: usize,
) -> Result<reqwest::Client, reqwest::Error> {
    let policy = Policy::custom(move |attempt| match attempt.previous().len() > redirects {
        true => attempt.stop(),
        false => attempt.follow(),
    });
    reqwest::Client::builder()
        .user_agent(agent.to_owned())
        .danger_accept_invalid_certs(trusts_anybody)
        .redirect(policy)
        .build()
}

/// As scripts know names of headers: `Content-Type`.
fn canonical(name: &str) -> String {
    let word = |word: &str| {
        let (first, rest) = word.split_at(word.len().min(1));
        first.to_ascii_uppercase() + rest
    };
    let words: Vec<String> = name.split('-').map(word).collect();
    words.join("-")
}

fn timeout(given: &serde_json::Value) -> Option<Duration> {
    match given {
        serde_json::Value::Number(number) => duration::from_millis(number.as_f64()?).ok(),
        serde_json::Value::String(text) => duration::parse(text).ok(),
        _ => None,
    }
}

async fn exchange(client: &reqwest::Client, request: Request) -> Answer {
    let mut answer = Answer {
        method: request.method.to_string(),
        url: request.url.clone(),
        final_url: request.url.clone(),
        wanted: request.wanted,
        sent: request.body.as_ref().map_or(0, |body| body.len() as u64),
        ..Answer::default()
    };
    let began = Instant::now();
    let mut building = client
        .request(request.method, &request.url)
        .timeout(request.timeout);
    for (name, value) in &request.params.headers {
        let value = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        building = building.header(name, value);
    }
    if let Some(body) = request.body {
        building = building.body(body);
    }
    match building.send().await {
        Ok(response) => {
            answer.waiting = began.elapsed().as_secs_f64() * 1_000.0;
            answer.read(response).await;
        }
        Err(error) => answer.failed(&error),
    }
    answer.duration = began.elapsed().as_secs_f64() * 1_000.0;
    answer
}

impl Answer {
    async fn read(&mut self, mut response: reqwest::Response) {
        let status = response.status();
        self.status = status.as_u16();
        self.status_text = status.to_string();
        self.final_url = response.url().to_string();
        for (name, value) in response.headers() {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            self.headers.insert(canonical(name.as_str()), value);
        }
        let mut body = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() <= LONGEST_BODY => {
                    body.extend_from_slice(&chunk)
                }
                Ok(Some(_)) => {
                    self.error = format!("the answer is longer than {LONGEST_BODY} bytes");
                    self.error_code = 1_000;
                    break;
                }
                Ok(None) => break,
                Err(error) => {
                    self.failed(&error);
                    break;
                }
            }
        }
        self.received = body.len() as u64;
        if self.wanted != Wanted::Nothing {
            self.body = body;
        }
    }

    /// The codes are k6's, as far as reasons can be told apart.
    fn failed(&mut self, error: &reqwest::Error) {
        self.error = crate::script::chain(error);
        self.error_code = match error {
            error if error.is_timeout() => 1_050,
            error if error.is_builder() => 1_020,
            error if error.is_connect() => 1_210,
            _ => 1_000,
        };
    }

    /// As k6: what is not an error of the client's or the server's.
    pub(crate) fn is_expected(&self) -> bool {
        (200..400).contains(&self.status)
    }

    /// Why there was no answer.
    pub(crate) fn failure(&self) -> Option<String> {
        let why = || format!("{} {}: {}", self.method, self.url, self.error);
        (self.error_code > 0).then(why)
    }

    pub(crate) fn tags(&self) -> BTreeMap<String, String> {
        let mut tags = BTreeMap::from([
            ("method".to_owned(), self.method.clone()),
            ("status".to_owned(), self.status.to_string()),
            ("url".to_owned(), self.url.clone()),
            ("name".to_owned(), self.url.clone()),
            (
                "expected_response".to_owned(),
                self.is_expected().to_string(),
            ),
        ]);
        if self.error_code > 0 {
            tags.insert("error".to_owned(), self.error.clone());
            tags.insert("error_code".to_owned(), self.error_code.to_string());
        }
        tags
    }

    /// The body, if it is not told with the rest.
    pub(crate) fn take_binary(&mut self) -> Option<Vec<u8>> {
        (self.wanted == Wanted::Binary).then(|| std::mem::take(&mut self.body))
    }

    pub(crate) fn to_json(&self) -> String {
        let body = match self.wanted {
            Wanted::Text => Some(String::from_utf8_lossy(&self.body)),
            Wanted::Binary | Wanted::Nothing => None,
        };
        json!({
            "status": self.status,
            "status_text": self.status_text,
            "url": self.final_url,
            "headers": self.headers,
            "body": body,
            "error": self.error,
            "error_code": self.error_code,
            "timings": {
                "duration": self.duration,
                "waiting": self.waiting,
                "receiving": (self.duration - self.waiting).max(0.0),
            },
            "request": { "method": self.method, "url": self.url },
        })
        .to_string()
    }
}
