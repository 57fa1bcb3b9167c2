//! Two people in a call: Ann's camera, and Bob who watches it.

use rand::rngs::StdRng;

use super::control::{Signaling, layers};
use super::publisher::Publisher;
use super::recording;
use super::sdp::Sent;
use super::subscriber::Subscriber;

/// Frames from one key frame to the next.
const KEY_EVERY: u32 = 25;

pub(crate) struct Call {
    pub(crate) ann: Publisher,
    pub(crate) bob: Subscriber,
    /// What Bob is sent of her camera.
    pub(crate) stream: Sent,
    /// Frames that have been sent.
    pub(crate) frames: u32,
}

impl Call {
    pub(crate) async fn begin(signaling: &Signaling, room: &str, random: &mut StdRng) -> Self {
        let ann = Publisher::join(signaling, room, "ann", &[], random).await;
        let bob = Subscriber::join(signaling, room, "bob").await;
        Self::between(ann, bob).await
    }

    /// Between people who have joined as Ann and Bob.
    pub(crate) async fn between(ann: Publisher, mut bob: Subscriber) -> Self {
        let stream = bob.subscribe("TR_ann", layers(0)).await;
        let mut call = Self {
            ann,
            bob,
            stream,
            frames: 0,
        };
        call.goes_on().await;
        call
    }

    /// A frame arrives, now and then a key frame; what was sent to the node before it has been dealt with.
    pub(crate) async fn goes_on(&mut self) {
        self.ann.send_frames(self.frames.is_multiple_of(KEY_EVERY));
        self.bob.frame(self.stream.ssrc, 0, self.frames).await;
        self.frames += 1;
    }

    /// The same, for however long: what has come is checked and forgotten before each key frame.
    pub(crate) async fn goes_on_and_on(&mut self) {
        if self.frames.is_multiple_of(KEY_EVERY) {
            self.check();
            self.ann.wire.received().forget();
            self.bob.wire.received().forget();
        }
        self.goes_on().await;
    }

    /// Nothing that Bob has got was torn, and the order of it is that of a receiver's stream.
    pub(crate) fn check(&self) {
        recording::check(&self.bob.recorded(self.stream.ssrc));
        let received = self.bob.wire.received();
        assert!(received.refused.is_empty(), "{:?}", received.refused);
    }
}
