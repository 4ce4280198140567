//! `/v1/request-limits`, `/v1/debts`

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};

use super::body::Body;
use super::messages::{
    OwedDebt, Owing, RequestLimitEntry, RequestLimits, ResetLimit, SetRequestLimit, WhoseDebts,
};
use super::problem::Problem;
use super::{Control, blocking};
use crate::clock::{Now, UnixTime};
use crate::config::{BudgetText, RequestBudget};
use crate::edge::SourceBudget;
use crate::limits::{Override, Owed, Plan, Rule, Whom};

/// Debts that one answer shows.
const SHOWN: usize = 1_000;

/// Budgets that every source has, by what `limit reset` calls them.
const SHARED_LINE: [(&str, SourceBudget); 2] =
    [("auth-failures", SourceBudget::AuthFailures), ("requests", SourceBudget::Requests)];

pub(super) async fn list(State(control): State<Arc<Control>>) -> Json<RequestLimits> {
    let plan = control.limiter.current();
    let limits = plan.rules.iter().map(|rule| entry(&control, rule)).collect();
    Json(RequestLimits { limits, unknown: control.limiter.orphans() })
}

pub(super) async fn set(
    State(control): State<Arc<Control>>,
    Path(name): Path<String>,
    Body(request): Body<SetRequestLimit>,
) -> Result<Json<RequestLimitEntry>, Problem> {
    blocking(control, move |control| {
        let _changing = control.changing();
        let plan = control.limiter.current();
        let rule = named(&plan, &name)?;
        let SetRequestLimit { budget, durable } = request;
        // What is wrong is told before anything is stored.
        budget.resolve(rule.counted, rule.configured).map_err(|error| Problem::field("budget", error))?;
        control.store.set_budget(&name, &budget, durable, UnixTime::now())?;
        control.limiter.set(&name, Some(Override { budget, durable }));
        Ok(Json(entry(control, rule)))
    })
    .await
}

pub(super) async fn remove(
    State(control): State<Arc<Control>>,
    Path(name): Path<String>,
) -> Result<Json<RequestLimits>, Problem> {
    blocking(control, move |control| {
        let _changing = control.changing();
        if control.limiter.set_for(&name).is_none() {
            return Err(Problem::RequestLimitUnset(name));
        }
        control.store.remove_budget(&name, UnixTime::now())?;
        control.limiter.set(&name, None);
        let plan = control.limiter.current();
        let limits = plan.named(&name).map(|rule| entry(control, rule)).into_iter().collect();
        Ok(Json(RequestLimits { limits, unknown: control.limiter.orphans() }))
    })
    .await
}

pub(super) async fn reset(
    State(control): State<Arc<Control>>,
    Path(name): Path<String>,
    Body(request): Body<WhoseDebts>,
) -> Result<Json<ResetLimit>, Problem> {
    let whom = whom(&request)?;
    blocking(control, move |control| {
        let _changing = control.changing();
        let now = Now::read();
        let budgets = match SHARED_LINE.iter().find(|(shared, _)| *shared == name) {
            Some((_, budget)) => reset_source(control, *budget, &whom)?,
            None => {
                let plan = control.limiter.current();
                control.limiter.reset(named(&plan, &name)?, &whom, Some(&control.store), now)?
            }
        };
        control.store.note_reset(&name, &request, std::process::id(), now.unix)?;
        Ok(Json(ResetLimit { budgets, name }))
    })
    .await
}

fn reset_source(control: &Control, budget: SourceBudget, whom: &Whom) -> Result<usize, Problem> {
    let Whom::Source(address) = whom else {
        return Err(Problem::field("source", "name the client's address: this budget belongs to sources"));
    };
    let owed = control.edge.forget_debt(*address, budget).map_err(Problem::Edge)?;
    Ok(usize::from(owed))
}

pub(super) async fn debts(
    State(control): State<Arc<Control>>,
    Query(request): Query<WhoseDebts>,
) -> Result<Json<Owing>, Problem> {
    let whom = whom(&request)?;
    blocking(control, move |control| {
        let owed = control.limiter.owed(&whom, Now::read());
        let more = owed.len().saturating_sub(SHOWN);
        let debts = owed.into_iter().take(SHOWN).map(debt).collect();
        Ok(Json(Owing { debts, more }))
    })
    .await
}

impl Control {
    /// Forgets debts that another agent has forgotten; what is stored is so already.
    pub(super) fn follow_reset(&self, name: &str, request: &WhoseDebts) -> Result<(), Problem> {
        let plan = self.limiter.current();
        if let (Some(rule), Ok(whom)) = (plan.named(name), whom(request)) {
            self.limiter.reset(rule, &whom, None, Now::read())?;
        }
        Ok(())
    }

    /// Goes by what another agent has set.
    pub(super) fn follow_budget(&self, name: &str, budget: Option<BudgetText>, durable: bool) {
        self.limiter.set(name, budget.map(|budget| Override { budget, durable }));
    }
}

fn named<'p>(plan: &'p Plan, name: &str) -> Result<&'p Rule, Problem> {
    plan.named(name).ok_or_else(|| Problem::RequestLimitMissing {
        known: plan.rules.iter().map(|rule| rule.name.to_string()).collect(),
        name: name.to_owned(),
    })
}

fn whom(request: &WhoseDebts) -> Result<Whom, Problem> {
    let WhoseDebts { all, key, principal, source, tenant } = request;
    match (all, key, principal, source, tenant) {
        (true, None, None, None, None) => Ok(Whom::All),
        (false, Some(key), None, None, None) => Ok(Whom::Key(key.parse()?)),
        (false, None, Some(principal), None, None) => Ok(Whom::Principal(principal.clone())),
        (false, None, None, Some(source), None) => Ok(Whom::Source(Problem::address(source)?)),
        (false, None, None, None, Some(tenant)) => Ok(Whom::Tenant(tenant.clone())),
        _ => Err(Problem::field("whom", "name exactly one of all, key, principal, source and tenant")),
    }
}

fn entry(control: &Control, rule: &Rule) -> RequestLimitEntry {
    let budget = rule.budget.load();
    let set = control.limiter.set_for(&rule.name);
    RequestLimitEntry {
        budget: BudgetText::of(rule.counted, budget.amount),
        by: rule.by.names().map(str::to_owned).collect(),
        configured: BudgetText::of(rule.counted, rule.configured),
        count: rule.counted.name().to_owned(),
        name: rule.name.to_string(),
        per: match rule.configured {
            RequestBudget::Quota { period, .. } => Some(period.name().to_owned()),
            RequestBudget::Rate(_) => None,
        },
        set: set.map(|set| if set.durable { "durable" } else { "running" }.to_owned()),
    }
}

fn debt(Owed { level, name }: Owed) -> OwedDebt {
    OwedDebt {
        limit: name.to_string(),
        most: level.most,
        paid_in_seconds: level.paid_in.as_secs() + u64::from(level.paid_in.subsec_nanos() > 0),
        remaining: level.remaining,
    }
}
