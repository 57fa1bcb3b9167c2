//! What is left of an association once its handshake is over: keys, numbers and the last flight.
//!
//! rtc-dtls keeps everything it negotiated with, 10 KB, for as long as a connection lives, of which
//! most never carry a record again. This takes over from it and seals and opens the records of epoch 1
//! by itself (RFC 6347 section 4.1, RFC 5288): one cipher suite, no renegotiation.

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::tls_prf::{P_SHA256, Secret};
use bytes::{BufMut, Bytes, BytesMut};
use rtc::dtls::state::State as AssociationState;
use rtc_crypto::SecretVec;

use super::record::{self, Record};

const KEY_LENGTH: usize = 16;
/// The part of a nonce that both sides derive; the rest is in the record.
const SALT_LENGTH: usize = 4;
const EXPLICIT_LENGTH: usize = 8;
const TAG_LENGTH: usize = 16;
/// What sealing adds to a record.
pub(super) const OVERHEAD: usize = EXPLICIT_LENGTH + TAG_LENGTH;
const NONCE_LENGTH: usize = SALT_LENGTH + EXPLICIT_LENGTH;

/// The record numbers of epoch 1 begin behind 48 bits.
const EPOCH_1: u64 = 1 << 48;

/// The state of rtc-dtls, in the form in which it gives it away: rkyv's, whose layout follows from the
/// fields and their order.
#[derive(rkyv::Archive)]
#[allow(dead_code, reason = "never made, only read in its archived form")]
struct Exported {
    local_epoch: u16,
    remote_epoch: u16,
    local_random: [u8; 32],
    remote_random: [u8; 32],
    cipher_suite_id: u16,
    master_secret: Vec<u8>,
    sequence_number: u64,
    srtp_protection_profile: u16,
    peer_certificates: Vec<Vec<u8>>,
    identity_hint: Vec<u8>,
    is_client: bool,
}

/// The server's end of a connected association.
pub(super) struct Sealed {
    /// Client's key, server's key, client's salt, server's salt (RFC 5246 section 6.3).
    keys: SecretVec,
    /// Made from the keys when data flows.
    seals: Option<Box<LessSafeKey>>,
    opens: Option<Box<LessSafeKey>>,
    /// The client does.
    sends_data: bool,
    /// Number of the next record.
    next: u64,
    window: Window,
}

/// The records that were opened: none is taken twice (RFC 6347 section 4.1.2.6).
#[derive(Default)]
struct Window {
    /// The highest number and one.
    end: u64,
    /// The 64 numbers below `end`, the highest in the lowest bit.
    seen: u64,
}

/// Whose.
#[derive(Clone, Copy)]
enum Side {
    Client,
    Server,
}

impl Sealed {
    /// Takes a handshake over that is complete. `None`: its state has not the form it should have.
    pub(super) fn take_over(association: &AssociationState) -> Option<Self> {
        let exported = association.marshal_binary().ok()?;
        // What is read in place has to be aligned.
        let mut aligned = rkyv::util::AlignedVec::<16>::with_capacity(exported.len());
        aligned.extend_from_slice(&exported);
        let state = rkyv::access::<ArchivedExported, rkyv::rancor::Error>(&aligned).ok()?;
        if state.local_epoch.to_native() != 1 || state.master_secret.len() != 48 {
            return None;
        }
        let seed = [&state.local_random[..], &state.remote_random[..]].concat();
        let length = 2 * (KEY_LENGTH + SALT_LENGTH);
        let keys = Secret::new(&P_SHA256, &state.master_secret)
            .and_then(|secret| secret.derive(b"key expansion", &seed, length))
            .ok()?;
        Some(Self {
            keys: SecretVec::new(keys.as_ref().to_vec()),
            seals: None,
            opens: None,
            sends_data: false,
            next: state.sequence_number.to_native(),
            window: Window::default(),
        })
    }

