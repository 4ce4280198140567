//! Where an interface belongs, and what is on it.

use super::*;

pub(super) fn program(name: Option<&str>, holder: Holder) -> Option<Program> {
    Some(Program { holder, id: 31, mode: "native", name: name.map(str::to_owned) })
}

fn pinned_here() -> Seen<Pinned> {
    Ok(Pinned { here: vec![2], ..Pinned::default() })
}

#[test]
fn the_program_on_an_interface_is_ours_or_named_with_what_removes_it() {
    each_row_has_one_finding(&[
        (
            |facts| on_link(facts).program = program(Some("other"), Holder::Netlink),
            Problem,
            "eth0 xdp",
            "another program is attached: other (id 31), native",
            "ip link set dev eth0 xdpdrv off",
        ),
        (
            |facts| on_link(facts).program = program(Some("other"), Holder::Link(7)),
            Problem,
            "eth0 xdp",
            "other (id 31)",
            "bpftool link detach id 7",
        ),
        (
            // Whatever the pin says.
            |facts| {
                facts.pins.pinned = pinned_here();
                on_link(facts).program = program(Some("other"), Holder::Netlink);
            },
            Problem,
            "eth0 xdp",
            "another program",
            "ip link set dev eth0 xdpdrv off",
        ),
        (
            |facts| on_link(facts).program = program(None, Holder::Unseen),
            Problem,
            "eth0 xdp",
            "unnamed (id 31)",
            "bpftool prog show id 31",
        ),
        (
            |facts| on_link(facts).program = program(Some("auth_filter"), Holder::Link(7)),
            Problem,
            "eth0 xdp",
            "another kernel.pin_directory",
            "auth-agent detach --pin-directory DIR",
        ),
        (
            |facts| facts.pins.pinned = pinned_here(),
            Warning,
            "eth0 xdp",
            "none is attached",
            "auth-agent run",
        ),
    ]);
    let mut facts = healthy();
    facts.pins.pinned = pinned_here();
    on_link(&mut facts).program = program(Some("auth_filter"), Holder::Link(7));
    let findings = check::all(&facts);
    assert!(
        findings.contains(&Finding::ok("xdp", "the filter (program 31), native").on("eth0")),
        "{findings:#?}"
    );
}

#[test]
fn what_keeps_the_filter_off_or_makes_room_for_it_is_foretold() {
    each_row_has_one_finding(&[
        (
            |facts| {
                facts.replace = true;
                on_link(facts).program = program(Some("other"), Holder::Netlink);
            },
            Note,
            "eth0 xdp",
            "as kernel.replace says",
            "",
        ),
        (
            |facts| {
                facts.replace = true;
                on_link(facts).program = program(Some("other"), Holder::Link(7));
            },
            Problem,
            "eth0 xdp",
            "held by bpf_link 7",
            "bpftool link detach id 7",
        ),
        (
            |facts| on_link(facts).program = program(Some("xdp_dispatcher"), Holder::Netlink),
            Problem,
            "eth0 xdp",
            "xdp_dispatcher",
            "xdp-loader unload eth0 --all",
        ),
        (
            |facts| on_link(facts).programs_above = vec!["eth0.7".to_owned()],
            Problem,
            "eth0 xdp",
            "eth0.7 lies on it",
            "auth-agent doctor --interface eth0.7",
        ),
        (
            |facts| {
                facts.pins.pinned = Ok(Pinned { elsewhere: vec!["eth3".to_owned()], here: Vec::new() });
            },
            Problem,
            "bpffs",
            "another network namespace, on eth3",
            "set another kernel.pin_directory",
        ),
    ]);
}

#[test]
fn bonds_bridges_and_vlans_are_told_where_the_filter_belongs() {
    each_row_has_one_finding(&[
        (
            |facts| facts.interfaces[0].link = None,
            Problem,
            "eth0 interface",
            "no such interface",
            "ip -br link",
        ),
        (
            |facts| {
                facts.interfaces[0].link = None;
                facts.interfaces[0].late = true;
            },
            Note,
            "eth0 interface",
            "as soon as it appears",
            "",
        ),
        (|facts| on_link(facts).up = false, Warning, "eth0 interface", "down", "ip link set dev eth0 up"),
        (
            |facts| on_link(facts).ethernet = false,
            Problem,
            "eth0 ethernet",
            "on the interface below",
            "ip -br link",
        ),
        (|facts| facts.interfaces.clear(), Problem, "interfaces", "none is up", "ip -br link"),
        (
            |facts| {
                let link = on_link(facts);
                (link.kind, link.lower) = (Some("vlan".to_owned()), Some("eno1".to_owned()));
            },
            Warning,
            "eth0 vlan",
            "eno1 is a better place",
            "set kernel.interfaces = [\"eno1\"]",
        ),
        (
            |facts| on_link(facts).kind = Some("bridge".to_owned()),
            Warning,
            "eth0 bridge",
            "on its ports",
            "bridge link show master eth0",
        ),
        (|facts| on_link(facts).kind = Some("bond".to_owned()), Note, "eth0 bond", "hash policy", ""),
        (
            |facts| on_link(facts).master = master("bond", &["eth0", "eth1"]),
            Warning,
            "eth0 bond",
            "a part of up0",
            "set kernel.interfaces = [\"up0\"]",
        ),
        (
            |facts| on_link(facts).master = master("bridge", &["eth0", "tap0"]),
            Note,
            "eth0 bridge",
            "a port of up0",
            "",
        ),
        (
            |facts| facts.others = vec!["wlan0".to_owned()],
            Note,
            "interfaces",
            "wlan0 up",
            "set kernel.interfaces = [\"eth0\", \"wlan0\"]",
        ),
    ]);
    // All parts of the bond are looked at: nothing comes in beside the filter.
    let mut facts = healthy();
    on_link(&mut facts).master = master("bond", &["eth0"]);
    assert!(check::all(&facts).iter().all(|finding| finding.severity == Severity::Ok));
}

fn master(kind: &str, members: &[&str]) -> Option<Master> {
    let members = members.iter().map(|&name| name.to_owned()).collect();
    Some(Master { kind: kind.to_owned(), members, name: "up0".to_owned() })
}
