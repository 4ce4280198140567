use std::path::Path;

use super::*;
use crate::config::tests::MINIMAL;

const ISSUERS: &str = r#"
[[issuer]]
name = "main"
issuer = "https://id.example.com"
keys = "main.pem"
audiences = ["a"]
algorithms = ["ES256"]
[[issuer]]
name = "partner"
issuer = "https://partner.example.com"
keys = "partner.pem"
audiences = ["a"]
algorithms = ["ES256"]
"#;

/// The lints of these routes, without notes, as lines.
fn found(routes: &str, level: Level) -> Vec<String> {
    let (before, _) = MINIMAL.split_once("[[route]]").unwrap();
    let routes = routes.replace("[[route]]", "[[route]]\nupstream = \"app\"");
    let config = Config::parse(&format!("{before}{routes}\n{ISSUERS}"), Path::new("edge.toml")).unwrap();
    let found = lints(&config).into_iter().filter(|lint| lint.level == level);
    found.map(|lint| format!("{}: {}: {}", lint.name, lint.route, lint.what)).collect()
}

fn required(path: &str, more: &str) -> String {
    format!("[[route]]\npath = \"{path}\"\nauth = \"required\"\n{more}\n")
}

fn open(path: &str, more: &str) -> String {
    format!("[[route]]\npath = \"{path}\"\nauth = \"none\"\n{more}\n")
}

const TEMPLATE: &str = "match = \"template\"\nobject = \"unchecked\"";
const EXACT: &str = "match = \"exact\"";

#[test]
fn what_was_hardly_meant_is_warned_of() {
    for (routes, expected) in [
        (required("/", "") + &required("/admin", "scopes = [\"admin\"]"), vec![]),
        (open("/", "") + &required("/api", ""), vec![]),
        (
            required("/users/admin", "scopes = [\"admin\"]") + &required("/users/{id}", TEMPLATE),
            vec![
                "laxer-route: /users/admin: /users/admin goes to route /users/{id}, which does not ask for the scope \"admin\"",
            ],
        ),
        (
            required("/users/admin", "") + &open("/users/{rest...}", TEMPLATE),
            vec!["unreachable-route: /users/admin: no request reaches it: route /users/{rest...} takes them"],
        ),
        (
            required("/users", "claims = { role = \"x\" }") + &required("/users/{rest...}", TEMPLATE),
            vec![
                "laxer-route: /users: /users/~any~ goes to route /users/{rest...}, which does not ask for the claim \"role\"",
            ],
        ),
        (required("/users/{rest...}", TEMPLATE) + &required("/users", ""), vec![]),
        (
            required("/admin", EXACT) + &open("/", ""),
            vec!["trailing-slash: /admin: /admin/ goes to route /, which asks for no credential"],
        ),
        (required("/admin/", EXACT) + &open("/", ""), vec![]),
        (required("/admin", EXACT) + &required("/", ""), vec![]),
        (
            required("/users/{id}", "match = \"template\"\nbind = { id = \"tenant\" }") + &required("/", ""),
            vec![
                "trailing-slash: /users/{id}: /users/~any~/ goes to route /, which binds no object to a claim",
            ],
        ),
        (
            required("/a/b", "match = \"template\"") + &required("/a/b", EXACT),
            vec!["unreachable-route: /a/b: no request reaches it: route /a/b takes them"],
        ),
        (
            required("/", "scopes = [\"mail:*\"]"),
            vec!["wildcard-scope: /: \"mail:*\" stands for itself alone, not for scopes that begin so"],
        ),
        (
            required("/", "any_scopes = [\"a\", \"*\"]"),
            vec!["wildcard-scope: /: \"*\" stands for itself alone, not for scopes that begin so"],
        ),
        (
            required("/", "bind_query = { user = \"sub\" }"),
            vec![
                "shared-subject: /: objects are bound to \"sub\", which those of issuer main, those of issuer partner and the names of API keys can be",
            ],
        ),
        (
            required("/", "bind_query = { user = \"sub\" }\nclaims = { iss = \"https://id.example.com\" }"),
            vec![],
        ),
        (required("/", "bind_query = { user = \"uid\" }"), vec![]),
        // A route of some methods is reached by these.
        (required("/a", "methods = [\"GET\"]") + &required("/a", ""), vec![]),
        (required("/a", "hosts = [\"*.a.example\"]") + &open("/a", ""), vec![]),
        // A route of all hosts is opened by one of a single host, and one of many by one of fewer.
        (
            required("/users/{id}", "match = \"template\"\nbind = { id = \"uid\" }")
                + &required("/", "hosts = [\"api.example.com\"]"),
            vec![
                "laxer-route: /users/{id}: api.example.com/users/~any~ goes to route api.example.com/, which binds no object to a claim",
                "trailing-slash: /users/{id}: api.example.com/users/~any~/ goes to route api.example.com/, which binds no object to a claim",
            ],
        ),
        (
            required("/a", "hosts = [\"*.example.com\"]")
                + &open("/", "hosts = [\"*.b.example.com\", \"c.example.org\"]"),
            vec![
                "laxer-route: *.example.com/a: any.b.example.com/a/~any~ goes to route *.b.example.com,c.example.org/, which asks for no credential",
            ],
        ),
        // Each of its methods.
        (
            required("/a", "methods = [\"GET\", \"PUT\"]\nhosts = [\"a.example\", \"b.example\"]")
                + &open(
                    "/a/{rest...}",
                    "match = \"template\"\nobject = \"unchecked\"\nmethods = [\"PUT\"]\nhosts = [\"b.example\"]",
                ),
            vec![
                "laxer-route: a.example,b.example/a: /a/~any~ goes to route b.example/a/{rest...}, which asks for no credential",
            ],
        ),
    ] {
        assert_eq!(found(&routes, Level::Warning), expected, "{routes}");
    }
}

