//! Judging: each check is a function from facts to findings, and knows nothing of where they come from.

mod agent;
mod driver;
mod host;
mod interface;
mod queues;

use std::path::Path;

use super::Finding;
use super::facts::{ConfigState, Facts, Unseen};
use super::{Severity, Severity::Problem};
use crate::config::XdpMode;

/// What root would see.
const AS_ROOT: &str = "sudo auth-agent doctor";

/// Everything.
pub fn all(facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![configuration(facts)];
    findings.extend(host::check(&facts.host, facts.agent.as_ref()));
    findings.extend(host::pins(&facts.pins));
    if facts.interfaces.is_empty() {
        findings.push(Finding::bad(Problem, "interfaces", "none is up", "ip -br link"));
    }
    for interface in &facts.interfaces {
        findings.extend(interface::check(interface, facts));
    }
    findings.extend(interface::unfiltered(facts));
    if let Some(agent) = &facts.agent {
        findings.extend(agent::check(agent, facts));
    }
    findings
}

fn configuration(facts: &Facts) -> Finding {
    let path = &facts.config.path;
    let shown = path.display();
    match &facts.config.state {
        ConfigState::Absent => Finding::bad(
            Severity::Note,
            "config",
            format!("{shown}: none; listeners and store were not checked"),
            format!("auth-agent config example > {}", quoted(path)),
        ),
        ConfigState::Broken(count, first) => Finding::bad(
            Problem,
            "config",
            match count {
                1 => first.clone(),
                _ => format!("{first} (and {} more)", count - 1),
            },
            format!("auth-agent --config {} config check", quoted(path)),
        ),
        ConfigState::Good => Finding::ok("config", shown.to_string()),
        ConfigState::Unseen(unseen) => self::unseen("config", &format!("{shown}"), unseen),
    }
}

/// Something that could not be seen; where root would see it, how.
fn unseen(area: &'static str, what: &str, unseen: &Unseen) -> Finding {
    let seen = format!("{what}: could not be seen: {}", unseen.why);
    let fix = unseen.denied.then(|| AS_ROOT.to_owned());
    Finding { fix, ..Finding::note(area, seen) }
}

/// How much something matters that stands in the way of native XDP; nothing in generic mode.
fn hindrance(mode: XdpMode) -> Option<Severity> {
    match mode {
        XdpMode::Auto => Some(Severity::Warning),
        XdpMode::Generic => None,
        XdpMode::Native => Some(Problem),
    }
}

/// A path as a shell reads it.
fn quoted(path: &Path) -> String {
    let path = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/._-+@:".contains(c);
    if path.chars().all(plain) { path } else { format!("'{}'", path.replace('\'', r"'\''")) }
}
