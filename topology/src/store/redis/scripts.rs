//! The scripts: one for each operation on a room, so that each is one atomic step.
//!
//! They stand beside each other in `scripts/`, in Lua. Knows neither connections nor what replies
//! mean.

use pipemesh_proto::ids::ProcessId;
use redis::{Script, ScriptInvocation};

use super::keys::RoomKeys;

#[derive(Debug)]
pub(super) struct Scripts {
    pub(super) open_room: RoomScript,
    pub(super) read_room: RoomScript,
    pub(super) update_room: RoomScript,
    pub(super) put_member: RoomScript,
    pub(super) remove_member: RoomScript,
    pub(super) end_room: RoomScript,
    pub(super) renew_lease: LeaseScript,
    pub(super) change_lease: LeaseScript,
}

#[derive(Debug)]
pub(super) struct RoomScript(Script);

impl RoomScript {
    /// An invocation to which the arguments of the script are still to be added.
    pub(super) fn on(&self, keys: &RoomKeys) -> ScriptInvocation<'_> {
        let mut call = self.0.prepare_invoke();
        call.key(&keys.room).key(&keys.members).arg(&keys.channel);
        call
    }
}

#[derive(Debug)]
pub(super) struct LeaseScript(Script);

impl LeaseScript {
    pub(super) fn on(&self, leases: &str, process: &ProcessId) -> ScriptInvocation<'_> {
        let mut call = self.0.prepare_invoke();
        call.key(leases).arg(process.as_str());
        call
    }
}

macro_rules! room_script {
    ($name:literal) => {
        RoomScript(Script::new(concat!(
            include_str!("scripts/prelude.lua"),
            include_str!(concat!("scripts/", $name, ".lua")),
        )))
    };
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            open_room: room_script!("open_room"),
            read_room: room_script!("read_room"),
            update_room: room_script!("update_room"),
            put_member: room_script!("put_member"),
            remove_member: room_script!("remove_member"),
            end_room: room_script!("end_room"),
            renew_lease: LeaseScript(Script::new(include_str!("scripts/renew_lease.lua"))),
            change_lease: LeaseScript(Script::new(include_str!("scripts/change_lease.lua"))),
        }
    }
}

/// For rooms whose last changes the server has lost.
pub(super) fn catch_up() -> RoomScript {
    room_script!("catch_up")
}

/// What the server's memory is called.
pub(super) fn memory() -> Script {
    Script::new(include_str!("scripts/memory.lua"))
}

/// Fails where the others would: see there.
pub(super) fn probe() -> Script {
    Script::new(include_str!("scripts/probe.lua"))
}
