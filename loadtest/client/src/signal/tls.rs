//! TLS of a signaling connection: whom the client believes that it is the server.

use std::io;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Where systems keep the authorities that they trust, in the order in which it is looked.
const SYSTEM_BUNDLES: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

/// Makes connections that only servers with a trusted certificate get.
#[derive(Clone)]
pub struct Tls(TlsConnector);

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    #[error("a root certificate cannot be used")]
    Unusable(#[source] rustls::Error),
    #[error("this system has no bundle of root certificates; give some")]
    NoBundle,
    #[error("this build of TLS does not work")]
    Provider(#[source] rustls::Error),
}

impl Tls {
    /// Trusts who has a certificate from one of `roots`; if there are none, whom the system trusts.
    ///
    /// # Errors
    /// When there is nobody to trust.
    pub fn trusting(roots: &[CertificateDer<'static>]) -> Result<Self, TrustError> {
        let mut store = RootCertStore::empty();
        for root in roots {
            store.add(root.clone()).map_err(TrustError::Unusable)?;
        }
        if roots.is_empty() {
            // Bundles have certificates that rustls has reason not to take.
            store.add_parsable_certificates(system_roots());
        }
        if store.is_empty() {
            return Err(TrustError::NoBundle);
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TrustError::Provider)?
            .with_root_certificates(store)
            .with_no_client_auth();
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    /// Shakes hands over a connection to `address`, which is `host:port`.
    pub(super) async fn connect<S>(&self, address: &str, over: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        self.0.connect(name, over).await
    }
}

fn system_roots() -> Vec<CertificateDer<'static>> {
    let read = |path| CertificateDer::pem_file_iter(path).ok();
    let found = SYSTEM_BUNDLES.into_iter().find_map(read);
    found.into_iter().flatten().flatten().collect()
}
