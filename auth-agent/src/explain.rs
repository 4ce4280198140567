//! What was decided about a request, for whoever asks afterwards: its id, and what its stages noted.
//!
//! Invariants: nothing here is a secret: no token, no secret of a key and no query is ever noted. No request waits for
//! anything here: a serving thread writes into memory of its own, and what there is no room for is dropped and counted.

mod counted;
mod entry;
mod id;
mod journal;
mod line;
mod log;
mod told;
mod trail;
mod writer;

pub use self::counted::Counted;
pub use self::entry::{Came, Entry, Outcome, Via};
pub use self::id::{RequestId, accepted, is_well_formed};
pub use self::journal::{Journal, Logged, Reach, Recording};
pub use self::log::{Log, LogError};
pub use self::trail::{Decider, LimitNote, Notes, Presented, Trail};
