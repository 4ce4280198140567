//! Changes that wait to be confirmed, for people.

use super::table::table;
use crate::clock::UnixTime;
use crate::control::messages::{PendingEntry, PendingList};
use crate::duration::relative;

/// What to do after a change, in one line.
pub(super) fn notice(entry: &PendingEntry, now: UnixTime) -> String {
    format!("undone {} unless you run: auth-agent confirm {}\n", relative(entry.deadline, now), entry.id)
}

/// All of them.
pub(super) fn list(list: &PendingList, now: UnixTime) -> String {
    if list.pending.is_empty() {
        return "no change waits to be confirmed\n".to_owned();
    }
    let rows = list.pending.iter().map(|entry| {
        [
            entry.id.to_string(),
            entry.kind.clone(),
            networks(entry),
            relative(entry.created, now),
            relative(entry.deadline, now),
        ]
    });
    table(["ID", "CHANGE", "NETWORK", "MADE", "UNDONE"], &rows.collect::<Vec<_>>())
}

/// A line of `status`.
pub(super) fn line(entry: &PendingEntry, now: UnixTime) -> String {
    format!("pending    {} {}: {}", entry.kind, networks(entry), notice(entry, now))
}

/// The number of the only one.
pub(super) fn only(list: &PendingList) -> Result<i64, String> {
    match &list.pending[..] {
        [] => Err("no change waits to be confirmed".to_owned()),
        [entry] => Ok(entry.id),
        several => {
            let ids: Vec<_> = several.iter().map(|entry| entry.id.to_string()).collect();
            Err(format!(
                "changes {} wait to be confirmed: name one (`auth-agent pending` shows them)",
                ids.join(", ")
            ))
        }
    }
}

fn networks(entry: &PendingEntry) -> String {
    match entry.networks {
        1 => entry.network.to_string(),
        networks => format!("{} and {} more", entry.network, networks.saturating_sub(1)),
    }
}
