use super::*;
use crate::transport::ice::Credentials;
use crate::user::Protocol;

/// A server's answer, as the node's golden files have them.
const ANSWER: &str = "v=0\r
o=- 1 2 IN IP4 127.0.0.1\r
s=-\r
t=0 0\r
a=group:BUNDLE 1 2 4\r
a=ice-lite\r
m=video 9 UDP/TLS/RTP/SAVPF 96 97\r
c=IN IP4 0.0.0.0\r
a=mid:1\r
a=setup:passive\r
a=ice-ufrag:node0\r
a=ice-pwd:secret\r
a=fingerprint:sha-256 5A:5B\r
a=candidate:1 1 udp 2130706431 192.0.2.1 7000 typ host\r
a=candidate:2 1 udp 2130706175 2001:db8::1 7000 typ host\r
a=candidate:3 1 tcp 2130706175 192.0.2.1 7001 typ host tcptype passive\r
a=sendonly\r
a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\r
a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r
a=rtpmap:96 VP8/90000\r
a=rtcp-fb:96 nack\r
a=rtcp-fb:96 nack pli\r
a=rtpmap:97 rtx/90000\r
a=fmtp:97 apt=96\r
a=msid:PA_bob TR_face\r
a=ssrc-group:FID 3423430986 843631067\r
a=ssrc:3423430986 cname:PA_bob\r
a=ssrc:843631067 cname:PA_bob\r
m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r
a=mid:2\r
m=audio 0 UDP/TLS/RTP/SAVPF 111\r
a=mid:4\r
a=inactive\r
";

#[test]
fn a_servers_answer_is_read() {
    let answer = Description::parse(ANSWER);
    let end = answer.remote_end(Protocol::Udp).unwrap();
    assert_eq!((end.credentials.ufrag.as_str(), end.data), ("node0", true));
    assert_eq!(end.fingerprint, "5A:5B");
    let candidates: Vec<String> = end.candidates.iter().map(ToString::to_string).collect();
    assert_eq!(candidates, ["192.0.2.1:7000", "[2001:db8::1]:7000"]);
    let over_tcp = answer.remote_end(Protocol::Tcp).unwrap();
    let candidates: Vec<String> = over_tcp
        .candidates
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(candidates, ["192.0.2.1:7001"]);
    let video = &answer.sections[0];
    assert_eq!((video.mid.as_str(), video.rejected), ("1", false));
    assert!(video.direction.send && !video.direction.receive);
    let (numbered, codec) = video.formats().next().unwrap();
    assert_eq!(numbered, Format::Vp8.numbered());
    assert_eq!((codec.nack, codec.transport_cc), (true, false));
    assert_eq!((video.extensions.mid, video.extensions.rid), (4, 0));
    assert_eq!(video.track.as_deref(), Some("TR_face"));
    assert_eq!(video.ssrcs, [3_423_430_986, 843_631_067]);
    assert_eq!(video.repair, Some((3_423_430_986, 843_631_067)));
    assert!(answer.sections[2].rejected);
}

#[test]
fn what_is_written_can_be_read() {
    let credentials = Credentials {
        ufrag: "u".to_owned(),
        password: "p".to_owned(),
    };
    let local = Local {
        credentials: &credentials,
        fingerprint: "AA",
        is_answer: false,
        version: 1,
    };
    let send = Direction {
        send: true,
        receive: false,
    };
    let camera = Outline {
        track: Some("cam".to_owned()),
        rids: vec!["q".to_owned(), "f".to_owned()],
        ..Outline::offer(Media::Video, "3".to_owned(), send)
    };
    let data = Outline::offer(Media::Application, "5".to_owned(), send);
    let gone = Outline {
        rejected: true,
        ..Outline::offer(Media::Audio, "0".to_owned(), send)
    };
    let text = write(&local, &[gone, camera, data]);
    assert!(text.contains("a=group:BUNDLE 3 5\r\n"), "{text}");
    let read = Description::parse(&text);
    assert!(read.sections[0].rejected);
    let camera = &read.sections[1];
    assert_eq!(
        (camera.rids.len(), camera.track.as_deref()),
        (2, Some("cam"))
    );
    let formats: Vec<Numbered> = camera.formats().map(|(numbered, _)| numbered).collect();
    assert_eq!(
        formats,
        [Format::Vp8, Format::Vp9, Format::H264, Format::Av1].map(Format::numbered)
    );
    assert_eq!(
        camera.extensions,
        Extensions {
            audio_level: 0,
            ..Extensions::OURS
        }
    );
    assert!(read.remote_end(Protocol::Udp).unwrap().data);
}

#[test]
fn the_rtc_crate_reads_our_offers() {
    let credentials = Credentials {
        ufrag: "u".to_owned(),
        password: "p".to_owned(),
    };
    let local = Local {
        credentials: &credentials,
        fingerprint: "AA",
        is_answer: true,
        version: 7,
    };
    let receive = Direction {
        send: false,
        receive: true,
    };
    let section = |media, mid: &str| Outline::offer(media, mid.to_owned(), receive);
    let text = write(
        &local,
        &[section(Media::Audio, "0"), section(Media::Video, "1")],
    );
    let read = rtc::sdp::description::session::SessionDescription::unmarshal(
        &mut std::io::Cursor::new(text.as_bytes()),
    );
    assert_eq!(read.unwrap().media_descriptions.len(), 2);
}
