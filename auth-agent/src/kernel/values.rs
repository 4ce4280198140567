//! The shared types, as aya wants map values to be marked.

#![allow(unsafe_code, reason = "aya's marker trait for plain map values")]

use auth_common::event::Sampling;
use auth_common::flow::Flow;
use auth_common::gcra::Limit;
use auth_common::layout::{Class, Meta, Policy, Ports};
use auth_common::rules::Rule;
use auth_common::table::Shape;

/// A value of `auth-common` that lies in a map. All of them are `repr(C)`, have no padding that is not a
/// named field, and hold integers only.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Value<T>(pub T);

// SAFETY: integers only, so that every bit pattern is valid.
unsafe impl aya::Pod for Value<Class> {}
// SAFETY: as above.
unsafe impl aya::Pod for Value<Flow> {}
// SAFETY: as above.
unsafe impl aya::Pod for Value<Limit> {}
// SAFETY: as above.
unsafe impl aya::Pod for Value<Meta> {}
// SAFETY: as above.
unsafe impl aya::Pod for Value<Policy> {}
// SAFETY: as above.
unsafe impl aya::Pod for Value<Ports> {}
// SAFETY: as above.
unsafe impl aya::Pod for Value<Rule> {}
// SAFETY: as above.
unsafe impl aya::Pod for Value<Sampling<u64>> {}
// SAFETY: as above.
unsafe impl aya::Pod for Value<Shape> {}
