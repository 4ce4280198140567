//! `[[policy]]`

use toml::de::DeValue;

use super::Earlier;
use crate::config::document::{Checked, Section, shown, wrong};
use crate::config::{Policy, PolicyClaim, Route, values};

/// None, one or more; with the names of all of them, also of those with a problem.
pub(super) fn policies(root: &mut Section<'_>) -> (Vec<String>, Vec<Policy>) {
    let mut names = Vec::new();
    let mut earlier = Earlier::default();
    let sections = root.sections("policy");
    let policies =
        sections.into_iter().filter_map(|section| policy(section, &mut names, &mut earlier)).collect();
    (names, policies)
}

fn policy(
    mut section: Section<'_>,
    names: &mut Vec<String>,
    earlier: &mut Earlier<String>,
) -> Option<Policy> {
    let name = section.required("name", values::name, r#"name = "mail""#);
    if let Some(name) = &name {
        earlier.check(&section, "name", name.clone(), String::eq);
        names.push(name.clone());
    }
    let path = values::path(section.folder());
    let files = section.required_list("files", path, r#"files = ["mail.cedar"]"#);
    let claims = section.entries("claims", claim);
    section.check("claims", are_told_apart(&claims));
    section.finish();
    Some(Policy { claims, files: files?, name: name?.into() })
}

/// `role = "String"`
fn claim(name: &str, value: &DeValue<'_>) -> Checked<PolicyClaim> {
    let claim = values::claim(&DeValue::String(name.into()))?;
    if claim.is_subject() {
        return wrong("policies see it as principal.subject already", "take it out");
    }
    let attribute = claim.names().last().cloned().unwrap_or_default();
    Ok(PolicyClaim { attribute, claim, kind: values::claim_kind(value)? })
}

fn are_told_apart(claims: &[PolicyClaim]) -> Checked<()> {
    let twice = claims
        .iter()
        .enumerate()
        .find(|(at, claim)| claims[..*at].iter().any(|other| other.attribute == claim.attribute));
    match twice {
        None => Ok(()),
        Some((_, claim)) => wrong(
            format!("two are called {} there, by the last name on the way", shown(&claim.attribute)),
            "take one of them out, or have the issuer name it otherwise",
        ),
    }
}

/// Whether each decides about something.
pub(super) fn are_named(policies: &[Policy], routes: &[Route]) -> Checked<()> {
    let named =
        |policy: &Policy| routes.iter().any(|route| route.access.policy.as_ref() == Some(&policy.name));
    match policies.iter().find(|policy| !named(policy)) {
        Some(policy) if !routes.is_empty() => wrong(
            format!("no route names \"{}\"", policy.name),
            "write it as policy of a route, or take it out",
        ),
        _ => Ok(()),
    }
}
