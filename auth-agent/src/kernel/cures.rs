//! What to do where the kernel does not take the program: it answers with a number, and where the interface stands
//! among the others tells what that means.

use super::place::Place;

/// The name of generic mode.
pub const GENERIC: &str = "generic";
/// The name of native mode.
pub const NATIVE: &str = "native";

/// What mends a refusal to attach to `name` in `mode`.
pub fn attach(name: &str, mode: &str, place: &Place, errno: Option<i32>) -> String {
    if errno == Some(libc::EEXIST)
        && let [above, ..] = &place.programs_above[..]
    {
        return match &place.master {
            Some(master) if master.name == *above => format!(
                "it is a part of the {} {above}, which has an XDP program: put \"{above}\" into kernel.interfaces instead, and what comes in through any part is filtered",
                master.kind
            ),
            _ => format!(
                "{above} lies on it and has an XDP program, and the kernel takes one here only before that: take it off {above} (`ip -d link show dev {above}`), or name {name} before {above}"
            ),
        };
    }
    if mode != NATIVE {
        return "look at the kernel's log (`dmesg | tail`)".to_owned();
    }
    let generic = "or set kernel.mode = \"generic\"";
    match (place.kind.as_deref(), errno) {
        (Some("vlan"), Some(libc::EOPNOTSUPP)) => match &place.lower {
            Some(lower) => format!(
                "a VLAN has no native XDP: put \"{lower}\" into kernel.interfaces instead, where the filter reads the tags, {generic}"
            ),
            None => format!(
                "a VLAN has no native XDP: filter the interface below it, which is in another network namespace, {generic}"
            ),
        },
        (Some("bond"), Some(libc::EOPNOTSUPP)) => format!(
            "native XDP on a bond needs mode balance-rr, active-backup, balance-xor or 802.3ad, a hash policy other than vlan+srcmac, and parts with native XDP and no program of their own: `cat /proc/net/bonding/{name}` shows them; {generic}"
        ),
        (Some("bridge"), Some(libc::EOPNOTSUPP)) => format!(
            "a bridge has no native XDP: put its ports (`bridge link show master {name}`) into kernel.interfaces instead, {generic}"
        ),
        (Some("veth"), Some(libc::ERANGE)) => {
            "the MTU of its other end is too large: `ip link set dev PEER mtu 3498` there".to_owned()
        }
        (_, Some(libc::ERANGE)) => format!("its MTU is too large: `ip link set dev {name} mtu 3498`"),
        (_, Some(libc::EOPNOTSUPP)) => {
            "its driver has no native XDP: set kernel.mode = \"generic\"".to_owned()
        }
        _ => format!(
            "if the driver has no native XDP, set kernel.mode = \"generic\"; else look at its MTU, channel and LRO settings with `auth-agent doctor --interface {name}` (`dmesg | tail` has the driver's words)"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::place::Master;
    use super::*;

    fn kind(kind: &str) -> Place {
        Place { kind: Some(kind.to_owned()), ..Place::default() }
    }

    #[test]
    fn a_refusal_is_explained_by_where_the_interface_stands() {
        let part = |kind: &str, programs: &[&str]| Place {
            master: Some(Master { kind: kind.to_owned(), members: Vec::new(), name: "up0".to_owned() }),
            programs_above: programs.iter().map(|&name| name.to_owned()).collect(),
            ..Place::default()
        };
        let vlan = Place { lower: Some("eth1".to_owned()), ..kind("vlan") };
        let below = Place { programs_above: vec!["eth0.7".to_owned()], ..Place::default() };
        let table: [(Place, &str, i32, &str); 14] = [
            (
                part("bond", &["up0"]),
                NATIVE,
                libc::EEXIST,
                "a part of the bond up0, which has an XDP program",
            ),
            (part("bond", &["up0"]), GENERIC, libc::EEXIST, "put \"up0\" into kernel.interfaces instead"),
            (part("bridge", &["up0"]), NATIVE, libc::EEXIST, "a part of the bridge up0"),
            // In a bond without a program, what the kernel says has another reason.
            (part("bond", &[]), NATIVE, libc::EOPNOTSUPP, "its driver has no native XDP"),
            (below.clone(), NATIVE, libc::EEXIST, "eth0.7 lies on it"),
            (below, GENERIC, libc::EEXIST, "name eth0 before eth0.7"),
            (
                vlan,
                NATIVE,
                libc::EOPNOTSUPP,
                "put \"eth1\" into kernel.interfaces instead, where the filter reads the tags",
            ),
            (kind("vlan"), NATIVE, libc::EOPNOTSUPP, "in another network namespace"),
            (kind("bond"), NATIVE, libc::EOPNOTSUPP, "cat /proc/net/bonding/eth0"),
            (kind("bridge"), NATIVE, libc::EOPNOTSUPP, "bridge link show master eth0"),
            (kind("veth"), NATIVE, libc::ERANGE, "the MTU of its other end"),
            (Place::default(), NATIVE, libc::ERANGE, "ip link set dev eth0 mtu"),
            (Place::default(), NATIVE, libc::EINVAL, "auth-agent doctor --interface eth0"),
            (kind("bond"), GENERIC, libc::EINVAL, "dmesg"),
        ];
        for (place, mode, errno, words) in table {
            let cure = attach("eth0", mode, &place, Some(errno));
            assert!(cure.contains(words), "{words}: {cure}");
        }
    }
}
