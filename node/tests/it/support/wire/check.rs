//! ICE connectivity checks (RFC 8445) as a controlling client sends them.

use rtc::stun::attributes::{
    ATTR_ICE_CONTROLLING, ATTR_PRIORITY, ATTR_USE_CANDIDATE, ATTR_USERNAME,
};
use rtc::stun::fingerprint::FINGERPRINT;
use rtc::stun::integrity::MessageIntegrity;
use rtc::stun::message::{
    BINDING_REQUEST, BINDING_SUCCESS, Message, MessageType, Setter, TransactionId,
};
use rtc::stun::textattrs::TextAttribute;
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

/// What a client answers to a check of the node's. `None`: it is none, or for somebody else.
pub(crate) fn answer(datagram: &[u8], ufrag: &str, password: &str) -> Option<Vec<u8>> {
    let mut asked = Message::new();
    asked.unmarshal_binary(datagram).ok()?;
    let username = TextAttribute::get_from_as(&asked, ATTR_USERNAME).ok()?;
    let is_ours = asked.typ == BINDING_REQUEST && username.text.split(':').next() == Some(ufrag);
    if !is_ours {
        return None;
    }
    let provider = AwsLcRsProvider::new();
    MessageIntegrity::check(&mut asked, password.as_bytes(), provider.crypto()).unwrap();
    FINGERPRINT.check(&asked).unwrap();
    let mut message = Message::new();
    let id = asked.transaction_id;
    let setters: Vec<Box<dyn Setter>> = vec![Box::new(BINDING_SUCCESS), Box::new(id)];
    message.build(&setters).unwrap();
    let integrity = MessageIntegrity::new_short_term_integrity_with_provider(
        password.to_owned(),
        provider.crypto(),
    );
    integrity.add_to(&mut message).unwrap();
    FINGERPRINT.add_to(&mut message).unwrap();
    Some(message.raw)
}

/// Whether a datagram is the node's consent.
pub(crate) fn is_success(datagram: &[u8]) -> bool {
    success(datagram).is_some()
}

fn success(datagram: &[u8]) -> Option<Message> {
    let mut message = Message::new();
    message.unmarshal_binary(datagram).ok()?;
    let success: MessageType = BINDING_SUCCESS;
    (message.typ == success).then_some(message)
}

/// Whether it is, to a client that knows the node by this password.
pub(crate) fn is_success_for(datagram: &[u8], password: &str) -> bool {
    let provider = AwsLcRsProvider::new();
    success(datagram).is_some_and(|mut message| {
        MessageIntegrity::check(&mut message, password.as_bytes(), provider.crypto()).is_ok()
    })
}
