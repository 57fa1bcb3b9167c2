//! Where Redis is and how to speak to it, checked before anything connects.
//!
//! No message and no `Debug` of this holds a password, nor a part of the URL that could be one.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use redis::io::tcp::TcpSettings;
use redis::{
    Client, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, RedisError, TlsCertificates,
};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use url::Url;

/// What keys begin with unless a deployment says otherwise.
pub const DEFAULT_PREFIX: &str = "pipemesh";

#[derive(Debug, thiserror::Error)]
pub enum InvalidConfig {
    #[error("the URL of Redis is none: {0}")]
    Syntax(url::ParseError),
    #[error("the URL of Redis has to begin with redis://, rediss:// or unix:///")]
    Scheme,
    #[error("the URL of Redis names no host")]
    Host,
    #[error("the URL of Redis has the port 0")]
    Port,
    #[error(
        "the URL of Redis has a user without a password; it is redis://user:password@host:port"
    )]
    Password,
    #[error(
        "what follows the host in the URL of Redis is not the number of a database; \
         in a password, '/' is written %2F"
    )]
    Database,
    #[error(
        "the URL of Redis has a {0}, which means nothing there; \
         in a password, '?' is written %3F and '#' is written %23"
    )]
    Extra(&'static str),
    #[error("the URL of Redis has a parameter other than db, user and pass")]
    Parameter,
    #[error("the URL of Redis: {0}")]
    Client(RedisError),
    #[error("a certificate authority is given, but the URL of Redis does not begin with rediss://")]
    AuthorityWithoutTls,
    #[error("the certificate authority of Redis cannot be read from {path}: {error}")]
    Authority { path: PathBuf, error: io::Error },
    #[error("the certificate authority of Redis in {path} is not usable: {reason}")]
    Certificate { path: PathBuf, reason: String },
    #[error(
        "the key prefix {0:?} is not one: 1 to 64 letters, digits, '-', '_', '.' and ':' are allowed"
    )]
    Prefix(String),
}

/// One Redis, and what our keys there begin with.
#[derive(Clone)]
pub struct RedisConfig {
    pub(super) client: Client,
    pub(super) prefix: String,
}

impl RedisConfig {
    /// `url`: `redis://[user:password@]host[:port][/database]`, `rediss://…` for TLS, or
    /// `unix:///path[?db=…&user=…&pass=…]`. `authority`: a PEM file of whom to trust with
    /// `rediss://` instead of the system's authorities.
    ///
    /// # Errors
    /// When something is wrong with it, naming what.
    pub fn new(url: &str, authority: Option<&Path>, prefix: &str) -> Result<Self, InvalidConfig> {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
        if !(1..=64).contains(&prefix.len()) || !prefix.chars().all(legal) {
            return Err(InvalidConfig::Prefix(prefix.to_owned()));
        }
        let url = check(url)?;
        let tls = url.scheme() == "rediss";
        let info = connection_info(url)?;
        let client = match authority {
            Some(_) if !tls => return Err(InvalidConfig::AuthorityWithoutTls),
            Some(path) => Client::build_with_tls(
                info,
                TlsCertificates {
                    client_tls: None,
                    root_cert: Some(read_authority(path)?),
                },
            ),
            None => Client::open(info),
        };
        Ok(Self {
            client: client.map_err(InvalidConfig::Client)?,
            prefix: prefix.to_owned(),
        })
    }

    /// `host:port`, or the path of a socket.
    #[must_use]
    pub fn address(&self) -> String {
        self.client.get_connection_info().addr().to_string()
    }

    pub(super) fn database(&self) -> i64 {
        self.client.get_connection_info().redis_settings().db()
    }
}

impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConfig")
            .field("address", &self.address())
            .field("database", &self.database())
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

/// Refuses what the client would skip or misread. A password with a character that had to be
/// escaped makes any part of the URL a piece of it, so none is repeated.
fn check(url: &str) -> Result<Url, InvalidConfig> {
    let url = Url::parse(url).map_err(InvalidConfig::Syntax)?;
    if url.fragment().is_some() {
        return Err(InvalidConfig::Extra("fragment"));
    }
    match url.scheme() {
        "unix" => {
            let known = |name: &str| matches!(name, "db" | "user" | "pass");
            if url.query_pairs().any(|(name, _)| !known(&name)) {
                return Err(InvalidConfig::Parameter);
            }
            return Ok(url);
        }
        "redis" | "rediss" => {}
        _ => return Err(InvalidConfig::Scheme),
    }
    if url.query().is_some() {
        return Err(InvalidConfig::Extra("query"));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(InvalidConfig::Host);
    }
    if url.port() == Some(0) {
        return Err(InvalidConfig::Port);
    }
    if !url.username().is_empty() && url.password().is_none() {
        return Err(InvalidConfig::Password);
    }
    let database = url.path().trim_start_matches('/');
    if !database.is_empty() && database.parse::<u16>().is_err() {
        return Err(InvalidConfig::Database);
    }
    Ok(url)
}

