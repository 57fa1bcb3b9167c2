//! A client as the `webrtc` crate makes it: one peer connection, what it sends and what it receives.

mod camera;
mod requests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use pipemesh_proto::node::OfferCreated;
use rtc::peer_connection::configuration::media_engine::MIME_TYPE_VP8;
use rtc::peer_connection::transport::RTCDtlsRole;
use rtc::rtp;
use rtc::rtp_transceiver::rtp_sender::{
    RTCPFeedback, RTCRtpCodec, RTCRtpCodecParameters, RTCRtpHeaderExtensionCapability, RtpCodecKind,
};
use tokio::sync::Notify;
use webrtc::data_channel::{DataChannel, DataChannelEvent};
use webrtc::media_stream::track_remote::{TrackRemote, TrackRemoteEvent};
use webrtc::peer_connection::{
    MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler,
    RTCPeerConnectionState, RTCSessionDescription, Registry, SettingEngineBuilder,
    register_default_interceptors,
};

use super::camera::Mark;
use super::control::Session;
use super::recording::Recorded;
use super::{sdp, within};
pub(crate) use camera::{Camera, Film};

pub(crate) struct Peer {
    connection: Arc<dyn PeerConnection>,
    inbox: Arc<Inbox>,
}

/// What came from the node.
#[derive(Default)]
struct Inbox {
    received: Mutex<Received>,
    changed: Notify,
}

#[derive(Default)]
pub(crate) struct Received {
    pub(crate) connected: bool,
    /// In order of arrival.
    pub(crate) rtp: Vec<rtp::Packet>,
    /// Open data channels, by label.
    channels: BTreeMap<String, Arc<dyn DataChannel>>,
    /// Label and content, in order of arrival.
    pub(crate) messages: Vec<(String, Vec<u8>)>,
}

impl Received {
    pub(crate) fn is_open(&self, label: &str) -> bool {
        self.channels.contains_key(label)
    }
}

impl Inbox {
    fn note(&self, what: impl FnOnce(&mut Received)) {
        what(&mut self.received.lock().unwrap());
        self.changed.notify_waiters();
    }
}

struct Handler(Arc<Inbox>);

#[tonic::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        let connected = state == RTCPeerConnectionState::Connected;
        self.0.note(|received| received.connected = connected);
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        let inbox = Arc::clone(&self.0);
        tokio::spawn(async move {
            while let Some(event) = track.poll().await {
                if let TrackRemoteEvent::OnRtpPacket(packet) = event {
                    inbox.note(|received| received.rtp.push(packet));
                }
            }
        });
    }

    async fn on_data_channel(&self, channel: Arc<dyn DataChannel>) {
        listen(Arc::clone(&self.0), channel);
    }
}

fn listen(inbox: Arc<Inbox>, channel: Arc<dyn DataChannel>) {
    tokio::spawn(async move {
        let label = channel.label().await.unwrap();
        while let Some(event) = channel.poll().await {
            match event {
                DataChannelEvent::OnOpen => {
                    let opened = (label.clone(), Arc::clone(&channel));
                    inbox.note(|received| received.channels.extend([opened]));
                }
                DataChannelEvent::OnMessage(message) => {
                    let message = (label.clone(), message.data.to_vec());
                    inbox.note(|received| received.messages.push(message));
                }
                _ => {}
            }
        }
    });
}

impl Peer {
    pub(crate) async fn new() -> Self {
        let mut engine = media_engine();
        let registry = register_default_interceptors(Registry::new(), &mut engine).unwrap();
        let inbox = Arc::new(Inbox::default());
        // To an ICE-lite offerer it would be the DTLS server, unlike any browser.
        let settings = SettingEngineBuilder::new().with_answering_dtls_role(RTCDtlsRole::Client);
        let connection = PeerConnectionBuilder::new()
            .with_setting_engine(settings.build())
            .with_media_engine(engine)
            .with_interceptor_registry(requests::deliver(registry))
            .with_handler(Arc::new(Handler(Arc::clone(&inbox))))
            .with_udp_addrs(vec!["127.0.0.1:0"])
            .build()
            .await
            .unwrap();
        Self {
            connection: Arc::new(connection),
            inbox,
        }
    }

