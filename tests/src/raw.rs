//! Raw sockets: which protocol Linux takes a packet for, where it has no ports.

use std::fs::File;
use std::io::{ErrorKind, Read};

use anyhow::Result;

use crate::netns::Namespace;
use crate::system;

/// ICMP of IPv6.
pub const ICMPV6: u8 = 58;
const AUTHENTICATION: u8 = 51;

/// ICMP, IP in IP, IPv6 in IP, GRE, ESP, the authentication header, ICMPv6, SCTP.
pub const PROTOCOLS: [u8; 8] = [1, 4, 41, 47, 50, AUTHENTICATION, ICMPV6, 132];

/// What a raw socket was given.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Heard {
    /// By IPv6, else by IPv4.
    pub ipv6: bool,
    /// Its protocol.
    pub protocol: u8,
}

/// One for each protocol, until they are dropped.
pub struct RawSockets(Vec<(Heard, File)>);

impl RawSockets {
    /// Opens them in a namespace.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn new(namespace: &Namespace) -> Result<Self> {
        let open =
            |ipv6: bool, protocol: u8| Ok((Heard { ipv6, protocol }, system::raw_socket(ipv6, protocol)?));
        let v4 = PROTOCOLS.into_iter().map(|protocol| open(false, protocol));
        // IPv6's authentication header is one of a chain: the filter looks behind it, and Linux hands it to raw
        // sockets before it does.
        let chained = |protocol: &u8| *protocol != AUTHENTICATION;
        let v6 = PROTOCOLS.into_iter().filter(chained).map(|protocol| open(true, protocol));
        namespace.run(|| Ok(Self(v4.chain(v6).collect::<Result<_>>()?)))
    }

    /// What has come since the last call.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn heard(&mut self) -> Result<Vec<Heard>> {
        let mut heard = Vec::new();
        for (one, socket) in &mut self.0 {
            while takes(socket)? {
                heard.push(*one);
            }
        }
        Ok(heard)
    }
}

fn takes(socket: &mut File) -> Result<bool> {
    match socket.read(&mut [0; 1]) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error.into()),
    }
}