#[test]
fn a_budget_of_all_together_is_warned_of_and_one_that_tells_apart_is_not() {
    let of = |limit: &str| {
        let text = MINIMAL.to_owned() + limit;
        let config = Config::parse(&text, Path::new("edge.toml")).unwrap();
        let found = lints(&config).into_iter().filter(|lint| lint.name == "common-budget");
        found.map(|lint| (lint.level, lint.what)).collect::<Vec<_>>()
    };
    let what = |name: &str| {
        let what = format!("whoever comes can use up {name} for all others: it has one budget for the route");
        vec![(Level::Warning, what)]
    };
    for (limit, expected) in [
        ("[[limit]]\nname = \"l\"\nby = [\"route\"]\nrate = \"1/s\"\n", what("l")),
        ("[[quota]]\nname = \"q\"\nby = [\"route\"]\namount = 9\nper = \"day\"\n", what("q")),
        ("[[limit]]\nname = \"l\"\nby = [\"route\", \"source\"]\nrate = \"1/s\"\n", vec![]),
        ("[[limit]]\nname = \"l\"\nby = [\"route\", \"principal\"]\nrate = \"1/s\"\n", vec![]),
        ("[[limit]]\nname = \"l\"\nby = [\"route\"]\nrate = \"1/s\"\nnetworks = [\"10.0.0.0/8\"]\n", vec![]),
    ] {
        assert_eq!(of(limit), expected, "{limit}");
    }
}

#[test]
fn what_was_written_on_purpose_is_noted() {
    let routes = open("/health", "")
        + &required("/a/{b}/{c...}", "match = \"template\"\nobject = \"unchecked\"\nbind = { b = \"x\" }");
    let expected = [
        "open-route: /health: auth = \"none\": anyone may use it",
        "unchecked-object: /a/{b}/{c...}: whoever may use it may use every {c}",
    ];
    assert_eq!(found(&routes, Level::Note), expected);
}

#[test]
fn whoever_can_name_a_subject_is_named() {
    let level = |more: &str, issuers: usize| {
        let text = MINIMAL.replace("auth = \"none\"", "auth = \"required\"\nbind_query = { user = \"sub\" }");
        let mut config = Config::parse(&format!("{text}{ISSUERS}{more}"), Path::new("edge.toml")).unwrap();
        config.issuers.truncate(issuers);
        let mut found = lints(&config).into_iter().filter(|lint| lint.name == "shared-subject");
        found.next().map(|lint| (lint.level, lint.what))
    };
    let certificates = "[[listener]]\naddress = \"[::]:8443\"\ncertificate = \"a\"\nkey = \"b\"\n\
        [listener.client_certificates]\nmode = \"optional\"\nca = \"c\"\nauthenticates = true\n";
    let what =
        |names: &str| format!("objects are bound to \"sub\", which {names} and the names of API keys can be");
    for (more, issuers, expected) in [
        ("", 0, None),
        ("", 1, Some((Level::Note, what("those of issuer main")))),
        ("", 2, Some((Level::Warning, what("those of issuer main, those of issuer partner")))),
        (certificates, 0, Some((Level::Note, what("the names in client certificates")))),
        (
            certificates,
            1,
            Some((Level::Warning, what("those of issuer main, the names in client certificates"))),
        ),
    ] {
        assert_eq!(level(more, issuers), expected, "{more} {issuers}");
    }
}
