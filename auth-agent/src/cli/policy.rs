//! `auth-agent policy check|test`: what the configuration lets happen, without a running agent.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde::Serialize;

use super::Failure;
use super::args::{PolicyExample, PolicyVerb};
use super::session::Session;
use crate::config::Config;
use crate::lints::{Level, Lint, lints};
use crate::policy::{Policies, schema_text};
use crate::trial::{Outcome, POSTAL_SERVICE, Table, Trial};

/// What `policy check` found.
#[derive(Serialize)]
struct Found {
    lints: Vec<Lint>,
    /// Whether there is no warning.
    ok: bool,
}

/// The answer of `policy example`.
#[derive(Serialize)]
struct Example {
    text: &'static str,
    what: &'static str,
}

/// The answer of `policy schema`.
#[derive(Serialize)]
struct Schema<'n> {
    name: &'n str,
    schema: String,
}

/// How `policy test` went.
#[derive(Serialize)]
struct Tried {
    ok: bool,
    tests: Vec<Outcome>,
}

pub(super) fn run(session: &mut Session<'_>, verb: &PolicyVerb) -> Result<(), Failure> {
    match verb {
        PolicyVerb::Check => check(session),
        PolicyVerb::Example { what } => example(session, *what),
        PolicyVerb::Schema { name } => schema(session, name),
        PolicyVerb::Test { file } => test(session, file),
    }
}

fn check(session: &mut Session<'_>) -> Result<(), Failure> {
    let config = Config::load(session.config_path())?;
    load(&config)?;
    let lints = lints(&config);
    let warnings = lints.iter().filter(|lint| lint.level == Level::Warning).count();
    let found = Found { lints, ok: warnings == 0 };
    if session.json {
        session.print_json(&found)?;
    } else {
        session.out.write_all(check_text(&found).as_bytes())?;
    }
    if warnings == 0 { Ok(()) } else { Err(Failure::new(format!("{warnings} of these can hardly be meant"))) }
}

fn example(session: &mut Session<'_>, what: PolicyExample) -> Result<(), Failure> {
    let (config, table) = POSTAL_SERVICE;
    let (what, text) = match what {
        PolicyExample::Config => ("config", config),
        PolicyExample::Test => ("test", table),
    };
    if session.json {
        session.print_json(&Example { text, what })
    } else {
        Ok(session.out.write_all(text.as_bytes())?)
    }
}

fn load(config: &Config) -> Result<Policies, Failure> {
    Policies::load(config).map_err(|error| Failure::new(error.to_string()))
}

fn check_text(found: &Found) -> String {
    if found.lints.is_empty() {
        return "nothing to say about the routes\n".to_owned();
    }
    let mut text = String::new();
    for Lint { cure, level, name, route, what } in &found.lints {
        let level = match level {
            Level::Note => "note",
            Level::Warning => "warning",
        };
        // Writing to a string does not fail.
        let _ = writeln!(text, "{level}: route {route}: {what} [{name}]; {cure}");
    }
    text
}

fn schema(session: &mut Session<'_>, name: &str) -> Result<(), Failure> {
    let config = Config::load(session.config_path())?;
    let policy = config.policies.iter().find(|policy| *policy.name == *name).ok_or_else(|| {
        let names: Vec<_> = config.policies.iter().map(|policy| &*policy.name).collect();
        let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        Failure::new(format!("there is no policy {name}; the configuration has {known}"))
    })?;
    let schema = Schema { name, schema: schema_text(policy, &config.routes) };
    if session.json {
        session.print_json(&schema)
    } else {
        Ok(session.out.write_all(schema.schema.as_bytes())?)
    }
}

fn test(session: &mut Session<'_>, file: &Path) -> Result<(), Failure> {
    let of_file = |error: &dyn std::fmt::Display| Failure::new(format!("{}: {error}", file.display()));
    let config = Config::load(session.config_path())?;
    let text = fs::read_to_string(file).map_err(|error| of_file(&format_args!("can't be read: {error}")))?;
    let table = Table::parse(&text, file).map_err(|error| of_file(&error))?;
    let policies = load(&config)?;
    let trial = Trial::new(config, policies, &table).map_err(|error| of_file(&error))?;
    let tests = trial.outcomes();
    let (all, failed) = (tests.len(), tests.iter().filter(|test| !test.ok).count());
    let tried = Tried { ok: failed == 0, tests };
    if session.json {
        session.print_json(&tried)?;
    } else {
        session.out.write_all(test_text(&tried).as_bytes())?;
    }
    if failed == 0 { Ok(()) } else { Err(Failure::new(format!("{failed} of {all} are not as expected"))) }
}

fn test_text(tried: &Tried) -> String {
    let mut text = String::new();
    let wrong = tried.tests.iter().filter(|test| !test.ok);
    for Outcome { expected, got, number, request, .. } in wrong {
        let _ = writeln!(text, "test {number}: {request}\n  expected {expected}\n  got      {got}");
    }
    if tried.ok {
        let _ = writeln!(text, "all {} as expected", tried.tests.len());
    }
    text
}