fn connection_info(url: Url) -> Result<ConnectionInfo, InvalidConfig> {
    let info = url.into_connection_info().map_err(InvalidConfig::Client)?;
    // RESP3, so that a connection can be told of events and answer commands. The client's name is
    // not worth a right that a user would have to be given.
    let settings = info.redis_settings().clone();
    let settings = settings.set_protocol(ProtocolVersion::RESP3);
    Ok(info
        .set_redis_settings(settings.set_skip_set_lib_name())
        .set_tcp_settings(TcpSettings::default().set_nodelay(true)))
}

/// Reads the certificates and sees that each is one, which the client would only say in general.
fn read_authority(path: &Path) -> Result<Vec<u8>, InvalidConfig> {
    let path = path.to_owned();
    let pem = match std::fs::read(&path) {
        Ok(pem) => pem,
        Err(error) => return Err(InvalidConfig::Authority { path, error }),
    };
    let unusable = |reason: String| InvalidConfig::Certificate {
        path: path.clone(),
        reason,
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
        let added = roots.add(certificate);
        added.map_err(|error| unusable(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(unusable("it holds no certificate".to_owned()));
    }
    Ok(pem)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(url: &str) -> Result<RedisConfig, InvalidConfig> {
        RedisConfig::new(url, None, DEFAULT_PREFIX)
    }

    #[test]
    fn urls_are_read() {
        let check = |url: &str, address: &str, user: Option<&str>, pass: Option<&str>, db: i64| {
            let config = config(url).unwrap_or_else(|error| panic!("{url}: {error}"));
            let settings = config.client.get_connection_info().redis_settings();
            assert_eq!(config.address(), address, "{url}");
            assert_eq!((settings.username(), settings.password()), (user, pass));
            assert_eq!(settings.db(), db, "{url}");
            assert!(!format!("{config:?}").contains("s3cret"));
        };
        let (pass, some) = (Some("s3cret/@"), "user:s3cret%2F%40");
        check("redis://redis", "redis:6379", None, None, 0);
        check("redis://10.0.0.1:7000/", "10.0.0.1:7000", None, None, 0);
        check("redis://[::1]:7000/5", "::1:7000", None, None, 5);
        let with_user = format!("rediss://{some}@redis:1/2");
        check(&with_user, "redis:1", Some("user"), pass, 2);
        check("redis://:s3cret%2F%40@redis", "redis:6379", None, pass, 0);
        check("unix:///run/redis.sock", "/run/redis.sock", None, None, 0);
        let socket = "unix:///run/redis.sock?db=1&user=u&pass=s3cret";
        check(socket, "/run/redis.sock", Some("u"), Some("s3cret"), 1);
    }

    #[test]
    fn what_is_wrong_is_named_and_no_password_is_told() {
        let check = |url: &str, expected: &str| {
            let error = config(url).expect_err(url).to_string();
            assert!(error.contains(expected), "{url}: {error}");
            assert!(!error.contains("s3cret"), "{url}: {error}");
        };
        check("", "relative URL without a base");
        check("redis", "relative URL without a base");
        check("http://redis", "begin with redis://");
        check("s3cret:s3cret@redis", "begin with redis://");
        check("redis://", "names no host");
        check("redis:///1", "names no host");
        check("redis://u:s3cret@", "empty host");
        check("redis://redis:70000", "invalid port");
        check("redis://redis:0", "port 0");
        check("redis://0.0.0.0", "wildcard");
        check("redis://u:s3cret/x@redis", "invalid port");
        check("redis://u:12/s3cret@redis:1", "%2F");
        check("redis://u:1?s3cret@redis", "%3F");
        check("redis://u:1#s3cret@redis", "%23");
        check("rediss://redis#insecure", "fragment");
        check("redis://redis?protocol=resp2", "query");
        check("redis://s3cret@redis", "user without a password");
        check("redis://redis/-1", "number of a database");
        check("redis://redis/one", "number of a database");
        check("redis://u:%ff@redis", "valid UTF-8");
        check("unix:///run/redis.sock?password=s3cret", "other than db");
        check("unix:///run/redis.sock?db=s3cret", "database");
    }

    #[test]
    fn an_authority_that_is_none_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let check = |url: &str, expected: &str| {
            let error = RedisConfig::new(url, Some(&path), DEFAULT_PREFIX);
            let error = error.unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check("rediss://redis", "cannot be read from");
        std::fs::write(&path, "nothing").unwrap();
        check("rediss://redis", "holds no certificate");
        let wrong = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        std::fs::write(&path, wrong).unwrap();
        check("rediss://redis", "is not usable");
        check("redis://redis", "does not begin with rediss://");
    }

    #[test]
    fn a_prefix_cannot_break_keys() {
        for prefix in ["", "a{b", "a b", "ä", &"x".repeat(65)] {
            let error = RedisConfig::new("redis://redis", None, prefix);
            let error = error.expect_err(prefix).to_string();
            assert!(error.contains("key prefix"), "{error}");
        }
    }
}
