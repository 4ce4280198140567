//! Network interfaces, as the kernel tells of them over route netlink.

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
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

impl Interface {
    /// Refuses one whose packets the filter can't read.
    ///
    /// # Errors
    /// [`FilterError::NotEthernet`].
    pub fn must_be_ethernet(&self) -> Result<(), FilterError> {
        match self.ethernet {
            true => Ok(()),
            false => Err(FilterError::NotEthernet { interface: self.name.clone() }),
        }
    }
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
    let every = RouteNetlinkMessage::GetLink(LinkMessage::default());
    ask(every, NLM_F_DUMP).map_err(FilterError::from)
}

/// The interface of this name, whatever else the host has; nothing where there is none.
///
/// # Errors
/// [`FilterError::Netlink`].
pub fn named(name: &str) -> Result<Option<Interface>, FilterError> {
    let mut wanted = LinkMessage::default();
    wanted.attributes.push(LinkAttribute::IfName(name.to_owned()));
    one(wanted)
}

/// The interface of this index; nothing where there is none.
///
/// # Errors
/// [`FilterError::Netlink`].
pub fn numbered(index: u32) -> Result<Option<Interface>, FilterError> {
    let mut wanted = LinkMessage::default();
    wanted.header.index = index;
    one(wanted)
}

fn one(wanted: LinkMessage) -> Result<Option<Interface>, FilterError> {
    match ask(RouteNetlinkMessage::GetLink(wanted), 0) {
        Ok(links) => Ok(links.first().map(interface)),
        Err(Failure::Kernel(error)) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
        Err(failure) => Err(failure.into()),
    }
}

/// Sends a change, and waits until the kernel has made it.
///
/// # Errors
/// What the kernel says of it.
pub fn change(link: LinkMessage) -> std::io::Result<()> {
    match ask(RouteNetlinkMessage::SetLink(link), NLM_F_ACK) {
        Ok(_) => Ok(()),
        Err(Failure::Kernel(error)) => Err(error),
        Err(Failure::Exchange(text)) => Err(std::io::Error::other(text)),
    }
}

/// Why a question has no answer.
enum Failure {
    /// It could not be asked, or the answer not be read.
    Exchange(String),
    /// The kernel refused.
    Kernel(std::io::Error),
}

impl Failure {
    fn exchange(error: impl std::fmt::Display) -> Self {
        Self::Exchange(error.to_string())
    }
}

impl From<Failure> for FilterError {
    fn from(failure: Failure) -> Self {
        Self::Netlink(match failure {
            Failure::Exchange(text) => text,
            Failure::Kernel(error) => error.to_string(),
        })
    }
}

/// A socket of route netlink that hears of these groups.
pub(super) fn socket(groups: u32) -> std::io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    match groups {
        0 => drop(socket.bind_auto()?),
        groups => socket.bind(&SocketAddr::new(0, groups))?,
    }
    Ok(socket)
}

/// One question, and the interfaces in its answer.
fn ask(question: RouteNetlinkMessage, flags: u16) -> Result<Vec<LinkMessage>, Failure> {
    let socket = socket(0).map_err(Failure::exchange)?;
    socket.connect(&SocketAddr::new(0, 0)).map_err(Failure::exchange)?;
    let mut request = NetlinkMessage::from(question);
    request.header.flags = NLM_F_REQUEST | flags;
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    socket.send(&bytes, 0).map_err(Failure::exchange)?;

    let mut links = Vec::new();
    loop {
        let (datagram, _) = socket.recv_from_full().map_err(Failure::exchange)?;
        for message in messages(&datagram) {
            match message.map_err(Failure::Exchange)?.payload {
                NetlinkPayload::Done(_) => return Ok(links),
                // An acknowledgement is an error without a code.
                NetlinkPayload::Error(error) if error.code.is_none() => return Ok(links),
                NetlinkPayload::Error(error) => return Err(Failure::Kernel(error.to_io())),
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => {
                    links.push(link);
                    if flags == 0 {
                        return Ok(links);
                    }
                }
                _ => {}
            }
        }
    }
}

/// The messages in a datagram, up to the first that can't be read.
pub(super) fn messages(
    datagram: &[u8],
) -> impl Iterator<Item = Result<NetlinkMessage<RouteNetlinkMessage>, String>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest);
        // Messages are aligned to four bytes (RFC 3549 2.3.2).
        let length = message.as_ref().map_or(rest.len(), |message| message.header.length as usize);
        rest = rest.get(length.next_multiple_of(4).max(4)..).unwrap_or_default();
        Some(message.map_err(|error| error.to_string()))
    })
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
    fn the_loopback_interface_is_listed_and_found_by_name_and_index() {
        let interfaces = super::list().unwrap();
        let loopback = interfaces.iter().find(|interface| interface.name == "lo").unwrap();
        assert!(loopback.index != 0 && loopback.ethernet);
        assert_eq!(super::named("lo").unwrap().as_ref(), Some(loopback));
        assert_eq!(super::numbered(loopback.index).unwrap().as_ref(), Some(loopback));
    }

    #[test]
    fn an_interface_that_is_not_there_is_no_error() {
        assert_eq!(super::named("no-such-if").unwrap(), None);
        assert_eq!(super::numbered(i32::MAX as u32).unwrap(), None);
    }

    #[test]
    fn what_follows_a_message_that_cannot_be_read_is_not_guessed_at() {
        let read = |bytes: &[u8]| super::messages(bytes).filter(Result::is_ok).count();
        let mut ack = vec![20, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(read(&ack), 1);
        ack.extend(ack.clone());
        assert_eq!(read(&ack), 2);
        assert_eq!(super::messages(&ack[..19]).map(|message| message.is_err()).collect::<Vec<_>>(), [true]);
    }
}
