//! Where keys come from: out of the DTLS handshake, then through SRTP's key derivation.

use super::Profile;
use super::cm::AesCtr;
use super::secret::Secret;

/// Which end of the DTLS handshake we were.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DtlsRole {
    Client,
    Server,
}

/// Key or salt has not the length its profile asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{profile:?} asks for {expected} bytes of keying material, not {given}")]
pub struct WrongLength {
    pub profile: Profile,
    pub expected: usize,
    pub given: usize,
}

/// The master key and salt of one direction. Wiped when dropped.
pub struct MasterKey {
    profile: Profile,
    key: Secret<32>,
    salt: Secret<14>,
}

impl MasterKey {
    /// # Errors
    ///
    /// [`WrongLength`] unless `key` and `salt` have [`Profile::key_len`] and [`Profile::salt_len`]
    /// bytes.
    pub fn new(profile: Profile, key: &[u8], salt: &[u8]) -> Result<Self, WrongLength> {
        if key.len() != profile.key_len() || salt.len() != profile.salt_len() {
            return Err(WrongLength {
                profile,
                expected: profile.key_len() + profile.salt_len(),
                given: key.len() + salt.len(),
            });
        }
        Ok(Self {
            profile,
            key: padded(key),
            salt: padded(salt),
        })
    }

    pub fn profile(&self) -> Profile {
        self.profile
    }

    fn key(&self) -> &[u8] {
        &self.key.0[..self.profile.key_len()]
    }
}

/// The master keys of both directions of one connection.
pub struct MasterKeys {
    /// For what we send.
    pub local: MasterKey,
    /// For what the peer sends.
    pub remote: MasterKey,
}

impl MasterKeys {
    /// Takes apart what DTLS exported: client key, server key, client salt, server salt (RFC 5764
    /// section 4.2). `role` is ours.
    ///
    /// # Errors
    ///
    /// [`WrongLength`] unless there are [`Profile::keying_material_len`] bytes.
    pub fn from_dtls(
        profile: Profile,
        keying_material: &[u8],
        role: DtlsRole,
    ) -> Result<Self, WrongLength> {
        let expected = profile.keying_material_len();
        if keying_material.len() != expected {
            return Err(WrongLength {
                profile,
                expected,
                given: keying_material.len(),
            });
        }
        let (keys, salts) = keying_material.split_at(2 * profile.key_len());
        let (client_key, server_key) = keys.split_at(profile.key_len());
        let (client_salt, server_salt) = salts.split_at(profile.salt_len());
        let client = MasterKey::new(profile, client_key, client_salt)?;
        let server = MasterKey::new(profile, server_key, server_salt)?;
        Ok(match role {
            DtlsRole::Client => Self {
                local: client,
                remote: server,
            },
            DtlsRole::Server => Self {
                local: server,
                remote: client,
            },
        })
    }
}

/// What the session keys of one direction are for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Traffic {
    Rtp,
    Rtcp,
}

/// Keys derived for one kind of traffic in one direction; of each only the profile's length counts.
pub(super) struct SessionKeys {
    pub(super) cipher: Secret<32>,
    pub(super) auth: Secret<20>,
    pub(super) salt: Secret<14>,
}

impl SessionKeys {
    /// RFC 3711 section 4.3.1, and for SRTCP section 4.3.2, which differ in their labels.
    pub(super) fn derive(master: &MasterKey, traffic: Traffic) -> Self {
        let (cipher_label, auth_label, salt_label) = match traffic {
            Traffic::Rtp => (0, 1, 2),
            Traffic::Rtcp => (3, 4, 5),
        };
        let prf = AesCtr::new(master.key());
        Self {
            cipher: derive(&prf, master, cipher_label),
            auth: derive(&prf, master, auth_label),
            salt: derive(&prf, master, salt_label),
        }
    }
}

/// The PRF of RFC 3711 section 4.3.3: AES counter mode from the master salt with the label xored in
/// at 2^48, times 2^16. The key derivation rate is zero, so the index does not come in. GCM's shorter
/// salt is filled up with zeros on the right (RFC 7714 section 11), and AES-256 keys the same PRF
/// (RFC 6188 section 3). Shorter keys are beginnings of longer ones.
fn derive<const N: usize>(prf: &AesCtr, master: &MasterKey, label: u8) -> Secret<N> {
    let mut start = [0; 16];
    start[..14].copy_from_slice(&master.salt.0);
    start[7] ^= label;
    let mut derived = Secret([0; N]);
    prf.keystream(u128::from_be_bytes(start))
        .apply_in_place(&mut derived.0);
    derived
}

