//! The codec against the vectors of RFC 5769, and against bytes that mean harm.

use super::*;

/// RFC 5769 section 2.1.
const REQUEST: &[u8] = b"\x00\x01\x00\x58\x21\x12\xa4\x42\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae\
    \x80\x22\x00\x10STUN test client\
    \x00\x24\x00\x04\x6e\x00\x01\xff\
    \x80\x29\x00\x08\x93\x2f\xf9\xb1\x51\x26\x3b\x36\
    \x00\x06\x00\x09\x65\x76\x74\x6a\x3a\x68\x36\x76\x59\x20\x20\x20\
    \x00\x08\x00\x14\x9a\xea\xa7\x0c\xbf\xd8\xcb\x56\x78\x1e\xf2\xb5\xb2\xd3\xf2\x49\xc1\xb5\x71\xa2\
    \x80\x28\x00\x04\xe5\x7a\x3b\xcf";
/// RFC 5769 section 2.2.
const IPV4_RESPONSE: &[u8] = b"\x01\x01\x00\x3c\x21\x12\xa4\x42\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae\
    \x80\x22\x00\x0b\x74\x65\x73\x74\x20\x76\x65\x63\x74\x6f\x72\x20\
    \x00\x20\x00\x08\x00\x01\xa1\x47\xe1\x12\xa6\x43\
    \x00\x08\x00\x14\x2b\x91\xf5\x99\xfd\x9e\x90\xc3\x8c\x74\x89\xf9\x2a\xf9\xba\x53\xf0\x6b\xe7\xd7\
    \x80\x28\x00\x04\xc0\x7d\x4c\x96";
/// RFC 5769 section 2.3.
const IPV6_RESPONSE: &[u8] = b"\x01\x01\x00\x48\x21\x12\xa4\x42\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae\
    \x80\x22\x00\x0b\x74\x65\x73\x74\x20\x76\x65\x63\x74\x6f\x72\x20\
    \x00\x20\x00\x14\x00\x02\xa1\x47\x01\x13\xa9\xfa\xa5\xd3\xf1\x79\xbc\x25\xf4\xb5\xbe\xd2\xb9\xd9\
    \x00\x08\x00\x14\xa3\x82\x95\x4e\x4b\xe6\x7b\xf1\x17\x84\xc9\x7c\x82\x92\xc2\x75\xbf\xe3\xed\x41\
    \x80\x28\x00\x04\xc8\xfb\x0b\x4c";
const PASSWORD: &str = "VOkJxbRl1RmTxUk/WvJxBt";

#[test]
fn the_sample_request_is_read_and_verified() {
    let request = Request::parse(REQUEST).unwrap();
    assert_eq!(request.username, Some(b"evtj:h6vY".as_slice()));
    assert_eq!(receiver_of(REQUEST), Some("evtj"));
    assert!(request.controlled && request.fingerprint);
    assert!(!request.use_candidate);
    assert_eq!(request.unknown, None);
    assert!(request.is_signed_by(&integrity_key(PASSWORD)));
    assert!(!request.is_signed_by(&integrity_key("VOkJxbRl1RmTxUk/WvJxBu")));
}

#[test]
fn the_sample_responses_are_written_alike() {
    let key = integrity_key(PASSWORD);
    let request = Request::parse(REQUEST).unwrap();
    for (response, address) in [
        (IPV4_RESPONSE, "192.0.2.1:32853"),
        (IPV4_RESPONSE, "[::ffff:192.0.2.1]:32853"),
        (
            IPV6_RESPONSE,
            "[2001:db8:1234:5678:11:2233:4455:6677]:32853",
        ),
    ] {
        let mut reply = Message::reply(BINDING_SUCCESS, &request);
        reply.put_address(address.parse().unwrap());
        let attributes: Vec<_> = Attributes::of(response).collect();
        assert_eq!(reply.bytes()[HEADER_LENGTH + 4..], *attributes[1].value);

        let tag = sign(&key, &response[..attributes[2].offset]);
        assert_eq!(tag.as_ref(), attributes[2].value);
        let crc = checksum(&response[..attributes[3].offset]) ^ FINGERPRINT_XOR;
        assert_eq!(crc.to_be_bytes(), attributes[3].value);
    }
}

#[test]
fn the_sample_responses_are_read_and_verified() {
    let transaction: &[u8; TRANSACTION_LENGTH] = REQUEST[8..20].try_into().unwrap();
    for response in [IPV4_RESPONSE, IPV6_RESPONSE] {
        let success = Success::parse(response).unwrap();
        assert!(success.answers(transaction) && !success.answers(&[0; 12]));
        assert!(success.is_signed_by(&integrity_key(PASSWORD)));
        assert!(!success.is_signed_by(&integrity_key("VOkJxbRl1RmTxUk/WvJxBu")));
        assert_eq!(answered(response), Some(transaction));
        let mut error = response.to_vec();
        error[1] = 0x11;
        assert_eq!(
            Success::parse(&error).unwrap_err(),
            ParseError::NotASuccess,
            "it proves nothing"
        );
        assert_eq!(answered(&error), Some(transaction));
        let mut unsigned =
            response[..response.len() - FINGERPRINT_LENGTH - INTEGRITY_LENGTH].to_vec();
        let length = (unsigned.len() - HEADER_LENGTH) as u16;
        unsigned[2..4].copy_from_slice(&length.to_be_bytes());
        let success = Success::parse(&unsigned).unwrap();
        assert!(!success.is_signed_by(&integrity_key(PASSWORD)));
        for length in 0..response.len() {
            assert!(Success::parse(&response[..length]).is_err(), "{length}");
        }
    }
    assert_eq!(answered(REQUEST), None);
}

