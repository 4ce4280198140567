//! Interfaces: from route netlink what belongs to this network namespace, from ethtool what the driver tells.

use std::fs;
use std::path::Path;

use aya::programs::{loaded_links, loaded_programs};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};

use crate::doctor::facts::{Holder, Interface, Link, Master, Native, NativeSource, Program, Version};
use crate::doctor::{drivers, ethtool, netdev};
use crate::kernel::interfaces;

/// The wanted interfaces, or where none is wanted all that are up; and the names of all others that are up.
pub fn interfaces(wanted: Vec<String>, kernel: Option<Version>) -> (Vec<Interface>, Vec<String>) {
    // Without netlink there are no interfaces, as far as we can see; each wanted one is then told as missing.
    let messages = interfaces::links().unwrap_or_default();
    let wanted = if wanted.is_empty() { up(&messages) } else { wanted };
    let others = up(&messages).into_iter().filter(|name| !wanted.contains(name)).collect();
    let interface = |name: String| {
        let message = messages.iter().find(|message| self::name(message) == name);
        Interface { link: message.map(|message| link(message, &messages, kernel)), name }
    };
    (wanted.into_iter().map(interface).collect(), others)
}

fn up(messages: &[LinkMessage]) -> Vec<String> {
    let up = messages.iter().filter(|message| {
        message.header.flags.contains(LinkFlags::Up) && !message.header.flags.contains(LinkFlags::Loopback)
    });
    up.map(name).collect()
}

fn link(message: &LinkMessage, all: &[LinkMessage], kernel: Option<Version>) -> Link {
    let attached = interfaces::interface(message);
    let name = &attached.name;
    let index = message.header.index;
    let driver = ethtool::driver(name);
    let kind = kind(message);
    let by_index = |index: u32| all.iter().find(|other| other.header.index == index);
    // An index of another network namespace says nothing here.
    let below = number(message, lower).filter(|_| !elsewhere(message)).and_then(by_index);
    let (peer, lower) = if kind.as_deref() == Some("veth") { (below, None) } else { (None, below) };
    let master = number(message, master).and_then(by_index);
    let on_this = |other: &&LinkMessage| number(other, self::lower) == Some(index);
    let vlans = all.iter().filter(|other| self::kind(other).as_deref() == Some("vlan")).filter(on_this);
    Link {
        channels: ethtool::channels(name),
        ethernet: attached.ethernet,
        features: ethtool::features(name),
        index,
        lower: lower.filter(|lower| lower.header.index != index).map(self::name),
        master: master.map(|master| Master {
            kind: self::kind(master).unwrap_or_default(),
            members: members(all, master.header.index),
            name: self::name(master),
        }),
        mtu: number(message, mtu).unwrap_or(0),
        native: native(index, driver.as_deref(), kernel),
        peer: peer.map(|peer| (self::name(peer), number(peer, mtu).unwrap_or(0))),
        program: attached.program.map(|attached| program(attached.id, attached.mode)),
        rps: rps(name, index),
        rss: ethtool::rss(name),
        up: message.header.flags.contains(LinkFlags::Up),
        vlans: vlans.map(self::name).collect(),
        driver,
        kind,
    }
}

fn members(all: &[LinkMessage], index: u32) -> Vec<String> {
    all.iter().filter(|link| number(link, master) == Some(index)).map(name).collect()
}

fn native(index: u32, driver: Option<&str>, kernel: Option<Version>) -> Native {
    match (netdev::native(index), driver, kernel) {
        (Some(supported), ..) => Native { source: NativeSource::Kernel, supported: Some(supported) },
        (None, Some(driver), Some(kernel)) => {
            Native { source: NativeSource::Table, supported: drivers::native(driver, kernel) }
        }
        _ => Native { source: NativeSource::Table, supported: None },
    }
}

/// Name and holder need CAP_SYS_ADMIN.
fn program(id: u32, mode: &'static str) -> Program {
    let info = loaded_programs().map_while(Result::ok).find(|info| info.id() == id);
    let holder = match (loaded_links().filter_map(Result::ok).find(|link| link.program_id() == id), &info) {
        (Some(link), _) => Holder::Link(link.id()),
        // All links could be seen, as the programs could.
        (None, Some(_)) => Holder::Netlink,
        (None, None) => Holder::Unseen,
    };
    let name = info.and_then(|info| info.name_as_str().map(str::to_owned));
    Program { holder, id, mode, name }
}

/// From sysfs, which shows the network namespace that it was mounted in: an interface of the same name but
/// another index is not the one that we mean.
fn rps(name: &str, index: u32) -> Option<(usize, usize)> {
    let folder = Path::new("/sys/class/net").join(name);
    let own = fs::read_to_string(folder.join("ifindex")).ok()?;
    if own.trim().parse() != Ok(index) {
        return None;
    }
    let entries = fs::read_dir(folder.join("queues")).ok()?.filter_map(Result::ok);
    let queues = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("rx-"));
    let masks: Vec<_> =
        queues.filter_map(|queue| fs::read_to_string(queue.path().join("rps_cpus")).ok()).collect();
    let spread = masks.iter().filter(|mask| mask.chars().any(|c| !matches!(c, '0' | ',' | '\n'))).count();
    Some((spread, masks.len()))
}

fn name(message: &LinkMessage) -> String {
    interfaces::interface(message).name
}

fn kind(message: &LinkMessage) -> Option<String> {
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

fn elsewhere(message: &LinkMessage) -> bool {
    message.attributes.iter().any(|attribute| matches!(attribute, LinkAttribute::LinkNetNsId(_)))
}

fn number(message: &LinkMessage, select: fn(&LinkAttribute) -> Option<u32>) -> Option<u32> {
    message.attributes.iter().find_map(select)
}

fn lower(attribute: &LinkAttribute) -> Option<u32> {
    if let LinkAttribute::Link(index) = attribute { Some(*index) } else { None }
}

fn master(attribute: &LinkAttribute) -> Option<u32> {
    if let LinkAttribute::Controller(index) = attribute { Some(*index) } else { None }
}

fn mtu(attribute: &LinkAttribute) -> Option<u32> {
    if let LinkAttribute::Mtu(mtu) = attribute { Some(*mtu) } else { None }
}
