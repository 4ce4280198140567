//! `[ladder]`

use super::super::defaults::{DAY, SECOND};
use super::super::document::{Checked, Section, wrong};
use super::super::{Ladder, Prices, values};
use super::limits;

pub(super) fn ladder(mut section: Section<'_>) -> Ladder {
    let default = Ladder::default();
    let ladder = Ladder {
        factor: section.or("factor", values::count(1..=100), default.factor),
        first: section.or("first", values::duration(SECOND..=30 * DAY), default.first),
        forget_after: section.or("forget_after", values::duration(SECOND..=365 * DAY), default.forget_after),
        known_factor: section.or("known_factor", values::count(1..=1_000), default.known_factor),
        longest: section.or("longest", values::duration(SECOND..=365 * DAY), default.longest),
        on: section.or("on", values::boolean, default.on),
        prices: prices(section.section("prices"), default.prices),
        rate: limits::rate(&mut section, default.rate),
    };
    section.check("longest", is_longest(&ladder));
    section.check("burst", is_affordable(&ladder));
    section.finish();
    ladder
}

fn prices(mut section: Section<'_>, default: Prices) -> Prices {
    let mut price = |key: &'static str, default| section.or(key, values::small(100), default);
    let prices = Prices {
        auth_failure: price("auth_failure", default.auth_failure),
        drop: price("drop", default.drop),
        enumeration: price("enumeration", default.enumeration),
        forged: price("forged", default.forged),
        limit: price("limit", default.limit),
        plaintext: price("plaintext", default.plaintext),
        protocol: price("protocol", default.protocol),
    };
    section.finish();
    prices
}

fn is_longest(ladder: &Ladder) -> Checked<()> {
    if ladder.longest >= ladder.first {
        return Ok(());
    }
    wrong("shorter than the first ban", "write as long as ladder.first, or longer")
}

/// Else nobody could do it even once.
fn is_affordable(ladder: &Ladder) -> Checked<()> {
    let (points, price) = (ladder.rate.burst.get(), u32::from(ladder.prices.highest()));
    if points >= price {
        return Ok(());
    }
    wrong(
        format!("one offence alone costs {price} points, more than the {points} that a source may have"),
        "write more points, or lower ladder.prices",
    )
}
