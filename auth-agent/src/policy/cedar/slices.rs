//! Which policies are evaluated, by what is done and by what kind of principal: those whose scope can match.
//!
//! One whose scope is for another action or another kind decides nothing, and costs as much as one that does. Sets that
//! hold the same policies are one set, so that many routes don't multiply them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use cedar_policy::{
    ActionConstraint, Entities, EntityTypeName, EntityUid, PolicySet, PolicySetError, PrincipalConstraint,
};

use super::schema::PRINCIPALS;

/// The policies for one action, for each kind of principal.
pub(super) type Slices = [Arc<PolicySet>; PRINCIPALS.len()];

/// Cuts slices off a set.
pub(super) struct Slicer<'p> {
    /// By the places of their policies.
    cut: HashMap<Vec<usize>, Arc<PolicySet>>,
    kinds: &'p [EntityTypeName; PRINCIPALS.len()],
    policies: Vec<&'p cedar_policy::Policy>,
}

impl<'p> Slicer<'p> {
    pub fn new(set: &'p PolicySet, kinds: &'p [EntityTypeName; PRINCIPALS.len()]) -> Self {
        Self { cut: HashMap::new(), kinds, policies: set.policies().collect() }
    }

    /// Those for an action that is in these groups.
    pub fn slices(&mut self, groups: &HashSet<&EntityUid>) -> Result<Slices, Box<PolicySetError>> {
        let [key, certificate, token] = self.kinds;
        Ok([self.slice(key, groups)?, self.slice(certificate, groups)?, self.slice(token, groups)?])
    }

    fn slice(
        &mut self,
        kind: &EntityTypeName,
        groups: &HashSet<&EntityUid>,
    ) -> Result<Arc<PolicySet>, Box<PolicySetError>> {
        let is_for = |place: &usize| {
            let policy = self.policies[*place];
            is_for(policy, groups) && may_be_by(policy, kind)
        };
        let places: Vec<_> = (0..self.policies.len()).filter(is_for).collect();
        if let Some(cut) = self.cut.get(&places) {
            return Ok(Arc::clone(cut));
        }
        let slice = PolicySet::from_policies(places.iter().map(|place| self.policies[*place].clone()))?;
        Ok(Arc::clone(self.cut.entry(places).or_insert(Arc::new(slice))))
    }
}

/// The action, and all that it is in.
pub(super) fn groups<'e>(action: &'e EntityUid, entities: &'e Entities) -> HashSet<&'e EntityUid> {
    entities.ancestors(action).into_iter().flatten().chain([action]).collect()
}

/// Whether a policy may decide about an action that is in these groups.
pub(super) fn is_for(policy: &cedar_policy::Policy, groups: &HashSet<&EntityUid>) -> bool {
    match policy.action_constraint() {
        ActionConstraint::Any => true,
        ActionConstraint::Eq(action) => groups.contains(&action),
        ActionConstraint::In(actions) => actions.iter().any(|action| groups.contains(action)),
    }
}

/// Whether a policy may decide about principals of that kind.
fn may_be_by(policy: &cedar_policy::Policy, kind: &EntityTypeName) -> bool {
    match policy.principal_constraint() {
        PrincipalConstraint::Any => true,
        // They are in nothing but themselves.
        PrincipalConstraint::Eq(one) | PrincipalConstraint::In(one) => one.type_name() == kind,
        PrincipalConstraint::Is(of) | PrincipalConstraint::IsIn(of, _) => of == *kind,
    }
}
