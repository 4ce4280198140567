//! `sensitive_claims`: what becomes of an issuer's tokens that carry what anyone who holds them can read.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use super::TokenError;
use super::claims::Claims;
use super::sensitive::{self, Finding};
use crate::config::SensitiveClaims;

/// Claims of one issuer that the log names: those of an issuer that makes names up must fill neither the log nor
/// the memory.
const MAX_NAMED: usize = 64;

/// One issuer's policy, and what came of it.
#[derive(Debug)]
pub(super) struct Watch {
    found: AtomicU64,
    /// Paths that the log has named.
    named: Mutex<HashSet<String>>,
    policy: SensitiveClaims,
}

impl Watch {
    pub fn new(policy: SensitiveClaims) -> Self {
        Self { found: AtomicU64::new(0), named: Mutex::default(), policy }
    }

    /// Tokens in which something was found.
    pub fn found(&self) -> u64 {
        self.found.load(Relaxed)
    }

    /// What is found in the claims, unless the token is refused for it.
    pub fn check(&self, claims: &Claims<'_>) -> Result<Vec<Finding>, TokenError> {
        let findings = match self.policy {
            SensitiveClaims::Ignore => Vec::new(),
            SensitiveClaims::Reject | SensitiveClaims::Warn => sensitive::find(claims.members()),
        };
        let refused = self.policy == SensitiveClaims::Reject && !findings.is_empty();
        if refused { Err(TokenError::Sensitive) } else { Ok(findings) }
    }

    /// The same, counted and logged. Only for claims whose signature holds: strangers are not to fill the log.
    pub fn watch(&self, issuer: &str, claims: &Claims<'_>) -> Result<(), TokenError> {
        let findings = self.check(claims);
        if findings.as_ref().is_ok_and(Vec::is_empty) {
            return Ok(());
        }
        self.found.fetch_add(1, Relaxed);
        for finding in findings?.iter().filter(|finding| self.is_news(&finding.path)) {
            let Finding { path, .. } = finding;
            tracing::warn!(issuer, claim = ?path, found = finding.what(), "a token carries what anyone can read");
        }
        Ok(())
    }

    fn is_news(&self, path: &str) -> bool {
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        named.len() < MAX_NAMED && !named.contains(path) && named.insert(path.to_owned())
    }
}
