//! One sample, as the control API tells it.

use std::net::IpAddr;
use std::time::Duration;

use auth_common::event::{CAPTURE, Event};
use auth_common::packet::{self, Address, Cursor, Frame, Transport};
use auth_common::verdict::Reason;
use serde::{Deserialize, Serialize};

use crate::clock::{Monotonic, UnixTime};

/// No interface hands a longer frame to XDP, segmentation offload included.
const LONGEST_FRAME: usize = 128 * 1024;

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// A line of `GET /v1/events`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Line {
    /// The reader was too slow for this many samples.
    Dropped {
        /// How many, since the last such line.
        dropped: u64,
    },
    /// A packet.
    Sample(Sample),
}

/// A packet that the filter dropped or passed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Sample {
    /// Whom it was to; absent, as the next fields are, where the packet does not say so or can't be read that far.
    pub destination: Option<IpAddr>,
    /// TCP or UDP port.
    pub destination_port: Option<u16>,
    /// The frame up to the end of its transport header, base64; never a byte of payload.
    #[serde(with = "as_base64")]
    pub headers: Vec<u8>,
    /// The interface it came in by.
    pub interface: String,
    /// Bytes of the whole frame.
    pub length: u32,
    /// To be added to `time`.
    pub nanoseconds: u32,
    /// `tcp`, `udp`, `icmp`, `icmpv6`, `fragment` (but the first), or the IANA number.
    pub protocol: Option<String>,
    /// Why it was dropped or passed.
    pub reason: String,
    /// Whom it was from.
    pub source: Option<IpAddr>,
    /// TCP or UDP port.
    pub source_port: Option<u16>,
    /// When it was seen.
    pub time: UnixTime,
    /// `drop` or `pass`.
    pub verdict: String,
}

impl Sample {
    /// What `event` tells of a packet of `reason` on `interface`; `wall` is the time since 1970 at `now`.
    pub fn new(event: &Event, reason: Reason, interface: &str, now: Monotonic, wall: Duration) -> Self {
        let ago = Duration::from_nanos(now.0.saturating_sub(event.time));
        let seen = wall.saturating_sub(ago);
        let (protocol, ports) = transport(event).map_or((None, None), told);
        let addresses = packet::addresses(event.headers());
        Self {
            destination: addresses.map(|(_, destination)| ip(destination)),
            destination_port: ports.map(|(_, destination)| destination),
            headers: event.headers().to_vec(),
            interface: interface.to_owned(),
            length: event.length,
            nanoseconds: seen.subsec_nanos(),
            protocol,
            reason: reason.name().to_owned(),
            source: addresses.map(|(source, _)| ip(source)),
            source_port: ports.map(|(source, _)| source),
            time: UnixTime(seen.as_secs()),
            verdict: reason.verdict().name().to_owned(),
        }
    }
}

fn transport(event: &Event) -> Option<Transport> {
    // The headers may go on beyond what was captured.
    if usize::from(event.captured) == CAPTURE {
        return None;
    }
    // The parser compares the lengths in the headers with that of the frame, and reads nothing but headers.
    let mut frame = event.headers().to_vec();
    frame.resize((event.length as usize).min(LONGEST_FRAME), 0);
    match packet::parse(Cursor::new(&frame)) {
        Ok(Frame::Ip(packet)) => Some(packet.transport),
        _ => None,
    }
}

fn told(transport: Transport) -> (Option<String>, Option<(u16, u16)>) {
    let (protocol, ports) = match transport {
        Transport::Fragment => ("fragment".to_owned(), None),
        Transport::NeighbourDiscovery | Transport::Other { protocol: ICMPV6 } => ("icmpv6".to_owned(), None),
        Transport::Other { protocol: ICMP } => ("icmp".to_owned(), None),
        Transport::Other { protocol } => (protocol.to_string(), None),
        Transport::Tcp { source, destination, .. } => ("tcp".to_owned(), Some((source, destination))),
        Transport::Udp { source, destination } => ("udp".to_owned(), Some((source, destination))),
    };
    (Some(protocol), ports)
}

fn ip(address: Address) -> IpAddr {
    match address {
        Address::V4(octets) => octets.into(),
        Address::V6(octets) => octets.into(),
    }
}

/// serde: bytes as base64.
mod as_base64 {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map_err(serde::de::Error::custom)
    }
}
