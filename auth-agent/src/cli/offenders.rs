//! `auth-agent offenders`, for people.

use std::fmt::Write as _;

use super::table::table;
use crate::clock::UnixTime;
use crate::control::messages::{LadderStatus, Offenders};
use crate::duration::relative;
use crate::enumeration::Slowed;
use crate::store::Automatic;

pub(super) fn list(list: &Offenders, now: UnixTime) -> String {
    let Offenders { banned_at, more, offenders, slowed } = list;
    let mut out = if offenders.is_empty() {
        "no source owes points\n".to_owned()
    } else {
        let rows = offenders.iter().map(|offender| {
            [
                offender.network.to_string(),
                format!("{} of {banned_at}", offender.points),
                offender.offence.clone(),
                offender.banned_times.to_string(),
            ]
        });
        table(["SOURCE", "POINTS", "LAST OFFENCE", "BANNED"], &rows.collect::<Vec<_>>())
    };
    if *more > 0 {
        let _ = writeln!(out, "and {more} more, who owe less");
    }
    if !slowed.is_empty() {
        let rows = slowed.iter().map(|Slowed { issuer, method, source, subject, when }| {
            let issuer = issuer.clone().unwrap_or_default();
            [subject.clone(), method.clone(), issuer, source.to_string(), relative(*when, now)]
        });
        let rows = rows.collect::<Vec<_>>();
        out += &format!("\n{}", table(["SLOWED", "BY", "ISSUER", "LAST FROM", "LAST TIME"], &rows));
    }
    out
}

/// Empty where nothing ever happened.
pub(super) fn summary(ladder: &LadderStatus) -> String {
    let LadderStatus { banned, foreign_objects, lost, offences, on, slowed } = ladder;
    let mut out = String::new();
    let counted: Vec<_> = offences
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(name, count)| format!("{count} {name}"))
        .collect();
    if !counted.is_empty() {
        let off = if *on { "" } else { "; the ladder is off" };
        let _ = writeln!(out, "offences   {}; {banned} banned for them{off}", counted.join(", "));
    }
    if *lost > 0 {
        let _ = writeln!(
            out,
            "           {lost} bans and drops were not noted: too many came at once, or are in force"
        );
    }
    if *foreign_objects > 0 {
        let _ = writeln!(
            out,
            "objects    {foreign_objects} of others were asked for; {slowed} times a principal was slowed for it"
        );
    }
    out
}

/// Why nobody made a ban.
pub(super) fn reason(automatic: &Automatic) -> String {
    let Automatic { offence, times } = automatic;
    format!("automatic: {offence}, ban {times} of this source")
}
