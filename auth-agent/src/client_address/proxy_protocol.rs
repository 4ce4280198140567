//! The PROXY protocol, versions 1 and 2 (haproxy's `proxy-protocol.txt`): who is behind a proxy that only passes bytes on.
//!
//! Read strictly, and not a byte beyond it: what follows is the client's TLS handshake.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

/// How every header of version 2 starts.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// The longest line of version 1, with its end.
const MAX_LINE: usize = 107;
/// Addresses and additional values of version 2; the protocol allows for 64 KiB.
const MAX_REST: usize = 1024;

/// What a header says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Said {
    /// The connection is on behalf of a client at this address.
    Client(SocketAddr),
    /// The proxy's own connection, or one that it knows nothing about.
    Own,
}

/// Why there is no header.
#[derive(Debug, thiserror::Error)]
pub enum ProxyProtocolError {
    /// Something else came.
    #[error("no valid PROXY protocol header")]
    Invalid,
    /// The connection failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Reads the header off the start of a connection.
pub async fn read(stream: &mut TcpStream) -> Result<Said, ProxyProtocolError> {
    let mut start = [0; SIGNATURE.len()];
    stream.read_exact(&mut start).await?;
    if start == SIGNATURE { version_2(stream).await } else { version_1(stream, &start).await }
}

async fn version_1(stream: &mut TcpStream, start: &[u8]) -> Result<Said, ProxyProtocolError> {
    if !start.starts_with(b"PROXY ") {
        return Err(ProxyProtocolError::Invalid);
    }
    let mut line = [0; MAX_LINE];
    line[..start.len()].copy_from_slice(start);
    let mut length = start.len();
    while !line[..length].ends_with(b"\r\n") {
        if length == MAX_LINE {
            return Err(ProxyProtocolError::Invalid);
        }
        // As far as the line goes, and at least to the next byte of it.
        let waiting = stream.peek(&mut line[length..]).await?;
        let end = line[length..length + waiting].iter().position(|byte| *byte == b'\n');
        let wanted = end.map_or(waiting, |end| end + 1).max(1);
        stream.read_exact(&mut line[length..length + wanted]).await?;
        length += wanted;
    }
    let text = str::from_utf8(&line[..length - 2]).ok();
    text.and_then(parse_line).ok_or(ProxyProtocolError::Invalid)
}

/// The line without its end.
fn parse_line(line: &str) -> Option<Said> {
    let rest = line.strip_prefix("PROXY ")?;
    if rest == "UNKNOWN" || rest.starts_with("UNKNOWN ") {
        return Some(Said::Own);
    }
    let mut words = rest.split(' ');
    let (family, source, destination) = (words.next()?, words.next()?, words.next()?);
    let (source_port, destination_port) = (port(words.next()?)?, port(words.next()?)?);
    let (source, destination) = match family {
        "TCP4" => (IpAddr::V4(source.parse().ok()?), IpAddr::V4(destination.parse().ok()?)),
        "TCP6" => (IpAddr::V6(source.parse().ok()?), IpAddr::V6(destination.parse().ok()?)),
        _ => return None,
    };
    let plain = words.next().is_none() && !destination.is_unspecified() && destination_port != 0;
    plain.then_some(Said::Client(SocketAddr::new(source, source_port)))
}

/// Decimal digits, without a zero before them.
fn port(text: &str) -> Option<u16> {
    text.parse::<u16>().ok().filter(|port| port.to_string() == text)
}

async fn version_2(stream: &mut TcpStream) -> Result<Said, ProxyProtocolError> {
    let mut head = [0; 4];
    stream.read_exact(&mut head).await?;
    let [command, family, high, low] = head;
    let length = usize::from(u16::from_be_bytes([high, low]));
    let mut rest = [0; MAX_REST];
    let rest = rest.get_mut(..length).ok_or(ProxyProtocolError::Invalid)?;
    stream.read_exact(rest).await?;
    parse_addresses(command, family, rest).ok_or(ProxyProtocolError::Invalid)
}

/// What follows the signature and the length. Additional values are of no interest here.
fn parse_addresses(command: u8, family: u8, rest: &[u8]) -> Option<Said> {
    match (command, family) {
        (0x20, _) | (0x21, 0x00) => Some(Said::Own),
        // TCP over IPv4: both addresses, then both ports.
        (0x21, 0x11) => {
            let (source, rest) = rest.split_first_chunk::<4>()?;
            let (_, rest) = rest.split_first_chunk::<4>()?;
            client(Ipv4Addr::from(*source).into(), rest)
        }
        (0x21, 0x21) => {
            let (source, rest) = rest.split_first_chunk::<16>()?;
            let (_, rest) = rest.split_first_chunk::<16>()?;
            client(Ipv6Addr::from(*source).into(), rest)
        }
        _ => None,
    }
}

fn client(address: IpAddr, ports: &[u8]) -> Option<Said> {
    let (port, rest) = ports.split_first_chunk::<2>()?;
    rest.split_first_chunk::<2>()?;
    Some(Said::Client(SocketAddr::new(address, u16::from_be_bytes(*port))))
}

#[cfg(test)]
mod tests;
