//! LiveKit's RoomService: rooms and people as whoever holds the keys sees them.
//!
//! Reads the whole cluster's rooms from the store. What is done to people is done by the process that
//! serves them, which is told by an order.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::response::Response;
use futures_util::future::join_all;
use livekit_protocol::data_packet::{Kind, Value};
use livekit_protocol::{
    CreateRoomRequest, DataPacket, DeleteRoomRequest, DeleteRoomResponse, ListParticipantsRequest,
    ListParticipantsResponse, ListRoomsRequest, ListRoomsResponse, MuteRoomTrackRequest,
    MuteRoomTrackResponse, ParticipantInfo, RemoveParticipantResponse, Room, RoomConfiguration,
    RoomParticipantIdentity, SendDataRequest, SendDataResponse, UpdateParticipantRequest,
    UpdateRoomMetadataRequest, UpdateSubscriptionsRequest, UpdateSubscriptionsResponse, UserPacket,
};
use pipemesh_service::Chain;
use pipemesh_topology::placement;
use pipemesh_topology::store::Unavailable;
use pipemesh_topology::{Identity, RoomName};
use prost::Message;
use tokio::time::sleep;

use super::twirp::{Code, Failure, Request};
use crate::auth::ApiGrants;
use crate::context::Context;
use crate::orders::{Answer, AskError, Data, Leave, Order, Outcome, What};
use crate::rooms::RoomState;
use crate::rooms::admin::{by_process, participants};
use crate::rooms::body::{InvalidTag, loudest_microphones};
use crate::rooms::record::Member;
use crate::session::client::MAX_METADATA;

pub(crate) const NAME: &str = "livekit.RoomService";

/// Time for the connections to nodes to be tried after a start.
const NODES_KNOWN: Duration = Duration::from_secs(2);

/// Time for a node to end the session of somebody whose process is gone.
const RETIRE_LIMIT: Duration = Duration::from_secs(1);

/// Times that everybody is sent away who came in while a room was being deleted, and the pause between two.
const DELETE_ROUNDS: u32 = 10;
const DELETE_PAUSE: Duration = Duration::from_millis(100);

/// Rooms that are read at a time.
const READ_AT_ONCE: usize = 64;

/// Bytes of a data packet's payload. A message on a data channel has to hold it with its envelope.
const MAX_PAYLOAD: usize = 60_000;

pub(crate) async fn call(
    context: &Arc<Context>,
    grants: &ApiGrants,
    method: &str,
    request: &Request,
) -> Result<Response, Failure> {
    let api = Api { context, grants };
    Ok(match method {
        "CreateRoom" => request.answer(&api.create_room(request.read()?).await?),
        "ListRooms" => request.answer(&api.list_rooms(request.read()?).await?),
        "DeleteRoom" => request.answer(&api.delete_room(request.read()?).await?),
        "ListParticipants" => request.answer(&api.list_participants(request.read()?).await?),
        "GetParticipant" => request.answer(&api.participant(request.read()?).await?),
        "RemoveParticipant" => request.answer(&api.remove_participant(request.read()?).await?),
        "MutePublishedTrack" => request.answer(&api.mute_track(request.read()?).await?),
        "UpdateParticipant" => request.answer(&api.update_participant(request.read()?).await?),
        "UpdateSubscriptions" => request.answer(&api.update_subscriptions(request.read()?).await?),
        "SendData" => request.answer(&api.send_data(request.read()?).await?),
        "UpdateRoomMetadata" => request.answer(&api.update_room_metadata(request.read()?).await?),
        "PerformRpc" | "ForwardParticipant" | "MoveParticipant" => {
            return Err(Failure::new(
                Code::Unimplemented,
                format!("{method} is not offered"),
            ));
        }
        _ => {
            return Err(Failure::new(
                Code::BadRoute,
                format!("there is no method {method}"),
            ));
        }
    })
}

struct Api<'a> {
    context: &'a Arc<Context>,
    grants: &'a ApiGrants,
}

