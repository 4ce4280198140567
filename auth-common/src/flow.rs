//! Revoked flows: connections that the agent ended, and whose packets the kernel drops until a deadline.

use crate::packet::Address;

/// The client's half of a TCP connection, and the key of [`crate::layout::FLOWS`]. That holds TCP alone, so that no
/// protocol stands here.
///
/// The deadline beside it is for whatever carries these addresses and ports: a new connection from the same port is
/// dropped as well until then.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(C)]
pub struct Flow {
    /// The source address, mapped: [`Address::words`]. Two numbers, since sixteen bytes would be written and read
    /// one by one.
    source: [u64; 2],
    /// The destination address, likewise.
    destination: [u64; 2],
    /// 16 bits of it, so that the key has no padding.
    source_port: u32,
    /// Likewise.
    destination_port: u32,
}

const _: () = assert!(size_of::<Flow>() == 40);

impl Flow {
    /// The flow from a source to a destination, each an address and a port.
    #[inline(always)]
    pub fn new(source: (Address, u16), destination: (Address, u16)) -> Self {
        Self {
            source: source.0.words(),
            destination: destination.0.words(),
            source_port: source.1.into(),
            destination_port: destination.1.into(),
        }
    }

    /// The source address, mapped: [`Address::words`].
    #[inline(always)]
    pub fn source(&self) -> [u64; 2] {
        self.source
    }
}
