//! The combined limiter: all limits and quotas that are for a request, looked at first, then charged together.
//!
//! The law: what is refused is charged to nothing, and what passes, to everything. Between the look and the charge others
//! may use up a budget: the request is then refused after all, and what it was charged is taken back, unless another has
//! changed the same debt in that very moment: then it stays. So nobody ever gets more than a budget, and such a race
//! costs at most one request of each.
//!
//! Debts are kept as the source table keeps them: an entry is given to another only when nothing is owed, and where there
//! is no room, newcomers share; strangers take no room from others ([`super::tables`]). Nobody waits for anybody.

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::atomic::Ordering::{AcqRel, Acquire};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use http::Method;
use tracing::debug;

use super::aggregate;
use super::budget::{Budget, Level};
use super::key::{Key, Parts, Secret};
use super::meter::Meter;
use super::overrides::Overridden;
use super::plan::{Plan, Rule};
use super::shared::SharedWords;
use super::standing::{Levels, Standing};
use super::table::{Owner, Peek, Seen, Table};
use super::tables::{Occupancy, Tables, is_free};
use crate::allowlist::Allowlist;
use crate::clock::Now;
use crate::config::{Auth, Config, Counted, Dimension, MAX_LIMITS_PER_ROUTE, Route};
use crate::identity::Identity;
use crate::refusal::Refusal;

/// The debts and counts of all limits and quotas.
pub struct Limiter {
    allowlist: Arc<Allowlist>,
    /// Held while counts go to the store, or are reset.
    pub(super) flushing: Mutex<()>,
    /// What is set beside the configuration.
    pub(super) overridden: Overridden,
    /// What is in force now; a request goes by the one that it started with.
    plan: ArcSwap<Plan>,
    pub(super) secret: Secret,
    pub(super) shared: SharedWords,
    pub(super) tables: Tables,
}

/// What is asked of the limits.
#[derive(Clone, Copy, Debug)]
pub struct Asking<'r> {
    /// Who sent the request, once that is known.
    pub identity: Option<&'r Identity>,
    /// The method.
    pub method: &'r Method,
    /// When it is.
    pub now: Now,
    /// Where it goes.
    pub route: &'r Route,
    /// The client's address.
    pub source: IpAddr,
}

/// A budget that a request has to keep to.
struct Place<'p> {
    budget: Guard<Arc<Budget>>,
    index: usize,
    owner: Owner,
    rule: &'p Rule,
}

/// A charge that can be undone.
#[derive(Clone, Copy)]
struct Paid {
    after: u64,
    at: At,
    before: u64,
}

#[derive(Clone, Copy)]
enum At {
    Own(usize),
    Shared,
}

/// What there is of a budget before a charge.
struct Found {
    entry: Option<Seen>,
    /// Whether nobody shares it.
    own: bool,
    word: u64,
}

/// Why there is no room for a request.
#[derive(Clone, Copy)]
struct Over {
    /// Whether others had no part in it: the budget is not shared.
    own: bool,
    wait: Duration,
}

type Places<'p> = [Option<Place<'p>>; MAX_LIMITS_PER_ROUTE];

/// For each place, its entry as it was looked at, where there is one, and its word with the request.
type Charges = [Option<(Seen, u64)>; MAX_LIMITS_PER_ROUTE];

impl Limiter {
    /// With room for `sizes.limit_entries`, by a configuration and what was set beside it.
    pub fn new(config: &Config, allowlist: Arc<Allowlist>, secret: Secret) -> Self {
        let shared = SharedWords::default();
        let plan = ArcSwap::from_pointee(Plan::new(config, &secret, &shared));
        Self {
            allowlist,
            flushing: Mutex::default(),
            overridden: Overridden::default(),
            plan,
            secret,
            shared,
            tables: Tables::new(config.sizes.limit_entries.get()),
        }
    }

    /// What another configuration asks for, with what is set beside it. It holds once it is [adopted](Self::adopt), and
    /// for requests that are held against it.
    pub fn plan(&self, config: &Config) -> Arc<Plan> {
        let plan = Plan::new(config, &self.secret, &self.shared);
        self.overridden.apply(&plan);
        Arc::new(plan)
    }

    /// Goes by this from now on.
    pub fn adopt(&self, plan: Arc<Plan>) {
        // What was set since it was made.
        self.overridden.apply(&plan);
        self.plan.store(plan);
    }

