//! `[limits]`, and what differs from it by network.

use std::num::NonZeroU32;

use ipnet::IpNet;

use super::super::defaults::{DAY, SECOND};
use super::super::document::{Checked, Section, wrong};
use super::super::{
    ByteRate, Class, DEFAULT_CLASS_NAME, EnumerationLimit, HttpLimit, Kernel, Limits, MOST_OBJECTS, Rate,
    SourceLimits, values,
};
use super::Earlier;

/// A debt that takes longer to decay is a ban, and there is a verb for those.
pub(super) const MAX_DEBT_DAYS: u32 = 30;

/// As many as the kernel tells apart, besides the default.
const MAX_CLASSES: usize = auth_common::layout::MAX_CLASSES as usize - 1;

pub(super) fn limits(mut section: Section<'_>) -> Limits {
    let default = Limits::default();
    let limits = Limits {
        breaker: plain_limit(section.section("breaker"), default.breaker),
        credential_failures: plain_limit(section.section("credential_failures"), default.credential_failures),
        enumeration: enumeration(section.section("enumeration")),
        site_factor: section.or("site_factor", values::count(1..=10_000), default.site_factor),
        resets: plain_limit(section.section("resets"), default.resets),
        source: source_limits(&mut section, &default.source),
    };
    section.finish();
    limits
}

/// The limits of a section that may hold others besides.
fn source_limits(section: &mut Section<'_>, default: &SourceLimits) -> SourceLimits {
    SourceLimits {
        packets: plain_limit(section.section("packets"), default.packets),
        bytes: byte_limit(section.section("bytes"), default.bytes),
        connections: plain_limit(section.section("connections"), default.connections),
        requests: http_limit(section.section("requests"), default.requests),
        auth_failures: http_limit(section.section("auth_failures"), default.auth_failures),
    }
}

/// The limits of a section that holds nothing else.
pub(in crate::config) fn overrides(mut section: Section<'_>, default: &SourceLimits) -> SourceLimits {
    let limits = source_limits(&mut section, default);
    section.finish();
    limits
}

/// A rate that stands alone, in a section that holds nothing else.
pub(in crate::config) fn sole_rate(mut section: Section<'_>) -> Option<Rate> {
    let rate = section.required("rate", values::rate, "a number per s, min or h, such as \"100/min\"");
    let rate =
        rate.map(|rate| Rate { burst: section.or("burst", values::count(1..=u32::MAX), rate.burst), ..rate });
    if let Some(rate) = rate {
        section.check("burst", is_payable(rate.burst, rate));
    }
    section.finish();
    rate
}

pub(super) fn classes(root: &mut Section<'_>, default: &SourceLimits, kernel: &Kernel) -> Vec<Class> {
    let (mut names, mut networks) = (Earlier::default(), Earlier::default());
    let sections = root.sections("class");
    if sections.len() > MAX_CLASSES {
        let cure = "give several networks the same class";
        root.check("class", wrong(format!("more than {MAX_CLASSES} classes"), cure));
    }
    let mut class = |section| class(section, default, kernel, &mut names, &mut networks);
    sections.into_iter().filter_map(&mut class).collect()
}

fn class(
    mut section: Section<'_>,
    default: &SourceLimits,
    kernel: &Kernel,
    names: &mut Earlier<String>,
    taken: &mut Earlier<IpNet>,
) -> Option<Class> {
    let name = section.required("name", values::name, r#"name = "partners""#);
    let networks = section.required_list("networks", values::any_network, r#"networks = ["192.0.2.0/24"]"#);
    let limits = source_limits(&mut section, default);
    if let Some(name) = &name {
        names.check(&section, "name", name.clone(), String::eq);
        if name == DEFAULT_CLASS_NAME {
            let problem =
                wrong("that is the class of everyone else", "choose another name, or write [limits]");
            section.check("name", problem);
        }
    }
    for network in networks.iter().flatten() {
        if let Some(line) = taken.line_of(network) {
            let what = format!("{network} is in the class of line {line} too");
            section.check("networks", wrong(what, "take it out of one of the two"));
        }
        taken.add(&section, "networks", *network);
        section.check("networks", is_whole_source(*network, kernel.ipv6_prefix));
    }
    section.finish();
    Some(Class { limits, name: name?, networks: networks? })
}

/// The budgets of an IPv6 source belong to its whole prefix.
fn is_whole_source(network: IpNet, ipv6_prefix: u8) -> Checked<()> {
    match network {
        IpNet::V6(network) if network.prefix_len() > ipv6_prefix => {
            let cure = format!("write its /{ipv6_prefix}, as kernel.ipv6_prefix says");
            wrong(format!("{network} is only a part of what counts as one source"), cure)
        }
        _ => Ok(()),
    }
}

fn enumeration(mut section: Section<'_>) -> Option<EnumerationLimit> {
    let default = EnumerationLimit::default();
    let on = section.or("on", values::boolean, true);
    let limit = EnumerationLimit {
        end_after: section.or("end_after", values::count(1..=1_000_000), default.end_after),
        objects: section.or("objects", values::count(1..=MOST_OBJECTS), default.objects),
        per: section.or("per", values::duration(SECOND..=DAY), default.per),
        source_factor: section.or("source_factor", values::count(1..=10_000), default.source_factor),
    };
    section.finish();
    on.then_some(limit)
}

fn plain_limit(mut section: Section<'_>, default: Rate) -> Rate {
    let rate = rate(&mut section, default);
    section.finish();
    rate
}

fn byte_limit(mut section: Section<'_>, default: ByteRate) -> ByteRate {
    let limit = ByteRate {
        per_second: section.or("per_second", values::bytes(1 << 10..=100 << 30), default.per_second),
        // Generic XDP and the loopback see packets of 64 KiB: a smaller burst would never let them pass.
        burst: section.or("burst", values::bytes(128 << 10..=100 << 30), default.burst),
    };
    section.finish();
    limit
}

fn http_limit(mut section: Section<'_>, default: HttpLimit) -> HttpLimit {
    let rate = rate(&mut section, default.rate);
    let as_before = if rate == default.rate { default.drop_after } else { rate.burst };
    let drop_after = section.or("drop_after", values::count(1..=u32::MAX), as_before);
    let drop_for = section.or("drop_for", values::duration(SECOND..=DAY * 7), default.drop_for);
    if drop_after != rate.burst {
        section.check("drop_after", is_payable(drop_after, rate));
    }
    section.finish();
    HttpLimit { drop_after, drop_for, rate }
}

/// A rate that is set sets its burst too, unless that is set as well.
pub(super) fn rate(section: &mut Section<'_>, default: Rate) -> Rate {
    let rate = section.or("rate", values::rate, default);
    let rate = Rate { burst: section.or("burst", values::count(1..=u32::MAX), rate.burst), ..rate };
    section.check("burst", is_payable(rate.burst, rate));
    rate
}

fn is_payable(events: NonZeroU32, rate: Rate) -> Checked<()> {
    let seconds = u64::from(events.get()) * rate.period.as_secs() / u64::from(rate.events.get());
    let days = seconds / DAY.as_secs();
    if days < u64::from(MAX_DEBT_DAYS) {
        return Ok(());
    }
    wrong(
        format!("{events} take {days} days to pay off at this rate"),
        "write a smaller number or a faster rate",
    )
}
