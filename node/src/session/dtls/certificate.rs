//! The node's certificate, what it negotiates with, and whether a client's certificate is the one
//! that its description announced.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use rtc::dtls::cipher_suite::CipherSuiteId;
use rtc::dtls::config::{ClientAuthType, ConfigBuilder, ExtendedMasterSecretType, HandshakeConfig};
use rtc::dtls::crypto;
use rtc::dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc_crypto::RTCCryptoProvider;
use rtc_crypto::providers::AwsLcRsProvider;
use thiserror::Error;

use crate::session::plan::{Fingerprint, HashAlgorithm};

/// Handshake messages are cut at this length; with 25 bytes of headers a datagram stays within
/// 1,200, which every path is expected to carry.
const FRAGMENT_LENGTH: usize = 1_170;

/// rtc-dtls' timer is not used (see `flight.rs`): this is how long after it nothing is heard of it.
const NEVER: Duration = Duration::from_secs(24 * 60 * 60);

/// The node's certificate: one per process, made when it starts.
pub struct Certificate {
    fingerprint: Fingerprint,
    pub(super) gcm: Arc<HandshakeConfig>,
    pub(super) cm: Arc<HandshakeConfig>,
}

#[derive(Debug, Error)]
#[error("cannot make a DTLS certificate")]
pub struct CertificateError(#[from] rtc::shared::error::Error);

impl Certificate {
    pub fn generate() -> Result<Self, CertificateError> {
        let provider: Arc<dyn RTCCryptoProvider> = Arc::new(AwsLcRsProvider::new());
        let certificate = crypto::Certificate::generate_self_signed(
            vec!["pipemesh".to_owned()],
            provider.crypto(),
        )?;
        let config = |profile| {
            ConfigBuilder::default()
                .with_crypto_provider(provider.clone())
                .with_certificates(vec![certificate.clone()])
                // RFC 8827 section 6.5 obliges every client to have this one.
                .with_cipher_suites(vec![CipherSuiteId::Tls_Ecdhe_Ecdsa_With_Aes_128_Gcm_Sha256])
                .with_srtp_protection_profiles(vec![profile])
                // The client's Finished is not compared; the master secret has to bind the
                // handshake instead (RFC 7627).
                .with_extended_master_secret(ExtendedMasterSecretType::Require)
                // Any certificate will do here: the description that names it may arrive later.
                .with_client_auth(ClientAuthType::RequireAnyClientCert)
                .with_insecure_skip_verify(true)
                .with_flight_interval(NEVER)
                .with_mtu(FRAGMENT_LENGTH)
                .build(false, None)
                .map(Arc::new)
        };
        Ok(Self {
            gcm: config(SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm)?,
            cm: config(SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80)?,
            fingerprint: Fingerprint {
                algorithm: HashAlgorithm::Sha256,
                digest: hash(HashAlgorithm::Sha256, &certificate.certificate[0]),
            },
        })
    }

    /// What SDP tells the client as `a=fingerprint`.
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }
}

/// Whether a certificate is one of those announced. Of what nobody announced, none is.
pub fn is_announced(certificate: &[u8], announced: &[Fingerprint]) -> bool {
    announced
        .iter()
        .any(|fingerprint| hash(fingerprint.algorithm, certificate) == fingerprint.digest)
}

fn hash(algorithm: HashAlgorithm, bytes: &[u8]) -> Vec<u8> {
    let algorithm = match algorithm {
        HashAlgorithm::Sha256 => &digest::SHA256,
        HashAlgorithm::Sha384 => &digest::SHA384,
        HashAlgorithm::Sha512 => &digest::SHA512,
    };
    digest::digest(algorithm, bytes).as_ref().to_vec()
}
