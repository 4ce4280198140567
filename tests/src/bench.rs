//! Measurements for people to read: what something costs beside its competitors, in one and the same run.

pub mod auth;
pub mod flood;
pub mod gateway;
pub mod kernel;
mod machine;
pub mod revocation;
mod spread;
mod system;
