//! Everything that needs the real kernel or the real agent, in one binary.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod acme;
mod attacks;
mod bench;
mod clients;
mod clock;
mod confirm;
mod dev;
mod devices;
mod differential;
mod doctor;
mod enforced;
mod enumeration;
mod events;
mod exact;
mod explain;
mod filter;
mod flows;
mod foreign;
mod guesses;
mod guest;
mod heartbeat;
mod hotplug;
mod http2;
mod interop;
mod issuer;
mod keys;
mod ladder;
mod lifecycle;
mod limits;
mod lists;
mod proxied;
mod refusals;
mod reload;
mod request_limits;
mod reset;
mod revocation;
mod rules;
mod service_manager;
mod shared;
mod smuggling;
mod story;
mod stream;
mod upgrade;