impl Api<'_> {
    async fn create_room(&self, request: CreateRoomRequest) -> Result<Room, Failure> {
        self.grants.may_create()?;
        let name = room_name(&request.name)?;
        check_metadata(&request.metadata)?;
        let config = RoomConfiguration {
            empty_timeout: request.empty_timeout,
            departure_timeout: request.departure_timeout,
            max_participants: request.max_participants,
            metadata: request.metadata,
            tags: request.tags,
            ..Default::default()
        };
        let invalid = |tag: InvalidTag| Failure::new(Code::InvalidArgument, tag.to_string());
        loudest_microphones(&config).map_err(invalid)?;
        let (rooms, nodes) = (&self.context.rooms, &self.context.nodes);
        nodes.known(NODES_KNOWN).await;
        let place = placement::Request {
            room: &name,
            region: &self.context.region,
            others: &[],
            allowed: None,
            homes: None,
            spans: self.context.rooms_span(),
            excluded: &Default::default(),
        };
        let home = nodes.place(&place);
        let home = home.map_err(|error| Failure::new(Code::Unavailable, error.to_string()))?;
        Ok(rooms
            .create(&name, &home.node, &config, SystemTime::now())
            .await?)
    }

    async fn list_rooms(&self, request: ListRoomsRequest) -> Result<ListRoomsResponse, Failure> {
        self.grants.may_list()?;
        let rooms = &self.context.rooms;
        let names = if request.names.is_empty() {
            rooms.list().await?
        } else {
            let names = request.names.iter();
            names.filter_map(|name| name.parse().ok()).collect()
        };
        let mut listed = Vec::new();
        for some in names.chunks(READ_AT_ONCE) {
            for room in join_all(some.iter().map(|name| rooms.read(name))).await {
                // One that has just ended is none.
                listed.extend(room?.map(|room| Room::clone(&room.info())));
            }
        }
        Ok(ListRoomsResponse { rooms: listed })
    }

    async fn delete_room(&self, request: DeleteRoomRequest) -> Result<DeleteRoomResponse, Failure> {
        self.grants.may_create()?;
        let (name, room) = self.room(&request.room).await?;
        let what = What::Leave(Leave { room_deleted: true });
        let (id, mut room) = (room.id.clone(), Some(room));
        for round in 0..DELETE_ROUNDS {
            let Some(there) = room.take().filter(|room| room.id == id) else {
                break;
            };
            // Also those who are about to be in.
            let members = there.members.values().map(|member| &**member);
            for (members, told) in self.tell(&name, &there, members, &what).await {
                // Whoever is still there is somebody whom nobody serves.
                if told.is_err() || round > 1 {
                    for member in members {
                        self.remove_left(&name, &there, member).await?;
                    }
                }
            }
            if self.context.rooms.end_now(&name, &id).await? {
                return Ok(DeleteRoomResponse::default());
            }
            sleep(DELETE_PAUSE).await;
            room = self.context.rooms.read(&name).await?;
        }
        let what = "people come in while the room is deleted";
        match room {
            Some(room) if room.id == id => Err(Failure::new(Code::Aborted, what)),
            Some(_) | None => Ok(DeleteRoomResponse::default()),
        }
    }

    async fn list_participants(
        &self,
        request: ListParticipantsRequest,
    ) -> Result<ListParticipantsResponse, Failure> {
        self.grants.may_administer(&request.room)?;
        let (_, room) = self.room(&request.room).await?;
        let participants = participants(&room).map(|member| member.info.clone());
        Ok(ListParticipantsResponse {
            participants: participants.collect(),
        })
    }

    async fn participant(
        &self,
        request: RoomParticipantIdentity,
    ) -> Result<ParticipantInfo, Failure> {
        self.grants.may_administer(&request.room)?;
        let (_, room) = self.room(&request.room).await?;
        Ok(member(&room, &request.identity)?.info.clone())
    }

    async fn remove_participant(
        &self,
        request: RoomParticipantIdentity,
    ) -> Result<RemoveParticipantResponse, Failure> {
        self.grants.may_administer(&request.room)?;
        let (name, room) = self.room(&request.room).await?;
        let member = member(&room, &request.identity)?;
        let what = What::Leave(Leave::default());
        match self.ask(&name, &room, member, what).await {
            Ok(answer) if answer.outcome() == Outcome::Done => {}
            // Nobody serves them, or somebody who takes no orders; that one sees that they are gone.
            Ok(_) | Err(AskError::NobodyListens) => self.remove_left(&name, &room, member).await?,
            Err(error) => return Err(error.into()),
        }
        Ok(RemoveParticipantResponse::default())
    }

    async fn mute_track(
        &self,
        request: MuteRoomTrackRequest,
    ) -> Result<MuteRoomTrackResponse, Failure> {
        self.grants.may_administer(&request.room)?;
        if !request.muted {
            let what = "remote unmute not enabled";
            return Err(Failure::new(Code::FailedPrecondition, what));
        }
        let (name, room) = self.room(&request.room).await?;
        let member = member(&room, &request.identity)?;
        let answer = self
            .ask(&name, &room, member, What::Mute(request))
            .await?
            .checked()?;
        Ok(MuteRoomTrackResponse {
            track: answer.track,
        })
    }

    async fn update_participant(
        &self,
        request: UpdateParticipantRequest,
    ) -> Result<ParticipantInfo, Failure> {
        self.grants.may_administer(&request.room)?;
        let (name, room) = self.room(&request.room).await?;
        let member = member(&room, &request.identity)?;
        let answer = self
            .ask(&name, &room, member, What::Update(request))
            .await?
            .checked()?;
        Ok(answer.info.unwrap_or_default())
    }

    async fn update_subscriptions(
        &self,
        request: UpdateSubscriptionsRequest,
    ) -> Result<UpdateSubscriptionsResponse, Failure> {
        self.grants.may_administer(&request.room)?;
        let (name, room) = self.room(&request.room).await?;
        let member = member(&room, &request.identity)?;
        self.ask(&name, &room, member, What::Subscriptions(request))
            .await?
            .checked()?;
        Ok(UpdateSubscriptionsResponse::default())
    }

    async fn send_data(&self, request: SendDataRequest) -> Result<SendDataResponse, Failure> {
        self.grants.may_administer(&request.room)?;
        if request.data.len() > MAX_PAYLOAD {
            let what = format!("the data has more than {MAX_PAYLOAD} bytes");
            return Err(Failure::new(Code::InvalidArgument, what));
        }
        let (name, room) = self.room(&request.room).await?;
        let (data, to) = packet(request);
        let to = participants(&room).filter(|member| to.includes(member));
        let told = self.tell(&name, &room, to, &What::Data(data)).await;
        for (_, told) in told {
            match told {
                // Whoever serves them does not know how to: they hear nothing.
                Err(AskError::NobodyListens) | Ok(_) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(SendDataResponse::default())
    }

    async fn update_room_metadata(
        &self,
        request: UpdateRoomMetadataRequest,
    ) -> Result<Room, Failure> {
        self.grants.may_administer(&request.room)?;
        check_metadata(&request.metadata)?;
        let name = room_name(&request.room)?;
        let set = |info: &mut Room| info.metadata.clone_from(&request.metadata);
        let changed = self.context.rooms.change_info(&name, set).await?;
        changed.ok_or_else(no_room)
    }

    async fn room(&self, name: &str) -> Result<(RoomName, RoomState), Failure> {
        let name = room_name(name)?;
        let room = self.context.rooms.read(&name).await?;
        Ok((name, room.ok_or_else(no_room)?))
    }

    /// Has something done to one of the room.
    async fn ask(
        &self,
        name: &RoomName,
        room: &RoomState,
        member: &Member,
        what: What,
    ) -> Result<Answer, AskError> {
        let process = member.process.as_ref().ok_or(AskError::NobodyListens)?;
        let order = order(name, room, &[member], what);
        self.context.post.ask(self.context, process, order).await
    }

    /// Has something done to several, by all processes at a time. Of those for whom that fails, how.
    async fn tell<'m>(
        &self,
        name: &RoomName,
        room: &RoomState,
        members: impl Iterator<Item = &'m Member>,
        what: &What,
    ) -> Vec<(Vec<&'m Member>, Result<Answer, AskError>)> {
        let told = by_process(members).into_iter().map(|(process, members)| {
            let order = order(name, room, &members, what.clone());
            async move {
                let outcome = match process {
                    None => Err(AskError::NobodyListens),
                    Some(process) => self.context.post.ask(self.context, &process, order).await,
                };
                (members, outcome)
            }
        });
        join_all(told).await
    }

    /// Removes somebody whose process does not.
    async fn remove_left(
        &self,
        name: &RoomName,
        room: &RoomState,
        member: &Member,
    ) -> Result<(), Failure> {
        let context = self.context;
        context.rooms.remove_left(name, &room.id, member).await?;
        let (node, session, claim) = (&member.node, &member.session, member.version);
        let retired = context.nodes.retire(node, session, claim, RETIRE_LIMIT);
        retired.await;
        Ok(())
    }
}