    /// Makes an offer, and takes the node's answer.
    pub(crate) async fn offer(&self, session: &mut Session) {
        let offer = self.connection.create_offer(None).await.unwrap();
        let sdp = offer.sdp.clone();
        self.connection.set_local_description(offer).await.unwrap();
        let answer = session.offer(&sdp).await;
        let answer = RTCSessionDescription::answer(answer.sdp).unwrap();
        self.connection
            .set_remote_description(answer)
            .await
            .unwrap();
    }

    /// Answers the node's next offer.
    pub(crate) async fn answer(&self, session: &mut Session) -> OfferCreated {
        let offer = session.next_offer().await;
        let sdp = RTCSessionDescription::offer(offer.sdp.clone()).unwrap();
        self.connection.set_remote_description(sdp).await.unwrap();
        let answer = self.connection.create_answer(None).await.unwrap();
        let sdp = answer.sdp.clone();
        self.connection.set_local_description(answer).await.unwrap();
        session.accept(offer.offer_id, sdp).await;
        offer
    }

    pub(crate) async fn connected(&self) {
        let look = |received: &Received| received.connected.then_some(());
        self.until("the peer is connected", look).await;
    }

    /// Opens a channel of the client's own.
    pub(crate) async fn open_channel(&self, label: &str, lossy: bool) {
        let options = rtc::data_channel::RTCDataChannelInit {
            ordered: !lossy,
            max_retransmits: lossy.then_some(0),
            ..Default::default()
        };
        let channel = self.connection.create_data_channel(label, Some(options));
        listen(Arc::clone(&self.inbox), channel.await.unwrap());
    }

    /// Sends on a channel as soon as it is open.
    pub(crate) async fn send(&self, label: &str, message: &[u8]) {
        let look = |received: &Received| received.channels.get(label).cloned();
        let channel = self.until(&format!("{label} is open"), look).await;
        channel.send(message.into()).await.unwrap();
    }

    pub(crate) fn received(&self) -> MutexGuard<'_, Received> {
        self.inbox.received.lock().unwrap()
    }

    /// Waits until what has been received is so.
    pub(crate) async fn until<T>(
        &self,
        what: &str,
        mut look: impl FnMut(&Received) -> Option<T>,
    ) -> T {
        let found = async {
            loop {
                let mut changed = std::pin::pin!(self.inbox.changed.notified());
                changed.as_mut().enable();
                if let Some(found) = look(&self.received()) {
                    return found;
                }
                changed.await;
            }
        };
        within(what, found).await
    }

    /// What has come under an SSRC, in order of arrival.
    pub(crate) fn recorded(&self, ssrc: u32) -> Vec<Recorded> {
        let received = self.received();
        let of_stream = received.rtp.iter().filter(|p| p.header.ssrc == ssrc);
        of_stream.map(record).collect()
    }
}

fn record(packet: &rtp::Packet) -> Recorded {
    Recorded {
        index: packet.header.sequence_number.into(),
        timestamp: packet.header.timestamp,
        mark: Mark::read(&packet.payload),
    }
}

fn media_engine() -> MediaEngine {
    let mut engine = MediaEngine::default();
    let feedback = |parameter: &str| RTCPFeedback {
        typ: "nack".to_owned(),
        parameter: parameter.to_owned(),
    };
    let codec = RTCRtpCodecParameters {
        rtp_codec: RTCRtpCodec {
            mime_type: MIME_TYPE_VP8.to_owned(),
            clock_rate: 90_000,
            channels: 0,
            sdp_fmtp_line: String::new(),
            rtcp_feedback: vec![feedback(""), feedback("pli")],
        },
        payload_type: sdp::VP8,
    };
    engine.register_codec(codec, RtpCodecKind::Video).unwrap();
    for name in ["mid", "rtp-stream-id", "repaired-rtp-stream-id"] {
        let uri = format!("urn:ietf:params:rtp-hdrext:sdes:{name}");
        let extension = RTCRtpHeaderExtensionCapability { uri };
        let registered = engine.register_header_extension(extension, RtpCodecKind::Video, None);
        registered.unwrap();
    }
    engine
}
