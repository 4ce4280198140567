//! What was decided about a request, for whoever asks afterwards: its id, and what its stages noted.
//!
//! Invariant: nothing here is a secret. No token, no secret of a key and no query is ever noted.

mod id;
mod trail;

pub use self::id::{RequestId, accepted};
pub use self::trail::{Decider, LimitNote, Notes, Presented, Trail};