    /// What is in force.
    pub fn current(&self) -> Arc<Plan> {
        self.plan.load_full()
    }

    /// How full the tables are. Reads all of them.
    pub fn occupancy(&self, now: Now) -> Vec<Occupancy> {
        self.tables.occupancy(now)
    }

    /// Whether what is known before anybody is has room for the request; charges nothing.
    ///
    /// # Errors
    /// It is over a limit.
    pub fn look(&self, plan: &Arc<Plan>, asking: &Asking<'_>, standing: &Standing) -> Result<(), Refusal> {
        if asking.route.limits.is_empty() || self.allowlist.contains(asking.source) {
            return Ok(());
        }
        let places = self.places(plan, asking, |rule| rule.by.needs_nobody());
        self.check(plan, &places, asking, standing).map(|_| ())
    }

    /// Charges the request to every limit that is for it, or to none. What it is not known of who sent it, is none of
    /// those that tell that apart.
    ///
    /// # Errors
    /// It is over a limit.
    pub fn charge(
        self: &Arc<Self>,
        plan: &Arc<Plan>,
        asking: &Asking<'_>,
        standing: &Standing,
    ) -> Result<(), Refusal> {
        if asking.route.limits.is_empty() || self.allowlist.contains(asking.source) {
            return Ok(());
        }
        let places = self.places(plan, asking, |_| true);
        let charges = self.check(plan, &places, asking, standing)?;
        self.pay(plan, (&places, &charges), asking, standing)
    }

    /// Charges what has passed to a budget that counts it, whatever is left.
    pub(super) fn owe(&self, rule: &Rule, owner: &Owner, volume: u64, now: Now) {
        let budget = rule.budget.load();
        loop {
            let (seen, at) = match self.enter((rule, &budget), owner, volume, now) {
                Entered::Taken(paid) => return self.owed_more(rule, &budget, (paid.at, paid.after), now),
                Entered::Own(seen) => (seen.word, Some(seen)),
                Entered::Shared => (rule.shared.word(owner.key).load(Acquire), None),
            };
            let after = budget.owe(seen, volume, now);
            match at {
                Some(entry) if self.table(rule, &budget).replace(entry, after) => {
                    return self.owed_more(rule, &budget, (At::Own(entry.at), after), now);
                }
                None if self.swap_shared(rule, &budget, owner.key, (seen, after)) => return,
                _ => {}
            }
        }
    }

    fn places<'p>(&self, plan: &'p Plan, asking: &Asking<'_>, wanted: impl Fn(&Rule) -> bool) -> Places<'p> {
        let mut places: Places<'p> = [const { None }; MAX_LIMITS_PER_ROUTE];
        let mut free = places.iter_mut();
        let rules = asking.route.limits.iter().filter_map(|index| Some((*index, plan.rules.get(*index)?)));
        let wanted = rules.filter(|(_, rule)| wanted(rule) && rule.is_for(asking.method, asking.source));
        let mut parts = Known::new(plan, asking, &self.secret);
        for (index, rule) in wanted {
            let parts = parts.of(rule);
            let Some(key) = Key::of(rule.id, rule.by, parts) else { continue };
            let owner = Owner { key, limit: rule.id, marks: parts.marks(rule.by) };
            if let Some(place) = free.next() {
                *place = Some(Place { budget: rule.budget.load(), index, owner, rule });
            }
        }
        places
    }

