//! Interfaces: from route netlink what belongs to this network namespace, from ethtool what the driver tells.

use std::fs;
use std::path::{Path, PathBuf};

use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};

use super::interrupts;
use crate::doctor::facts::{Interface, Link, Native, NativeSource, Version};
use crate::doctor::{drivers, ethtool, netdev};
use crate::kernel::place::{self, name};
use crate::kernel::{foreign, interfaces};

/// The wanted interfaces, or where none is wanted all that are up; and the names of all others that are up.
pub fn interfaces(wanted: Vec<String>, kernel: Option<Version>) -> (Vec<Interface>, Vec<String>) {
    // Without netlink there are no interfaces, as far as we can see; each wanted one is then told as missing.
    let messages = interfaces::links().unwrap_or_default();
    let wanted = if wanted.is_empty() { up(&messages) } else { wanted };
    let others = up(&messages).into_iter().filter(|name| !wanted.contains(name)).collect();
    let interface = |name: String| {
        let message = messages.iter().find(|message| self::name(message) == name);
        Interface { late: false, link: message.map(|message| link(message, &messages, kernel)), name }
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
    let place = place::place(message, all);
    let veth = place.kind.as_deref() == Some("veth");
    let (peer, lower) = if veth { (place.lower, None) } else { (None, place.lower) };
    let peer = peer.and_then(|peer| Some((all.iter().find(|other| self::name(other) == peer)?, peer)));
    let on_this = |other: &&LinkMessage| place::lower(other) == Some(index);
    let vlans = all.iter().filter(|other| place::kind(other).as_deref() == Some("vlan")).filter(on_this);
    Link {
        channels: ethtool::channels(name),
        ethernet: attached.ethernet,
        features: ethtool::features(name),
        index,
        interrupts: sysfs(name, index).and_then(|folder| interrupts::of(&folder, Path::new("/proc"))),
        kind: place.kind,
        lower,
        master: place.master,
        mtu: mtu(message),
        native: native(index, driver.as_deref(), kernel),
        peer: peer.map(|(message, peer)| (peer, mtu(message))),
        program: attached.program.map(|attached| foreign::program(attached, index)),
        programs_above: place.programs_above,
        rps: sysfs(name, index).and_then(|folder| rps(&folder)),
        rss: ethtool::rss(name),
        up: message.header.flags.contains(LinkFlags::Up),
        vlans: vlans.map(self::name).collect(),
        driver,
    }
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

/// The interface's folder in sysfs, which shows the network namespace that it was mounted in: an interface of the
/// same name but another index is not the one that we mean.
fn sysfs(name: &str, index: u32) -> Option<PathBuf> {
    let folder = Path::new("/sys/class/net").join(name);
    let own = fs::read_to_string(folder.join("ifindex")).ok()?;
    (own.trim().parse() == Ok(index)).then_some(folder)
}

fn rps(folder: &Path) -> Option<(usize, usize)> {
    let entries = fs::read_dir(folder.join("queues")).ok()?.filter_map(Result::ok);
    let queues = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("rx-"));
    let masks: Vec<_> =
        queues.filter_map(|queue| fs::read_to_string(queue.path().join("rps_cpus")).ok()).collect();
    let spread = masks.iter().filter(|mask| mask.chars().any(|c| !matches!(c, '0' | ',' | '\n'))).count();
    Some((spread, masks.len()))
}

fn mtu(message: &LinkMessage) -> u32 {
    let mtu = message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Mtu(mtu) => Some(*mtu),
        _ => None,
    });
    mtu.unwrap_or(0)
}
