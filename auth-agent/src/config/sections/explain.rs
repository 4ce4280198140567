//! `[explain]`, `[access_log]` and `[audit]`

use http::HeaderName;
use toml::de::DeValue;

use crate::config::defaults::{DAY, HOUR};
use crate::config::document::{Checked, Section, wrong};
use crate::config::{AccessLog, Audit, Explain, values};

/// `taken`: header fields that have another meaning.
pub(super) fn explain(mut section: Section<'_>, taken: &[&HeaderName]) -> Explain {
    let default = Explain::default();
    let explain = Explain {
        header: section.or("header", values::header_or_off, default.header),
        remembered: section.or("remembered", remembered, default.remembered),
    };
    if let Some(name) = explain.header.as_ref().filter(|name| taken.contains(name)) {
        let what = format!("{name} carries a credential or an identity already");
        section.check("header", wrong(what, "choose another name, or \"off\""));
    }
    section.finish();
    explain
}

pub(super) fn access_log(mut section: Section<'_>) -> AccessLog {
    let default = AccessLog::default();
    let target = values::log_target(section.folder());
    let log = AccessLog {
        to: section.or("to", target, default.to),
        sample: section.or("sample", values::count(1..=1_000_000), default.sample),
        principals: section.or("principals", values::boolean, default.principals),
    };
    section.finish();
    log
}

pub(super) fn audit(mut section: Section<'_>) -> Audit {
    let default = Audit::default();
    let audit = Audit {
        keep: section.or("keep", values::duration(HOUR..=DAY * 3650), default.keep),
        entries: section.or("entries", values::count(100..=10_000_000), default.entries),
    };
    section.finish();
    audit
}

/// 0 turns it off.
fn remembered(value: &DeValue<'_>) -> Checked<u32> {
    values::whole(1 << 20)(value)
}
