//! Classes: networks whose sources have limits of their own, by the configuration or set while the agent runs.
//!
//! What was set wins over what is configured for the same network; between networks, the longest one decides. What
//! can't be enforced is kept, and says why.

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;

use auth_common::layout::MAX_CLASSES;
use ipnet::IpNet;

use crate::clock::UnixTime;
use crate::config::{self, Config, SourceLimits};
use crate::edge::{Action, Class, Rule};
use crate::store::Limit;

/// What the configuration says.
#[derive(Clone, Debug)]
pub struct Classes {
    configured: Vec<config::Class>,
    default: SourceLimits,
}

/// The limits of one network.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// The class.
    pub class: Arc<Class>,
    /// Who it holds for.
    pub network: IpNet,
    /// Why it is not in force.
    pub obstacle: Option<String>,
    /// When and why it was set; `None`: it stands in the configuration.
    pub set: Option<Set>,
}

/// An obstacle that is somebody's wish.
const REPLACED: &str = "replaced by the limits that were set for it";

impl Entry {
    /// Whether nothing else keeps it from being in force than limits that were set for the same network.
    pub fn is_replaced(&self) -> bool {
        self.obstacle.as_deref() == Some(REPLACED)
    }
}

/// Who set limits while the agent ran.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Set {
    /// When.
    pub created: UnixTime,
    /// The operator's remark.
    pub reason: Option<String>,
}

impl Classes {
    /// The classes of a configuration.
    pub fn new(config: &Config) -> Self {
        Self { configured: config.classes.clone(), default: config.limits.source }
    }

    /// The limits of sources that are in no class.
    pub fn default(&self) -> &SourceLimits {
        &self.default
    }

    /// Whether the configuration has a class for exactly this network.
    pub fn is_configured(&self, network: IpNet) -> bool {
        self.configured.iter().any(|class| class.networks.contains(&network))
    }

    /// All classes by network, those that are not in force included.
    pub fn entries(&self, set: &[Limit], ipv6_prefix: u8) -> Vec<Entry> {
        let configured = self.configured.iter().flat_map(|config::Class { limits, name, networks }| {
            let class = Arc::new(Class { limits: *limits, name: name.clone() });
            networks.iter().map(move |network| {
                let replaced = set.iter().any(|row| row.network == *network);
                let replaced = replaced.then(|| REPLACED.to_owned());
                Entry { class: Arc::clone(&class), network: *network, obstacle: replaced, set: None }
            })
        });
        let mut entries: Vec<_> = configured.chain(set.iter().map(|row| self.entry(row))).collect();
        for Entry { network, obstacle, .. } in &mut entries {
            if obstacle.is_none() && network.addr().is_ipv6() && network.prefix_len() > ipv6_prefix {
                *obstacle =
                    Some(format!("longer than the /{ipv6_prefix} by which IPv6 sources are told apart"));
            }
        }
        entries.sort_by_key(|entry| (entry.network, entry.set.is_some()));
        entries
    }

    fn entry(&self, Limit { created, limits, network, reason }: &Limit) -> Entry {
        let resolved = limits.resolve(&self.default);
        let class = Class { limits: *resolved.as_ref().unwrap_or(&self.default), name: network.to_string() };
        let set = Some(Set { created: *created, reason: reason.clone() });
        Entry { class: Arc::new(class), network: *network, obstacle: resolved.err(), set }
    }
}

/// Those that are in force.
pub fn rules(entries: &[Entry]) -> impl Iterator<Item = Rule> {
    let in_force = entries.iter().filter(|entry| entry.obstacle.is_none());
    in_force.map(|entry| Rule { action: Action::Limit(Arc::clone(&entry.class)), network: entry.network })
}

/// Those in force whose network an address is in, the one that decides first.
pub fn applying(entries: Vec<Entry>, address: IpAddr) -> Vec<Entry> {
    let covers = |entry: &Entry| entry.obstacle.is_none() && entry.network.contains(&address);
    let mut applying: Vec<_> = entries.into_iter().filter(covers).collect();
    applying.sort_by_key(|entry| std::cmp::Reverse(entry.network.prefix_len()));
    applying
}

/// Whether the kernel can tell so many classes apart.
pub fn fit(entries: &[Entry]) -> bool {
    let mut distinct: Vec<SourceLimits> = Vec::new();
    for entry in entries.iter().filter(|entry| entry.obstacle.is_none()) {
        if !distinct.contains(&entry.class.limits) {
            distinct.push(entry.class.limits);
        }
    }
    distinct.len() < MAX_CLASSES as usize
}