/// `bytes`, filled up with zeros on the right.
fn padded<const N: usize>(bytes: &[u8]) -> Secret<N> {
    let mut padded = Secret([0; N]);
    padded.0[..bytes.len()].copy_from_slice(bytes);
    padded
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3711 appendix B.3.
    #[test]
    fn rfc_3711_b3() {
        let key = hex::decode("e1f97a0d3e018be0d64fa32c06de4139").unwrap();
        let salt = hex::decode("0ec675ad498afeebb6960b3aabe6").unwrap();
        let master = MasterKey::new(Profile::AesCm128HmacSha1_80, &key, &salt).unwrap();
        let keys = SessionKeys::derive(&master, Traffic::Rtp);
        assert_eq!(
            hex::encode(&keys.cipher.0[..16]),
            "c61e7a93744f39ee10734afe3ff7a087"
        );
        assert_eq!(hex::encode(keys.salt.0), "30cbbc08863d8c85d49db34a9ae1");
        assert_eq!(
            hex::encode(keys.auth.0),
            "cebe321f6ff7716b6fd4ab49af256a156d38baa4"
        );

        // The appendix goes on: 94 bytes under the authentication label.
        let prf = AesCtr::new(master.key());
        let long: Secret<94> = derive(&prf, &master, 1);
        assert_eq!(
            hex::encode(long.0),
            "cebe321f6ff7716b6fd4ab49af256a156d38baa48f0a0acf3c34e2359e6cdbcee049646c43d9327ad175\
             578ef72270986371c10c9a369ac2f94a8c5fbcdddc256d6e919a48b610ef17c2041e474035766b68642c\
             59bbfc2f34db60dbdfb2"
        );
    }

    /// RFC 6188 section 7.2; only GCM uses AES-256 here, but the derivation is the same.
    #[test]
    fn rfc_6188_7_2() {
        let key = hex::decode("f0f04914b513f2763a1b1fa130f10e2998f6f6e43e4309d1e622a0e332b9f1b6");
        let salt = hex::decode("3b04803de51ee7c96423ab5b78d2").unwrap();
        let master = MasterKey {
            profile: Profile::AeadAes256Gcm,
            key: padded(&key.unwrap()),
            salt: padded(&salt),
        };
        let keys = SessionKeys::derive(&master, Traffic::Rtp);
        assert_eq!(
            hex::encode(keys.cipher.0),
            "5ba1064e30ec51613cad926c5a28ef731ec7fb397f70a960653caf06554cd8c4"
        );
        assert_eq!(hex::encode(keys.salt.0), "fa31791685ca444a9e07c6c64e93");
        assert_eq!(
            hex::encode(keys.auth.0),
            "fd9c32d39ed5fbb5a9dc96b30818454d1313dc05"
        );
    }

    #[test]
    fn each_role_sends_with_its_own_key() {
        for profile in [
            Profile::AeadAes128Gcm,
            Profile::AeadAes256Gcm,
            Profile::AesCm128HmacSha1_80,
        ] {
            let (key, salt) = (profile.key_len(), profile.salt_len());
            let mut material = vec![b'c'; key];
            material.extend(vec![b's'; key]);
            material.extend(vec![b'C'; salt]);
            material.extend(vec![b'S'; salt]);
            let check = |master: &MasterKey, key: u8, salt: u8| {
                assert!(master.key().iter().all(|byte| *byte == key));
                assert!(
                    master.salt.0[..profile.salt_len()]
                        .iter()
                        .all(|byte| *byte == salt)
                );
            };
            let client = MasterKeys::from_dtls(profile, &material, DtlsRole::Client).unwrap();
            check(&client.local, b'c', b'C');
            check(&client.remote, b's', b'S');
            let server = MasterKeys::from_dtls(profile, &material, DtlsRole::Server).unwrap();
            check(&server.local, b's', b'S');
            check(&server.remote, b'c', b'C');

            let expected = profile.keying_material_len();
            material.pop();
            let error = MasterKeys::from_dtls(profile, &material, DtlsRole::Server).err();
            assert_eq!(
                error,
                Some(WrongLength {
                    profile,
                    expected,
                    given: expected - 1
                })
            );
        }
    }
}
