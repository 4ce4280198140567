//! How many connections may be open: in all, and per source.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::allowlist::Allowlist;
use crate::config::Config;
use crate::limits;

/// Why a connection was closed at once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Full {
    /// `sizes.connections`
    Connections,
    /// `sizes.connections_per_source`
    ConnectionsPerSource,
}

impl Full {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::ConnectionsPerSource => "connections-per-source",
        }
    }
}

/// The connections that are open.
#[derive(Debug)]
pub(super) struct Admission {
    allowlist: Arc<Allowlist>,
    ipv6_prefix: u8,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    by_source: HashMap<IpAddr, usize>,
    limit: usize,
    limit_per_source: usize,
    total: usize,
}

impl Admission {
    /// At most `limit` connections; those on the allowlist pass the limit per source.
    pub(super) fn new(config: &Config, allowlist: Arc<Allowlist>, limit: usize) -> Self {
        let limit_per_source = config.sizes.connections_per_source.get();
        let open = Mutex::new(Open { limit, limit_per_source, ..Open::default() });
        Self { allowlist, ipv6_prefix: config.kernel.ipv6_prefix, open }
    }

    /// From now on; whoever is over them by that stays.
    pub(super) fn set_limits(&self, limit: usize, limit_per_source: usize) {
        let mut open = self.lock();
        (open.limit, open.limit_per_source) = (limit, limit_per_source);
    }

    /// Counts a connection from `address` until the slot is dropped. Allowlisted sources pass the limit per
    /// source (promise P11); the one in all protects the process itself.
    pub(super) fn admit(self: &Arc<Self>, address: IpAddr) -> Result<Slot, Full> {
        let mut open = self.lock();
        if open.total >= open.limit {
            return Err(Full::Connections);
        }
        let source = self.count(&mut open, address)?;
        open.total += 1;
        Ok(Slot { admission: Arc::clone(self), source: Some(source), total: 1 })
    }

    /// Counts a connection from a trusted proxy, which has many clients: the limit per source is not for it.
    pub(super) fn admit_proxy(self: &Arc<Self>) -> Result<Slot, Full> {
        let mut open = self.lock();
        if open.total >= open.limit {
            return Err(Full::Connections);
        }
        open.total += 1;
        Ok(Slot { admission: Arc::clone(self), source: None, total: 1 })
    }

    /// Counts the client of a proxy's connection, which has a slot of its own.
    pub(super) fn admit_behind(self: &Arc<Self>, client: IpAddr) -> Result<Slot, Full> {
        let source = self.count(&mut self.lock(), client)?;
        Ok(Slot { admission: Arc::clone(self), source: Some(source), total: 0 })
    }

    /// The source that a connection from `address` now counts against.
    fn count(&self, open: &mut Open, address: IpAddr) -> Result<IpAddr, Full> {
        let source = limits::aggregate(address, self.ipv6_prefix);
        let of_source = open.by_source.get(&source).copied().unwrap_or(0);
        if of_source >= open.limit_per_source && !self.allowlist.contains(address) {
            return Err(Full::ConnectionsPerSource);
        }
        open.by_source.insert(source, of_source + 1);
        Ok(source)
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place.
#[derive(Debug)]
pub(super) struct Slot {
    admission: Arc<Admission>,
    /// None for a proxy.
    source: Option<IpAddr>,
    total: usize,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut open = self.admission.lock();
        open.total -= self.total;
        let Some(source) = self.source else { return };
        if let Some(count) = open.by_source.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                open.by_source.remove(&source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission() -> Arc<Admission> {
        Arc::new(Admission {
            allowlist: Arc::new(Allowlist::new(vec!["10.0.0.0/8".parse().unwrap()])),
            ipv6_prefix: 64,
            open: Mutex::new(Open { limit: 5, limit_per_source: 2, ..Open::default() }),
        })
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_proxy_has_as_many_connections_as_its_clients_and_each_of_those_its_own_few() {
        let admission = admission();
        let proxied: Vec<_> = (0..4).map(|_| admission.admit_proxy().unwrap()).collect();
        let client = |last| IpAddr::from([192, 0, 2, last]);
        let first: Vec<_> = (0..2).map(|_| admission.admit_behind(client(1)).unwrap()).collect();
        assert_eq!(admission.admit_behind(client(1)).err(), Some(Full::ConnectionsPerSource));
        assert_eq!(admission.admit(client(1)).err(), Some(Full::ConnectionsPerSource));
        let _second = admission.admit_behind(client(2)).unwrap();
        let fifth = admission.admit_proxy().unwrap();
        assert_eq!(admission.admit_proxy().err(), Some(Full::Connections));
        drop((first, fifth));
        assert!(admission.admit(client(1)).is_ok());
        drop(proxied);
        assert_eq!(admission.lock().total, 0);
    }

    #[test]
    fn a_source_has_its_share_and_gets_it_back() {
        let admission = admission();
        let first = admission.admit(address("2001:db8::1")).unwrap();
        let _second = admission.admit(address("2001:db8::2")).unwrap();
        assert_eq!(admission.admit(address("2001:db8::3")).unwrap_err(), Full::ConnectionsPerSource);
        let _other = admission.admit(address("2001:db8:0:1::1")).unwrap();
        drop(first);
        let _again = admission.admit(address("2001:db8::3")).unwrap();
    }

    #[test]
    fn allowlisted_sources_share_only_the_limit_in_all() {
        let admission = admission();
        let mut slots: Vec<_> = (0..5).map(|_| admission.admit(address("10.1.2.3")).unwrap()).collect();
        assert_eq!(admission.admit(address("10.1.2.3")).unwrap_err(), Full::Connections);
        assert_eq!(admission.admit(address("192.0.2.1")).unwrap_err(), Full::Connections);
        slots.clear();
        assert!(admission.lock().by_source.is_empty() && admission.lock().total == 0);
    }
}
