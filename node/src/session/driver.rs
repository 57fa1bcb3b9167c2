//! The task of one session: streams of signaling come and go beneath it, the shard reports to it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use pipemesh_proto::ids::{SessionId, TrackId};
use pipemesh_proto::node::session_event::Event as Told;
use pipemesh_proto::node::session_request::Request;
use pipemesh_proto::node::{
    CloseReason, Closed, Code, SessionEvent, SessionRequest, SessionSummary,
};
use tokio::sync::oneshot;

use super::fence::Fence;
use super::{Effect, Refusal, Session};
use crate::control::{Requests, refuse};
use crate::mailbox;
use crate::metrics::RequestMetrics;
use crate::pipe::{Ask, Elsewhere, Pipes};
use crate::sessions::Reservation;
use crate::shard::{Counters, Event, ShardHandle};

/// What waits for a session, beside requests, which wait in their stream. More are refused: a session that
/// does not answer for so long is asked in vain.
pub(crate) const INBOX: usize = 256;
/// Events that wait for signaling to take them. When it is full the stream is given up: whoever attaches
/// next gets a snapshot instead.
pub(crate) const STREAM: usize = 1024;

/// A stream that holds the session, or did.
#[derive(Debug)]
pub(crate) struct Attachment {
    pub(crate) events: mailbox::Sender<SessionEvent>,
    pub(crate) requests: Requests,
}

#[derive(Debug)]
pub(crate) enum Input {
    Attach {
        request_id: u64,
        claim: u64,
        attachment: Box<Attachment>,
    },
    Summarize(oneshot::Sender<SessionSummary>),
    /// Somebody looks which tracks the session is subscribed to.
    ListSubscriptions(oneshot::Sender<Vec<TrackId>>),
    Close(CloseReason),
    /// A track of another node that the session wants, published by this one, is described …
    TrackKnown(TrackId, SessionId),
    /// … or not to be had, or no more.
    TrackGone(TrackId, SessionId),
}

pub(crate) struct Driver {
    pub(crate) session: Session,
    pub(crate) shard: ShardHandle,
    pub(crate) shard_number: u32,
    pub(crate) inbox: mailbox::Receiver<Input>,
    pub(crate) shard_events: mailbox::Receiver<Event>,
    pub(crate) attachment: Option<Attachment>,
    pub(crate) fence: Fence,
    pub(crate) grace: Duration,
    /// When the session ends unless somebody attaches.
    pub(crate) abandoned_at: Option<Instant>,
    pub(crate) metrics: RequestMetrics,
    pub(crate) pipes: Option<Pipes>,
    /// For whom it asks: its own inbox.
    pub(crate) own: mailbox::Sender<Input>,
}

