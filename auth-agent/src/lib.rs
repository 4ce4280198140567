//! The agent: terminates TLS, authenticates, authorises, limits, forwards, and keeps the kernel filter.

pub mod clock;
pub mod config;
pub mod identity;
pub mod kernel;
pub mod refusal;
pub mod token;
