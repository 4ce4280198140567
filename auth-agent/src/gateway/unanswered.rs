//! A request whose client may go away before it is answered: nobody polls its future any more then, and what became of
//! it is noted where that is dropped. An upstream may have acted on it.

use crate::explain::{Came, Journal, Outcome, Recording, Trail};
use crate::proxy::RequestBody;

/// Notes a request as given up when it is dropped, unless it was answered.
pub(super) struct Unanswered<'r> {
    came: Came<'r>,
    is_answered: bool,
    journal: &'r Journal,
    /// Where the agent has its body.
    read: Option<RequestBody>,
    recording: &'r Recording,
    trail: &'r Trail,
}

impl<'r> Unanswered<'r> {
    /// Of a request that has just come.
    pub fn new(
        journal: &'r Journal,
        recording: &'r Recording,
        came: Came<'r>,
        trail: &'r Trail,
        read: Option<RequestBody>,
    ) -> Self {
        Self { came, is_answered: false, journal, read, recording, trail }
    }

    /// There is an answer, and whoever has it notes what became of the request. How much of its body was read is noted
    /// here.
    pub fn answered(mut self) {
        self.is_answered = true;
        self.note_read();
    }

    fn note_read(&self) {
        if let Some(read) = &self.read {
            self.trail.read(read.taken());
        }
    }
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if !self.is_answered {
            self.note_read();
            self.journal.settled(self.recording, self.came, self.trail, Outcome::CLIENT_GONE, 0);
        }
    }
}
