//! What is said in rooms, from this node to the other and back.

use pipemesh_proto::ids::RoomId;
use pipemesh_proto::pipe;
use pipemesh_proto::pipe::pipe_message::Message as Word;

use super::{Exchange, MAX_GIVEN};
use crate::shard::Message;

impl Exchange {
    /// People here are to hear what is said in a room there. Said again, they hear who speaks there.
    pub(crate) fn follow(&mut self, room: RoomId) {
        let room_id = room.to_string();
        self.follows.insert(room);
        self.say(Word::Follow(pipe::Follow { room_id }));
    }

    pub(crate) fn unfollow(&mut self, room: &RoomId) {
        if self.follows.remove(room) {
            let room_id = room.to_string();
            self.say(Word::Unfollow(pipe::Unfollow { room_id }));
            self.tell_shards(|| Message::RoomClosed(room.clone()));
        }
    }

    pub(super) fn be_followed(&mut self, room: &str) {
        match room.parse::<RoomId>() {
            Ok(room) if self.followed_by.len() < MAX_GIVEN => {
                self.followed_by.insert(room.clone());
                self.tell_shards(|| Message::Follow(room.clone()));
            }
            _ => self.stats.malformed += 1,
        }
    }

    /// The other node is away: nobody there is heard, or hears.
    pub(super) fn end_rooms(&mut self) {
        for room in std::mem::take(&mut self.followed_by) {
            self.tell_shards(|| Message::Unfollow(room.clone()));
        }
        for room in self.follows.clone() {
            self.tell_shards(|| Message::RoomClosed(room.clone()));
        }
    }

    pub(super) fn tell_shards(&mut self, message: impl Fn() -> Message) {
        for shard in self.neighbours.shards() {
            self.neighbours.tell(shard, message());
        }
    }
}
