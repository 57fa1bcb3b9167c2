//! The envelope of a data packet: who sent it and for whom it is. The message inside stays opaque.
//!
//! The layout is the protobuf message `livekit.DataPacket`; only the fields named here are looked at,
//! all others pass through byte for byte, known to us or not.

#![warn(clippy::indexing_slicing)]

/// Fields of the envelope.
mod field {
    /// The channel it came on, 0 for the reliable one; what a client says of it is not always so.
    pub(super) const KIND: u64 = 1;
    /// A user message; older clients put the destinations in there.
    pub(super) const USER: u64 = 2;
    /// Who speaks: only the server may say so.
    pub(super) const SPEAKERS: u64 = 3;
    pub(super) const SENDER_IDENTITY: u64 = 4;
    pub(super) const DESTINATION_IDENTITY: u64 = 5;
    pub(super) const SENDER_ID: u64 = 17;
    /// Within a user message; the oldest clients name ids.
    pub(super) const USER_DESTINATION_ID: u64 = 3;
    pub(super) const USER_DESTINATION_IDENTITY: u64 = 6;
}

/// Why a packet of a client is not passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("it is not a data packet")]
    Malformed,
    #[error("only the server says who speaks")]
    Speakers,
}

/// A data packet of a client, checked to its last field.
#[derive(Debug, Clone, Copy)]
pub struct DataPacket<'a> {
    bytes: &'a [u8],
}

impl<'a> DataPacket<'a> {
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Refused> {
        let mut fields = Fields(bytes);
        for field in &mut fields {
            if field.number == field::SPEAKERS {
                return Err(Refused::Speakers);
            }
        }
        if fields.0.is_empty() {
            Ok(Self { bytes })
        } else {
            Err(Refused::Malformed)
        }
    }

    /// Whom it is for; nobody named means everybody.
    pub fn destinations(&self) -> impl Iterator<Item = Destination<'a>> + use<'a> {
        let own = values(self.bytes, field::DESTINATION_IDENTITY);
        // Only where the envelope names nobody do the older fields count.
        let inner = match own.clone().next() {
            Some(_) => &[],
            None => values(self.bytes, field::USER).last().unwrap_or_default(),
        };
        let identities = own.chain(values(inner, field::USER_DESTINATION_IDENTITY));
        let ids = values(inner, field::USER_DESTINATION_ID);
        let identities = identities.map(Destination::Identity);
        identities.chain(ids.map(Destination::Id))
    }

    /// Writes the packet with its true sender and channel in place of what the client claimed.
    pub fn stamp(&self, sender: Sender<'_>, reliable: bool, out: &mut Vec<u8>) {
        const STAMPED: [u64; 3] = [field::KIND, field::SENDER_IDENTITY, field::SENDER_ID];
        out.clear();
        out.reserve(self.bytes.len() + sender.id.len() + sender.identity.len() + 16);
        if !reliable {
            write_varint(field::KIND << 3, out);
            write_varint(1, out);
        }
        for field in Fields(self.bytes) {
            if !STAMPED.contains(&field.number) {
                out.extend_from_slice(field.bytes);
            }
        }
        write_text(field::SENDER_IDENTITY, sender.identity, out);
        write_text(field::SENDER_ID, sender.id, out);
    }
}

/// Somebody whom a packet is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination<'a> {
    Identity(&'a [u8]),
    Id(&'a [u8]),
}

impl Destination<'_> {
    pub fn is(&self, identity: &str, id: &str) -> bool {
        match self {
            Self::Identity(named) => *named == identity.as_bytes(),
            Self::Id(named) => *named == id.as_bytes(),
        }
    }
}

/// Whom a packet is from; both empty if nobody shall know.
#[derive(Debug, Clone, Copy)]
pub struct Sender<'a> {
    pub id: &'a str,
    pub identity: &'a str,
}

/// Values of the length-delimited fields of one number.
fn values(bytes: &[u8], number: u64) -> impl Iterator<Item = &[u8]> + Clone {
    Fields(bytes)
        .filter(move |field| field.number == number)
        .filter_map(|field| field.value)
}

/// The fields of a protobuf message; stops at what is not one.
#[derive(Debug, Clone)]
struct Fields<'a>(&'a [u8]);

#[derive(Debug, Clone, Copy)]
struct Field<'a> {
    number: u64,
    /// Tag and value.
    bytes: &'a [u8],
    /// Of a length-delimited field.
    value: Option<&'a [u8]>,
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        let (tag, rest) = varint(self.0)?;
        let (value, rest) = match tag & 7 {
            0 => (None, varint(rest)?.1),
            1 => (None, rest.get(8..)?),
            2 => {
                let (len, rest) = varint(rest)?;
                let (value, rest) = rest.split_at_checked(usize::try_from(len).ok()?)?;
                (Some(value), rest)
            }
            5 => (None, rest.get(4..)?),
            _ => return None,
        };
        let bytes = self.0.get(..self.0.len() - rest.len())?;
        self.0 = rest;
        Some(Field {
            number: tag >> 3,
            bytes,
            value,
        })
    }
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    for (index, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7F) << (7 * index).min(63);
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(index + 1..)?));
        }
    }
    None
}

