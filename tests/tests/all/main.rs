//! Everything that needs the real kernel or the real agent, in one binary.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod events;
mod filter;
mod lifecycle;
mod refusals;
mod rules;
mod story;
