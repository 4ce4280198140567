//! Classes: the numbers that the kernel knows them by, and the class of an address, for the request path.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use auth_common::layout::{Class as Numbered, MAX_CLASSES};

use super::{Budgets, FilterError};
use crate::edge::{Class, Rule};

/// The number of what holds for every source that no rule puts into another class.
pub const DEFAULT_CLASS: u16 = 0;

/// The numbers in use, the default's aside. Classes that the kernel can't tell apart share one.
#[derive(Clone, Debug, Default)]
pub struct Numbers(BTreeMap<u16, Numbered>);

impl Numbers {
    /// The numbers that entries in the kernel refer to.
    ///
    /// # Errors
    /// What `read` returns.
    pub fn from_kernel(
        in_use: BTreeSet<u16>,
        read: impl Fn(u16) -> Result<Numbered, FilterError>,
    ) -> Result<Self, FilterError> {
        let in_use = in_use.into_iter().filter(|number| *number != DEFAULT_CLASS);
        in_use.map(|number| Ok((number, read(number)?))).collect::<Result<_, _>>().map(Self)
    }

    /// Numbers for the classes of `rules`. A class that has one keeps it, and a new one gets one that nobody has,
    /// so that no source is held to another class's limits while the kernel's entries change. (Where all numbers
    /// are taken, one that is no longer wanted changes hands.)
    ///
    /// # Errors
    /// [`FilterError::TooManyClasses`].
    pub fn assign(&self, rules: &[Rule], budgets: &Budgets) -> Result<Self, FilterError> {
        let mut wanted: Vec<Numbered> = Vec::new();
        for class in rules.iter().filter_map(Rule::class) {
            let class = budgets.of_class(&class.limits).class();
            if !wanted.contains(&class) {
                wanted.push(class);
            }
        }
        if wanted.len() >= MAX_CLASSES as usize {
            return Err(FilterError::TooManyClasses { wanted: wanted.len() });
        }
        let (kept, gone): (BTreeMap<_, _>, BTreeMap<_, _>) = self
            .0
            .iter()
            .map(|(number, class)| (*number, *class))
            .partition(|(_, class)| wanted.contains(class));
        wanted.retain(|class| !kept.values().any(|kept| kept == class));
        let unused = (1..MAX_CLASSES as u16).filter(|number| !self.0.contains_key(number));
        let numbers = unused.chain(gone.into_keys());
        Ok(Self(kept.into_iter().chain(numbers.zip(wanted)).collect()))
    }

    /// These, and those of `others` that don't stand against them.
    pub fn beside(self, others: &Self) -> Self {
        Self(others.0.clone().into_iter().chain(self.0).collect())
    }

    /// The number of a class that was given one.
    pub fn of(&self, class: &Numbered) -> u16 {
        self.iter().find(|(_, numbered)| numbered == class).map_or(DEFAULT_CLASS, |(number, _)| number)
    }

    /// Each number with its class.
    pub fn iter(&self) -> impl Iterator<Item = (u16, Numbered)> {
        self.0.iter().map(|(number, class)| (*number, *class))
    }
}

/// The classes by address: where each range begins. The longest network wins, as in the kernel.
#[derive(Debug)]
pub struct ByAddress(Vec<(IpAddr, Option<Arc<Class>>)>);

const FIRST: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];

impl Default for ByAddress {
    fn default() -> Self {
        Self::new(&[])
    }
}

impl ByAddress {
    /// The classes that `rules` put sources into.
    pub fn new(rules: &[Rule]) -> Self {
        let mut limited: Vec<_> =
            rules.iter().filter_map(|rule| Some((rule.network.trunc(), rule.class()?))).collect();
        limited.sort_by_key(|(network, _)| network.prefix_len());
        let mut ranges: BTreeMap<IpAddr, Option<Arc<Class>>> = FIRST.map(|first| (first, None)).into();
        // From the widest on: no range begins inside a network that is not yet in, so each splits one in two.
        for (network, class) in limited {
            if let Some(behind) = successor(network.broadcast()) {
                let around = ranges.range(..=behind).next_back().and_then(|(_, class)| class.clone());
                ranges.entry(behind).or_insert(around);
            }
            ranges.insert(network.network(), Some(Arc::clone(class)));
        }
        Self(ranges.into_iter().collect())
    }

    /// The class of an address; `None`: the default's.
    pub fn class(&self, address: IpAddr) -> Option<&Arc<Class>> {
        let address = address.to_canonical();
        let behind = self.0.partition_point(|(start, _)| *start <= address);
        self.0.get(behind.checked_sub(1)?)?.1.as_ref()
    }
}

/// The address after the last one of a network; none after the last of its family.
fn successor(last: IpAddr) -> Option<IpAddr> {
    match last {
        IpAddr::V4(last) => last.to_bits().checked_add(1).map(|next| Ipv4Addr::from_bits(next).into()),
        IpAddr::V6(last) => last.to_bits().checked_add(1).map(|next| Ipv6Addr::from_bits(next).into()),
    }
}