impl Driver {
    /// Runs until the session is over, and gives its place back.
    // In a box: what a task is spawned with lies in it twice.
    pub(crate) async fn run(mut self: Box<Self>, reservation: Reservation) {
        let mut is_over = self.carry_out(None).await;
        while !is_over {
            let deadline = [self.session.poll_timeout(), self.abandoned_at]
                .into_iter()
                .flatten()
                .min();
            let timer = async {
                match deadline {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            let request = async {
                match &mut self.attachment {
                    Some(attachment) => attachment.requests.message().await,
                    None => std::future::pending().await,
                }
            };
            let mut counted = None;
            tokio::select! {
                // Who takes the session over or ends it does not wait for its stream, and a client's wish
                // to leave not for events.
                biased;
                Some(input) = self.inbox.recv() => self.handle_input(input),
                request = request => match request {
                    Ok(Some(request)) => counted = self.handle_request(request, Instant::now()),
                    // A stream that breaks and one that ends mean the same: signaling is not there any more.
                    Ok(None) => self.detach(),
                    Err(status) => {
                        let participant = &self.session.identity().participant;
                        tracing::warn!(%participant, %status, "a stream cannot be read");
                        self.detach();
                    }
                },
                event = self.shard_events.recv() => match event {
                    Some(event) => {
                        self.step(|session| session.handle_shard_event(event, Instant::now()));
                    }
                    // The shard has closed the session by itself.
                    None => self.session.close(0, CloseReason::Fault, "the shard gave the session up"),
                },
                () = timer => self.handle_timeout(Instant::now()),
            }
            is_over = self.carry_out(counted).await;
        }
        if let Some(pipes) = &self.pipes {
            let session = self.session.identity().session.clone();
            pipes.ask(Ask::Forget(session)).await;
        }
        // Its place is another's when nothing is left of it.
        drop(self);
        drop(reservation);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.step(|session| session.handle_timeout(now));
        if self.abandoned_at.is_some_and(|at| at <= now) {
            let message = "no signaling process came back for the session";
            self.session.close(0, CloseReason::Abandoned, message);
        }
    }

    /// Lets the session handle something. If it panics, a bug was met: the session ends, and says so.
    fn step(&mut self, handle: impl FnOnce(&mut Session)) {
        if catch_unwind(AssertUnwindSafe(|| handle(&mut self.session))).is_ok() {
            return;
        }
        Counters::add(&self.shard.counters().panics, 1);
        let participant = &self.session.identity().participant;
        tracing::error!(%participant, "closing the session after a panic");
        self.session
            .close(0, CloseReason::Fault, "the session met a bug");
    }

    /// Carries a request out; answers what to count it as.
    fn handle_request(
        &mut self,
        request: SessionRequest,
        now: Instant,
    ) -> Option<(&'static str, Instant)> {
        let request_id = request.request_id;
        match request.request {
            Some(request) if request_id != 0 => {
                let name = request_name(&request);
                self.step(|session| session.handle_request(request_id, request, now));
                Some((name, now))
            }
            _ => {
                let refusal = match request_id {
                    0 => Refusal::new(Code::InvalidArgument, "request_id is 0"),
                    _ => Refusal::new(Code::Unimplemented, "unknown request"),
                };
                self.session.refuse(request_id, refusal);
                None
            }
        }
    }

    fn handle_input(&mut self, input: Input) {
        match input {
            Input::Attach {
                request_id,
                claim,
                attachment,
            } => self.attach(request_id, claim, *attachment),
            Input::Summarize(reply) if reply.is_closed() => {}
            Input::Summarize(reply) => {
                let (attached, shard) = (self.attachment.is_some(), self.shard_number);
                // The asker may have gone.
                self.step(|session| drop(reply.send(session.summary(attached, shard))));
            }
            // The asker may have gone.
            Input::ListSubscriptions(reply) => drop(reply.send(self.session.subscribed())),
            Input::Close(reason) => self.session.close(0, reason, ""),
            Input::TrackKnown(track, of) => {
                self.step(|session| session.handle_track_known(&track, &of, Instant::now()));
            }
            Input::TrackGone(track, of) => {
                self.step(|session| session.handle_track_gone(&track, &of, Instant::now()));
            }
        }
    }

    fn attach(&mut self, request_id: u64, claim: u64, attachment: Attachment) {
        if let Err(refusal) = self.fence.pass(claim) {
            let participant = &self.session.identity().participant;
            tracing::info!(%participant, reason = refusal.message, "who has lost the session is refused");
            // The answer ends the stream: its only sender goes with it.
            return refuse(&attachment.events, request_id, refusal);
        }
        if let Some(former) = self.attachment.replace(attachment) {
            let closed = Closed {
                reason: CloseReason::TakenOver.into(),
                message: String::new(),
            };
            let event = SessionEvent {
                request_id: 0,
                event: Some(Told::Closed(closed)),
            };
            // It may be gone without having said so.
            let _ = former.events.try_send(event);
        }
        self.abandoned_at = None;
        self.session.attach(request_id);
    }

    fn detach(&mut self) {
        let participant = &self.session.identity().participant;
        tracing::info!(%participant, "the session's stream broke; the session goes on");
        self.attachment = None;
        self.abandoned_at = Some(Instant::now() + self.grace);
    }

    /// Does what the last calls led to; `true`: the session is over.
    async fn carry_out(&mut self, request: Option<(&'static str, Instant)>) -> bool {
        let mut is_over = false;
        for effect in self.session.take_effects() {
            match effect {
                Effect::Tell(event) => {
                    if let (Some((name, received)), 1..) = (request, event.request_id) {
                        let result = match &event.event {
                            Some(Told::Refused(refused)) => refused.code().as_str_name(),
                            _ => "OK",
                        };
                        self.metrics.count(name, result, received.elapsed());
                    }
                    self.tell(event);
                }
                Effect::Shard(command) => self.shard.send(command).await,
                Effect::Want(track, elsewhere) => self.want(track, elsewhere).await,
                Effect::Unwant(track) => {
                    if let Some(pipes) = &self.pipes {
                        let session = self.session.identity().session.clone();
                        pipes.ask(Ask::Unwant { session, track }).await;
                    }
                }
                Effect::Hear(nodes) => {
                    if let Some(pipes) = self.pipes.clone() {
                        let identity = self.session.identity();
                        let hear = Ask::Hear {
                            session: identity.session.clone(),
                            room: identity.room.clone(),
                            nodes,
                        };
                        pipes.ask(hear).await;
                    }
                }
                Effect::End => is_over = true,
            }
        }
        is_over
    }

    async fn want(&mut self, track: TrackId, elsewhere: Elsewhere) {
        let Some(pipes) = self.pipes.clone() else {
            return;
        };
        let identity = self.session.identity();
        let want = Ask::Want {
            session: identity.session.clone(),
            shard: identity.shard,
            track,
            elsewhere,
            inbox: self.own.clone(),
        };
        pipes.ask(want).await;
    }

    fn tell(&mut self, event: SessionEvent) {
        let Some(attachment) = &self.attachment else {
            return;
        };
        if attachment.events.try_send(event).is_err() {
            self.detach();
        }
    }
}

fn request_name(request: &Request) -> &'static str {
    match request {
        Request::Open(_) => "open",
        Request::Attach(_) => "attach",
        Request::Offer(_) => "offer",
        Request::Answer(_) => "answer",
        Request::Trickle(_) => "trickle",
        Request::AddTrack(_) => "add_track",
        Request::RemoveTrack(_) => "remove_track",
        Request::Subscribe(_) => "subscribe",
        Request::Unsubscribe(_) => "unsubscribe",
        Request::MuteTrack(_) => "mute_track",
        Request::RestartIce(_) => "restart_ice",
        Request::SendData(_) => "send_data",
        Request::Configure(_) => "configure",
        Request::HearNodes(_) => "hear_nodes",
        Request::Close(_) => "close",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pipemesh_proto::node::ConnectionLayout;

    use super::super::tests::Bench;
    use super::*;
    use crate::shard::Prepared;
    use crate::status::Status;
    use crate::tracks::Tracks;

    /// A session that a process has opened by claim 5.
    fn driver(shard: &Prepared) -> (Driver, mailbox::Receiver<SessionEvent>) {
        let tracks: Arc<Tracks> = Arc::default();
        let (id, region) = ("node-a".parse().unwrap(), "eu".parse().unwrap());
        let status = Status::new(id, region, 1, Vec::new(), Instant::now());
        let (own, inbox) = mailbox::channel(1);
        let (_shard_events, shard_events) = mailbox::channel(1);
        let (attachment, told) = attachment();
        let driver = Driver {
            session: Bench::new("ada", ConnectionLayout::Dual, &tracks).session,
            shard: shard.handle.clone(),
            shard_number: 0,
            inbox,
            shard_events,
            attachment: Some(attachment),
            fence: Fence::new(5),
            grace: Duration::ZERO,
            abandoned_at: None,
            metrics: RequestMetrics::new(&status).unwrap(),
            pipes: None,
            own,
        };
        (driver, told)
    }

    /// A stream of a signaling process, and what it is told.
    fn attachment() -> (Attachment, mailbox::Receiver<SessionEvent>) {
        let (events, told) = mailbox::channel(8);
        let requests = Requests::new(tonic::body::Body::empty());
        (Attachment { events, requests }, told)
    }

    #[tokio::test]
    async fn a_panic_ends_the_session_and_nothing_else() {
        let shard = Prepared::new(Vec::new()).unwrap();
        let (mut driver, mut told) = driver(&shard);
        driver.step(|_| panic!("on purpose"));
        assert!(driver.carry_out(None).await, "the session is over");
        let event = told.try_recv().unwrap().event;
        assert!(
            matches!(event, Some(Told::Closed(closed)) if closed.reason() == CloseReason::Fault)
        );
        assert_eq!(Counters::get(&shard.handle.counters().panics), 1);
    }

    /// It was frozen, say, and another one went on meanwhile.
    #[tokio::test]
    async fn who_has_lost_the_session_does_not_get_it_back() {
        let shard = Prepared::new(Vec::new()).unwrap();
        let (mut driver, mut first) = driver(&shard);
        let (attachment_of_second, mut second) = attachment();
        driver.attach(1, 7, attachment_of_second);
        driver.carry_out(None).await;
        let told = first.try_recv().unwrap().event;
        assert!(
            matches!(&told, Some(Told::Closed(closed)) if closed.reason() == CloseReason::TakenOver),
            "{told:?}"
        );
        let told = second.try_recv().unwrap().event;
        assert!(matches!(told, Some(Told::Snapshot(_))), "{told:?}");

        let (attachment_of_first, mut first) = attachment();
        driver.attach(1, 5, attachment_of_first);
        driver.carry_out(None).await;
        let told = first.try_recv().unwrap();
        assert_eq!(told.request_id, 1);
        assert!(
            matches!(&told.event, Some(Told::Refused(refused)) if refused.code() == Code::TakenOver),
            "{told:?}"
        );
        assert_eq!(first.recv().await, None, "its stream ends");
        assert!(second.try_recv().is_none(), "nobody else notices");
        assert!(driver.attachment.is_some());
    }

    #[tokio::test]
    async fn nobody_else_is_waited_for_because_somebody_was_refused() {
        let shard = Prepared::new(Vec::new()).unwrap();
        let (mut driver, _) = driver(&shard);
        driver.detach();
        let abandoned_at = driver.abandoned_at;
        driver.attach(1, 4, attachment().0);
        assert_eq!(driver.abandoned_at, abandoned_at);
        assert!(driver.attachment.is_none() && abandoned_at.is_some());
    }
}
