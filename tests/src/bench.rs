//! Measurements for people to read: what something costs beside its competitors, in one and the same run.

pub mod kernel;
mod spread;
