//! What is asked for over HTTP, beside files.

pub(crate) mod demo;
pub(crate) mod regions;
pub(crate) mod rtc;