#[test]
fn a_check_is_as_long_as_it_was_said_to_be() {
    let key = integrity_key(PASSWORD);
    let longest = (0..)
        .take_while(|length| Message::check_length(*length).is_some())
        .count();
    assert!(longest > 256 + ":".len() + 12, "{longest}");
    for length in 0..longest {
        let username = format!("a:{}", "b".repeat(length))[..length].to_owned();
        let check = Message::check(&[7; TRANSACTION_LENGTH], &username, 1, &key).unwrap();
        assert_eq!(Some(check.bytes().len()), Message::check_length(length));
        let request = Request::parse(check.bytes()).unwrap();
        assert_eq!(request.username, Some(username.as_bytes()));
        assert!(request.is_signed_by(&key) && request.fingerprint && request.controlled);
        assert!(!request.use_candidate);
        assert_eq!(request.unknown, None);
    }
    let too_long = "b".repeat(longest);
    assert!(Message::check(&[7; TRANSACTION_LENGTH], &too_long, 1, &key).is_none());
}

#[test]
fn checksum_of_the_check_string() {
    // The check value that catalogues of CRCs give for this one.
    assert_eq!(checksum(b"123456789"), 0xCBF4_3926);
    assert_eq!(checksum(b""), 0);
}

#[test]
fn every_flipped_bit_is_noticed() {
    let key = integrity_key(PASSWORD);
    for bit in 0..REQUEST.len() * 8 {
        let mut mutated = REQUEST.to_vec();
        mutated[bit / 8] ^= 1 << (bit % 8);
        let accepted =
            Request::parse(&mutated).is_ok_and(|r| r.is_signed_by(&key) && r.fingerprint);
        assert!(!accepted, "bit {bit}");
    }
}

#[test]
fn cut_and_padded_datagrams_are_malformed() {
    for length in 0..REQUEST.len() {
        assert!(Request::parse(&REQUEST[..length]).is_err(), "{length}");
        assert_eq!(receiver_of(&REQUEST[..length]), None, "{length}");
    }
    let mut longer = REQUEST.to_vec();
    longer.extend([0; 4]);
    assert_eq!(Request::parse(&longer).unwrap_err(), ParseError::Malformed);
}

#[test]
fn attributes_behind_the_integrity_are_not_read() {
    let mut message = REQUEST[..REQUEST.len() - FINGERPRINT_LENGTH].to_vec();
    message.extend(b"\x00\x25\x00\x00\xC0\x01\x00\x04\x00\x00\x00\x09");
    let length = (message.len() - HEADER_LENGTH) as u16;
    message[2..4].copy_from_slice(&length.to_be_bytes());
    let request = Request::parse(&message).unwrap();
    assert!(request.is_signed_by(&integrity_key(PASSWORD)));
    assert!(!request.use_candidate);
    assert_eq!(request.nomination, None);
}

#[test]
fn malformed_attributes() {
    #[rustfmt::skip]
    let rows: &[(&str, &[u8])] = &[
        ("value runs out of the datagram", b"\x00\x06\x00\x09abcd"),
        ("integrity of a wrong length",    b"\x00\x08\x00\x10abcdefghijklmnop"),
        ("nomination of a wrong length",   b"\xC0\x01\x00\x02\x00\x01\x00\x00"),
        ("half an attribute header",       b"\x00\x25\x00\x00"),
    ];
    for (name, attributes) in rows {
        let mut message = REQUEST[..HEADER_LENGTH].to_vec();
        message.extend(*attributes);
        message[2..4].copy_from_slice(&(attributes.len() as u16).to_be_bytes());
        if *name == "half an attribute header" {
            message.truncate(message.len() - 2);
            message[3] -= 2;
        }
        assert_eq!(
            Request::parse(&message).unwrap_err(),
            ParseError::Malformed,
            "{name}"
        );
    }
}

#[test]
fn only_binding_requests() {
    for kind in [0x0011u16, 0x0101, 0x0111, 0x0003] {
        let mut message = REQUEST.to_vec();
        message[..2].copy_from_slice(&kind.to_be_bytes());
        assert_eq!(
            Request::parse(&message).unwrap_err(),
            ParseError::NotARequest
        );
        assert_eq!(receiver_of(&message), None);
    }
    assert_eq!(
        Request::parse(IPV4_RESPONSE).unwrap_err(),
        ParseError::NotARequest
    );
}

#[test]
fn arbitrary_bytes_never_panic() {
    use rand::{Rng, SeedableRng, rngs::StdRng};
    let mut rng = StdRng::seed_from_u64(5769);
    for _ in 0..20_000 {
        let mut message = REQUEST.to_vec();
        for _ in 0..rng.random_range(1..6) {
            let at = rng.random_range(0..message.len());
            message[at] = rng.random();
        }
        message.truncate(rng.random_range(0..=message.len()));
        let _ = receiver_of(&message);
        if let Ok(request) = Request::parse(&message) {
            let _ = Message::error(&request, ErrorCode::UnknownAttribute(7), None);
        }
    }
}
