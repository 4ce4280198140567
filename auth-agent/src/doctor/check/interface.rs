//! One interface: whether it is there, what it is a part of, and what is on it.

use super::{driver, queues};
use crate::doctor::Finding;
use crate::doctor::Severity::{Note, Problem, Warning};
use crate::doctor::facts::{ConfigState, Facts, Interface, Link, Program};
use auth_common::layout::PROGRAM;

/// Everything about one interface.
pub fn check(interface: &Interface, facts: &Facts) -> Vec<Finding> {
    let name = &interface.name;
    let Some(link) = &interface.link else {
        if interface.late {
            let seen = "not there yet: it is filtered as soon as it appears";
            return vec![Finding::note("interface", seen).on(name)];
        }
        let seen = "no such interface in this network namespace";
        return vec![Finding::bad(Problem, "interface", seen, "ip -br link").on(&printable(name))];
    };
    let mut findings = vec![state(name, link)];
    if !link.ethernet {
        let seen = "carries no Ethernet frames, so the filter can't read them: put it on the interface below";
        findings.push(Finding::bad(Problem, "ethernet", seen, "ip -br link"));
    }
    findings.extend(place(name, link, facts));
    findings.extend(program(name, link, facts));
    findings.extend(driver::check(name, link, facts));
    findings.extend(queues::check(name, link, facts));
    findings.into_iter().map(|finding| finding.on(name)).collect()
}

/// A name from the command line is no interface's, and may hold anything.
fn printable(name: &str) -> String {
    name.escape_debug().to_string()
}

fn state(name: &str, link: &Link) -> Finding {
    if link.up {
        Finding::ok("interface", "up")
    } else {
        Finding::bad(Warning, "interface", "down", format!("ip link set dev {name} up"))
    }
}

/// Bonds, bridges and VLANs: which of the interfaces that belong together should hold the filter.
fn place(name: &str, link: &Link, facts: &Facts) -> Vec<Finding> {
    let instead = |names: &[&str]| {
        let needed = facts.interfaces.iter().filter(|interface| !interface.late);
        let others = needed.map(|interface| interface.name.as_str());
        let mut all: Vec<_> = others.filter(|other| *other != name).collect();
        all.extend(names.iter().filter(|name| !facts.interfaces.iter().any(|other| other.name == **name)));
        let all: Vec<_> = all.iter().map(|name| format!("\"{name}\"")).collect();
        format!("set kernel.interfaces = [{}]", all.join(", "))
    };
    let mut findings = Vec::new();
    match (link.kind.as_deref(), &link.lower) {
        (Some("vlan"), Some(lower)) => findings.push(Finding::bad(
            Warning,
            "vlan",
            format!("a VLAN has no native XDP; the filter reads the tags, so {lower} is a better place"),
            instead(&[lower]),
        )),
        (Some("bridge"), _) => findings.push(Finding::bad(
            Warning,
            "bridge",
            "a bridge has no native XDP: put the filter on its ports",
            format!("bridge link show master {name}"),
        )),
        (Some("bond"), _) => {
            findings.push(Finding::note(
                "bond",
                "native XDP needs a mode and hash policy without VLAN or source tables",
            ));
        }
        _ => {}
    }
    match &link.master {
        Some(master) if master.kind == "bond" => {
            let examined = |member: &&String| facts.interfaces.iter().any(|other| other.name == **member);
            let missing: Vec<_> = master.members.iter().filter(|member| !examined(member)).collect();
            if !missing.is_empty() {
                let seen = format!(
                    "a part of {}: what comes in through the other parts is not filtered",
                    master.name
                );
                findings.push(Finding::bad(Warning, "bond", seen, instead(&[&master.name])));
            }
        }
        Some(master) if master.kind == "bridge" => findings.push(Finding::note(
            "bridge",
            format!("a port of {}: what is only passed on to other ports is filtered too", master.name),
        )),
        _ => {}
    }
    findings
}

fn program(name: &str, link: &Link, facts: &Facts) -> Vec<Finding> {
    let pinned = facts.pins.pinned.as_ref().map(|pinned| pinned.here.contains(&link.index));
    let Some(program) = &link.program else {
        let stale = Finding::bad(
            Warning,
            "xdp",
            "a filter is pinned for it, but none is attached: the next start attaches one",
            "auth-agent run",
        );
        let free = match &link.programs_above[..] {
            [] => Finding::ok("xdp", "no program"),
            [above, ..] => Finding::bad(
                Problem,
                "xdp",
                format!("{above} lies on it and has an XDP program: the kernel takes none here after that"),
                format!("auth-agent doctor --interface {above}"),
            ),
        };
        return if pinned == Ok(true) { vec![stale] } else { vec![free] };
    };
    let Program { id, mode, .. } = program;
    let foreign = program.name.as_deref().is_some_and(|name| name != PROGRAM);
    match (pinned, foreign) {
        (Ok(true), false) => vec![Finding::ok("xdp", format!("the filter (program {id}), {mode}"))],
        (Err(_), false) if program.name.is_none() => {
            vec![Finding::bad(
                Note,
                "xdp",
                format!("program {id}, {mode}; whose, could not be seen"),
                super::AS_ROOT,
            )]
        }
        (_, false) if program.name.is_some() => vec![Finding::bad(
            Problem,
            "xdp",
            format!("the filter of an agent with another kernel.pin_directory (program {id}, {mode})"),
            "auth-agent detach --pin-directory DIR",
        )],
        _ => {
            let seen = format!("another program is attached: {program}");
            if facts.replace && program.irreplaceable().is_none() {
                let seen = format!("{seen}; as kernel.replace says, the filter takes its place at the start");
                return vec![Finding::note("xdp", seen)];
            }
            vec![Finding::bad(Problem, "xdp", seen, program.removal(name))]
        }
    }
}

/// Interfaces that are up and not filtered, where that is not what was asked for.
pub fn unfiltered(facts: &Facts) -> Option<Finding> {
    // A VLAN or a part of what is filtered needs no filter of its own, but that is seen on its own line.
    let asked = facts.config.state == ConfigState::Good && facts.agent.is_some();
    (asked && !facts.others.is_empty()).then(|| {
        let seen =
            format!("{} up, and not looked at: what comes in there is not filtered", facts.others.join(", "));
        let needed = facts.interfaces.iter().filter(|interface| !interface.late);
        let all = needed.map(|interface| &interface.name).chain(&facts.others);
        let all: Vec<_> = all.map(|name| format!("\"{name}\"")).collect();
        Finding::bad(Note, "interfaces", seen, format!("set kernel.interfaces = [{}]", all.join(", ")))
    })
}
