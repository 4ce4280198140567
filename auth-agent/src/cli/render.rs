//! The agent's answers for people.

use std::fmt::Write;

use super::table::table;
use super::{certificate, issuer, limit, offenders, pending, upstream};
use crate::clock::UnixTime;
use crate::control::messages::{AddedBan, Allows, Bans, ImportedBans, Status};
use crate::counters::{Snapshot, TokenSnapshot};
use crate::doctor::{Finding, Report, Severity};
use crate::duration::{relative, relative_or, text};
use crate::edge::{Debt, Detached, FilterStatus, FlowsStatus, Interface, SourceView};

pub(super) fn status(status: &Status, now: UnixTime) -> String {
    let Status {
        acme,
        certificates,
        client_trust,
        filter,
        http,
        issuers,
        keys,
        ladder,
        limits,
        pending: changes,
        pid,
        revocations,
        rules,
        upstreams,
        uptime_seconds,
        version,
        ..
    } = status;
    let mut out = format!("auth-agent {version}, pid {pid}, up {}\n", text(*uptime_seconds));
    out += &interfaces(filter);
    out += &certificate::lines(certificates, now);
    out += &certificate::acme(acme, now);
    out += &certificate::trust(client_trust, now);
    // Writing to a String can't fail.
    let _ = writeln!(out, "rules      {} banned, {} allowed", rules.banned, rules.allowed);
    if let Some(error) = &rules.error {
        let _ = writeln!(out, "           not all of them are in the kernel yet: {error}");
    }
    out.extend(changes.iter().map(|entry| pending::line(entry, now)));
    let _ = writeln!(out, "keys       {keys} valid");
    out += &tokens(&http.tokens);
    out += &issuer::summary(issuers);
    out += &upstream::summary(upstreams);
    let _ = writeln!(out, "revoked    {} in {} KiB", revocations.count, revocations.bytes.div_ceil(1024));
    out += &offenders::summary(ladder);
    out += &limit::summary(limits);
    out += &flows(&filter.flows);
    let _ = writeln!(out, "sources    {} of {} lines used\n", filter.sources.used, filter.sources.lines);
    out += &packets(filter);
    out + "\n" + &requests(http)
}

/// Empty in normal times.
fn flows(flows: &FlowsStatus) -> String {
    match flows {
        FlowsStatus { overflowed: 0, revoked: 0, .. } => String::new(),
        FlowsStatus { overflowed: 0, revoked, .. } => format!("flows      {revoked} revoked\n"),
        FlowsStatus { capacity, overflowed, revoked } => format!(
            "flows      {revoked} revoked; {overflowed} had no room among {capacity}, or made some: \
             what still comes by them is not dropped\n"
        ),
    }
}

fn tokens(tokens: &TokenSnapshot) -> String {
    let TokenSnapshot { cached, cached_bytes, evictions, hits, misses, negative_hits, sensitive } = tokens;
    let mut out = format!(
        "tokens     {cached} remembered in {} KiB; {hits} hits, {misses} misses, {negative_hits} known forgeries, \
         {evictions} evicted\n",
        cached_bytes.div_ceil(1 << 10)
    );
    if *sensitive > 0 {
        let _ = writeln!(
            out,
            "           {sensitive} with personal data or secrets: see the log, or `token inspect`"
        );
    }
    out
}

fn packets(filter: &FilterStatus) -> String {
    if filter.counters.is_empty() {
        return "no packets counted yet\n".to_owned();
    }
    let rows = filter.counters.iter();
    let rows: Vec<_> =
        rows.map(|row| [row.reason.clone(), row.verdict.clone(), row.packets.to_string()]).collect();
    table(["PACKETS", "VERDICT", "COUNT"], &rows)
}

fn requests(http: &Snapshot) -> String {
    let rows = [
        ("connections", "", http.connections),
        ("handshakes", "delayed", http.handshakes_delayed),
        ("requests", "", http.requests),
        ("forwarded", "", http.forwarded),
        ("permitted", "", http.permitted),
    ];
    let rows = rows.map(|(name, outcome, count)| [name.to_owned(), outcome.to_owned(), count.to_string()]);
    let dropped = ["access-log".to_owned(), "dropped".to_owned(), http.access_log_dropped.to_string()];
    let rows = rows.into_iter().chain((http.access_log_dropped > 0).then_some(dropped));
    let refused = http.refusals.iter();
    let refused = refused.map(|(reason, count)| [reason.clone(), "refused".to_owned(), count.to_string()]);
    let closed = http.closed.iter();
    let closed = closed.map(|(reason, count)| [reason.clone(), "closed".to_owned(), count.to_string()]);
    table(["SINCE THE START", "OUTCOME", "COUNT"], &rows.chain(refused).chain(closed).collect::<Vec<_>>())
}

fn interfaces(filter: &FilterStatus) -> String {
    let lines =
        filter.interfaces.iter().map(|Interface { index, mode, name, program_id }| match program_id {
            0 if mode == "absent" => format!("filter     {name} absent\n"),
            0 => format!("filter     {name} UNFILTERED: {mode}\n"),
            id => format!("filter     {name} (index {index}), {mode}, program {id}\n"),
        });
    let warnings = filter.warnings.iter().map(|warning| format!("warning    {warning}\n"));
    lines.chain(warnings).collect()
}

