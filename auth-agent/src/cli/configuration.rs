//! `reload` and `config diff`: what changes in the configuration.

use std::fmt::Write as _;

use crate::control::messages::ConfigChanges;
use crate::reload::Change;

pub(super) fn diff(changes: &ConfigChanges) -> String {
    list("the running agent goes by the file as it stands", changes)
}

pub(super) fn reloaded(changes: &ConfigChanges) -> String {
    list("reloaded: nothing had changed", changes)
}

fn list(nothing: &str, ConfigChanges { changes }: &ConfigChanges) -> String {
    if changes.is_empty() {
        return format!("{nothing}\n");
    }
    let mut text = String::new();
    for change in changes {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{}", line(change));
    }
    text
}

fn line(Change { field, from, needs_start, to }: &Change) -> String {
    let remark = if *needs_start { "  (needs a start: `auth-agent upgrade`)" } else { "" };
    match (from, to) {
        (None, Some(to)) => format!("+ {field} = {to}{remark}"),
        (Some(from), None) => format!("- {field} = {from}{remark}"),
        (from, to) => {
            let text = |value: &Option<String>| value.clone().unwrap_or_default();
            format!("~ {field} = {} -> {}{remark}", text(from), text(to))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_a_line_with_both_values() {
        let change = |field: &str, from: Option<&str>, to: Option<&str>, needs_start| Change {
            field: field.to_owned(),
            from: from.map(str::to_owned),
            needs_start,
            to: to.map(str::to_owned),
        };
        let changes = vec![
            change("limits.requests.rate", Some("\"1/s\""), Some("\"2/s\""), false),
            change("kernel.mode", None, Some("\"native\""), true),
            change("kernel.allow", Some("[]"), None, false),
        ];
        let text = "~ limits.requests.rate = \"1/s\" -> \"2/s\"\n\
            + kernel.mode = \"native\"  (needs a start: `auth-agent upgrade`)\n\
            - kernel.allow = []\n";
        assert_eq!(diff(&ConfigChanges { changes }), text);
        let nothing = ConfigChanges { changes: vec![] };
        assert_eq!(diff(&nothing), "the running agent goes by the file as it stands\n");
        assert_eq!(reloaded(&nothing), "reloaded: nothing had changed\n");
    }
}
