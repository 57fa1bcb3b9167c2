//! Each call twice: to the node, and to the echo.

use std::time::{Duration, Instant};

use pipemesh_proto::node::session_event::Event;
use pipemesh_proto::node::session_request::Request;
use pipemesh_proto::node::{Done, OfferCreated, SessionEvent, SessionRequest, Trickle};
use prost::Message;
use tonic::{Response, Status};

use super::echo::{Echo, Replies};
use super::stream::{Client, Stream};
use super::table::{Sample, Table};

pub(crate) struct Beside {
    pub(crate) node: Client,
    pub(crate) echo: Client,
    replies: Echo,
    echo_stream: Stream,
    table: Table,
}

impl Beside {
    pub(crate) async fn new(node: Client, echo: Client, replies: Echo) -> anyhow::Result<Self> {
        let first = Request::Trickle(Trickle::default());
        let (echo_stream, _) = Stream::begin(echo.clone(), first).await?;
        Ok(Self {
            node,
            echo,
            replies,
            echo_stream,
            table: Table::default(),
        })
    }

    /// Forgets what has been measured.
    pub(crate) fn forget(&mut self) {
        self.table = Table::default();
    }

    pub(crate) fn table(self) -> Table {
        self.table
    }

    /// A request on a stream that is there.
    pub(crate) async fn ask(
        &mut self,
        call: &'static str,
        stream: &mut Stream,
        request: Request,
    ) -> anyhow::Result<()> {
        let again = request.clone();
        self.settle().await?;
        let begin = Instant::now();
        let answer = stream.ask(request).await?;
        let node = begin.elapsed();

        self.ask_echo(call, again, answer, node).await
    }

    /// A request that leads to an offer of the node's: until that has come. The echo answers with it.
    pub(crate) async fn ask_for_offer(
        &mut self,
        call: &'static str,
        stream: &mut Stream,
        request: Request,
    ) -> anyhow::Result<OfferCreated> {
        let again = request.clone();
        self.settle().await?;
        let begin = Instant::now();
        stream.ask(request).await?;
        let offer = stream.next_offer().await?;
        let node = begin.elapsed();

        let told = SessionEvent {
            request_id: 1,
            event: Some(Event::OfferCreated(offer.clone())),
        };
        self.ask_echo(call, again, told, node).await?;
        Ok(offer)
    }

    /// Asks the echo the same, which answers the same, and notes how long both took.
    async fn ask_echo(
        &mut self,
        call: &'static str,
        request: Request,
        answer: SessionEvent,
        node: Duration,
    ) -> anyhow::Result<()> {
        let sample = sample(&request, &answer);
        self.settle().await?;
        self.replies.replies().event = answer;
        let begin = Instant::now();
        self.echo_stream.ask(request).await?;
        let echo = begin.elapsed();
        self.table.add(
            call,
            Sample {
                node,
                echo,
                ..sample
            },
        );
        Ok(())
    }

    /// A request that begins a stream.
    pub(crate) async fn begin(
        &mut self,
        call: &'static str,
        request: Request,
    ) -> anyhow::Result<Stream> {
        let again = request.clone();
        let (node_client, echo_client) = (self.node.clone(), self.echo.clone());
        self.settle().await?;
        let begin = Instant::now();
        let (stream, answer) = Stream::begin(node_client, request).await?;
        let node = begin.elapsed();

        let sample = sample(&again, &answer);
        self.settle().await?;
        self.replies.replies().event = answer;
        let begin = Instant::now();
        let _echo_stream = Stream::begin(echo_client, again).await?;
        let echo = begin.elapsed();
        self.table.add(
            call,
            Sample {
                node,
                echo,
                ..sample
            },
        );
        Ok(stream)
    }

    /// A call without a stream; `remember` tells the echo what it answers.
    pub(crate) async fn unary<T: Message>(
        &mut self,
        call: &'static str,
        request: &impl Message,
        (to_node, to_echo): (
            impl Future<Output = Result<Response<T>, Status>>,
            impl Future<Output = Result<Response<T>, Status>>,
        ),
        remember: impl FnOnce(&mut Replies, T),
    ) -> anyhow::Result<()> {
        self.settle().await?;
        let begin = Instant::now();
        let answer = to_node.await?.into_inner();
        let node = begin.elapsed();

        let (request_bytes, answer_bytes) = (request.encoded_len(), answer.encoded_len());
        self.settle().await?;
        remember(&mut self.replies.replies(), answer);
        let begin = Instant::now();
        to_echo.await?;
        let echo = begin.elapsed();
        let sample = Sample {
            request_bytes,
            answer_bytes,
            node,
            echo,
        };
        self.table.add(call, sample);
        Ok(())
    }

    /// One exchange that is not counted: each that is begins with threads in the same state, and with
    /// nothing left to do for the one before.
    async fn settle(&mut self) -> anyhow::Result<()> {
        self.replies.replies().event = SessionEvent {
            request_id: 0,
            event: Some(Event::Done(Done {})),
        };
        let nothing = Request::Trickle(Trickle::default());
        self.echo_stream.ask(nothing).await?;
        Ok(())
    }
}

/// The sizes of an exchange, and no times yet.
fn sample(request: &Request, answer: &SessionEvent) -> Sample {
    let request = SessionRequest {
        request_id: 1,
        request: Some(request.clone()),
    };
    Sample {
        request_bytes: request.encoded_len(),
        answer_bytes: answer.encoded_len(),
        node: std::time::Duration::ZERO,
        echo: std::time::Duration::ZERO,
    }
}
