//! A witness of what Linux makes of packets, for the tests alone: it writes down each lookup of a socket for TCP or
//! UDP, as the kernel asks for it, and changes nothing.

#![no_std]
#![no_main]
#![allow(missing_docs, reason = "the sk_lookup macro makes a function that nothing can document")]
#![allow(unsafe_code, reason = "every map and context access of a BPF program is one")]

mod runtime;

use core::ptr::{addr_of, read_volatile};

use auth_common::lookup::{AF_INET, Lookup};
use aya_ebpf::bindings::{BPF_RB_NO_WAKEUP, sk_action::SK_PASS};
use aya_ebpf::macros::{map, sk_lookup};
use aya_ebpf::maps::RingBuf;
use aya_ebpf::programs::SkLookupContext;

const RING_BYTES: u32 = 1 << 20;

#[map]
static LOOKUPS: RingBuf = RingBuf::with_byte_size(RING_BYTES, 0);

/// Reads fields one by one, and each as wide as it is declared: the kernel refuses two of them in one load.
macro_rules! field {
    ($lookup:ident.$field:ident) => {
        // SAFETY: the kernel lets a program read every field of its context.
        unsafe { read_volatile(addr_of!((*$lookup).$field)) }
    };
    ($lookup:ident.$field:ident[]) => {
        [0, 1, 2, 3].map(|index| {
            // SAFETY: as above; the address has four words.
            let word: u32 = unsafe { read_volatile(addr_of!((*$lookup).$field).cast::<u32>().add(index)) };
            word.to_ne_bytes()
        })
    };
}

#[sk_lookup]
pub fn auth_witness(context: SkLookupContext) -> u32 {
    let lookup = context.lookup;
    let family = field!(lookup.family);
    let (local, remote) = if family == AF_INET {
        (
            [field!(lookup.local_ip4), 0, 0, 0].map(u32::to_ne_bytes),
            [field!(lookup.remote_ip4), 0, 0, 0].map(u32::to_ne_bytes),
        )
    } else {
        (field!(lookup.local_ip6[]), field!(lookup.remote_ip6[]))
    };
    let seen = Lookup {
        family,
        interface: field!(lookup.ingress_ifindex),
        local: bytes(local),
        local_port: field!(lookup.local_port),
        protocol: field!(lookup.protocol),
        remote: bytes(remote),
        remote_port: u16::from_be(field!(lookup.remote_port)).into(),
    };
    // Where the ring is full, the tests miss what they wait for, and say so.
    if let Some(mut entry) = LOOKUPS.reserve::<Lookup>(0) {
        entry.write(seen);
        entry.submit(BPF_RB_NO_WAKEUP.into());
    }
    SK_PASS
}

#[inline(always)]
fn bytes([[a, b, c, d], [e, f, g, h], [i, j, k, l], [m, n, o, p]]: [[u8; 4]; 4]) -> [u8; 16] {
    [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
}
