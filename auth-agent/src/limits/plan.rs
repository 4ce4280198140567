//! The limits and quotas of one configuration, ready to be held against requests.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use http::Method;

use super::budget::Budget;
use super::key::Secret;
use crate::config::{By, Config, Counted, RequestBudget, RequestLimit};
use crate::network::NetworkSet;

/// Words that newcomers of a limit share where the table has no room: more than one, so that not all of them do.
const SHARED: usize = 64;

/// The words of newcomers.
pub type Shared = Arc<[AtomicU64]>;

/// The shared words by the number of their limit. They are kept for ever: what is owed there is owed.
#[derive(Default)]
pub struct SharedWords(Mutex<HashMap<u64, Shared>>);

impl SharedWords {
    /// Those of a limit.
    pub fn of(&self, limit: u64) -> Shared {
        let mut words = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || (0..SHARED).map(|_| AtomicU64::new(0)).collect();
        Arc::clone(words.entry(limit).or_insert_with(new))
    }
}

/// The limits and quotas of one configuration, in its order.
pub struct Plan {
    /// IPv6 sources are told apart by a prefix of this length.
    pub ipv6_prefix: u8,
    /// The names of issuers whose tokens are accepted.
    pub issuers: Vec<Arc<str>>,
    /// One for each [`RequestLimit`].
    pub rules: Vec<Rule>,
}

/// One limit or quota.
pub struct Rule {
    /// What is in force.
    pub budget: ArcSwap<Budget>,
    /// What is told apart.
    pub by: By,
    /// What the configuration says.
    pub configured: RequestBudget,
    /// What is counted.
    pub counted: Counted,
    /// The same as long as name, dimensions, kind and what is counted are.
    pub id: u64,
    /// Its name.
    pub name: Arc<str>,
    /// Where newcomers are counted for whom there is no room.
    pub shared: Shared,
    methods: Vec<Method>,
    networks: Option<NetworkSet>,
}

impl Plan {
    /// By a configuration alone.
    pub fn new(config: &Config, secret: &Secret, shared: &SharedWords) -> Self {
        let rules = config.request_limits.iter().map(|limit| Rule::new(limit, secret, shared)).collect();
        let issuers = config.issuers.iter().map(|issuer| Arc::clone(&issuer.name)).collect();
        Self { ipv6_prefix: config.kernel.ipv6_prefix, issuers, rules }
    }

    /// The one of this name.
    pub fn named(&self, name: &str) -> Option<&Rule> {
        self.rules.iter().find(|rule| &*rule.name == name)
    }
}

impl Rule {
    fn new(limit: &RequestLimit, secret: &Secret, shared: &SharedWords) -> Self {
        let RequestLimit { budget, by, count, methods, name, networks } = limit;
        let kind = match budget {
            RequestBudget::Quota { period, .. } => period.name(),
            RequestBudget::Rate(_) => "rate",
        };
        let id = secret.limit(kind, name, *by, count.name());
        Self {
            budget: ArcSwap::from_pointee(Budget::new(name, *count, *budget)),
            by: *by,
            configured: *budget,
            counted: *count,
            id,
            methods: methods.clone(),
            name: Arc::clone(name),
            networks: (!networks.is_empty()).then(|| NetworkSet::new(networks)),
            shared: shared.of(id),
        }
    }

    /// Whether it is for requests of this method from this client. GET stands for HEAD, too.
    pub fn is_for(&self, method: &Method, client: IpAddr) -> bool {
        let same = |wanted: &Method| wanted == method || *method == Method::HEAD && *wanted == Method::GET;
        (self.methods.is_empty() || self.methods.iter().any(same))
            && self.networks.as_ref().is_none_or(|networks| networks.contains(client))
    }

    /// What holds from now on.
    pub fn set(&self, amount: RequestBudget) {
        self.budget.store(Arc::new(Budget::new(&self.name, self.counted, amount)));
    }
}