    /// Refuses what is over any of them, by the one that takes the longest.
    fn check(
        &self,
        plan: &Arc<Plan>,
        places: &Places<'_>,
        asking: &Asking<'_>,
        standing: &Standing,
    ) -> Result<Charges, Refusal> {
        let mut charges = [None; MAX_LIMITS_PER_ROUTE];
        let mut over: Option<(Over, &Place<'_>)> = None;
        for (place, charge) in places.iter().flatten().zip(&mut charges) {
            let found = self.find(place, asking.now);
            match place.budget.charge(found.word, 1, asking.now) {
                Ok(after) => *charge = found.entry.map(|entry| (entry, after)),
                Err(wait) if over.is_none_or(|(longest, _)| longest.wait < wait) => {
                    over = Some((Over { own: found.own, wait }, place));
                }
                Err(_) => {}
            }
        }
        match over {
            None => Ok(charges),
            Some((over, place)) => {
                let mut levels = Levels::default();
                for place in places.iter().flatten() {
                    levels.push(place.index, Some(self.level(place, asking.now)));
                }
                push_unknown(plan, asking, &mut levels);
                standing.note(plan, levels, None);
                Err(refusal(place, over))
            }
        }
    }

    fn pay(
        self: &Arc<Self>,
        plan: &Arc<Plan>,
        (places, charges): (&Places<'_>, &Charges),
        asking: &Asking<'_>,
        standing: &Standing,
    ) -> Result<(), Refusal> {
        let now = asking.now;
        let (mut levels, mut paid) = (Levels::default(), [None; MAX_LIMITS_PER_ROUTE]);
        let mut metered = Vec::new();
        let mut failed = None;
        for ((place, charge), paid) in places.iter().flatten().zip(charges).zip(&mut paid) {
            let level = match place.rule.counted {
                Counted::Requests => match self.charge_one(place, *charge, now) {
                    Ok(done) => place.budget.level(paid.insert(done).after, now),
                    Err(over) => {
                        failed = Some(refusal(place, over));
                        break;
                    }
                },
                Counted::ResponseBytes => {
                    metered.push((place.index, place.owner));
                    self.level(place, now)
                }
            };
            levels.push(place.index, Some(level));
        }
        push_unknown(plan, asking, &mut levels);
        if let Some(refusal) = failed {
            let done = places.iter().flatten().zip(paid).filter_map(|(place, paid)| Some((place, paid?)));
            done.for_each(|(place, paid)| self.undo(place, paid));
            // What they came to before is near enough to what the client is told.
            standing.note(plan, levels, None);
            return Err(refusal);
        }
        let meter =
            (!metered.is_empty()).then(|| Box::new(Meter::new(Arc::clone(self), Arc::clone(plan), metered)));
        if levels.iter().next().is_some() {
            standing.note(plan, levels, meter);
        }
        Ok(())
    }

    /// Charges as it was `looked` at, or as it is by now.
    fn charge_one(&self, place: &Place<'_>, looked: Option<(Seen, u64)>, now: Now) -> Result<Paid, Over> {
        let Place { budget, owner, rule, .. } = place;
        if let Some((entry, after)) = looked
            && self.table(rule, budget).replace(entry, after)
        {
            self.changed(rule, budget, At::Own(entry.at));
            return Ok(Paid { after, at: At::Own(entry.at), before: entry.word });
        }
        loop {
            let (seen, own) = match self.enter((rule, budget), owner, 1, now) {
                Entered::Taken(paid) => {
                    self.changed(rule, budget, paid.at);
                    return Ok(paid);
                }
                Entered::Own(seen) => (seen.word, Some(seen)),
                Entered::Shared => (rule.shared.word(owner.key).load(Acquire), None),
            };
            let after = budget.charge(seen, 1, now).map_err(|wait| Over { own: own.is_some(), wait })?;
            match own {
                Some(entry) if self.table(rule, budget).replace(entry, after) => {
                    self.changed(rule, budget, At::Own(entry.at));
                    return Ok(Paid { after, at: At::Own(entry.at), before: seen });
                }
                None if self.swap_shared(rule, budget, owner.key, (seen, after)) => {
                    return Ok(Paid { after, at: At::Shared, before: seen });
                }
                _ => {}
            }
        }
    }

    fn undo(&self, place: &Place<'_>, paid: Paid) {
        let Place { budget, owner, rule, .. } = place;
        loop {
            let (word, own) = match paid.at {
                At::Own(at) => match self.table(rule, budget).read(at) {
                    Some((seen, other)) if other.key == owner.key => (seen.word, Some(seen)),
                    // It was paid, and is another's.
                    _ => return,
                },
                At::Shared => (rule.shared.word(owner.key).load(Acquire), None),
            };
            let Some(without) = budget.undone(word, (paid.before, paid.after)) else { return };
            match own {
                Some(seen) if self.table(rule, budget).replace(seen, without) => {
                    return self.changed(rule, budget, paid.at);
                }
                None if self.swap_shared(rule, budget, owner.key, (word, without)) => return,
                _ => {}
            }
        }
    }

    /// What is owed, without a place being taken for it.
    fn find(&self, place: &Place<'_>, now: Now) -> Found {
        let Place { budget, owner, rule, .. } = place;
        let quota = budget.is_quota();
        match self.table(rule, budget).peek(owner.key, |word| is_free(quota, word, now)) {
            Peek::Full => Found { entry: None, own: false, word: rule.shared.word(owner.key).load(Acquire) },
            Peek::Own(entry) => Found { entry: Some(entry), own: true, word: entry.word },
            Peek::Room => Found { entry: None, own: true, word: budget.empty(now) },
        }
    }

    fn level(&self, place: &Place<'_>, now: Now) -> Level {
        place.budget.level(self.find(place, now).word, now)
    }

    fn enter(&self, (rule, budget): (&Rule, &Budget), owner: &Owner, volume: u64, now: Now) -> Entered {
        let (before, quota) = (budget.empty(now), budget.is_quota());
        let first = |_| budget.owe(before, volume, now);
        match self.table(rule, budget).enter(owner, |word| is_free(quota, word, now), first) {
            Some((seen, true)) => Entered::Taken(Paid { after: seen.word, at: At::Own(seen.at), before }),
            Some((seen, false)) => Entered::Own(seen),
            None => Entered::Shared,
        }
    }

    pub(super) fn table(&self, rule: &Rule, budget: &Budget) -> &Table {
        self.tables.of(rule.class).table(budget)
    }

    /// To be called after an entry was changed.
    fn changed(&self, rule: &Rule, budget: &Budget, at: At) {
        if let At::Own(at) = at
            && budget.is_quota()
        {
            self.tables.of(rule.class).counts().changed(at);
        }
    }

    /// To be called after an entry was charged, whatever was left.
    fn owed_more(&self, rule: &Rule, budget: &Budget, (at, word): (At, u64), now: Now) {
        self.changed(rule, budget, at);
        if let At::Own(at) = at
            && budget.beyond_burst(word, now).is_some()
        {
            self.tables.of(rule.class).debts().dirty.note(at);
        }
    }

    fn swap_shared(&self, rule: &Rule, budget: &Budget, key: Key, (seen, word): (u64, u64)) -> bool {
        let swapped = rule.shared.word(key).compare_exchange(seen, word, AcqRel, Acquire).is_ok();
        if swapped {
            self.tables.of(rule.class).note_shared(budget);
        }
        swapped
    }
}

/// What there was for a charge.
enum Entered {
    Own(Seen),
    Shared,
    /// A new entry, and the charge with it.
    Taken(Paid),
}

/// Where nobody has proved yet who it is, the limits that ask for it can be told of, and not what is left of them.
fn push_unknown(plan: &Plan, asking: &Asking<'_>, levels: &mut Levels) {
    if asking.identity.is_none() && asking.route.auth == Auth::Required {
        let rules = asking.route.limits.iter().filter_map(|index| Some((*index, plan.rules.get(*index)?)));
        let unknown = |rule: &Rule| !rule.by.needs_nobody() && rule.is_for(asking.method, asking.source);
        rules.filter(|(_, rule)| unknown(rule)).for_each(|(index, _)| levels.push(index, None));
    }
}

fn refusal(place: &Place<'_>, Over { own, wait: retry_after }: Over) -> Refusal {
    debug!(limit = &*place.rule.name, ?retry_after, "over a limit");
    let by_source = own && place.rule.by.is_of_sources_alone();
    if place.budget.is_quota() {
        Refusal::Quota { by_source, retry_after }
    } else {
        Refusal::RateLimit { by_source, retry_after }
    }
}

/// What is told apart of a request, each hashed when a limit first asks for it.
struct Known<'k> {
    asking: &'k Asking<'k>,
    ipv6_prefix: u8,
    parts: Parts,
    secret: &'k Secret,
}

impl<'k> Known<'k> {
    fn new(plan: &Plan, asking: &'k Asking<'k>, secret: &'k Secret) -> Self {
        Self { asking, ipv6_prefix: plan.ipv6_prefix, parts: Parts::default(), secret }
    }

    fn of(&mut self, rule: &Rule) -> Parts {
        let Self { asking, ipv6_prefix, parts, secret } = self;
        if rule.by.has(Dimension::Source) && parts.source.is_none() {
            parts.source = Some(secret.source(aggregate(asking.source, *ipv6_prefix)));
        }
        if rule.by.has(Dimension::Route) && parts.route.is_none() {
            parts.route = Some(secret.route(asking.route.label()));
        }
        if let Some(identity) = asking.identity {
            secret.identity(parts, identity.facts(), rule.by);
        }
        *parts
    }
}
