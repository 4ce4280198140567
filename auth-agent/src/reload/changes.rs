//! What differs between two configurations, as their authors wrote them.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::policy::{PolicyFile, PolicyFiles};

/// A field that is not as it was.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Change {
    /// Its name, such as `route["/api"].auth`.
    pub field: String,
    /// What it is now; absent: it does not stand in the file.
    pub from: Option<String>,
    /// Whether it takes effect with a start of the agent alone.
    pub needs_start: bool,
    /// What it is to be; absent: it no longer stands in the file.
    pub to: Option<String>,
}

/// What running agents can change. Everything else is set up once, at the start.
const CHANGEABLE: [&str; 22] = [
    "access_log",
    "acme",
    "api_keys",
    "audit",
    "class",
    "explain",
    "identity_headers",
    "issuer",
    "kernel.allow",
    "kernel.guarded_ports",
    "kernel.plaintext_ports",
    "ladder",
    "limit",
    "limits",
    "listener",
    "policy",
    "proxies",
    "quota",
    "route",
    "sizes",
    "timeouts",
    "upstream",
];
const FIXED: [&str; 6] = [
    "api_keys.allow_browsers",
    "kernel.interfaces",
    "limits.resets",
    "sizes.limit_entries",
    "sizes.token_bytes",
    "sizes.workers",
];

/// The fields that differ, in order. Both texts are TOML.
///
/// # Errors
/// One of them is not.
pub fn between(before: &str, after: &str) -> Result<Vec<Change>, toml::de::Error> {
    let (before, after) = (fields(before)?, fields(after)?);
    let names: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let change = |name: &String| {
        let (from, to) = (before.get(name), after.get(name));
        (from != to).then(|| Change {
            field: name.clone(),
            from: from.map(|value| shown(name, value)),
            needs_start: !is_changeable(name),
            to: to.map(|value| shown(name, value)),
        })
    };
    Ok(names.into_iter().filter_map(change).collect())
}

/// The same, with the policies that stand in other files than they did, or are others in the same files.
pub fn with_policies(mut changes: Vec<Change>, before: &PolicyFiles, after: &PolicyFiles) -> Vec<Change> {
    for (name, after) in after {
        // A policy that came or went is among the changes.
        let Some(before) = before.get(name).filter(|before| *before != after) else { continue };
        let field = format!("policy[{}].files", Value::from(&**name));
        if changes.iter().any(|change| change.field == field) {
            continue;
        }
        let shown = |files: &[PolicyFile], others: &[PolicyFile]| {
            let differs = |file: &&PolicyFile| !others.contains(file);
            let shown: Vec<_> = files.iter().filter(differs).map(shown_file).collect();
            Some(shown.join(", "))
        };
        let (from, to) = (shown(before, after), shown(after, before));
        changes.push(Change { field, from, needs_start: false, to });
    }
    changes.sort_by(|one, other| one.field.cmp(&other.field));
    changes
}

/// A file, and which version of it.
pub fn shown_file(PolicyFile { path, sha256 }: &PolicyFile) -> String {
    format!("{} sha256 {sha256}", path.display())
}

/// Values of header fields may be secrets that servers share.
fn shown(name: &str, value: &str) -> String {
    let is_secret = name.contains("_headers.set");
    if is_secret { "(not shown)".to_owned() } else { value.to_owned() }
}

