//! Requests to a Consul agent over its HTTP API, and what can be wrong with the answers.
//!
//! Knows paths, headers and bytes. What they mean is its callers' business, and so are retries.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Certificate, ClientBuilder, Method, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::config::{Address, Config, Identity, Login, Secret, Tls, Token};

/// What an agent may take for an answer that it has no reason to hold back. Longer: a record is not
/// fed in time beside an agent that hangs. Shorter: a busy agent counts as lost.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// Connections are to a neighbour.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);

/// More than a thousand nodes of 4 KiB each.
const MAX_ANSWER: usize = 16 << 20;

/// An error's text is cut off here: it is for a line of a log.
const MAX_REASON: usize = 200;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the Consul agent does not answer")]
    Unreachable(#[source] reqwest::Error),
    /// 403: the token is unknown, or may not do this.
    #[error("Consul denies it to this token: {0}")]
    Denied(String),
    #[error("Consul answers {status}: {reason}")]
    Refused { status: u16, reason: String },
    #[error("Consul's answer cannot be understood: {0}")]
    Unreadable(String),
    #[error("cannot read the token in {}", path.display())]
    Token {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("the token in {} has characters that a token cannot have", path.display())]
    InvalidToken { path: PathBuf },
}

/// Why there can be no client.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot read {}", path.display())]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{} is not usable PEM", path.display())]
    Pem {
        path: PathBuf,
        source: reqwest::Error,
    },
    #[error("{} has no certificate", path.display())]
    NoCertificate { path: PathBuf },
    #[error(transparent)]
    Token(Error),
    #[error("cannot set up connections to Consul")]
    Client(#[source] reqwest::Error),
}

/// What came back, unless it was an error.
#[derive(Debug)]
pub(super) struct Answer {
    /// `false`: 404.
    pub(super) found: bool,
    /// `X-Consul-Index`, 0 without.
    pub(super) index: u64,
    body: Vec<u8>,
}

impl Answer {
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.body).map_err(|error| Error::Unreadable(error.to_string()))
    }
}

/// One request; nothing is sent before it is given to [`Client::send`].
#[derive(Debug)]
pub(super) struct Request {
    method: Method,
    path: Vec<String>,
    query: Vec<(&'static str, String)>,
    body: Vec<u8>,
    within: Duration,
}

impl Request {
    /// `path` without a leading slash.
    pub(super) fn get(path: &str) -> Self {
        Self::new(Method::GET, path)
    }

    pub(super) fn put(path: &str) -> Self {
        Self::new(Method::PUT, path)
    }

    fn new(method: Method, path: &str) -> Self {
        Self {
            method,
            path: path.split('/').map(str::to_owned).collect(),
            query: Vec::new(),
            body: Vec::new(),
            within: ANSWER_WITHIN,
        }
    }

    pub(super) fn query(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    /// Lets the agent hold the answer back until something is newer than `index`.
    pub(super) fn wait(mut self, index: u64, wait: Duration) -> Self {
        // Agents add up to a sixteenth, so that not all come back at the same time.
        self.within = wait * 17 / 16 + Duration::from_secs(5);
        self.query("index", index.to_string())
            .query("wait", format!("{}ms", wait.as_millis()))
    }

    pub(super) fn within(mut self, limit: Duration) -> Self {
        self.within = limit;
        self
    }

    pub(super) fn json(mut self, body: &impl Serialize) -> Self {
        self.body = serde_json::to_vec(body).expect("text and numbers have a form in JSON");
        self
    }

    pub(super) fn text(mut self, body: &str) -> Self {
        self.body = body.as_bytes().to_vec();
        self
    }
}

/// Cheap to copy; copies share connections.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    token: Token,
    login: Option<Login>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("base", &self.base.as_str())
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Reads the files of the configuration; connects to nobody yet.
    ///
    /// # Errors
    /// Which file cannot be used.
    pub async fn new(config: &Config) -> Result<Self, StartError> {
        // A proxy of the environment is for the way out, not for the agent next door.
        let mut builder = reqwest::Client::builder()
            .no_proxy()
            .redirect(Policy::none())
            .connect_timeout(CONNECT_WITHIN);
        let base = match &config.address {
            Address::Unix(path) => {
                builder = builder.unix_socket(path.clone()).tls_certs_only([]);
                Url::parse("http://localhost").expect("is a URL")
            }
            Address::Http(url) if url.scheme() == "https" => {
                let mut url = url.clone();
                builder = with_tls(builder, &config.tls).await?;
                if let Some(name) = &config.tls.server_name {
                    builder = builder.dns_resolver(Arc::new(Alias::of(&url)));
                    url.set_host(Some(name))
                        .expect("a name of the configuration is a host name");
                }
                url
            }
            // Else the system's certificates would be read, which may not be there.
            Address::Http(url) => {
                builder = builder.tls_certs_only([]);
                url.clone()
            }
        };
        let client = Self {
            http: builder.build().map_err(StartError::Client)?,
            base,
            token: config.token.clone(),
            login: config.login.clone(),
        };
        client.authorisation().await.map_err(StartError::Token)?;
        Ok(client)
    }

