//! Who may speak on the control channel, signaling to nodes; and what nodes prove to each other.
//!
//! Either both sides show certificates (mutual TLS, the transport's business), or the caller shows
//! a bearer derived from the cluster's secret, or neither is configured and only callers on the
//! same machine are heard. The secret itself never travels. A bearer is good for one minute and for
//! every call in that minute: without TLS it protects against strangers, not against listeners.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::{constant_time, hmac};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo};
use tonic::{Request, Status};

/// How long a bearer is good for. Longer: a stolen one is of use for longer. Shorter: clocks have
/// to agree better.
const LIFETIME: Duration = Duration::from_secs(60);

/// How far a caller's clock may be ahead.
const SKEW: Duration = Duration::from_secs(60);

/// Bytes a cluster secret needs at least: as many as the output of the MAC.
pub const MIN_SECRET_LEN: usize = 32;

/// What the MAC key is derived for, so that the secret can serve other purposes too.
const PURPOSE: &[u8] = b"pipemesh control channel v1";
const PIPE_PURPOSE: &[u8] = b"pipemesh pipes v1";

/// The key that bearers are made and checked with.
#[derive(Clone)]
pub struct ClusterKey(Arc<hmac::Key>);

/// The key that nodes prove to each other that they are of one cluster with.
#[derive(Clone)]
pub struct PipeKey(Arc<hmac::Key>);

impl PipeKey {
    /// # Errors
    /// When the secret is too short.
    pub fn new(secret: &[u8]) -> Result<Self, ShortSecret> {
        derive(secret, PIPE_PURPOSE).map(Self)
    }

    /// `exported` is what the connection gives for this purpose and the prover's name: another connection's
    /// proof, or another node's, is of no use.
    #[must_use]
    pub fn prove(&self, exported: &[u8]) -> Vec<u8> {
        hmac::sign(&self.0, exported).as_ref().to_vec()
    }

    #[must_use]
    pub fn verify(&self, exported: &[u8], proof: &[u8]) -> bool {
        hmac::verify(&self.0, exported, proof).is_ok()
    }
}

impl fmt::Debug for PipeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PipeKey(***)")
    }
}

/// A key for one purpose, of which nothing follows for the others.
fn derive(secret: &[u8], purpose: &[u8]) -> Result<Arc<hmac::Key>, ShortSecret> {
    if secret.len() < MIN_SECRET_LEN {
        return Err(ShortSecret(secret.len()));
    }
    let secret = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let derived = hmac::sign(&secret, purpose);
    let key = hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref());
    Ok(Arc::new(key))
}

/// A secret was too short to be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the cluster secret is {0} bytes, needs at least {MIN_SECRET_LEN}")]
pub struct ShortSecret(pub usize);

/// Why a caller is not heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    #[error("the call carries no bearer")]
    Missing,
    #[error("the bearer has no valid form")]
    Malformed,
    #[error("the bearer was made with another cluster secret")]
    Signature,
    #[error("the bearer has expired; do the clocks agree?")]
    Expired,
    #[error("the bearer is from the future; do the clocks agree?")]
    Future,
    #[error("without a cluster secret or mutual TLS only this machine is heard")]
    NotLocal,
}

impl ClusterKey {
    /// # Errors
    /// When the secret is too short.
    pub fn new(secret: &[u8]) -> Result<Self, ShortSecret> {
        derive(secret, PURPOSE).map(Self)
    }

    /// The value of an `authorization` header.
    #[must_use]
    pub fn bearer(&self, now: SystemTime) -> String {
        let expires = seconds(now) + LIFETIME.as_secs();
        format!("Bearer {expires:x}.{}", self.mac(expires))
    }

    /// # Errors
    /// Why the header's value is not accepted.
    pub fn verify(&self, header: &str, now: SystemTime) -> Result<(), Denied> {
        let token = header.strip_prefix("Bearer ").ok_or(Denied::Malformed)?;
        let (expires, mac) = token.split_once('.').ok_or(Denied::Malformed)?;
        let expires = u64::from_str_radix(expires, 16).map_err(|_| Denied::Malformed)?;
        constant_time::verify_slices_are_equal(mac.as_bytes(), self.mac(expires).as_bytes())
            .map_err(|_| Denied::Signature)?;
        let now = seconds(now);
        if expires <= now {
            return Err(Denied::Expired);
        }
        if expires > now + (LIFETIME + SKEW).as_secs() {
            return Err(Denied::Future);
        }
        Ok(())
    }

    fn mac(&self, expires: u64) -> String {
        let mac = hmac::sign(&self.0, &expires.to_be_bytes());
        mac.as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_secs())
}

impl fmt::Debug for ClusterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterKey(***)")
    }
}

/// Shows the bearer with every call. Without a key it adds nothing.
#[derive(Debug, Clone, Default)]
pub struct ShowBearer(pub Option<ClusterKey>);

