//! ICE connectivity checks (RFC 8445) as a controlling client sends them.

use rtc::stun::attributes::{
    ATTR_ICE_CONTROLLING, ATTR_PRIORITY, ATTR_USE_CANDIDATE, ATTR_USERNAME,
};
use rtc::stun::fingerprint::FINGERPRINT;
use rtc::stun::integrity::MessageIntegrity;
use rtc::stun::message::{
    BINDING_REQUEST, BINDING_SUCCESS, Message, MessageType, Setter, TransactionId,
};
use rtc_crypto::RTCCryptoProvider;
use rtc_crypto::providers::AwsLcRsProvider;

/// A check of a client with the ufrag `local` for the node's end.
pub(crate) fn request(local: &str, ufrag: &str, password: &str, nominate: bool) -> Vec<u8> {
    let mut message = Message::new();
    let setters: Vec<Box<dyn Setter>> =
        vec![Box::new(BINDING_REQUEST), Box::new(TransactionId::new())];
    message.build(&setters).unwrap();
    message.add(ATTR_USERNAME, format!("{ufrag}:{local}").as_bytes());
    message.add(ATTR_ICE_CONTROLLING, &[1; 8]);
    message.add(ATTR_PRIORITY, &[0x6e, 0, 1, 0xff]);
    if nominate {
        message.add(ATTR_USE_CANDIDATE, &[]);
    }
    let provider = AwsLcRsProvider::new();
    let integrity = MessageIntegrity::new_short_term_integrity_with_provider(
        password.to_owned(),
        provider.crypto(),
    );
    integrity.add_to(&mut message).unwrap();
    FINGERPRINT.add_to(&mut message).unwrap();
    message.raw
}

/// Whether a datagram is the node's consent.
pub(crate) fn is_success(datagram: &[u8]) -> bool {
    let mut message = Message::new();
    let success: MessageType = BINDING_SUCCESS;
    message.unmarshal_binary(datagram).is_ok() && message.typ == success
}
