//! What the driver of an interface can, and what stands in the way of native XDP.

use super::hindrance;
use crate::config::XdpMode;
use crate::doctor::facts::{Facts, Feature, Link, NativeSource};
use crate::doctor::{Finding, Severity, drivers};

/// Generic mode takes any driver: then nothing stands in the way.
const GENERIC: &str = "set kernel.mode = \"generic\"";

/// Driver, MTU and offloads.
pub fn check(name: &str, link: &Link, facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![native(link, facts.mode)];
    findings.extend(mtu(name, link, facts));
    findings.extend(offloads(name, link, facts.mode));
    findings.extend(vlan_strip(name, link));
    findings
}

fn native(link: &Link, mode: XdpMode) -> Finding {
    let driver = link.driver.as_deref().unwrap_or("no driver that tells its name");
    let source = match link.native.source {
        NativeSource::Kernel => "says the kernel",
        NativeSource::Table => "says the table of known drivers",
    };
    match (link.native.supported, hindrance(mode)) {
        (Some(true), None) => Finding::bad(
            Severity::Note,
            "driver",
            format!(
                "{driver}: native XDP ({source}), but kernel.mode is \"generic\", which costs more per packet"
            ),
            "set kernel.mode = \"auto\"",
        ),
        (Some(true), Some(_)) => Finding::ok("driver", format!("{driver}: native XDP ({source})")),
        (_, None) => Finding::ok("driver", format!("{driver}: generic mode works with any")),
        (Some(false), Some(severity)) => {
            let cost = "generic mode works, but costs more per packet";
            Finding::bad(severity, "driver", format!("{driver}: no native XDP ({source}); {cost}"), GENERIC)
        }
        (None, Some(_)) => Finding::note(
            "driver",
            format!("{driver}: not known whether it has native XDP; starting the agent tells"),
        ),
    }
}

fn mtu(name: &str, link: &Link, facts: &Facts) -> Option<Finding> {
    let severity = hindrance(facts.mode).filter(|_| link.native.supported != Some(false))?;
    let (most, known) = drivers::mtu(link.driver.as_deref(), facts.host.page)?;
    // A veth receives what its other end sends, so that end's MTU counts.
    let veth = link.driver.as_deref() == Some("veth");
    let (subject, mtu) = match &link.peer {
        Some((peer, mtu)) if veth => (peer.as_str(), *mtu),
        _ => (name, link.mtu),
    };
    let fix = format!("ip link set dev {subject} mtu {most}");
    Some(if mtu <= most {
        Finding::ok("mtu", link.mtu.to_string())
    } else if veth && link.peer.is_none() {
        let seen = format!(
            "{mtu}: native XDP takes at most {most} from the other end, which is in another namespace"
        );
        Finding::bad(Severity::Warning, "mtu", seen, fix)
    } else if known {
        let whose = if subject == name { String::new() } else { format!(" at the other end ({subject})") };
        let seen = format!("{mtu}{whose}: native XDP takes at most {most} with this driver");
        Finding::bad(severity, "mtu", seen, fix)
    } else {
        let seen = format!("{mtu}: few drivers take more than {most} with native XDP");
        Finding::bad(Severity::Warning, "mtu", seen, fix)
    })
}

fn offloads(name: &str, link: &Link, mode: XdpMode) -> Vec<Finding> {
    let (Some(severity), Some(features)) = (hindrance(mode), link.features) else { return Vec::new() };
    if link.native.supported == Some(false) {
        return Vec::new();
    }
    let mut findings = Vec::new();
    let merged = "merges packets before the filter sees them; drivers refuse native XDP";
    if let Feature { fixed, on: true } = features.lro {
        let fix = if fixed { GENERIC.to_owned() } else { format!("ethtool -K {name} lro off") };
        findings.push(Finding::bad(severity, "lro", format!("on: {merged}"), fix));
    }
    // Where virtio_net can change it, it does so by itself when a program is attached.
    let by_itself = link.driver.as_deref() == Some("virtio_net");
    match features.gro_hw {
        Feature { fixed: false, on: true } if !by_itself => findings.push(Finding::bad(
            Severity::Warning,
            "gro-hw",
            format!("on: {merged}"),
            format!("ethtool -K {name} rx-gro-hw off"),
        )),
        Feature { fixed: true, on: true } => findings.push(Finding::bad(
            severity,
            "gro-hw",
            format!("on, and only the hypervisor can turn it off: {merged}"),
            GENERIC,
        )),
        _ => {}
    }
    findings
}

fn vlan_strip(name: &str, link: &Link) -> Option<Finding> {
    let strips = link.features.is_some_and(|features| features.vlan_strip.on);
    (strips && !link.vlans.is_empty()).then(|| {
        let seen = format!(
            "the hardware takes the tags off: {} look like untagged to the filter",
            link.vlans.join(", ")
        );
        Finding::bad(Severity::Note, "vlan", seen, format!("ethtool -K {name} rxvlan off"))
    })
}
