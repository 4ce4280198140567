//! The agent: terminates TLS, authenticates, authorises, limits, forwards, and keeps the kernel filter.

pub mod api_key;
pub mod authenticate;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod counters;
pub mod credential;
pub mod edge;
pub mod events;
pub mod gateway;
pub mod headers;
pub mod identity;
pub mod kernel;
pub mod limits;
pub mod network;
pub mod path;
pub mod policy;
pub mod proxy;
pub mod refusal;
pub mod request;
pub mod run;
pub mod serve;
pub mod store;
pub mod tls;
pub mod token;
