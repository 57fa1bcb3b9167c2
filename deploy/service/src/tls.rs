//! A server's certificate from files, fresh without a restart.
//!
//! The files are looked at every few seconds and on SIGHUP. New content that cannot be used leaves
//! the certificate in place and is complained about once. The certificate authority of clients is
//! read once: who is trusted does not change under a running process.

#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::Chain;

/// Certificates are replaced days before they expire; a change may take this long to be seen.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Where the certificate is.
#[derive(Debug, Clone)]
pub struct Files {
    /// PEM, the server's own certificate first.
    pub certificates: PathBuf,
    /// PEM.
    pub key: PathBuf,
    /// PEM; if given, clients must show a certificate signed by one of these.
    pub client_authorities: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is not usable PEM", path.display())]
    Pem {
        path: PathBuf,
        source: rustls_pki_types::pem::Error,
    },
    #[error("{} has no certificate", path.display())]
    NoCertificate { path: PathBuf },
    #[error("{} has a certificate that cannot be read", path.display())]
    Certificate { path: PathBuf },
    #[error("{} expired at {}", path.display(), seconds(expired))]
    Expired { path: PathBuf, expired: SystemTime },
    #[error("{} is not valid before {}", path.display(), seconds(begin))]
    NotYetValid { path: PathBuf, begin: SystemTime },
    #[error("the certificate and the key {} do not belong together", key.display())]
    Mismatch { key: PathBuf, source: rustls::Error },
    #[error("cannot verify clients with {}", path.display())]
    ClientAuthorities {
        path: PathBuf,
        source: rustls::server::VerifierBuilderError,
    },
}

fn seconds(time: &SystemTime) -> String {
    let time = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{} s since 1970", time.as_secs())
}

/// A TLS server's configuration whose certificate follows its files.
#[derive(Debug)]
pub struct Tls {
    config: Arc<ServerConfig>,
    current: Arc<Current>,
    files: Files,
    seen: Content,
    complaint: Option<String>,
}

/// What both files held.
#[derive(Debug, PartialEq, Eq)]
struct Content {
    certificates: Vec<u8>,
    key: zeroize::Zeroizing<Vec<u8>>,
}

#[derive(Debug, Clone)]
struct Certificate {
    key: Arc<CertifiedKey>,
    expires: SystemTime,
}

/// Read once per handshake, written once per renewal, held for the copy of a pointer.
#[derive(Debug)]
struct Current(RwLock<Certificate>);

impl Current {
    fn get(&self) -> Certificate {
        self.0
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
    }

    fn set(&self, certificate: Certificate) {
        *self
            .0
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = certificate;
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.get().key)
    }
}

/// When the certificate in use expires, for a metric.
#[derive(Debug, Clone)]
pub struct Expiry(Arc<Current>);

impl Expiry {
    #[must_use]
    pub fn at(&self) -> SystemTime {
        self.0.get().expires
    }
}

impl Tls {
    /// `protocols` are the ALPN names, most wanted first.
    ///
    /// # Errors
    /// When a file cannot be used, or the certificate is not valid at `now`.
    pub fn load(files: Files, protocols: &[&str], now: SystemTime) -> Result<Self, TlsError> {
        let seen = Content::read(&files)?;
        let current = Arc::new(Current(RwLock::new(seen.certificate(&files, now)?)));
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("the provider has cipher suites for the default versions");
        let builder = match &files.client_authorities {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for authority in certificates(path, &read(path)?)? {
                    let refused = |_| TlsError::Certificate { path: path.clone() };
                    roots.add(authority).map_err(refused)?;
                }
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                        .build()
                        .map_err(|source| TlsError::ClientAuthorities {
                            path: path.clone(),
                            source,
                        })?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let resolver: Arc<dyn ResolvesServerCert> = Arc::clone(&current) as _;
        let mut config = builder.with_cert_resolver(resolver);
        config.alpn_protocols = protocols
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        Ok(Self {
            config: Arc::new(config),
            current,
            files,
            seen,
            complaint: None,
        })
    }

    #[must_use]
    pub fn server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    #[must_use]
    pub fn expiry(&self) -> Expiry {
        Expiry(Arc::clone(&self.current))
    }

    /// Follows the files until `stop`.
    ///
    /// # Errors
    /// When SIGHUP cannot be listened to.
    pub async fn watch(mut self, stop: CancellationToken) -> io::Result<()> {
        let mut hang_up = signal(SignalKind::hangup())?;
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                _ = ticks.tick() => {}
                _ = hang_up.recv() => {}
            }
            self.look(SystemTime::now());
        }
    }

    /// One look at the files. A complaint is made once, not every few seconds.
    fn look(&mut self, now: SystemTime) {
        let outcome = Content::read(&self.files).and_then(|content| {
            if content == self.seen {
                return Ok(None);
            }
            let certificate = content.certificate(&self.files, now)?;
            Ok(Some((content, certificate)))
        });
        match outcome {
            Ok(None) => self.complaint = None,
            Ok(Some((content, certificate))) => {
                self.seen = content;
                self.complaint = None;
                self.current.set(certificate);
                let path = self.files.certificates.display();
                tracing::info!(%path, "certificate renewed");
            }
            Err(error) => {
                let complaint = Chain(&error).to_string();
                if self.complaint.as_ref() != Some(&complaint) {
                    tracing::warn!(
                        error = complaint,
                        "new certificate refused, the old one stays"
                    );
                    self.complaint = Some(complaint);
                }
            }
        }
    }
}

impl Content {
    fn read(files: &Files) -> Result<Self, TlsError> {
        let certificates = read(&files.certificates)?;
        Ok(Self {
            certificates,
            key: read(&files.key)?.into(),
        })
    }

    fn certificate(&self, files: &Files, now: SystemTime) -> Result<Certificate, TlsError> {
        let chain = certificates(&files.certificates, &self.certificates)?;
        let expires = check_validity(&files.certificates, &chain[0], now)?;
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|source| TlsError::Pem {
            path: files.key.clone(),
            source,
        })?;
        let mismatch = |source| TlsError::Mismatch {
            key: files.key.clone(),
            source,
        };
        let key = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider());
        Ok(Certificate {
            key: Arc::new(key.map_err(mismatch)?),
            expires,
        })
    }
}

fn check_validity(
    path: &Path,
    certificate: &CertificateDer<'_>,
    now: SystemTime,
) -> Result<SystemTime, TlsError> {
    let (_, parsed) =
        x509_parser::parse_x509_certificate(certificate).map_err(|_| TlsError::Certificate {
            path: path.to_owned(),
        })?;
    let validity = parsed.validity();
    let time = |time: x509_parser::time::ASN1Time| {
        // Before 1970 is long ago.
        UNIX_EPOCH + Duration::from_secs(u64::try_from(time.timestamp()).unwrap_or_default())
    };
    let (begin, expires) = (time(validity.not_before), time(validity.not_after));
    if expires <= now {
        return Err(TlsError::Expired {
            path: path.to_owned(),
            expired: expires,
        });
    }
    if now < begin {
        return Err(TlsError::NotYetValid {
            path: path.to_owned(),
            begin,
        });
    }
    Ok(expires)
}

/// At least one certificate.
fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let certificates = certificates.map_err(|source| TlsError::Pem {
        path: path.to_owned(),
        source,
    })?;
    if certificates.is_empty() {
        return Err(TlsError::NoCertificate {
            path: path.to_owned(),
        });
    }
    Ok(certificates)
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Read {
        path: path.to_owned(),
        source,
    })
}
