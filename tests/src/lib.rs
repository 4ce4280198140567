//! The laboratory: network namespaces, real agents, upstreams, issuers and clients, each behind a guard that
//! removes what it made, also when a test fails.
//!
//! `tests/all` uses it to test; `demo` and `dev` use it to show.

pub mod frames;
pub mod host;
pub mod kernel;
pub mod netns;
pub mod privilege;
