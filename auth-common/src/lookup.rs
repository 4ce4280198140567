//! What Linux made of a packet: the question with which it looked for the packet's socket.
//!
//! Shared by the witness (`auth-ebpf/src/witness.rs`) and the tests; the filter knows nothing of it.

use crate::packet::Cursor;

/// `AF_INET`, for Linux everywhere.
pub const AF_INET: u32 = 2;

/// One socket lookup. As the kernel's `bpf_sk_lookup` has it: addresses in network order, ports as numbers.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(C)]
pub struct Lookup {
    /// [`AF_INET`], else IPv6.
    pub family: u32,
    /// The interface that the packet came in by.
    pub interface: u32,
    /// Destination address; IPv4 in the first four bytes.
    pub local: [u8; 16],
    /// Destination port.
    pub local_port: u32,
    /// TCP or UDP.
    pub protocol: u32,
    /// Source address; IPv4 in the first four bytes.
    pub remote: [u8; 16],
    /// Source port.
    pub remote_port: u32,
}

impl Lookup {
    /// Reads what the witness wrote; `None` if it is nothing of that kind.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut cursor = Cursor::new(bytes);
        let lookup = Self {
            family: u32::from_ne_bytes(cursor.read()?),
            interface: u32::from_ne_bytes(cursor.read()?),
            local: cursor.read()?,
            local_port: u32::from_ne_bytes(cursor.read()?),
            protocol: u32::from_ne_bytes(cursor.read()?),
            remote: cursor.read()?,
            remote_port: u32::from_ne_bytes(cursor.read()?),
        };
        (cursor.remaining() == 0).then_some(lookup)
    }
}