fn write_text(number: u64, text: &str, out: &mut Vec<u8>) {
    write_varint(number << 3 | 2, out);
    write_varint(text.len() as u64, out);
    out.extend_from_slice(text.as_bytes());
}

fn write_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use livekit_protocol::{DataPacket as Model, UserPacket, data_packet};
    use proptest::prelude::*;
    use prost::Message;

    fn user(payload: &[u8]) -> Option<data_packet::Value> {
        Some(data_packet::Value::User(UserPacket {
            payload: payload.to_vec(),
            ..Default::default()
        }))
    }

    fn destinations(model: &Model) -> Vec<String> {
        let bytes = model.encode_to_vec();
        let packet = DataPacket::parse(&bytes).unwrap();
        packet
            .destinations()
            .map(|to| match to {
                Destination::Identity(name) => String::from_utf8(name.to_vec()).unwrap(),
                Destination::Id(id) => format!("id {}", String::from_utf8(id.to_vec()).unwrap()),
            })
            .collect()
    }

    #[test]
    fn the_sender_is_stamped_and_all_else_stays() {
        #[expect(deprecated, reason = "clients read it")]
        let sent = Model {
            kind: 1,
            participant_identity: "mallory".into(),
            participant_sid: "PA_other".into(),
            sequence: 7,
            destination_identities: vec!["bob".into()],
            value: user(b"hello"),
        };
        let bytes = sent.encode_to_vec();
        let mut out = vec![1, 2, 3];
        let alice = Sender {
            id: "PA_alice",
            identity: "alice",
        };
        DataPacket::parse(&bytes)
            .unwrap()
            .stamp(alice, true, &mut out);
        #[expect(deprecated, reason = "clients read it")]
        let expected = Model {
            kind: 0,
            participant_identity: "alice".into(),
            participant_sid: "PA_alice".into(),
            ..sent
        };
        assert_eq!(Model::decode(&out[..]).unwrap(), expected);
        DataPacket::parse(&bytes)
            .unwrap()
            .stamp(alice, false, &mut out);
        #[expect(deprecated, reason = "clients read it")]
        let expected = Model {
            kind: 1,
            ..expected
        };
        assert_eq!(Model::decode(&out[..]).unwrap(), expected);
    }

    #[test]
    fn destinations_of_all_generations_are_read() {
        let mut model = Model {
            value: user(b"x"),
            ..Default::default()
        };
        assert_eq!(destinations(&model), [""; 0]);
        let Some(data_packet::Value::User(inner)) = &mut model.value else {
            unreachable!()
        };
        #[expect(deprecated, reason = "the oldest clients send it")]
        inner.destination_sids.push("PA_old".into());
        assert_eq!(destinations(&model), ["id PA_old"]);
        let Some(data_packet::Value::User(inner)) = &mut model.value else {
            unreachable!()
        };
        #[expect(deprecated, reason = "older clients send it")]
        inner.destination_identities.push("old".into());
        assert_eq!(destinations(&model), ["old", "id PA_old"]);
        model.destination_identities = vec!["bob".into(), "carol".into()];
        assert_eq!(destinations(&model), ["bob", "carol"]);
        let to = Destination::Id(b"PA_bob");
        assert!(to.is("bob", "PA_bob") && !to.is("PA_bob", "PA_x"));
    }

    #[test]
    fn what_a_client_may_not_send_is_refused() {
        let check = |bytes: &[u8], expected: Refused| {
            assert_eq!(
                DataPacket::parse(bytes).err(),
                Some(expected),
                "{bytes:02x?}"
            );
        };
        #[expect(deprecated, reason = "older servers sent it")]
        let speakers =
            data_packet::Value::Speaker(livekit_protocol::ActiveSpeakerUpdate::default());
        let model = Model {
            value: Some(speakers),
            ..Default::default()
        };
        check(&model.encode_to_vec(), Refused::Speakers);
        check(&[0x12], Refused::Malformed);
        check(&[0x12, 5, 1], Refused::Malformed);
        check(&[0xFF; 12], Refused::Malformed);
        check(&[0x0B], Refused::Malformed); // groups are gone from protobuf
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            if let Ok(packet) = DataPacket::parse(&bytes) {
                let mut out = Vec::new();
                packet.stamp(Sender { id: "PA_x", identity: "x" }, false, &mut out);
                prop_assert!(DataPacket::parse(&out).is_ok());
                let _ = packet.destinations().count();
            }
        }
    }
}
