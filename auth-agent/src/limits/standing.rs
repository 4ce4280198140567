//! Where a request stands with its limits, and how its response tells (draft-ietf-httpapi-ratelimit-headers-11).

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::budget::Level;
use super::meter::Meter;
use super::plan::Plan;
use crate::config::MAX_LIMITS_PER_ROUTE;
use crate::refusal::Refusal;

/// What is left.
pub const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
/// What there may be.
pub const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Bytes of a member, but for its name.
const MEMBER_BYTES: usize = 48;

/// Where a request stands; nowhere as long as nothing was noted. A note costs a lock that nobody else wants.
#[derive(Debug, Default)]
pub struct Standing(Mutex<Option<Noted>>);

struct Noted {
    levels: Levels,
    meter: Option<Box<Meter>>,
    plan: Arc<Plan>,
}

impl std::fmt::Debug for Noted {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Noted").field("levels", &self.levels).finish_non_exhaustive()
    }
}

/// What limits came to, each with its index in the plan; nothing where it is not known whose budget it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Levels {
    levels: [Option<(u8, Option<Level>)>; MAX_LIMITS_PER_ROUTE],
}

impl Levels {
    /// Adds one; no route has more limits than there is room for.
    pub fn push(&mut self, rule: usize, level: Option<Level>) {
        if let Some(free) = self.levels.iter_mut().find(|level| level.is_none()) {
            *free = Some((rule as u8, level));
        }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (usize, Option<Level>)> {
        self.levels.iter().map_while(|level| *level).map(|(rule, level)| (usize::from(rule), level))
    }
}

impl Standing {
    /// Notes what the limits of `plan` came to, in place of what was noted before.
    pub fn note(&self, plan: &Arc<Plan>, levels: Levels, meter: Option<Box<Meter>>) {
        *self.lock() = Some(Noted { levels, meter, plan: Arc::clone(plan) });
    }

    /// What counts the bytes of the response, where a limit does; once.
    pub fn take_meter(&self) -> Option<Box<Meter>> {
        self.lock().as_mut()?.meter.take()
    }

    /// What each limit came to, this request included: its name, what is used, and the most that may be.
    pub fn each(&self, mut each: impl FnMut(&Arc<str>, u64, u64)) {
        let noted = self.lock();
        for Noted { levels, plan, .. } in noted.iter() {
            for (rule, level) in levels.iter() {
                if let (Some(rule), Some(Level { most, remaining, .. })) = (plan.rules.get(rule), level) {
                    each(&rule.name, most.saturating_sub(remaining), most);
                }
            }
        }
    }

    /// Tells the client, in place of what an upstream says of limits of its own.
    pub fn tell(&self, headers: &mut HeaderMap) {
        if let Some(Noted { levels, plan, .. }) = &*self.lock() {
            tell(headers, plan, levels);
        }
    }

    /// Has nothing told to a client that gets this refusal, where it is not told of the route, which may have limits.
    pub fn hide_from(&self, refusal: Refusal) {
        if refusal.is_hidden() {
            *self.lock() = None;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Noted>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tell(headers: &mut HeaderMap, plan: &Plan, levels: &Levels) {
    let room = levels.iter().count() * MEMBER_BYTES;
    let (mut policy, mut left) = (String::with_capacity(room), String::with_capacity(room));
    for (rule, level) in levels.iter() {
        let Some(rule) = plan.rules.get(rule) else { continue };
        separate(&mut policy);
        policy.push_str(&rule.budget.load().policy);
        if let Some(level) = level {
            separate(&mut left);
            // Writing to a string does not fail.
            let _ =
                write!(left, "\"{}\";r={};t={}", rule.name, level.remaining, whole_seconds(level.paid_in));
        }
    }
    let fields = [(RATE_LIMIT_POLICY, policy), (RATE_LIMIT, left)];
    for (name, value) in fields.into_iter().filter(|(_, value)| !value.is_empty()) {
        // Names are letters, digits, hyphens and underscores.
        if let Ok(value) = HeaderValue::from_maybe_shared(bytes::Bytes::from(value)) {
            headers.insert(name, value);
        }
    }
}

/// Before a member that is not the first.
fn separate(members: &mut String) {
    if !members.is_empty() {
        members.push_str(", ");
    }
}

fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}
