use super::*;
use crate::lints::{Level, lints};

const FOLDER: &str = "/etc/auth-agent/edge.toml";

fn config(text: &str) -> Config {
    Config::parse(text, FOLDER.as_ref()).unwrap()
}

fn table(text: &str) -> Table {
    Table::parse(text, "a.toml".as_ref()).unwrap()
}

/// What did not come as expected, as lines.
fn surprises(config: Config, table: &Table) -> Vec<String> {
    let policies = Policies::load(&config).unwrap();
    let outcomes = Trial::new(config, policies, table).unwrap().outcomes();
    let wrong = outcomes.into_iter().filter(|outcome| !outcome.ok);
    wrong
        .map(|Outcome { expected, got, request, .. }| format!("{request}: expected {expected}, got {got}"))
        .collect()
}

#[test]
fn nobody_gets_at_an_object_of_another_in_any_spelling() {
    let table = table(include_str!("tests/bola.test.toml"));
    assert!(table.tests().len() >= 80, "{}", table.tests().len());
    assert_eq!(surprises(config(include_str!("tests/bola.toml")), &table), Vec::<String>::new());
}

#[test]
fn the_example_does_what_its_table_says_and_has_no_holes() {
    let config = config(POSTAL_SERVICE.0);
    let holes: Vec<_> = lints(&config).into_iter().filter(|lint| lint.level == Level::Warning).collect();
    assert_eq!(holes, []);
    assert_eq!(surprises(config, &table(POSTAL_SERVICE.1)), Vec::<String>::new());
}

#[test]
fn what_comes_otherwise_is_told_with_what_was_expected() {
    let table = table(
        "[[test]]\nrequest = \"GET /users/bob/messages\"\nwho = \"alice\"\nexpect = \"allow\"\nroute = \"inbox\"\n\
         [[test]]\nrequest = \"GET /track/1\"\nexpect = \"allow\"\nroute = \"inbox\"\n\
         [who.alice]\nclaims = { sub = \"alice\" }\n",
    );
    let expected = [
        "GET /users/bob/messages as alice: expected allow by route inbox, got object-foreign by route inbox",
        "GET /track/1 as nobody: expected allow by route inbox, got allow by route track",
    ];
    assert_eq!(surprises(config(POSTAL_SERVICE.0), &table), expected);
}

#[test]
fn a_table_that_can_not_be_used_says_why() {
    let test = "[[test]]\nrequest = \"GET /\"\nexpect = \"allow\"\n";
    for (text, expected) in [
        ("", "not a table of tests: "),
        ("test = []", "no test; write [[test]] with request and expect"),
        ("[[test]]\nrequest = \"GET /\"", "missing field `expect`"),
        (&format!("{test}colour = 1"), "unknown field `colour`"),
        (
            &format!("{test}who = \"a\""),
            "test 1: there is no who.a; write [who.a], or leave `who` out for nobody",
        ),
        (&test.replace("GET /", "GET"), "test 1: GET is not what a client can send"),
        (&test.replace("GET /", "GET /\\u0001"), "test 1: GET /"),
        (&format!("{test}headers = [\"a\"]"), "test 1: a is not what a client can send"),
        (&format!("{test}[who.a]"), "who.a: write exactly one of claims, api_key and certificate"),
        (&format!("{test}[who.a]\napi_key = \"x\"\ncertificate = \"x\""), "who.a: write exactly one of"),
        (
            &format!("{test}[who.a]\nissuer = \"x\"\nclaims = {{ sub = \"a\" }}"),
            "who.a: the configuration has no such issuer",
        ),
        (
            &format!("{test}[who.a]\nscopes = [\"x\"]\nclaims = {{ sub = \"a\" }}"),
            "who.a: a token has its scopes in its claims",
        ),
        (&format!("{test}[who.a]\nclaims = {{ }}"), "who.a: no token with these claims is accepted"),
        (&format!("{test}[who.a]\nclaims = {{ sub = 1 }}"), "who.a: no token with these claims is accepted"),
    ] {
        let table = Table::parse(text, "a.toml".as_ref());
        let error = table
            .and_then(|table| Trial::new(config(POSTAL_SERVICE.0), Policies::default(), &table))
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
    let json = r#"{"test": [{"request": "GET /track/1", "expect": "allow"}]}"#;
    let table = Table::parse(json, "a.json".as_ref()).unwrap();
    assert_eq!(surprises(config(POSTAL_SERVICE.0), &table), Vec::<String>::new());
    assert!(Table::parse(json, "a.toml".as_ref()).is_err());
}