fn is_changeable(name: &str) -> bool {
    let is_in = |section: &str| {
        name.strip_prefix(section).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    CHANGEABLE.iter().any(|section| is_in(section)) && !FIXED.iter().any(|field| is_in(field))
}

/// Every field by its whole name, with its value as TOML.
fn fields(text: &str) -> Result<BTreeMap<String, String>, toml::de::Error> {
    let mut fields = BTreeMap::new();
    for (key, value) in text.parse::<Table>()? {
        flatten(key, &value, &mut fields);
    }
    Ok(fields)
}

fn flatten(name: String, value: &Value, fields: &mut BTreeMap<String, String>) {
    match value {
        Value::Table(table) => {
            // A section that says nothing may still turn something on.
            fields.insert(name.clone(), "{}".to_owned());
            for (key, value) in table {
                flatten(format!("{name}.{key}"), value, fields);
            }
        }
        Value::Array(elements) if !elements.is_empty() && elements.iter().all(Value::is_table) => {
            let mut seen = BTreeMap::<String, usize>::new();
            for element in elements {
                let title = title(element);
                let count = seen.entry(title.clone()).or_default();
                *count += 1;
                let nth = if *count > 1 { format!(" {count}") } else { String::new() };
                flatten(format!("{name}[{title}{nth}]"), element, fields);
            }
        }
        value => drop(fields.insert(name, value.to_string())),
    }
}

/// What tells a table of an array from the others, wherever it stands.
fn title(element: &Value) -> String {
    let one = |key: &str| element.get(key).map(Value::to_string);
    match one("name").or_else(|| one("address")) {
        Some(title) => title,
        None => {
            let parts: Vec<_> = ["hosts", "path", "methods"].into_iter().filter_map(one).collect();
            parts.join(" ")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = r#"
        [kernel]
        interfaces = ["eth0"]
        [limits.requests]
        rate = "100/min"
        [[route]]
        path = "/"
        auth = "required"
        [[route]]
        path = "/"
        methods = ["POST"]
        auth = "required"
        [[upstream]]
        name = "app"
        endpoints = ["http://127.0.0.1:8080"]
        [[upstream]]
        name = "other"
        endpoints = ["http://127.0.0.1:8081"]
    "#;

    fn shown(after: &str) -> Vec<String> {
        let show = |change: Change| {
            let text = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
            let mark = if change.needs_start { "!" } else { "" };
            format!("{mark}{}: {} -> {}", change.field, text(change.from), text(change.to))
        };
        between(BEFORE, after).unwrap().into_iter().map(show).collect()
    }

    #[test]
    fn a_field_is_named_by_what_it_belongs_to_wherever_that_stands() {
        let moved = r#"
            [[upstream]]
            name = "other"
            endpoints = ["http://127.0.0.1:8081"]
            [[upstream]]
            endpoints = [ "http://127.0.0.1:8080" ] # remark
            name = 'app'
            [[route]]
            path = "/"
            auth = "required"
            [[route]]
            path = "/"
            methods = ["POST"]
            auth = "required"
            [limits]
            requests = { rate = "100/min" }
            [kernel]
            interfaces = ["eth0"]
        "#;
        assert_eq!(shown(moved), [""; 0]);
    }

    #[test]
    fn what_changed_is_told_with_both_values_and_whether_it_needs_a_start() {
        for (from, to, expected) in [
            ("100/min", "50/min", &[r#"limits.requests.rate: "100/min" -> "50/min""#][..]),
            (r#"["eth0"]"#, r#"["eth1"]"#, &[r#"!kernel.interfaces: ["eth0"] -> ["eth1"]"#]),
            ("[kernel]", "[kernel]\nallow = [\"10.0.0.0/8\"]", &[r#"kernel.allow: - -> ["10.0.0.0/8"]"#]),
            ("[kernel]", "[sizes]\nworkers = 2\n[kernel]", &["sizes: - -> {}", "!sizes.workers: - -> 2"]),
            ("[kernel]", "[store]\n[kernel]", &["!store: - -> {}"]),
            (
                "name = \"other\"",
                "name = \"new\"",
                &[
                    r#"upstream["new"]: - -> {}"#,
                    r#"upstream["new"].endpoints: - -> ["http://127.0.0.1:8081"]"#,
                    r#"upstream["new"].name: - -> "new""#,
                    r#"upstream["other"]: {} -> -"#,
                    r#"upstream["other"].endpoints: ["http://127.0.0.1:8081"] -> -"#,
                    r#"upstream["other"].name: "other" -> -"#,
                ],
            ),
            (
                "methods = [\"POST\"]\n        auth = \"required\"",
                "methods = [\"POST\"]\n        auth = \"none\"",
                &[r#"route["/" ["POST"]].auth: "required" -> "none""#],
            ),
        ] {
            assert!(BEFORE.contains(from), "{from}");
            assert_eq!(shown(&BEFORE.replacen(from, to, 1)), expected, "{from}");
        }
    }

    #[test]
    fn a_policy_that_is_another_in_the_same_file_is_a_change() {
        let file = |path: &str, sha256: &str| PolicyFile { path: path.into(), sha256: sha256.to_owned() };
        let files = |mail: [PolicyFile; 2]| {
            PolicyFiles::from([("mail".into(), mail.into()), ("other".into(), vec![file("o", "0")])])
        };
        let before = files([file("a", "1"), file("b", "2")]);
        let after = files([file("a", "1"), file("b", "3")]);
        let changes = between(BEFORE, &BEFORE.replacen("100/min", "50/min", 1)).unwrap();
        assert_eq!(with_policies(changes.clone(), &before, &before), changes);
        let told: Vec<_> = with_policies(changes.clone(), &before, &after)
            .into_iter()
            .map(|Change { field, from, needs_start, to }| (field, from.unwrap(), to.unwrap(), needs_start))
            .collect();
        assert_eq!(told.len(), 2, "{told:?}");
        let expected = (r#"policy["mail"].files"#, "b sha256 2", "b sha256 3", false);
        let (field, from, to, needs_start) = &told[1];
        assert_eq!((&**field, &**from, &**to, *needs_start), expected);
        // One that is new, or gone, stands in the configuration.
        let gone = PolicyFiles::from([("mail".into(), after["mail"].clone())]);
        assert_eq!(with_policies(changes.clone(), &after, &gone), changes);
        assert_eq!(with_policies(changes.clone(), &gone, &after), changes);
    }

    #[test]
    fn values_of_header_fields_are_not_shown() {
        let with = |value: &str| {
            format!("[[route]]\npath = \"/\"\nrequest_headers = {{ set = {{ x-a = \"{value}\" }} }}\n")
        };
        let [change] = &between(&with("s3cret"), &with("t0p")).unwrap()[..] else { panic!("one change") };
        assert_eq!(change.field, r#"route["/"].request_headers.set.x-a"#);
        assert_eq!(
            (change.from.as_deref(), change.to.as_deref()),
            (Some("(not shown)"), Some("(not shown)"))
        );
    }

    #[test]
    fn no_longer_name_passes_for_a_changeable_one() {
        for (name, expected) in [
            ("limits", true),
            ("limits.requests.rate", true),
            ("limits.resets.rate", false),
            ("limitsx", false),
            ("kernel", false),
            ("kernel.allow", true),
            ("kernel.allowed", false),
            ("route[\"/\"].auth", true),
            ("control.socket", false),
            ("authorization_server", false),
        ] {
            assert_eq!(is_changeable(name), expected, "{name}");
        }
    }
}
