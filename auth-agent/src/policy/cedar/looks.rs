//! Whether policies look at every object that they are to decide about.
//!
//! For each thing that is done on a route, every policy that may permit it compares each name in the path that nothing else
//! decides about, or one that may forbid it does, or the permitting one says that it is for all: `@unchecked("name")`. Names
//! stand between spaces there.

use std::collections::HashMap;
use std::sync::Arc;

use cedar_policy::{Effect, Entities, PolicySet};
use http::Method;
use serde_json::Value;

use super::slices::{groups, is_for};
use super::{Action, PolicyError};
use crate::config::{Policy, Route};

/// The annotation of a policy that is for all objects.
const UNCHECKED: &str = "unchecked";

/// What there is to know of one policy.
struct Look {
    json: Value,
    policy: cedar_policy::Policy,
}

/// Refuses policies that let an object of a route slip.
pub(super) fn check(
    policy: &Policy,
    set: &PolicySet,
    actions: &HashMap<Arc<str>, Vec<(Method, Action)>>,
    routes: &[&Route],
    entities: &Entities,
) -> Result<(), PolicyError> {
    let look =
        |policy: &cedar_policy::Policy| Some(Look { json: policy.to_json().ok()?, policy: policy.clone() });
    let looks: Vec<_> = set.policies().filter_map(look).collect();
    for route in routes.iter().filter(|route| !route.access.unchecked) {
        let names: Vec<_> = route.path.names().filter(|name| !route.access.binds(name)).collect();
        for (_, action) in actions.get(&route.label).into_iter().flatten() {
            let groups = groups(&action.uid, entities);
            let applicable: Vec<_> = looks.iter().filter(|look| is_for(&look.policy, &groups)).collect();
            names.iter().try_for_each(|name| looked_at(&policy.name, route, name, &applicable))?;
        }
    }
    Ok(())
}

/// Whether the policies of one action look at one name.
fn looked_at(policy: &Arc<str>, route: &Route, name: &str, applicable: &[&Look]) -> Result<(), PolicyError> {
    let (forbids, permits): (Vec<&Look>, Vec<&Look>) =
        applicable.iter().partition(|look| look.policy.effect() == Effect::Forbid);
    if forbids.iter().any(|look| mentions(&look.json, name)) {
        return Ok(());
    }
    let gives = |look: &&&Look| !mentions(&look.json, name) && !look.is_for_all(name);
    let given = permits.iter().find(gives);
    let (all_give, name, policy, route) = (
        permits.iter().all(|look| gives(&look)),
        name.to_owned(),
        Arc::clone(policy),
        Arc::clone(&route.label),
    );
    match given {
        _ if all_give => Err(PolicyError::Unlooked { name, policy, route }),
        None => Ok(()),
        Some(look) => Err(PolicyError::Given { permit: look.policy.id().to_string(), name, policy, route }),
    }
}

impl Look {
    /// Whether it says that it is for all objects of that name.
    fn is_for_all(&self, name: &str) -> bool {
        let names = self.policy.annotation(UNCHECKED);
        names.is_some_and(|names| names.split_whitespace().any(|other| other == name))
    }
}

/// Whether there is `resource.name` in a policy's JSON. `resource has name` is no look at what it is.
fn mentions(json: &Value, name: &str) -> bool {
    match json {
        Value::Array(items) => items.iter().any(|item| mentions(item, name)),
        Value::Object(members) => {
            let is = |member: &Value| member["left"]["Var"] == "resource" && member["attr"] == name;
            members.get(".").is_some_and(is) || members.values().any(|member| mentions(member, name))
        }
        _ => false,
    }
}
