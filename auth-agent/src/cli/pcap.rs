//! The classic pcap file format (draft-ietf-opsawg-pcap), with nanoseconds.

use auth_common::event::CAPTURE;

use crate::events::Sample;

/// Says that times are in nanoseconds, and by its own order in which order the bytes of all numbers are.
const MAGIC: u32 = 0xa1b2_3c4d;
const VERSION: (u16, u16) = (2, 4);
const LINKTYPE_ETHERNET: u32 = 1;

/// The start of a file.
pub(super) fn header() -> Vec<u8> {
    let mut header = Vec::with_capacity(24);
    header.extend(MAGIC.to_le_bytes());
    header.extend(VERSION.0.to_le_bytes());
    header.extend(VERSION.1.to_le_bytes());
    // Two fields that nobody uses.
    header.extend([0; 8]);
    header.extend((CAPTURE as u32).to_le_bytes());
    header.extend(LINKTYPE_ETHERNET.to_le_bytes());
    header
}

/// A packet. The format has 32 bits for the seconds, which last until 2106.
pub(super) fn record(sample: &Sample) -> Vec<u8> {
    let captured = sample.headers.len().min(CAPTURE);
    let mut record = Vec::with_capacity(16 + captured);
    record.extend((sample.time.0 as u32).to_le_bytes());
    record.extend(sample.nanoseconds.to_le_bytes());
    record.extend((captured as u32).to_le_bytes());
    record.extend(sample.length.to_le_bytes());
    record.extend(&sample.headers[..captured]);
    record
}
