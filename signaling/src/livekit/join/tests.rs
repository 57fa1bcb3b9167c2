use std::io::Write;

use flate2::write::GzEncoder;
use livekit_protocol::ConnectionSettings;
use livekit_protocol::client_info::Sdk;

use super::*;

fn wrapped(compression: i32, join_request: Vec<u8>) -> String {
    let wrapped = WrappedJoinRequest {
        compression,
        join_request,
    };
    format!("join_request={}", BASE64.encode(wrapped.encode_to_vec()))
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(plain).unwrap();
    gzip.finish().unwrap()
}

fn parse(query: &str) -> Result<Join, InvalidJoin> {
    Join::parse(&Query::parse(query), true, "")
}

#[test]
fn a_join_request_is_read_in_both_wrappings() {
    let request = JoinRequest {
        client_info: Some(ClientInfo {
            sdk: Sdk::Js.into(),
            protocol: 17,
            ..Default::default()
        }),
        connection_settings: Some(ConnectionSettings {
            auto_subscribe: true,
            ..Default::default()
        }),
        reconnect: true,
        participant_sid: "PA_1".to_owned(),
        ..Default::default()
    };
    let plain = request.encode_to_vec();
    for query in [wrapped(0, plain.clone()), wrapped(1, gzip(&plain))] {
        let join = parse(&query).unwrap();
        assert_eq!(join.layout, ConnectionLayout::Single);
        assert_eq!(join.client.protocol(), 17);
        assert!(join.auto_subscribe);
        assert_eq!(join.resume.unwrap().participant_sid, "PA_1");
    }
}

#[test]
fn padding_is_optional() {
    for length in 1..4 {
        let request = JoinRequest {
            metadata: "m".repeat(length),
            ..Default::default()
        };
        let query = wrapped(0, request.encode_to_vec());
        assert!(parse(&query).is_ok());
        assert!(parse(query.trim_end_matches('=')).is_ok());
    }
}

#[test]
fn what_is_wrong_is_named() {
    let check = |query: &str, expected: InvalidJoin| {
        assert_eq!(parse(query).err(), Some(expected), "{expected}");
    };
    check("", InvalidJoin::Missing);
    check("join_request=***", InvalidJoin::Base64);
    check("join_request=_____w", InvalidJoin::Wrapped);
    check(&wrapped(7, vec![]), InvalidJoin::Wrapped);
    check(&wrapped(0, vec![0xff]), InvalidJoin::Unmarshal);
    check(&wrapped(1, b"not gzip".to_vec()), InvalidJoin::Gzip);
    let exact = vec![0; MAX_JOIN_REQUEST];
    check(&wrapped(1, gzip(&exact)), InvalidJoin::Unmarshal);
    let beyond = vec![0; MAX_JOIN_REQUEST + 1];
    check(&wrapped(1, gzip(&beyond)), InvalidJoin::TooLarge);
    check(&wrapped(0, beyond), InvalidJoin::TooLarge);
}

#[test]
fn parameters_of_the_older_path() {
    let attributes = BASE64.encode(r#"{"seat":"12"}"#);
    let query = format!(
        "sdk=android&protocol=13&auto_subscribe=0&adaptive_stream=1&subscriber_allow_pause=0\
         &reconnect=1&sid=PA_2\
         &capabilities=CAP_PACKET_TRAILER,nonsense&attributes={attributes}"
    );
    let join = Join::parse(&Query::parse(&query), false, "").unwrap();
    assert_eq!(join.layout, ConnectionLayout::Dual);
    assert_eq!(join.client.info().sdk, i32::from(Sdk::Android));
    assert_eq!(join.client.info().capabilities.len(), 1);
    assert!(!join.auto_subscribe && join.adaptive_stream && join.never_pause);
    assert_eq!(join.attributes["seat"], "12");
    assert_eq!(join.resume.unwrap().participant_sid, "PA_2");

    let least = Join::parse(&Query::parse(""), false, "").unwrap();
    assert!(least.auto_subscribe && least.resume.is_none() && !least.never_pause);

    let check = |query: &str, expected| {
        let join = Join::parse(&Query::parse(query), false, "");
        assert_eq!(join.err(), Some(expected));
    };
    check("attributes=e30x", InvalidJoin::Attributes);
    check("publish=screen", InvalidJoin::Publish);
}