pub(super) fn bans(bans: &Bans, now: UnixTime) -> String {
    if bans.bans.is_empty() {
        return "no bans\n".to_owned();
    }
    let rows = bans.bans.iter().map(|ban| {
        [
            ban.network.to_string(),
            relative_or("never", ban.until, now),
            relative(ban.created, now),
            ban.automatic.as_ref().map(offenders::reason).or_else(|| ban.reason.clone()).unwrap_or_default(),
        ]
    });
    table(["NETWORK", "ENDS", "CREATED", "REASON"], &rows.collect::<Vec<_>>())
}

pub(super) fn allows(allows: &Allows, now: UnixTime) -> String {
    if allows.allows.is_empty() {
        return "the allowlist is empty\n".to_owned();
    }
    let rows = allows.allows.iter().map(|allow| {
        let created = allow.created.map(|created| relative(created, now));
        [
            allow.network.to_string(),
            created.unwrap_or_else(|| "kernel.allow".to_owned()),
            allow.reason.clone().unwrap_or_default(),
        ]
    });
    table(["NETWORK", "ADDED", "REASON"], &rows.collect::<Vec<_>>())
}

pub(super) fn imported_bans(bans: &ImportedBans, now: UnixTime) -> String {
    let ends = match bans.until {
        Some(until) => format!("they end {}", relative(until, now)),
        None => "until they are removed".to_owned(),
    };
    format!("banned {} networks, {ends}\n{}", bans.imported, ended_with_ban(bans.ended))
}

fn ended_with_ban(connections: usize) -> String {
    match connections {
        0 => String::new(),
        1 => "ended 1 live connection\n".to_owned(),
        count => format!("ended {count} live connections\n"),
    }
}

pub(super) fn added_ban(ban: &AddedBan, now: UnixTime) -> String {
    let banned = match ban.entry.until {
        Some(until) => format!("banned {}, ends {}\n", ban.entry.network, relative(until, now)),
        None => format!("banned {} until it is removed\n", ban.entry.network),
    };
    banned + &ended_with_ban(ban.ended)
}

pub(super) fn source(source: &SourceView, now: UnixTime) -> String {
    let SourceView { banned_until, class, debts, in_table, known_until, rule, rule_cached, source } = source;
    let future = |time: &Option<UnixTime>| match time.filter(|time| *time > now) {
        Some(until) => format!("yes, ends {}", relative(until, now)),
        None => "no".to_owned(),
    };
    let line = if *in_table { "its own" } else { "none; the debts are those of all newcomers of its group" };
    let cached = if *rule_cached { " (cached)" } else { "" };
    let banned = match (rule.as_str(), banned_until) {
        ("banned", None) => "yes, until it is removed".to_owned(),
        (_, until) => future(until),
    };
    let rows = [
        ("packets", debts.packets),
        ("bytes / 64", debts.bytes),
        ("connections", debts.connections),
        ("requests", debts.requests),
        ("auth failures", debts.auth_failures),
    ];
    format!(
        "source     {source}\nline       {line}\nrule       {rule}{cached}\nclass      {class}\nbanned     {banned}\nknown      {}\n\n{}",
        future(known_until),
        table(["DEBT", "EVENTS", "BURST", "PAID IN", "STATE"], &rows.map(debt)),
    )
}

fn debt((name, debt): (&str, Debt)) -> [String; 5] {
    let paid_in = match debt.debt_ns {
        0 => String::new(),
        // Rounded up: a debt that is shown as paid should be.
        ns => text(ns.div_ceil(1_000_000_000)),
    };
    let state = match debt {
        Debt { dropped: true, .. } => "dropped at the NIC",
        Debt { over: true, .. } => "over budget",
        _ => "within budget",
    };
    [name.to_owned(), debt.debt_events.to_string(), debt.burst.to_string(), paid_in, state.to_owned()]
}

pub(super) fn detached(detached: &Detached) -> String {
    if detached.interfaces.is_empty() {
        "nothing was attached\n".to_owned()
    } else {
        format!("detached from {}: packets reach the host unfiltered\n", detached.interfaces.join(", "))
    }
}

/// One line each, what matters most last; what mends it below.
pub(super) fn doctor(report: &Report) -> String {
    let subject = |finding: &Finding| match &finding.interface {
        Some(interface) => format!("{interface} {}", finding.area),
        None => finding.area.to_owned(),
    };
    let lines: Vec<_> = report.findings.iter().map(|finding| (subject(finding), finding)).collect();
    let width = lines.iter().map(|(subject, _)| subject.chars().count()).max().unwrap_or(0);
    let mut out = String::new();
    for (subject, Finding { fix, seen, severity, .. }) in &lines {
        // Writing to a String can't fail.
        let _ = writeln!(out, "{:<7}  {subject:<width$}  {seen}", severity.name());
        if let Some(fix) = fix {
            let _ = writeln!(out, "{:<7}  {:<width$}  fix: {fix}", "", "");
        }
    }
    let count = |severity: Severity, name: &str| match report.count(severity) {
        1 => format!("1 {name}"),
        count => format!("{count} {name}s"),
    };
    let (notes, warnings) = (count(Severity::Note, "note"), count(Severity::Warning, "warning"));
    out + &format!(
        "\n{} ok, {notes}, {warnings}, {}\n",
        report.count(Severity::Ok),
        count(Severity::Problem, "problem")
    )
}
