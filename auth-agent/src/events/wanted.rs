//! What a subscription asks for.

use std::net::IpAddr;

use auth_common::event::bit;
use auth_common::gcra::Limit;
use auth_common::verdict::{Reason, Verdict};
use ipnet::IpNet;

/// Samples per second where nothing else is asked for: as many as a person can follow, and then some.
pub const DEFAULT_RATE: u32 = 100;
/// Samples per second that may be asked for: the kernel's ring holds those of more than a second.
pub const MAX_RATE: u32 = 1_000;

const SECOND: u64 = 1_000_000_000;

/// Which packets a subscriber wants to see, and how many of them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Wanted {
    /// Samples, with two seconds' worth at once.
    pub limit: Limit,
    /// The bits of the reasons.
    pub reasons: u64,
    /// Any of these; none: every source, and frames without one.
    pub sources: Vec<IpNet>,
}

impl Wanted {
    /// `rate` samples a second, from 1 to [`MAX_RATE`]; reasons as [`parse_reasons`] yields them, 0 for all that
    /// drop or reset.
    pub fn new(reasons: u64, sources: Vec<IpNet>, rate: u32) -> Self {
        let rate = rate.clamp(1, MAX_RATE);
        let reasons = if reasons == 0 { of(Verdict::Drop) | of(Verdict::Reset) } else { reasons };
        Self { limit: Limit::new(rate, SECOND, (2 * rate).min(MAX_RATE)), reasons, sources }
    }

    pub(super) fn wants(&self, reason: Reason, source: Option<IpAddr>) -> bool {
        let from = |source: IpAddr| self.sources.iter().any(|network| network.contains(&source));
        self.reasons & bit(reason) != 0 && (self.sources.is_empty() || source.is_some_and(from))
    }
}

/// Not a reason.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{written:?} is no reason: write drop, pass, reset or a name like {like}")]
pub struct UnknownReason {
    like: &'static str,
    written: String,
}

/// The bits of a reason by its name, or of all that `drop`, `pass` or `reset`.
pub fn parse_reasons(text: &str) -> Result<u64, UnknownReason> {
    let verdicts = [Verdict::Drop, Verdict::Pass, Verdict::Reset];
    if let Some(verdict) = verdicts.into_iter().find(|verdict| verdict.name() == text) {
        return Ok(of(verdict));
    }
    let named = Reason::ALL.into_iter().find(|reason| reason.name() == text);
    named.map(bit).ok_or_else(|| {
        let written: String = text.chars().take(64).collect();
        let distance = |reason: &Reason| strsim::damerau_levenshtein(&written, reason.name());
        let like = Reason::ALL.into_iter().min_by_key(distance).map_or("", Reason::name);
        UnknownReason { like, written }
    })
}

fn of(verdict: Verdict) -> u64 {
    Reason::ALL
        .into_iter()
        .filter(|reason| reason.verdict() == verdict)
        .map(bit)
        .fold(0, |all, bit| all | bit)
}
