//! A 64-bit cell that the kernel and the agent change at the same time.
//!
//! BPF has neither an atomic load instruction nor `AtomicU64`'s read-modify-write, so the two sides
//! implement this differently and share everything above it.

/// A shared cell.
pub trait Word {
    /// Reads the cell.
    fn read(&self) -> u64;

    /// Writes the cell.
    fn write(&self, value: u64);

    /// Writes `new` if the cell holds `current`, and says whether it did.
    fn replace(&self, current: u64, new: u64) -> bool;
}

#[cfg(target_has_atomic = "64")]
impl Word for core::sync::atomic::AtomicU64 {
    fn read(&self) -> u64 {
        self.load(core::sync::atomic::Ordering::SeqCst)
    }

    fn write(&self, value: u64) {
        self.store(value, core::sync::atomic::Ordering::SeqCst);
    }

    fn replace(&self, current: u64, new: u64) -> bool {
        use core::sync::atomic::Ordering::SeqCst;
        self.compare_exchange(current, new, SeqCst, SeqCst).is_ok()
    }
}
