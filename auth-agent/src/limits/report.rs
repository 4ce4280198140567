//! What `auth-agent limit` sees of the limits, and does to them.

use std::net::IpAddr;
use std::sync::{Arc, PoisonError};

use super::aggregate;
use super::budget::Level;
use super::key::{Key, Marks, Parts};
use super::limiter::Limiter;
use super::overrides::Override;
use super::plan::{Plan, Rule};
use super::table::{Seen, Table};
use super::tables::OfClass;
use crate::api_key::KeyId;
use crate::clock::Now;
use crate::config::{By, Dimension};
use crate::identity::Method;
use crate::store::{QuotaFilter, Store, StoreError};

/// Whose debts are meant.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Whom {
    /// Everyone's.
    All,
    /// Of an API key, and of the tokens that it was exchanged for.
    Key(KeyId),
    /// Of a subject, whoever vouches for it.
    Principal(String),
    /// Of a client's address.
    Source(IpAddr),
    /// Of a tenant, of whatever issuer.
    Tenant(String),
}

/// What is owed to one limit.
#[derive(Clone, Debug, PartialEq)]
pub struct Owed {
    /// How much.
    pub level: Level,
    /// The limit.
    pub name: Arc<str>,
}

impl Limiter {
    /// What they owe, by limit: everything that is not paid.
    pub fn owed(&self, whom: &Whom, now: Now) -> Vec<Owed> {
        let plan = self.current();
        let marks = self.marks(&plan, whom);
        let mut owed = Vec::new();
        for (seen, owner) in self.tables.each().flat_map(OfClass::known).flat_map(Table::entries) {
            let Some(rule) = plan.rules.iter().find(|rule| rule.id == owner.limit) else { continue };
            let level = rule.budget.load().level(seen.word, now);
            if is_of(owner.marks, &marks) && level.remaining < level.most {
                owed.push(Owed { level, name: Arc::clone(&rule.name) });
            }
        }
        owed.sort_by(|one, other| {
            (&one.name, one.level.remaining).cmp(&(&other.name, other.level.remaining))
        });
        owed
    }

    /// Has them owe nothing to a limit, and says how many budgets there were with a debt. Those of the store as well,
    /// where one is given. Blocks.
    ///
    /// # Errors
    /// The store's; nothing has changed then.
    pub fn reset(
        &self,
        rule: &Rule,
        whom: &Whom,
        store: Option<&Store>,
        now: Now,
    ) -> Result<usize, StoreError> {
        let marks = self.marks(&self.current(), whom);
        // What was counted, and is not yet stored, must not come back.
        let _flushing = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = store {
            let filter = |marks| QuotaFilter { limit: rule.id, marks };
            marks.iter().try_for_each(|marks| store.reset_counts(&filter(*marks)))?;
        }
        Ok(self.reset_memory(rule, &marks, now))
    }

    fn reset_memory(&self, rule: &Rule, marks: &[Marks], now: Now) -> usize {
        let (budget, class) = (rule.budget.load(), self.tables.of(rule.class));
        let mut number = 0;
        for (seen, owner) in class.known_table(&budget).into_iter().flat_map(Table::entries) {
            if owner.limit != rule.id || !is_of(owner.marks, marks) {
                continue;
            }
            let level = budget.level(seen.word, now);
            number += usize::from(level.remaining < level.most);
            if budget.is_quota() {
                class.counts().reset(seen.at, owner.key);
            } else {
                pay_off(&class.debts().table, seen, owner.key, now);
            }
        }
        if marks.contains(&Marks::default()) {
            // Newcomers without room owe nothing either.
            rule.shared.reset();
        }
        number
    }

    /// Sets what a limit allows, or takes that back with `None`.
    pub fn set(&self, name: &str, set: Option<Override>) {
        self.overridden.set(name, set);
        self.overridden.apply(&self.current());
    }

    /// What is set for a limit.
    pub fn set_for(&self, name: &str) -> Option<Override> {
        self.overridden.of(name)
    }

    /// What is set for limits that the configuration does not have.
    pub fn orphans(&self) -> Vec<String> {
        let plan = self.current();
        self.overridden.names().into_iter().filter(|name| plan.named(name).is_none()).collect()
    }

    /// The marks that they may have: each way in which a credential may stand for them.
    fn marks(&self, plan: &Plan, whom: &Whom) -> Vec<Marks> {
        let by: By = Dimension::ALL.into_iter().collect();
        let secret = &self.secret;
        let issuers = || std::iter::once(None).chain(plan.issuers.iter().map(|issuer| Some(&**issuer)));
        let only = |dimension, part| Parts::only(dimension, part).marks(by);
        match whom {
            Whom::All => vec![Marks::default()],
            Whom::Key(id) => vec![only(Dimension::Key, secret.key(*id))],
            Whom::Principal(subject) => [Method::ApiKey, Method::Certificate, Method::Jwt]
                .into_iter()
                .flat_map(|method| issuers().map(move |issuer| (method, issuer)))
                .map(|(method, issuer)| only(Dimension::Principal, secret.principal(method, issuer, subject)))
                .collect(),
            Whom::Source(address) => {
                let source = aggregate(*address, plan.ipv6_prefix);
                vec![only(Dimension::Source, secret.source(source))]
            }
            Whom::Tenant(tenant) => {
                issuers().map(|issuer| only(Dimension::Tenant, secret.tenant(issuer, tenant))).collect()
            }
        }
    }
}

/// Has an entry owe nothing, as long as it is that owner's.
fn pay_off(debts: &Table, mut seen: Seen, key: Key, now: Now) {
    while seen.word > now.monotonic.0 && !debts.replace(seen, now.monotonic.0) {
        match debts.read(seen.at) {
            Some((again, same)) if same.key == key => seen = again,
            _ => return,
        }
    }
}

/// Whether it has everything that one of `wanted` has.
fn is_of(marks: Marks, wanted: &[Marks]) -> bool {
    let same = |wanted: u32, mark: u32| wanted == 0 || wanted == mark;
    wanted.iter().any(|wanted| {
        same(wanted.key, marks.key)
            && same(wanted.principal, marks.principal)
            && same(wanted.source, marks.source)
            && same(wanted.tenant, marks.tenant)
    })
}
