//! The laboratory: network namespaces, real agents, upstreams, issuers and clients, each behind a guard that
//! removes what it made, also when a test fails.
//!
//! `tests/all` uses it to test; `demo` and `dev` use it to show, `bench` to measure.

pub mod agent;
pub mod bench;
pub mod client;
pub mod effort;
pub mod foreign;
pub mod frames;
pub mod guest;
pub mod heirs;
pub mod host;
pub mod http2;
pub mod issuer;
pub mod kernel;
pub mod key_server;
pub mod libraries;
pub mod listener;
pub mod memory;
pub mod netns;
pub mod pebble;
pub mod pki;
pub mod privilege;
pub mod raw;
pub mod recorder;
pub mod stage;
pub mod story;
pub mod system;
pub mod upstream;
pub mod websocket;
pub mod wire;
pub mod witness;
