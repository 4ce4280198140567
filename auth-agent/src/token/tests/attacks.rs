//! The attacks that broke other gateways, one table for each class: what is tried, with what, and the reason it is
//! refused for. Each token is good but for what its row says.

mod carried;
mod claims;
mod form;
mod header;
mod keys;
mod remembered;
mod signature;

use super::mint::*;
use crate::token::{TokenError, Verifier};

/// What is tried, the token, why it is refused.
type Row = (&'static str, String, TokenError);

/// Every row is refused for its reason, a good token is not, and no table is shorter than its author meant it.
fn assert_refused(class: &str, verifier: &Verifier, good: &str, rows: &[Row], least: usize) {
    assert_eq!(refusal(verifier, good), None, "{class}: the good token");
    for (what, token, expected) in rows {
        assert_eq!(refusal(verifier, token), Some(*expected), "{class}: {what}: {token}");
    }
    assert!(rows.len() >= least, "{class}: {} rows", rows.len());
}
