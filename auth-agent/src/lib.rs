//! The agent: terminates TLS, authenticates, authorises, limits, forwards, and keeps the kernel filter.

pub mod authenticate;
pub mod clock;
pub mod config;
pub mod counters;
pub mod credential;
pub mod gateway;
pub mod headers;
pub mod identity;
pub mod limits;
pub mod path;
pub mod policy;
pub mod proxy;
pub mod refusal;
pub mod request;
pub mod serve;
pub mod tls;
pub mod token;
