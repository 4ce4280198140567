//! The limits and quotas of one configuration, ready to be held against requests.

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::Method;

use super::budget::Budget;
use super::key::Secret;
use super::shared::{Shared, SharedWords};
use super::tables::Class;
use crate::config::{By, Config, Counted, RequestBudget, RequestLimit};
use crate::network::NetworkSet;

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
    /// In which tables its budgets are.
    pub class: Class,
    /// What the configuration says.
    pub configured: RequestBudget,
    /// What is counted.
    pub counted: Counted,
    /// The same as long as name, dimensions, kind and what is counted are.
    pub id: u64,
    /// Its name.
    pub name: Arc<str>,
    /// Where newcomers are counted for whom there is no room.
    pub shared: Arc<Shared>,
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
            class: Class::of(*by),
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
