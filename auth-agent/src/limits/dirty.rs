//! Which entries of a table are to be written down.
//!
//! A change is noted after it was made, and a note is taken before the entry is read: whoever finds a note there, and so
//! makes none, has changed the entry before whoever takes that note reads it. For this, all four are in one order
//! (`SeqCst`), which costs nothing on x86 beyond the exchange that the change is.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;

/// Entries that share a note.
const PER_BIT: usize = 8;

/// Notes of what was changed.
pub struct Dirty(Box<[AtomicU64]>);

impl Dirty {
    /// For so many entries.
    pub fn new(entries: usize) -> Self {
        Self((0..entries.div_ceil(PER_BIT * 64)).map(|_| AtomicU64::new(0)).collect())
    }

    /// Notes that an entry was changed.
    pub fn note(&self, at: usize) {
        let group = at / PER_BIT;
        let (word, bit) = (&self.0[group / 64], 1 << (group % 64));
        if word.load(SeqCst) & bit == 0 {
            word.fetch_or(bit, SeqCst);
        }
    }

    /// What `one` makes of the entries that were noted, at most about so many; what is not taken stays.
    pub fn take<T>(&self, most: usize, one: impl Fn(usize) -> Option<T>) -> Vec<T> {
        let mut taken = Vec::new();
        for (word, notes) in self.0.iter().enumerate() {
            let bits = if taken.len() < most && notes.load(SeqCst) != 0 { notes.swap(0, SeqCst) } else { 0 };
            for bit in (0..64).filter(|bit| bits >> bit & 1 != 0) {
                let first = (word * 64 + bit) * PER_BIT;
                taken.extend((first..first + PER_BIT).filter_map(&one));
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn no_change_is_left_behind_however_threads_note_and_take() {
        const CHANGES: u64 = 200_000;
        let (dirty, entries) = (Dirty::new(16), [const { AtomicU64::new(0) }; 16]);
        let written = [const { AtomicU64::new(0) }; 16];
        let write = || {
            dirty.take(usize::MAX, |at| {
                written[at].store(entries[at].load(SeqCst), SeqCst);
                Some(())
            })
        };
        thread::scope(|scope| {
            let changer = scope.spawn(|| {
                for change in 0..CHANGES {
                    let at = change as usize % 16;
                    entries[at].fetch_add(1, SeqCst);
                    dirty.note(at);
                }
            });
            while !changer.is_finished() {
                write();
            }
        });
        write();
        assert!(written.iter().all(|count| count.load(SeqCst) == CHANGES / 16));
        assert_eq!(write().len(), 0);
    }
}
