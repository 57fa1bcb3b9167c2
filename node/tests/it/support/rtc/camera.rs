//! A peer's camera: a simulcast track, and the task that films.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pipemesh_proto::node::ConnectionLayout;
use rand::Rng;
use rand::rngs::StdRng;
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::configuration::media_engine::MIME_TYPE_VP8;
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtp;
use rtc::rtp_transceiver::rtp_sender::{
    RTCRtpCodec, RTCRtpCodingParameters, RTCRtpEncodingParameters, RtpCodecKind,
};
use tokio::time::MissedTickBehavior;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::media_stream::track_local::{TrackLocal, TrackLocalEvent};
use webrtc::rtp_transceiver::RtpSender;

use super::Peer;
use crate::support::camera::{Encoding, RIDS};
use crate::support::control::{self, Session, Signaling};
use crate::support::publisher::track;
use crate::support::sdp::VP8;

/// A participant who publishes [`RIDS`].
pub(crate) struct Camera {
    /// Ends the session when it is dropped.
    _session: Session,
    _peer: Peer,
    track: Arc<TrackLocalStaticRTP>,
    sender: Arc<dyn RtpSender>,
    ssrcs: Vec<u32>,
}

/// How a camera films.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Film {
    pub(crate) every: Duration,
    /// One frame in so many is a key frame that nobody asked for; without it, none is.
    pub(crate) key_frames: Option<u32>,
}

/// The task of a camera; dropping it ends the film.
pub(crate) struct Filming(tokio::task::JoinHandle<()>);

impl Drop for Filming {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Camera {
    pub(crate) async fn join(
        signaling: &Signaling,
        room: &str,
        name: &str,
        random: &mut StdRng,
    ) -> Self {
        let open = control::participant(name, room, ConnectionLayout::Single);
        let mut session = signaling.open(open).await;
        let announced = control::camera(&track(name), "camera");
        session.add_track(announced).await;
        let peer = Peer::new().await;
        let ssrcs: Vec<u32> = RIDS.iter().map(|_| random.random()).collect();
        let codings = RIDS
            .iter()
            .zip(&ssrcs)
            .map(|(rid, ssrc)| coding(rid, *ssrc));
        let track = Arc::new(TrackLocalStaticRTP::new(MediaStreamTrack::new(
            "stream".to_owned(),
            "camera".to_owned(),
            "camera".to_owned(),
            RtpCodecKind::Video,
            codings.collect(),
        )));
        let local = Arc::clone(&track) as Arc<dyn TrackLocal>;
        let sender = peer.connection.add_track(local).await.unwrap();
        peer.offer(&mut session).await;
        peer.connected().await;
        Self {
            _session: session,
            _peer: peer,
            track,
            sender,
            ssrcs,
        }
    }

    /// Begins to film.
    pub(crate) async fn film(&self, film: Film, random: &mut StdRng) -> Filming {
        let (track, ssrcs) = (Arc::clone(&self.track), self.ssrcs.clone());
        let parameters = self.sender.get_parameters().await.unwrap().rtp_parameters;
        let id = |name: &str| {
            let mut extensions = parameters.header_extensions.iter();
            let extension = extensions.find(|extension| extension.uri.ends_with(name));
            extension
                .unwrap_or_else(|| panic!("{name} is negotiated"))
                .id as u8
        };
        let ids = (id("sdes:mid"), id("sdes:rtp-stream-id"));
        let mut encodings: Vec<Encoding> = (0..RIDS.len() as u8)
            .map(|number| Encoding::new(number, random))
            .collect();
        let mut random: StdRng = rand::SeedableRng::from_rng(random);
        let asked = listen(Arc::clone(&self.track));
        Filming(tokio::spawn(async move {
            let (begun, mut at) = (Instant::now(), Duration::ZERO);
            let mut frames = tokio::time::interval(film.every);
            frames.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                frames.tick().await;
                // Ticks that are late follow each other closely.
                at = begun.elapsed().max(at + film.every);
                for (encoding, ssrc) in encodings.iter_mut().zip(&ssrcs) {
                    let chosen = film.key_frames.is_some_and(|n| random.random_ratio(1, n));
                    let is_key = asked.lock().unwrap().remove(ssrc) | chosen;
                    for packet in encoding.frame(at, is_key) {
                        let rid = RIDS[usize::from(encoding.number())];
                        let mut header = rtp::Header {
                            version: 2,
                            marker: packet.marker,
                            payload_type: VP8,
                            sequence_number: packet.index as u16,
                            timestamp: packet.timestamp,
                            ssrc: *ssrc,
                            ..Default::default()
                        };
                        header.set_extension(ids.0, "0".into()).unwrap();
                        header.set_extension(ids.1, rid.into()).unwrap();
                        let payload = packet.payload.into();
                        let packet = rtp::Packet { header, payload };
                        // A peer that is closing takes no more.
                        let _ = track.write_rtp(packet).await;
                    }
                }
            }
        }))
    }
}

/// The SSRCs a key frame has been asked for.
fn listen(track: Arc<TrackLocalStaticRTP>) -> Arc<Mutex<BTreeSet<u32>>> {
    let asked = Arc::new(Mutex::new(BTreeSet::new()));
    let noted = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Some(event) = track.poll().await {
            let TrackLocalEvent::OnRtcpPacket(messages) = event else {
                continue;
            };
            let requests = messages.iter().filter_map(|message| {
                let request = message.as_any().downcast_ref::<PictureLossIndication>()?;
                Some(request.media_ssrc)
            });
            noted.lock().unwrap().extend(requests);
        }
    });
    asked
}

fn coding(rid: &str, ssrc: u32) -> RTCRtpEncodingParameters {
    RTCRtpEncodingParameters {
        rtp_coding_parameters: RTCRtpCodingParameters {
            rid: rid.to_owned(),
            ssrc: Some(ssrc),
            ..Default::default()
        },
        codec: RTCRtpCodec {
            mime_type: MIME_TYPE_VP8.to_owned(),
            clock_rate: 90_000,
            ..Default::default()
        },
        ..Default::default()
    }
}
