//! Signaling as clients and nodes see it: real sockets, a fake node that keeps the contract, and the
//! client that load tests are made of.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod admin;
mod contending;
mod encoding;
mod fake_node;
mod fixture;
mod geo;
mod joining;
mod microphones;
mod nodes;
mod process;
mod refusals;
mod resuming;
mod together;
mod unheard;
mod ways;
mod web;
