//! Where an interface stands among the others: VLANs lie on what carries them, bonds and bridges have parts.

use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage};

use super::interfaces::interface;

/// Where an interface stands.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Place {
    /// The kind of a virtual interface: `veth`, `vlan`, `bond`.
    pub kind: Option<String>,
    /// The interface that this one lies on, such as a VLAN's; a veth's other end. Only within this network namespace.
    pub lower: Option<String>,
    /// The bond or bridge that this one is a part of.
    pub master: Option<Master>,
    /// Interfaces on top of this one that have an XDP program: then the kernel takes none here.
    pub programs_above: Vec<String>,
}

/// A bond, bridge or other master.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Master {
    /// Its kind.
    pub kind: String,
    /// All of its members.
    pub members: Vec<String>,
    /// Its name.
    pub name: String,
}

/// Where the interface of this message stands among all of them.
pub fn place(message: &LinkMessage, all: &[LinkMessage]) -> Place {
    let index = message.header.index;
    let by_index = |index: u32| all.iter().find(|other| other.header.index == index);
    let master = master(message).and_then(by_index);
    let lies_here = |other: &&LinkMessage| {
        kind(other).as_deref() != Some("veth") && !elsewhere(other) && lower(other) == Some(index)
    };
    let above = all.iter().filter(lies_here).chain(master).filter(|other| other.header.index != index);
    Place {
        kind: kind(message),
        // An index of another network namespace says nothing here.
        lower: lower(message)
            .filter(|lower| *lower != index && !elsewhere(message))
            .and_then(by_index)
            .map(name),
        master: master.map(|master| Master {
            kind: kind(master).unwrap_or_default(),
            members: members(all, master.header.index),
            name: name(master),
        }),
        programs_above: above.filter(|other| interface(other).program.is_some()).map(name).collect(),
    }
}

/// The name of an interface.
pub fn name(message: &LinkMessage) -> String {
    interface(message).name
}

/// The kind of a virtual interface.
pub fn kind(message: &LinkMessage) -> Option<String> {
    let information = message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(information) => Some(information),
        _ => None,
    })?;
    information.iter().find_map(|information| match information {
        LinkInfo::Kind(InfoKind::Other(kind)) => Some(kind.clone()),
        LinkInfo::Kind(kind) => Some(kind.to_string()),
        _ => None,
    })
}

/// Index of the interface that this one lies on.
pub fn lower(message: &LinkMessage) -> Option<u32> {
    message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Link(index) => Some(*index),
        _ => None,
    })
}

fn members(all: &[LinkMessage], index: u32) -> Vec<String> {
    all.iter().filter(|link| master(link) == Some(index)).map(name).collect()
}

fn elsewhere(message: &LinkMessage) -> bool {
    message.attributes.iter().any(|attribute| matches!(attribute, LinkAttribute::LinkNetNsId(_)))
}

fn master(message: &LinkMessage) -> Option<u32> {
    message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Controller(index) => Some(*index),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::link::{LinkXdp, XdpAttached};

    use super::*;

    fn link(index: u32, name: &str, kind: InfoKind, more: Vec<LinkAttribute>) -> LinkMessage {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.attributes =
            vec![LinkAttribute::IfName(name.to_owned()), LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind)])];
        link.attributes.extend(more);
        link
    }

    fn program() -> LinkAttribute {
        LinkAttribute::Xdp(vec![LinkXdp::Attached(XdpAttached::Driver), LinkXdp::ProgId(31)])
    }

    #[test]
    fn parts_masters_and_vlans_are_told_apart() {
        let all = [
            link(1, "bond0", InfoKind::Bond, vec![program()]),
            link(2, "eth0", InfoKind::Veth, vec![LinkAttribute::Controller(1)]),
            link(3, "eth1", InfoKind::Veth, vec![LinkAttribute::Controller(1), LinkAttribute::Link(2)]),
            link(4, "bond0.7", InfoKind::Vlan, vec![LinkAttribute::Link(1)]),
            link(5, "far", InfoKind::Vlan, vec![LinkAttribute::Link(1), LinkAttribute::LinkNetNsId(0)]),
        ];
        let places: Vec<_> = all.iter().map(|message| place(message, &all)).collect();
        let master = Master {
            kind: "bond".to_owned(),
            members: vec!["eth0".to_owned(), "eth1".to_owned()],
            name: "bond0".to_owned(),
        };
        assert_eq!(places[0].kind.as_deref(), Some("bond"));
        assert!(places[0].master.is_none() && places[0].programs_above.is_empty());
        assert_eq!(places[1].master, Some(master));
        assert_eq!(places[1].programs_above, ["bond0"]);
        assert_eq!(places[2].lower.as_deref(), Some("eth0"));
        assert_eq!(places[3].lower.as_deref(), Some("bond0"));
        assert_eq!(places[4].lower, None);
    }
}
