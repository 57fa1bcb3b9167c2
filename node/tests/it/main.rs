//! A node as signaling and clients see it: real gRPC, real sockets, and peers that know nothing of its
//! insides.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod access;
mod config;
mod control;
mod data;
mod drops;
mod estimates;
mod handover;
mod hostile;
mod ice;
mod identity;
mod inspection;
mod layers;
mod limits;
mod microphones;
mod nonces;
mod pipes;
mod redundancy;
mod repair;
mod reports;
mod speakers;
mod spread;
mod subscriptions;
mod support;
mod tcp;
mod tracks;