impl Interceptor for ShowBearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(key) = &self.0 {
            let bearer = key.bearer(SystemTime::now());
            let mut bearer: MetadataValue<Ascii> = bearer
                .parse()
                .map_err(|_| Status::internal("the bearer is not a header value"))?;
            bearer.set_sensitive(true);
            request.metadata_mut().insert("authorization", bearer);
        }
        Ok(request)
    }
}

/// Whom a server hears.
#[derive(Debug, Clone)]
pub enum CheckCaller {
    /// The transport has checked the caller's certificate.
    MutualTls,
    Bearer(ClusterKey),
    /// Callers on a loopback address.
    LocalOnly,
}

impl CheckCaller {
    fn check(&self, request: &Request<()>, now: SystemTime) -> Result<(), Denied> {
        match self {
            Self::MutualTls => Ok(()),
            Self::Bearer(key) => {
                let header = request.metadata().get("authorization");
                let header = header.ok_or(Denied::Missing)?;
                key.verify(header.to_str().map_err(|_| Denied::Malformed)?, now)
            }
            Self::LocalOnly => {
                let extensions = request.extensions();
                let tcp = extensions.get::<TcpConnectInfo>().or_else(|| {
                    let tls = extensions.get::<TlsConnectInfo<TcpConnectInfo>>();
                    tls.map(TlsConnectInfo::get_ref)
                });
                let address = tcp.and_then(TcpConnectInfo::remote_addr);
                match address {
                    Some(address) if address.ip().to_canonical().is_loopback() => Ok(()),
                    _ => Err(Denied::NotLocal),
                }
            }
        }
    }
}

impl Interceptor for CheckCaller {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        match self.check(&request, SystemTime::now()) {
            Ok(()) => Ok(request),
            Err(denied @ Denied::NotLocal) => Err(Status::permission_denied(denied.to_string())),
            Err(denied) => Err(Status::unauthenticated(denied.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_bearer_is_good_for_a_minute() {
        let key = ClusterKey::new(SECRET).unwrap();
        let bearer = key.bearer(at(1000));
        let check = |now, expected| assert_eq!(key.verify(&bearer, at(now)), expected, "at {now}");
        check(1000, Ok(()));
        check(1059, Ok(()));
        check(1060, Err(Denied::Expired));
        check(940, Ok(()));
        check(939, Err(Denied::Future));
    }

    #[test]
    fn a_bearer_of_another_secret_or_form_is_refused() {
        let key = ClusterKey::new(SECRET).unwrap();
        let other = ClusterKey::new(b"0123456789abcdef0123456789abcdeX").unwrap();
        let bearer = other.bearer(at(1000));
        assert_eq!(key.verify(&bearer, at(1000)), Err(Denied::Signature));
        let mut longer = key.bearer(at(1000));
        longer.insert("Bearer ".len(), '0');
        // A number may be written in two ways; it is the same number.
        assert_eq!(key.verify(&longer, at(1000)), Ok(()));
        longer.push('0');
        assert_eq!(key.verify(&longer, at(1000)), Err(Denied::Signature));
        for header in ["", "Bearer ", "Bearer 1", "Bearer x.y", "Basic 1.2"] {
            assert_eq!(
                key.verify(header, at(1000)),
                Err(Denied::Malformed),
                "{header}"
            );
        }
        assert_eq!(ClusterKey::new(&SECRET[1..]).err(), Some(ShortSecret(31)));
    }

    #[test]
    fn whom_a_server_hears() {
        let key = ClusterKey::new(SECRET).unwrap();
        let from = |address: Option<&str>, bearer: Option<ClusterKey>| {
            let mut request = Request::new(());
            request.extensions_mut().insert(TcpConnectInfo {
                local_addr: None,
                remote_addr: address.map(|address| address.parse().unwrap()),
            });
            ShowBearer(bearer).call(request).unwrap()
        };
        let check = |who: CheckCaller, request: &Request<()>, expected| {
            assert_eq!(who.check(request, SystemTime::now()), expected, "{who:?}");
        };
        let local = from(Some("127.0.0.1:1"), None);
        let mapped = from(Some("[::ffff:127.0.0.1]:1"), None);
        let far = from(Some("192.0.2.1:1"), None);
        let known = from(Some("192.0.2.1:1"), Some(key.clone()));
        check(CheckCaller::LocalOnly, &local, Ok(()));
        check(CheckCaller::LocalOnly, &mapped, Ok(()));
        check(CheckCaller::LocalOnly, &far, Err(Denied::NotLocal));
        check(
            CheckCaller::LocalOnly,
            &from(None, None),
            Err(Denied::NotLocal),
        );
        check(
            CheckCaller::Bearer(key.clone()),
            &local,
            Err(Denied::Missing),
        );
        check(CheckCaller::Bearer(key), &known, Ok(()));
        check(CheckCaller::MutualTls, &far, Ok(()));
    }
}
