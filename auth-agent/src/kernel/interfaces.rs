//! Network interfaces, as the kernel lists them over route netlink.

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkLayerType, LinkMessage, LinkXdp, XdpAttached};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

use super::error::FilterError;

/// An interface of this host (or network namespace).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Interface {
    /// Its frames have an Ethernet header; those of tunnels start with the IP header.
    pub ethernet: bool,
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// The XDP program on it, if any.
    pub program: Option<Attached>,
}

/// An attached XDP program.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Attached {
    /// The program's id; 0 where the kernel names several.
    pub id: u32,
    /// `generic`, `native`, `offloaded` or `several`.
    pub mode: &'static str,
}

/// Lists the interfaces.
///
/// # Errors
/// [`FilterError::Netlink`].
pub fn list() -> Result<Vec<Interface>, FilterError> {
    Ok(links()?.iter().map(interface).collect())
}

/// Everything that the kernel tells of the interfaces.
///
/// # Errors
/// [`FilterError::Netlink`].
pub fn links() -> Result<Vec<LinkMessage>, FilterError> {
    let failed = |error: &dyn std::fmt::Display| FilterError::Netlink(error.to_string());
    let mut socket = Socket::new(NETLINK_ROUTE).map_err(|error| failed(&error))?;
    socket.bind_auto().map_err(|error| failed(&error))?;
    socket.connect(&SocketAddr::new(0, 0)).map_err(|error| failed(&error))?;

    let mut request = NetlinkMessage::from(RouteNetlinkMessage::GetLink(LinkMessage::default()));
    request.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    socket.send(&bytes, 0).map_err(|error| failed(&error))?;

    let mut links = Vec::new();
    loop {
        let (datagram, _) = socket.recv_from_full().map_err(|error| failed(&error))?;
        let mut rest = datagram.as_slice();
        while !rest.is_empty() {
            let message =
                NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest).map_err(|error| failed(&error))?;
            match message.payload {
                NetlinkPayload::Done(_) => return Ok(links),
                NetlinkPayload::Error(error) => return Err(failed(&error)),
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => {
                    links.push(link);
                }
                _ => {}
            }
            // Messages are aligned to four bytes (RFC 3549 2.3.2).
            let length = (message.header.length as usize).next_multiple_of(4).max(4);
            rest = rest.get(length..).unwrap_or_default();
        }
    }
}

/// An interface, from what the kernel tells of it.
pub fn interface(link: &LinkMessage) -> Interface {
    let name = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    });
    let xdp = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Xdp(xdp) => Some(xdp.as_slice()),
        _ => None,
    });
    Interface {
        ethernet: matches!(link.header.link_layer_type, LinkLayerType::Ether | LinkLayerType::Loopback),
        index: link.header.index,
        name: name.unwrap_or_default(),
        program: xdp.and_then(attached),
    }
}

fn attached(attributes: &[LinkXdp]) -> Option<Attached> {
    let id = attributes.iter().find_map(|attribute| match attribute {
        LinkXdp::ProgId(id) => Some(*id),
        _ => None,
    });
    let mode = attributes.iter().find_map(|attribute| match attribute {
        LinkXdp::Attached(mode) => Some(*mode),
        _ => None,
    })?;
    let mode = match mode {
        XdpAttached::SocketBuffer => "generic",
        XdpAttached::Driver => "native",
        XdpAttached::Hardware => "offloaded",
        XdpAttached::Multiple => "several",
        _ => return None,
    };
    Some(Attached { id: id.unwrap_or(0), mode })
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_loopback_interface_is_listed() {
        let interfaces = super::list().unwrap();
        let loopback = interfaces.iter().find(|interface| interface.name == "lo").unwrap();
        assert!(loopback.index != 0 && loopback.ethernet);
    }
}
