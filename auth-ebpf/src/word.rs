//! The kernel's side of a shared cell.

use core::cell::UnsafeCell;
use core::intrinsics::{AtomicOrdering, atomic_cxchg};
use core::ptr;

use auth_common::word::Word;

/// A cell in a map. BPF has no atomic load or store instruction, but an aligned 64-bit access is one
/// instruction, which no CPU that runs BPF tears; `volatile` keeps the compiler from splitting or repeating it.
#[repr(transparent)]
pub struct KernelWord(UnsafeCell<u64>);

impl KernelWord {
    /// A cell of the program's own memory.
    pub const fn new(value: u64) -> Self {
        Self(UnsafeCell::new(value))
    }
}

// SAFETY: map memory is shared by all CPUs; every access goes through the methods below.
unsafe impl Sync for KernelWord {}

impl Word for KernelWord {
    #[inline(always)]
    fn read(&self) -> u64 {
        // SAFETY: the reference makes the cell valid and aligned.
        unsafe { ptr::read_volatile(self.0.get()) }
    }

    #[inline(always)]
    fn write(&self, value: u64) {
        // SAFETY: the reference makes the cell valid and aligned.
        unsafe { ptr::write_volatile(self.0.get(), value) }
    }

    #[inline(always)]
    fn replace(&self, current: u64, new: u64) -> bool {
        // Sequentially consistent: LLVM miscompiles relaxed read-modify-writes with a used result on BPF
        // (llvm-project #210280).
        // SAFETY: the reference makes the cell valid and aligned.
        let (_, exchanged) = unsafe {
            atomic_cxchg::<u64, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(
                self.0.get(),
                current,
                new,
            )
        };
        exchanged
    }
}
