//! What concerns the connection as a whole.

use super::*;

#[test]
fn other_credentials_restart_ice() {
    let mut answerer = answerer();
    let mut client = client(&[('a', None)]);
    exchange(&mut client, &mut answerer);
    client.ufrag = 1;
    let answer = answerer
        .handle_offer(&client.offer(), || credentials(1))
        .unwrap();
    assert!(answer.restarted_ice && answer.sdp.contains("a=ice-ufrag:node1\r\n"));
    assert_eq!(answer.exchange.plan.remote.ufrag, "user1");
    let answer = exchange(&mut client, &mut answerer);
    assert!(!answer.restarted_ice && answer.sdp.contains("a=ice-ufrag:node1\r\n"));
}

#[test]
fn data_is_agreed_on() {
    fn check(line: &str, expected: u32) {
        let offer = client(&[]).offer() + line;
        let plan = answer(&mut answerer(), &offer).exchange.plan.data.unwrap();
        assert_eq!(
            (plan.remote_port, plan.max_message_size),
            (5000, expected),
            "{line}"
        );
    }
    check("", 65_536);
    check("a=max-message-size:262144\r\n", 262_144);
    check("a=max-message-size:0\r\n", u32::MAX);
    check("a=max-message-size:99999999999\r\n", u32::MAX);
}

#[test]
fn what_is_not_served_is_rejected() {
    let offer = client(&[('v', None), ('a', None)]).offer();
    let only_unknown = offer.replace("VP8", "H265").replace("VP9", "H265");
    let only_unknown = only_unknown.replace("H264", "H265").replace("AV1", "H265");
    let answer = answer(&mut answerer(), &only_unknown);
    let ports: Vec<_> = sections(&answer.sdp)
        .iter()
        .map(|section| port(section))
        .collect();
    assert_eq!(ports, ["0", "9", "9"]);
    assert!(answer.sdp.contains("a=group:BUNDLE 1 data\r\n"));
    assert!(
        sections(&answer.sdp)[1].contains("a=candidate:"),
        "the first that lives has them"
    );
}

#[test]
fn refusals_name_the_section() {
    fn check(change: impl Fn(String) -> String, expected: &str) {
        let mut answerer = answerer();
        let offer = change(client(&[('a', None), ('v', Some("cam"))]).offer());
        let before = answerer.clone();
        let refused = answerer
            .handle_offer(&offer, || credentials(1))
            .unwrap_err();
        assert_eq!(refused.to_string(), expected);
        assert_eq!(answerer, before, "a refused offer changes nothing");
    }
    check(|_| "hello".to_owned(), "line 1: expected a letter and '='");
    check(|offer| offer.replace("v=0", "v=1"), "line 1: expected v=0");
    check(
        |offer| offer.replace("BUNDLE 0 1", "BUNDLE 0"),
        "m-section 1 (mid \"1\"): expected to be in the one a=group:BUNDLE",
    );
    check(
        |offer| offer.replace("a=rtcp-mux\r\n", ""),
        "m-section 0 (mid \"0\"): expected a=rtcp-mux",
    );
    check(
        |offer| offer.replace("actpass", "passive"),
        "m-section 0 (mid \"0\"): expected a=setup:actpass or a=setup:active: the node is the DTLS server",
    );
    check(
        |offer| offer.replace("a=fingerprint:sha-256", "a=fingerprint:sha-1"),
        "m-section 0 (mid \"0\"): expected a=fingerprint with sha-256, sha-384 or sha-512",
    );
    check(
        |offer| offer.replace("a=ice-pwd:pppp", "a=ice-pwd:p\r\na=x:"),
        "m-section 0 (mid \"0\"): expected a=ice-ufrag of 4 to 256 and a=ice-pwd of 22 to 256 visible characters",
    );
    check(
        |offer| offer.replace("a=mid:1\r\n", ""),
        "m-section 1 (mid \"\"): expected a=mid of 1 to 64 visible characters",
    );
    check(
        |offer| offer.replace("a=mid:1\r\n", "a=mid:0\r\n"),
        "m-section 1 (mid \"0\"): expected a mid that no other m-section has",
    );
    check(
        |offer| offer.replace("t=0 0\r\n", "t=0 0\r\na=ice-lite\r\n"),
        "session description: expected a full ICE agent: the node is ice-lite",
    );
    check(
        |offer| offer.replace("m=video 9", "m=video 70000"),
        "line 24: expected a port from 0 to 65535",
    );
    check(
        |offer| offer.split("m=").next().unwrap().to_owned(),
        "session description: expected an m-section",
    );
    check(
        |offer| offer + &"m=audio 0 x 0\r\n".repeat(510),
        "session description: expected at most 512 m-sections",
    );
}