    pub(super) async fn send(&self, request: Request) -> Result<Answer, Error> {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .expect("http has paths")
            .clear()
            .push("v1")
            .extend(&request.path);
        if !request.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&request.query);
        }
        let mut sent = self
            .http
            .request(request.method, url)
            .headers(self.authorisation().await?)
            .timeout(request.within)
            .body(request.body);
        if let Some(login) = &self.login {
            sent = sent.basic_auth(&login.user, Some(login.password.expose()));
        }
        let unreachable = |error: reqwest::Error| Error::Unreachable(error.without_url());
        let mut response = sent.send().await.map_err(unreachable)?;
        let status = response.status();
        let index = index(response.headers());
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if body.len() + chunk.len() > MAX_ANSWER {
                let reason = format!("it has more than {MAX_ANSWER} bytes");
                return Err(Error::Unreadable(reason));
            }
            body.extend_from_slice(&chunk);
        }
        match status {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => {}
            StatusCode::FORBIDDEN => return Err(Error::Denied(reason(&body))),
            _ => {
                return Err(Error::Refused {
                    status: status.as_u16(),
                    reason: reason(&body),
                });
            }
        }
        Ok(Answer {
            found: status == StatusCode::OK,
            index,
            body,
        })
    }

    async fn authorisation(&self) -> Result<HeaderMap, Error> {
        let mut headers = HeaderMap::new();
        let token = match &self.token {
            Token::Anonymous => return Ok(headers),
            Token::Given(token) => token.clone(),
            Token::File(path) => token_in(path).await?,
        };
        let mut value = HeaderValue::from_str(token.expose()).map_err(|_| Error::InvalidToken {
            path: match &self.token {
                Token::File(path) => path.clone(),
                Token::Given(_) | Token::Anonymous => PathBuf::new(),
            },
        })?;
        value.set_sensitive(true);
        headers.insert(HeaderName::from_static("x-consul-token"), value);
        Ok(headers)
    }
}

async fn token_in(path: &Path) -> Result<Secret, Error> {
    let text = tokio::fs::read_to_string(path).await;
    let text = Zeroizing::new(text.map_err(|source| Error::Token {
        path: path.to_owned(),
        source,
    })?);
    Ok(Secret::new(text.trim()))
}

fn index(headers: &HeaderMap) -> u64 {
    let index = headers.get("x-consul-index");
    let index = index.and_then(|index| index.to_str().ok()?.parse().ok());
    index.unwrap_or(0)
}

fn reason(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(MAX_REASON)]);
    text.trim().to_owned()
}

async fn with_tls(mut builder: ClientBuilder, tls: &Tls) -> Result<ClientBuilder, StartError> {
    let mut authorities = Vec::new();
    if let Some(path) = &tls.authority_file {
        authorities.extend(certificates(path).await?);
    }
    if let Some(folder) = &tls.authority_folder {
        for path in files(folder).await? {
            authorities.extend(certificates(&path).await?);
        }
    }
    if tls.authority_file.is_some() || tls.authority_folder.is_some() {
        builder = builder.tls_certs_only(authorities);
    }
    if let Some(Identity { certificate, key }) = &tls.identity {
        let mut pem = Zeroizing::new(read(certificate).await?);
        pem.push(b'\n');
        pem.extend_from_slice(&Zeroizing::new(read(key).await?));
        let identity = reqwest::Identity::from_pem(&pem).map_err(|source| StartError::Pem {
            path: certificate.clone(),
            source,
        })?;
        builder = builder.identity(identity);
    }
    Ok(builder.tls_danger_accept_invalid_certs(!tls.verify))
}

async fn certificates(path: &Path) -> Result<Vec<Certificate>, StartError> {
    let path = path.to_owned();
    match Certificate::from_pem_bundle(&read(&path).await?) {
        Ok(certificates) if certificates.is_empty() => Err(StartError::NoCertificate { path }),
        Ok(certificates) => Ok(certificates),
        Err(source) => Err(StartError::Pem { path, source }),
    }
}

/// The files of a folder, by name.
async fn files(folder: &Path) -> Result<Vec<PathBuf>, StartError> {
    let failed = |source| StartError::Read {
        path: folder.to_owned(),
        source,
    };
    let mut files = Vec::new();
    let mut entries = tokio::fs::read_dir(folder).await.map_err(failed)?;
    while let Some(entry) = entries.next_entry().await.map_err(failed)? {
        if entry.path().is_file() {
            files.push(entry.path());
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(StartError::NoCertificate {
            path: folder.to_owned(),
        });
    }
    Ok(files)
}

async fn read(path: &Path) -> Result<Vec<u8>, StartError> {
    let read = tokio::fs::read(path).await;
    read.map_err(|source| StartError::Read {
        path: path.to_owned(),
        source,
    })
}

/// Finds the agent's host under any name: the name in the URL is the one in the certificate.
struct Alias {
    host: String,
    port: u16,
}

impl Alias {
    fn of(url: &Url) -> Self {
        let host = url.host_str().expect("an address has a host");
        Self {
            host: host.trim_matches(['[', ']']).to_owned(),
            port: url.port_or_known_default().expect("https has a port"),
        }
    }
}

impl Resolve for Alias {
    fn resolve(&self, _: Name) -> Resolving {
        let host = (self.host.clone(), self.port);
        Box::pin(async move {
            let addresses: Vec<SocketAddr> = tokio::net::lookup_host(host).await?.collect();
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}