impl Answer {
    fn checked(self) -> Result<Self, Failure> {
        let (code, text) = match self.outcome() {
            Outcome::Done => return Ok(self),
            Outcome::NobodyHere => (Code::NotFound, "participant does not exist"),
            Outcome::NoTrack => (Code::NotFound, "track is not published"),
            Outcome::Invalid => (Code::InvalidArgument, self.text.as_str()),
            Outcome::Absent => (Code::Unavailable, "the participant is about to join anew"),
            Outcome::Unknown | Outcome::Unimplemented => (
                Code::Unavailable,
                "the participant's server does not know how to",
            ),
        };
        Err(Failure::new(code, text))
    }
}

impl From<AskError> for Failure {
    fn from(error: AskError) -> Self {
        let code = match &error {
            AskError::NobodyListens => Code::Unavailable,
            AskError::TimedOut => Code::DeadlineExceeded,
            AskError::Unavailable(_) => Code::Unavailable,
        };
        Self::new(code, Chain(&error).to_string())
    }
}

impl From<Unavailable> for Failure {
    fn from(error: Unavailable) -> Self {
        Self::new(Code::Unavailable, Chain(&error).to_string())
    }
}

/// To whom data goes.
struct Recipients {
    identities: Vec<String>,
    sids: Vec<String>,
}

