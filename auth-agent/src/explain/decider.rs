//! Which rule of a route refused a request, where the stage that decided has not said so itself.

use super::{Decider, Trail};
use crate::config::{Binding, ClaimRule, Part, Route};
use crate::refusal::{Refusal, Refused};

/// Notes what of `route` refused the request.
pub fn note_decider(trail: &Trail, route: &Route, refused: &Refused<'_>) {
    let (decider, names) = match refused.refusal {
        Refusal::ClaimMismatch => (Decider::Claim, joined(route.access.claims.iter().map(claim))),
        Refusal::ObjectAmbiguous | Refusal::ObjectForeign { .. } => {
            (Decider::Binding, joined(route.access.bindings.iter().map(binding)))
        }
        Refusal::ScopeMissing => (Decider::Scope, refused.scopes.join(" ")),
        _ => return,
    };
    trail.decided_by_default(decider, names);
}

fn joined(names: impl Iterator<Item = String>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

fn claim(rule: &ClaimRule) -> String {
    format!("{} = {}", rule.claim, rule.values.join(" or "))
}

fn binding(binding: &Binding) -> String {
    let part = match &binding.part {
        Part::Header(name) => format!("header {name}"),
        Part::Path(name) => format!("{{{name}}}"),
        Part::Query(name) => format!("query {name}"),
    };
    format!("{part} = {}", binding.claim)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Auth, ClaimPath};

    #[test]
    fn a_refusal_is_laid_to_what_its_route_asks_for_unless_the_stage_has_said_more() {
        let mut route = Route::under("/", Auth::Required, &["mail:read"], 0);
        let path = |text: &str| ClaimPath::parse(text).unwrap();
        route.access.bindings = vec![
            Binding { claim: path("sub"), part: Part::Path("user_id".to_owned()) },
            Binding { claim: path("sub"), part: Part::Query("user".to_owned()) },
        ];
        route.access.claims = vec![ClaimRule { claim: path("tier"), values: vec!["gold".to_owned()] }];
        let noted = |refused: Refused<'_>| {
            let trail = Trail::default();
            note_decider(&trail, &route, &refused);
            trail.take().decided_by.map(|(decider, name)| format!("{} {name}", decider.name()))
        };
        let scopes = ["mail:read".to_owned()];
        for (refused, expected) in [
            (Refused { scopes: &scopes, ..Refusal::ScopeMissing.into() }, Some("scope mail:read")),
            (Refusal::ClaimMismatch.into(), Some("claim tier = gold")),
            (
                Refusal::ObjectForeign { hidden: true }.into(),
                Some("binding {user_id} = sub, query user = sub"),
            ),
            (Refusal::RouteNotFound.into(), None),
        ] {
            assert_eq!(noted(refused).as_deref(), expected);
        }
        let trail = Trail::default();
        trail.decided_by(Decider::Policy, "mail");
        note_decider(&trail, &route, &Refusal::ClaimMismatch.into());
        assert_eq!(trail.take().decided_by, Some((Decider::Policy, "mail".into())));
    }
}
