//! Receive queues: how many processors the filter runs on.

use super::hindrance;
use crate::doctor::Finding;
use crate::doctor::Severity::{Note, Warning};
use crate::doctor::facts::{Channels, Facts, Interrupts, Link};

/// The driver that gives XDP half of its channels, and no more.
const HALF: &str = "ena";
/// The driver that wants a channel per processor for what XDP sends, beside those in use.
const ONE_EACH: &str = "virtio_net";

/// Queues, RSS and RPS.
pub fn check(name: &str, link: &Link, facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(channels) = link.channels {
        findings.extend(reserved(name, link, channels, facts));
        findings.push(spread(name, link, channels, facts.host.cpus));
        findings.extend(indirection(name, link, channels));
    } else if let Some((_, queues @ 1..)) = link.rps {
        findings.push(Finding::ok("queues", format!("{queues}; the driver tells no more")));
    }
    findings.extend(interrupts(link, facts.host.cpus));
    findings
}

/// Channels that native XDP needs for itself.
fn reserved(name: &str, link: &Link, channels: Channels, facts: &Facts) -> Option<Finding> {
    let Channels { in_use, most, .. } = channels;
    let cpus = u32::try_from(facts.host.cpus).unwrap_or(u32::MAX);
    match (link.driver.as_deref()?, hindrance(facts.mode)) {
        (HALF, Some(severity)) if in_use > most / 2 => Some(Finding::bad(
            severity,
            "channels",
            format!("{in_use} of {most} in use: native XDP needs the other half"),
            set(name, channels, (most / 2).max(1)),
        )),
        (ONE_EACH, Some(_)) if in_use.saturating_add(cpus) > most => {
            let seen =
                format!("{in_use} of {most} in use: none left per processor, so what XDP sends takes a lock");
            let fix = most.checked_sub(cpus).filter(|left| *left > 0).map(|left| set(name, channels, left));
            Some(Finding { fix, ..Finding::note("channels", seen) })
        }
        _ => None,
    }
}

/// How many processors the packets arrive on.
fn spread(name: &str, link: &Link, channels: Channels, cpus: usize) -> Finding {
    let Channels { in_use, most, .. } = channels;
    let useful = match link.driver.as_deref() {
        Some(HALF) => most / 2,
        _ => most,
    };
    let useful = useful.min(u32::try_from(cpus).unwrap_or(u32::MAX));
    let seen = format!("{in_use} for {cpus} processors");
    if in_use >= useful && useful as usize >= cpus {
        return Finding::ok("queues", seen);
    }
    if in_use < useful {
        let severity = if in_use == 1 { Warning } else { Note };
        let seen = format!("{seen}: the filter runs on no more than {in_use}");
        return Finding::bad(severity, "queues", seen, set(name, channels, useful));
    }
    match link.rps {
        // Behind the filter, the stack can still use the other processors.
        Some((0, queues @ 1..)) => Finding::bad(
            Note,
            "queues",
            format!("{seen}, and no more to be had; RPS is off, so the stack stays on {queues} too"),
            format!(
                "for q in /sys/class/net/{name}/queues/rx-*; do echo {} > \"$q/rps_cpus\"; done",
                mask(cpus)
            ),
        ),
        _ => Finding::ok("queues", seen),
    }
}

/// Whether the hash table leaves queues out.
fn indirection(name: &str, link: &Link, channels: Channels) -> Option<Finding> {
    let queues = channels.in_use as usize;
    let used = link.rss.filter(|used| *used < queues)?;
    Some(Finding::bad(
        Warning,
        "rss",
        format!("the table spreads packets over {used} of {queues} queues"),
        format!("ethtool -X {name} equal {queues}"),
    ))
}

/// Whether several queues share a processor while others have none.
fn interrupts(link: &Link, cpus: usize) -> Option<Finding> {
    let Interrupts { cpus: used, numbers } = link.interrupts.as_ref()?;
    let seen = format!("{} on {} of {cpus} processors", numbers.len(), used.len());
    if used.len() >= numbers.len().min(cpus) {
        return Some(Finding::ok("interrupts", seen));
    }
    let severity = if used.len() == 1 { Warning } else { Note };
    let numbers: Vec<_> = numbers.iter().map(ToString::to_string).collect();
    let fix = format!(
        "i=0; for irq in {}; do echo $((i % {cpus})) > /proc/irq/$irq/smp_affinity_list; i=$((i + 1)); done",
        numbers.join(" ")
    );
    Some(Finding::bad(severity, "interrupts", format!("{seen}: the filter runs on no others"), fix))
}

fn set(name: &str, channels: Channels, count: u32) -> String {
    let which = if channels.combined { "combined" } else { "rx" };
    format!("ethtool -L {name} {which} {count}")
}

/// All processors as sysfs takes them: groups of 32, the highest first.
fn mask(cpus: usize) -> String {
    let group = |from: usize| match cpus - from {
        32.. => u32::MAX,
        rest => (1 << rest) - 1,
    };
    let groups: Vec<_> = (0..cpus).step_by(32).map(|from| format!("{:x}", group(from))).collect();
    groups.into_iter().rev().collect::<Vec<_>>().join(",")
}
