//! Which XDP features an interface has, as the kernel says over the generic netlink family `netdev` (6.3 and
//! later; Documentation/netlink/specs/netdev.yaml).

use netlink_packet_core::{NLM_F_REQUEST, NlaBuffer, NlasIterator};
use netlink_sys::protocols::NETLINK_GENERIC;
use netlink_sys::{Socket, SocketAddr};

/// `NLMSG_MIN_TYPE`: the family that knows the others.
const CONTROL: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;

const NETDEV_CMD_DEV_GET: u8 = 1;
const NETDEV_A_DEV_IFINDEX: u16 = 1;
const NETDEV_A_DEV_XDP_FEATURES: u16 = 3;
/// `XDP_ABORTED`, `XDP_DROP`, `XDP_PASS` and `XDP_TX`, in the driver.
const XDP_BASIC: u64 = 1;

/// nlmsghdr and genlmsghdr.
const HEADER_BYTES: usize = 16 + 4;
const NLMSG_ERROR: u16 = 2;

/// Whether the interface's driver runs XDP programs; nothing where the kernel doesn't tell.
pub fn native(index: u32) -> Option<bool> {
    let mut socket = Socket::new(NETLINK_GENERIC).ok()?;
    socket.bind_auto().ok()?;
    socket.connect(&SocketAddr::new(0, 0)).ok()?;
    let family =
        ask(&socket, CONTROL, CTRL_CMD_GETFAMILY, (CTRL_ATTR_FAMILY_NAME, b"netdev\0"), CTRL_ATTR_FAMILY_ID)?;
    let family = u16::from_ne_bytes(family.get(..2)?.try_into().ok()?);
    let index = (NETDEV_A_DEV_IFINDEX, &index.to_ne_bytes()[..]);
    let features = ask(&socket, family, NETDEV_CMD_DEV_GET, index, NETDEV_A_DEV_XDP_FEATURES)?;
    Some(u64::from_ne_bytes(features.get(..8)?.try_into().ok()?) & XDP_BASIC != 0)
}

/// Sends a question with one attribute, and picks one out of the answer.
fn ask(socket: &Socket, family: u16, command: u8, attribute: (u16, &[u8]), wanted: u16) -> Option<Vec<u8>> {
    socket.send(&question(family, command, attribute), 0).ok()?;
    let (answer, _) = socket.recv_from_full().ok()?;
    pick(&answer, wanted)
}

fn question(family: u16, command: u8, (kind, value): (u16, &[u8])) -> Vec<u8> {
    let attribute = 4 + value.len();
    let mut message = Vec::with_capacity(HEADER_BYTES + attribute + 3);
    message.extend(((HEADER_BYTES + attribute.next_multiple_of(4)) as u32).to_ne_bytes());
    message.extend(family.to_ne_bytes());
    message.extend(NLM_F_REQUEST.to_ne_bytes());
    // Sequence and port: one question at a time, on a socket of its own.
    message.extend([0; 8]);
    message.extend([command, 1, 0, 0]);
    message.extend((attribute as u16).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(value);
    message.resize(message.len().next_multiple_of(4), 0);
    message
}

fn pick(answer: &[u8], wanted: u16) -> Option<Vec<u8>> {
    let length = u32::from_ne_bytes(answer.get(..4)?.try_into().ok()?) as usize;
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    let attributes = answer.get(HEADER_BYTES..length).filter(|_| kind != NLMSG_ERROR)?;
    let mut attributes = NlasIterator::new(attributes).map_while(Result::ok);
    let found = attributes.find(|attribute: &NlaBuffer<&[u8]>| attribute.kind() == wanted)?;
    Some(found.value().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_is_picked_out_of_an_answer_and_an_error_has_none() {
        let answer = question(31, 1, (3, &7_u64.to_ne_bytes()));
        assert_eq!(pick(&answer, 3), Some(7_u64.to_ne_bytes().to_vec()));
        assert_eq!(pick(&answer, 4), None);
        let mut error = answer;
        error[4..6].copy_from_slice(&NLMSG_ERROR.to_ne_bytes());
        assert_eq!(pick(&error, 3), None);
        assert_eq!(pick(&error[..10], 3), None);
    }
}