impl Recipients {
    fn includes(&self, member: &Member) -> bool {
        let everybody = self.identities.is_empty() && self.sids.is_empty();
        everybody
            || self
                .identities
                .iter()
                .any(|who| who == member.identity.as_str())
            || self.sids.iter().any(|sid| sid == member.id.as_str())
    }
}

/// As clients receive it: from nobody in the room.
#[expect(
    deprecated,
    reason = "older SDKs read the fields that newer ones replaced"
)]
fn packet(request: SendDataRequest) -> (Data, Recipients) {
    let reliable = request.kind() == Kind::Reliable;
    let user = UserPacket {
        payload: request.data,
        topic: request.topic,
        nonce: request.nonce,
        destination_identities: request.destination_identities.clone(),
        destination_sids: request.destination_sids.clone(),
        ..Default::default()
    };
    let packet = DataPacket {
        kind: request.kind,
        destination_identities: request.destination_identities.clone(),
        value: Some(Value::User(user)),
        ..Default::default()
    };
    let data = Data {
        packet: packet.encode_to_vec(),
        reliable,
    };
    let recipients = Recipients {
        identities: request.destination_identities,
        sids: request.destination_sids,
    };
    (data, recipients)
}

fn order(name: &RoomName, room: &RoomState, members: &[&Member], what: What) -> Order {
    Order {
        room: name.to_string(),
        room_id: room.id.to_string(),
        identities: members.iter().map(|it| it.identity.to_string()).collect(),
        what: Some(what),
    }
}

fn member<'a>(room: &'a RoomState, identity: &str) -> Result<&'a Member, Failure> {
    let identity: Option<Identity> = identity.parse().ok();
    let member = participants(room).find(|member| Some(&member.identity) == identity.as_ref());
    member.ok_or_else(|| Failure::new(Code::NotFound, "participant does not exist"))
}

fn room_name(name: &str) -> Result<RoomName, Failure> {
    let invalid = |what| Failure::new(Code::InvalidArgument, format!("room name {what}"));
    name.parse().map_err(invalid)
}

fn check_metadata(metadata: &str) -> Result<(), Failure> {
    if metadata.len() > MAX_METADATA {
        let what = "exceeds metadata size limit";
        return Err(Failure::new(Code::InvalidArgument, what));
    }
    Ok(())
}

fn no_room() -> Failure {
    Failure::new(Code::NotFound, "requested room does not exist")
}
