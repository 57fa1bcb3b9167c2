//! What is asked for over HTTP, beside files.

pub(crate) mod demo;
pub(crate) mod paths;
pub(crate) mod regions;
mod room_service;
pub(crate) mod rtc;
pub(crate) mod twirp;
