//! `[ladder]`: what becomes of a source that goes on whatever it is told.

use std::num::NonZeroU32;
use std::time::Duration;

use super::Rate;

/// `[ladder]`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ladder {
    /// By how much each ban is longer than the one before.
    pub factor: NonZeroU32,
    /// How long the first ban lasts.
    pub first: Duration,
    /// How long after its last ban a source counts as new.
    pub forget_after: Duration,
    /// How many times the points of others a source may have that authenticated lately.
    pub known_factor: NonZeroU32,
    /// No ban lasts longer.
    pub longest: Duration,
    /// Whether anybody is banned.
    pub on: bool,
    /// What each offence costs.
    pub prices: Prices,
    /// Points that a source may have at once, and how many are forgiven in time.
    pub rate: Rate,
}

/// `[ladder.prices]`: points, 0 to 100; 0: it does not count.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Prices {
    /// A credential that does not hold.
    pub auth_failure: u8,
    /// It had to be dropped at the network card for what it owed.
    pub drop: u8,
    /// An object of others, beyond what a principal may ask for.
    pub enumeration: u8,
    /// A token that somebody made up.
    pub forged: u8,
    /// A request over a limit of its source.
    pub limit: u8,
    /// What web pages can have browsers send in place of TLS.
    pub plaintext: u8,
    /// What is neither TLS nor HTTP, or abuses either.
    pub protocol: u8,
}

impl Prices {
    /// The highest.
    pub fn highest(&self) -> u8 {
        let Self { auth_failure, drop, enumeration, forged, limit, plaintext, protocol } = *self;
        let prices = [auth_failure, drop, enumeration, forged, limit, plaintext, protocol];
        prices.into_iter().max().unwrap_or(0)
    }
}
