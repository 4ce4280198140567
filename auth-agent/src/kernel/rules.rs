//! Turns rules as operators state them into the entries that the kernel looks up.
//!
//! A trie answers with one entry, the longest prefix. So that this one entry is the whole truth, each entry
//! holds what all rules covering it amount to, and a source prefix that is cut by a longer rule is marked, so
//! that the kernel does not cache one address's outcome for its neighbours.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;

use auth_common::rules::{ADDRESS_BITS, Rule as Entry};
use ipnet::IpNet;

use super::FilterError;
use super::classes::DEFAULT_CLASS;
use crate::clock::UnixTime;
use crate::edge::{Action, Class, Rule};

/// A prefix of the 128-bit mapped address space.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Prefix {
    /// The address, host bits 0.
    pub address: u128,
    /// Its length in bits.
    pub length: u32,
}

const V4_MAPPED: u128 = 0xffff_0000_0000;
const V4_LENGTH: u32 = 96;
const V4_SPACE: Prefix = Prefix { address: V4_MAPPED, length: V4_LENGTH };

impl Prefix {
    fn new(network: IpNet) -> Self {
        let length = u32::from(network.prefix_len());
        match network {
            IpNet::V4(network) => Self {
                address: V4_MAPPED | u128::from(u32::from(network.network())),
                length: V4_LENGTH + length,
            },
            IpNet::V6(network) => Self { address: u128::from(network.network()), length },
        }
    }

    /// The prefix of an address that is `length` bits long.
    fn cut(address: u128, length: u32) -> Self {
        let mask = u128::MAX.checked_shl(ADDRESS_BITS - length).unwrap_or(0);
        Self { address: address & mask, length }
    }

    fn covers(self, other: Self) -> bool {
        self.length <= other.length && Self::cut(other.address, self.length) == self
    }

    /// Whether it lies in the mapped IPv4 space.
    pub fn is_v4(self) -> bool {
        V4_SPACE.covers(self)
    }
}

/// The address as the kernel looks it up.
pub fn mapped(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => V4_MAPPED | u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

/// The entries that make the kernel enforce `rules`. `number` is what the kernel knows a class by, `deadline` turns
/// a ban's end into nanoseconds on the kernel's clock.
///
/// # Errors
/// [`FilterError::ClassTooLong`]: the budgets of an IPv6 source belong to its whole prefix.
pub fn compile(
    rules: &[Rule],
    ipv6_prefix: u8,
    number: impl Fn(&Class) -> u16,
    deadline: impl Fn(UnixTime) -> u64,
) -> Result<BTreeMap<Prefix, Entry>, FilterError> {
    let source_length = u32::from(ipv6_prefix);
    let mut entries = BTreeMap::<Prefix, Entry>::new();
    for rule in rules {
        let prefix = Prefix::new(rule.network);
        let is_part = !prefix.is_v4() && prefix.length > source_length;
        if is_part && rule.class().is_some() {
            return Err(FilterError::ClassTooLong { ipv6_prefix, network: rule.network });
        }
        merge(entries.entry(prefix).or_default(), own_entry(&rule.action, &number, &deadline));
        if is_part {
            entries.entry(prefix).or_default().mixed = 1;
            entries.entry(Prefix::cut(prefix.address, source_length)).or_default().mixed = 1;
        }
    }
    // `::/0` means IPv6, as it does everywhere else: what it says must not reach the mapped IPv4 space.
    if entries.keys().any(|prefix| prefix.covers(V4_SPACE)) {
        entries.entry(V4_SPACE).or_default();
    }
    inherit(&mut entries);
    Ok(entries)
}

fn own_entry(action: &Action, number: &impl Fn(&Class) -> u16, deadline: &impl Fn(UnixTime) -> u64) -> Entry {
    match action {
        Action::Allow => Entry { allowed: 1, ..Entry::default() },
        Action::Ban { until } => Entry { banned_until: until.map_or(u64::MAX, deadline), ..Entry::default() },
        Action::Limit(class) => Entry { class: number(class), ..Entry::default() },
    }
}

/// Adds what another rule says. Its class counts only where the entry has none.
fn merge(entry: &mut Entry, other: Entry) {
    entry.allowed |= other.allowed;
    entry.banned_until = entry.banned_until.max(other.banned_until);
    if entry.class == DEFAULT_CLASS {
        entry.class = other.class;
    }
}

/// Gives each entry what the entries covering it say. The map's order puts a prefix behind all that cover it.
fn inherit(entries: &mut BTreeMap<Prefix, Entry>) {
    let mut covering: Vec<(Prefix, Entry)> = Vec::new();
    for (prefix, entry) in entries {
        while covering.last().is_some_and(|(last, _)| !last.covers(*prefix)) {
            covering.pop();
        }
        // Families don't inherit from each other.
        if let Some((parent, inherited)) = covering.last()
            && parent.is_v4() == prefix.is_v4()
        {
            merge(entry, *inherited);
        }
        covering.push((*prefix, *entry));
    }
}
