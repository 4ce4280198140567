//! A request in the words of policies.

use std::collections::{HashMap, HashSet};
use std::str::FromStr as _;

use cedar_policy::{
    Context, Entity, EntityId, EntityTypeName, EntityUid, ParseErrors, RestrictedExpression as Value,
};

use super::recent::Principal;
use super::schema::PRINCIPALS;
use crate::clock::UnixTime;
use crate::config::{ClaimKind, PolicyClaim};
use crate::identity::{Claim, Identity, Method};
use crate::policy::object::{self, Asked};

/// The names of what there is, read once.
#[derive(Debug)]
pub(super) struct Types {
    action: EntityTypeName,
    object: EntityTypeName,
    /// In the order of [`PRINCIPALS`].
    pub principals: [EntityTypeName; PRINCIPALS.len()],
}

impl Types {
    pub fn new() -> Result<Self, Box<ParseErrors>> {
        let [key, certificate, token] = PRINCIPALS.map(EntityTypeName::from_str);
        Ok(Self {
            action: "Action".parse()?,
            object: "Object".parse()?,
            principals: [key?, certificate?, token?],
        })
    }

    /// What is done.
    pub fn action(&self, name: &str) -> EntityUid {
        EntityUid::from_type_name_and_id(self.action.clone(), EntityId::new(name))
    }

    /// Who does it: a token by its issuer and subject, a key or certificate by its name.
    pub fn principal(&self, identity: &Identity, claims: &[PolicyClaim]) -> Option<Principal> {
        let facts = identity.facts();
        let id = match (identity.method(), &facts.issuer) {
            (Method::Jwt, Some(issuer)) => EntityId::new(format!("{issuer}/{}", identity.subject())),
            _ => EntityId::new(identity.subject()),
        };
        let mut attributes = HashMap::with_capacity(5);
        attributes.insert("subject".to_owned(), string(identity.subject()));
        let optional = [("client", &facts.client), ("issuer", &facts.issuer), ("tenant", &facts.tenant)];
        for (name, value) in optional {
            attributes.extend(value.as_ref().map(|value| (name.to_owned(), string(value))));
        }
        attributes.insert("claims".to_owned(), seen(identity, claims)?);
        let (entity, uid) = entity(&self.principals[kind(identity)], id, attributes)?;
        let scopes = Value::new_set(identity.scopes().iter().map(|scope| string(scope)));
        Some(Principal { authentication: string(identity.method().name()), entity, scopes, uid })
    }

    /// What it is done to.
    pub fn resource(&self, asked: &Asked<'_>) -> Option<(Entity, EntityUid)> {
        let captures = asked.captures.iter().map(|(name, text)| {
            let text = object::segment(text).ok()?;
            Some((name.to_owned(), string(&text)))
        });
        let attributes = captures.collect::<Option<_>>()?;
        entity(&self.object, EntityId::new(asked.path), attributes)
    }
}

/// How it comes.
pub(super) fn context(principal: &Principal, source: Value, now: UnixTime) -> Option<Context> {
    let pairs = [
        ("authentication".to_owned(), principal.authentication.clone()),
        ("scopes".to_owned(), principal.scopes.clone()),
        ("source".to_owned(), source),
        ("time".to_owned(), Value::new_long(i64::try_from(now.0).ok()?)),
    ];
    Context::from_pairs(pairs).ok()
}

/// The place of a principal's kind in [`PRINCIPALS`].
pub(super) fn kind(identity: &Identity) -> usize {
    match identity.method() {
        Method::ApiKey => 0,
        Method::Certificate => 1,
        Method::Jwt => 2,
    }
}

fn entity(
    kind: &EntityTypeName,
    id: EntityId,
    attributes: HashMap<String, Value>,
) -> Option<(Entity, EntityUid)> {
    let uid = EntityUid::from_type_name_and_id(kind.clone(), id);
    Some((Entity::new(uid.clone(), attributes, HashSet::new()).ok()?, uid))
}

fn string(text: &str) -> Value {
    Value::new_string(text.to_owned())
}

/// The claims, each of its type; those that are absent are left out. `None`: one is of another type.
fn seen(identity: &Identity, claims: &[PolicyClaim]) -> Option<Value> {
    let mut seen = Vec::with_capacity(claims.len());
    for claim in claims {
        let value = match identity.claim(&claim.claim) {
            Claim::Absent => continue,
            value => typed(value, claim.kind)?,
        };
        seen.push((claim.attribute.clone(), value));
    }
    Value::new_record(seen).ok()
}

/// What a policy sees of a claim.
fn typed(claim: Claim<'_>, kind: ClaimKind) -> Option<Value> {
    match (kind, claim) {
        (ClaimKind::Bool, Claim::Boolean(value)) => Some(Value::new_bool(value)),
        (ClaimKind::Long, Claim::Number(number)) => Some(Value::new_long(number)),
        (ClaimKind::Set, Claim::List(values)) => {
            Some(Value::new_set(values.iter().map(|value| string(value))))
        }
        (ClaimKind::Set, single) => Some(Value::new_set([string(&text(single)?)])),
        (ClaimKind::String, single) => Some(string(&text(single)?)),
        (ClaimKind::Bool | ClaimKind::Long, _) => None,
    }
}

/// The canonical text of a single value.
fn text(claim: Claim<'_>) -> Option<String> {
    match claim {
        Claim::Boolean(value) => Some(value.to_string()),
        Claim::Number(number) => Some(number.to_string()),
        Claim::Text(text) => Some(text.to_owned()),
        Claim::Absent | Claim::List(_) | Claim::Unreadable => None,
    }
}
