//! `auth-agent doctor`: whether this host can carry the agent, and what to do where it can't.
//!
//! Needs no agent and no rights; what it may not see, it says. `gather` looks, and changes nothing; `check`
//! judges, as functions from [`facts::Facts`] to findings.

mod check;
mod drivers;
mod ethtool;
pub mod facts;
mod gather;
mod netdev;
mod system;

use std::path::PathBuf;

use serde::Serialize;

/// What to look at.
#[derive(Clone, Debug)]
pub struct Request {
    /// The configuration file.
    pub config: PathBuf,
    /// Whether the operator named it: it must be there then.
    pub config_named: bool,
    /// Interfaces to look at; empty: those of the configuration, or else every one that is up.
    pub interfaces: Vec<String>,
}

/// Looks at the host and judges it.
pub fn examine(request: &Request) -> Report {
    Report::new(check::all(&gather::facts(request)))
}

/// Everything that was found, what matters most last.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Whether there is no problem.
    pub ok: bool,
    /// Sorted by severity.
    pub findings: Vec<Finding>,
}

impl Report {
    fn new(mut findings: Vec<Finding>) -> Self {
        findings.sort_by_key(|finding| finding.severity);
        Self { ok: findings.iter().all(|finding| finding.severity != Severity::Problem), findings }
    }

    /// How many findings have this severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }
}

/// How much a finding matters, in rising order.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Worth knowing, or not to be seen.
    Note,
    /// The agent works, but less well than it could.
    Warning,
    /// The agent will not start, or not do what it is configured for.
    Problem,
}

impl Severity {
    /// As it is shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Finding {
    /// What was looked at, in a word: `kernel`, `mtu`.
    pub area: &'static str,
    /// The command or setting that mends it.
    pub fix: Option<String>,
    /// The interface it is about.
    pub interface: Option<String>,
    /// What was seen, and what follows from it.
    pub seen: String,
    /// How much it matters.
    pub severity: Severity,
}

impl Finding {
    fn ok(area: &'static str, seen: impl Into<String>) -> Self {
        Self { area, fix: None, interface: None, seen: seen.into(), severity: Severity::Ok }
    }

    fn bad(severity: Severity, area: &'static str, seen: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { fix: Some(fix.into()), severity, ..Self::ok(area, seen) }
    }

    fn note(area: &'static str, seen: impl Into<String>) -> Self {
        Self { severity: Severity::Note, ..Self::ok(area, seen) }
    }

    fn on(self, interface: &str) -> Self {
        Self { interface: Some(interface.to_owned()), ..self }
    }
}

#[cfg(test)]
mod tests;
