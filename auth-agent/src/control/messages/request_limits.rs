//! Limits and quotas of requests.

use serde::{Deserialize, Serialize};

use crate::config::BudgetText;

/// `GET /v1/request-limits`
#[derive(Debug, Deserialize, Serialize)]
pub struct RequestLimits {
    /// Limits, then quotas, in the order of the configuration.
    pub limits: Vec<RequestLimitEntry>,
    /// Names for which something is set, and which the configuration does not have.
    #[serde(default)]
    pub unknown: Vec<String>,
}

/// One limit or quota.
#[derive(Debug, Deserialize, Serialize)]
pub struct RequestLimitEntry {
    /// What holds now.
    pub budget: BudgetText,
    /// What is told apart.
    pub by: Vec<String>,
    /// What the configuration says.
    pub configured: BudgetText,
    /// `requests` or `response-bytes`.
    pub count: String,
    /// Its name.
    pub name: String,
    /// The period of a quota: `day` or `month`.
    #[serde(default)]
    pub per: Option<String>,
    /// Whether it was set in place of what is configured: `durable`, or `running`: until this agent ends.
    #[serde(default)]
    pub set: Option<String>,
}

/// `POST /v1/request-limits/{name}`
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SetRequestLimit {
    /// What is to hold.
    pub budget: BudgetText,
    /// Whether it is to hold after a restart, too.
    #[serde(default)]
    pub durable: bool,
}

/// Whose debts are meant: exactly one of them.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct WhoseDebts {
    /// Everyone's.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
    /// Of this API key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Of this subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// Of this client's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Of this tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
}

/// `POST /v1/request-limits/{name}/reset`
#[derive(Debug, Deserialize, Serialize)]
pub struct ResetLimit {
    /// Budgets that something was owed to.
    pub budgets: usize,
    /// The limit.
    pub name: String,
}

/// `GET /v1/debts`
#[derive(Debug, Deserialize, Serialize)]
pub struct Owing {
    /// Those that are not paid, by limit, those with the least left first; a thousand at most.
    pub debts: Vec<OwedDebt>,
    /// How many more there are.
    pub more: usize,
}

/// What is owed of one budget.
#[derive(Debug, Deserialize, Serialize)]
pub struct OwedDebt {
    /// The limit.
    pub limit: String,
    /// What there may be at once, or in the period of a quota.
    pub most: u64,
    /// Until nothing is owed.
    pub paid_in_seconds: u64,
    /// How much more there may be now.
    pub remaining: u64,
}