    /// Opens a record of epoch 1. `None`: it is not authentic, or was seen.
    pub(super) fn open(&mut self, record: &Record<'_>) -> Option<BytesMut> {
        if !self.window.admits(record.number) {
            return None;
        }
        let (explicit, body) = record.body.split_first_chunk::<EXPLICIT_LENGTH>()?;
        let length = body.len().checked_sub(TAG_LENGTH)?;
        let nonce = self.nonce(Side::Client, *explicit);
        let aad = Aad::from(additional(record.kind, record.number, length));
        let key = self.opens.take();
        let key = key.unwrap_or_else(|| Box::new(self.key(Side::Client)));
        let mut plain = BytesMut::from(body);
        let is_authentic = key.open_in_place(nonce, aad, &mut plain).is_ok();
        // A key is kept for those who send data, and made anew for an alert now and then.
        self.sends_data |= is_authentic && record.kind == record::APPLICATION_DATA;
        self.opens = self.sends_data.then_some(key);
        if !is_authentic {
            return None;
        }
        self.window.note(record.number);
        plain.truncate(length);
        Some(plain)
    }

    /// Seals a record.
    pub(super) fn seal(&mut self, kind: u8, plain: &[u8]) -> Bytes {
        let number = EPOCH_1 | self.next;
        self.next += 1;
        let explicit = number.to_be_bytes();
        let nonce = self.nonce(Side::Server, explicit);
        let aad = Aad::from(additional(kind, number, plain.len()));
        let length = EXPLICIT_LENGTH + plain.len() + TAG_LENGTH;
        let mut out = BytesMut::with_capacity(record::HEADER_LENGTH + length);
        record::write_header(&mut out, kind, number, length);
        out.put_slice(&explicit);
        out.put_slice(plain);
        let key = self.seals.take();
        let key = key.unwrap_or_else(|| Box::new(self.key(Side::Server)));
        let body = &mut out[record::HEADER_LENGTH + EXPLICIT_LENGTH..];
        let tag = key
            .seal_in_place_separate_tag(nonce, aad, body)
            .expect("a record is much shorter than GCM allows");
        out.put_slice(tag.as_ref());
        self.seals = (kind == record::APPLICATION_DATA).then_some(key);
        out.freeze()
    }

    fn key(&self, side: Side) -> LessSafeKey {
        let key = &self.keys.as_ref()[side as usize * KEY_LENGTH..][..KEY_LENGTH];
        let key = UnboundKey::new(&AES_128_GCM, key).expect("it has the length of AES-128's");
        LessSafeKey::new(key)
    }

    fn nonce(&self, side: Side, explicit: [u8; EXPLICIT_LENGTH]) -> Nonce {
        let salts = &self.keys.as_ref()[2 * KEY_LENGTH..];
        let mut nonce = [0; NONCE_LENGTH];
        nonce[..SALT_LENGTH].copy_from_slice(&salts[side as usize * SALT_LENGTH..][..SALT_LENGTH]);
        nonce[SALT_LENGTH..].copy_from_slice(&explicit);
        Nonce::assume_unique_for_key(nonce)
    }
}

/// What a record is authenticated with beside its content (RFC 5246 section 6.2.3.3).
fn additional(kind: u8, number: u64, length: usize) -> [u8; 13] {
    let mut out = [0; 13];
    out[..8].copy_from_slice(&number.to_be_bytes());
    out[8] = kind;
    out[9..11].copy_from_slice(&record::DTLS_1_2);
    out[11..].copy_from_slice(&(length as u16).to_be_bytes());
    out
}

impl Window {
    const SIZE: u64 = u64::BITS as u64;

    fn admits(&self, number: u64) -> bool {
        match self.end.checked_sub(number + 1) {
            None => true,
            Some(age) => age < Self::SIZE && self.seen >> age & 1 == 0,
        }
    }

    fn note(&mut self, number: u64) {
        match self.end.checked_sub(number + 1) {
            None => {
                let ahead = number + 1 - self.end;
                self.seen = self
                    .seen
                    .checked_shl(ahead.min(Self::SIZE) as u32)
                    .unwrap_or(0)
                    | 1;
                self.end = number + 1;
            }
            Some(age) => self.seen |= 1 << age,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_taken_once_and_not_when_it_is_old() {
        let mut window = Window::default();
        for number in [5, 3, 69, 68, 6, 200, 137, 199] {
            assert!(window.admits(number), "{number}");
            window.note(number);
            assert!(!window.admits(number), "{number} again");
        }
        assert!(!window.admits(136), "too old");
        assert!(window.admits(138), "within the window");
        assert!(window.admits(u64::MAX - 1));
    }
}
