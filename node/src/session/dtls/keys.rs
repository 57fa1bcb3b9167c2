//! The SRTP keys that a DTLS handshake agrees on (RFC 5764 section 4.2).

use rtc::dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc::dtls::state::State;
use rtc_crypto::SecretVec;

use super::Failure;

pub(super) const EXPORTER_LABEL: &str = "EXTRACTOR-dtls_srtp";

/// RFC 7714 section 12, RFC 5764 section 4.1.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SrtpProfile {
    AeadAes128Gcm,
    Aes128CmSha1_80,
}

impl SrtpProfile {
    const KEY_LENGTH: usize = 16;

    const fn salt_length(self) -> usize {
        match self {
            Self::AeadAes128Gcm => 12,
            Self::Aes128CmSha1_80 => 14,
        }
    }
}

/// The SRTP master keys of both directions. Wiped when dropped, never printed.
#[derive(Debug)]
pub struct SrtpKeys {
    pub profile: SrtpProfile,
    /// Client key, server key, client salt, server salt (RFC 5764 section 4.2).
    material: SecretVec,
}

/// One direction's master key and salt.
#[derive(Clone, Copy)]
pub struct MasterKey<'a> {
    pub key: &'a [u8],
    pub salt: &'a [u8],
}

impl SrtpKeys {
    pub(super) fn of(association: &State) -> Result<Self, Failure> {
        let profile = match association.srtp_protection_profile() {
            SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm => SrtpProfile::AeadAes128Gcm,
            SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80 => SrtpProfile::Aes128CmSha1_80,
            _ => return Err(Failure::NoSrtpProfile),
        };
        let length = 2 * (SrtpProfile::KEY_LENGTH + profile.salt_length());
        let material = association
            .export_keying_material(EXPORTER_LABEL, &[], length)
            .map_err(|_| Failure::Protocol)?;
        Ok(Self { profile, material })
    }

    /// What the client seals with.
    pub fn client(&self) -> MasterKey<'_> {
        self.direction(0)
    }

    /// What we seal with.
    pub fn server(&self) -> MasterKey<'_> {
        self.direction(1)
    }

    fn direction(&self, index: usize) -> MasterKey<'_> {
        let salt_length = self.profile.salt_length();
        let (keys, salts) = self.material.as_ref().split_at(2 * SrtpProfile::KEY_LENGTH);
        MasterKey {
            key: &keys[index * SrtpProfile::KEY_LENGTH..][..SrtpProfile::KEY_LENGTH],
            salt: &salts[index * salt_length..][..salt_length],
        }
    }
}
