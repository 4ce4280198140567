//! `auth-agent token inspect|verify`.

use std::io::{self, Read};

use super::args::TokenVerb;
use super::session::Session;
use super::{Failure, issuer, own_issuer};
use crate::config::Config;
use crate::token;

/// No token is longer; `sizes.token_bytes` is far below.
const STDIN_BYTES: u64 = 1024 * 1024;

pub(super) fn run(session: &mut Session<'_>, verb: TokenVerb) -> Result<(), Failure> {
    match verb {
        TokenVerb::Issue(issue) => own_issuer::issue(session, issue),
        TokenVerb::Inspect { token } => inspect(session, token),
        TokenVerb::Verify { token } => verify(session, token),
    }
}

fn inspect(session: &mut Session<'_>, token: String) -> Result<(), Failure> {
    let token = text(token)?;
    let config = session.optional_config()?;
    let known = config.as_ref().map(|config| issuer::offline_verifier(config, session.now)).transpose()?;
    let inspection = token::inspect(&token, known.as_ref().map(|known| &known.tokens), session.now);
    for note in known.iter().flat_map(|known| known.notes_on(&inspection)) {
        session.say(&format!("note: {note}\n"));
    }
    if session.json {
        session.print_json(&inspection)
    } else {
        Ok(writeln!(session.out, "{}", inspection.to_text().trim_end())?)
    }
}

/// For scripts: the exit code is the answer, and nothing of the token is printed but how each check went.
fn verify(session: &mut Session<'_>, token: String) -> Result<(), Failure> {
    let token = text(token)?;
    let known = issuer::offline_verifier(&Config::load(session.config_path())?, session.now)?;
    let inspection = token::inspect(&token, Some(&known.tokens), session.now);
    for note in known.notes_on(&inspection) {
        session.say(&format!("note: {note}\n"));
    }
    let verdict = inspection.into_verdict();
    if session.json {
        session.print_json(&verdict)?;
    } else {
        session.out.write_all(verdict.to_text().as_bytes())?;
    }
    match verdict.refusal {
        None => Ok(()),
        Some(refusal) => Err(Failure::new(format!("the token is refused, {}: {refusal}", refusal.name()))),
    }
}

fn text(token: String) -> Result<String, Failure> {
    if token == "-" { token_from(io::stdin().lock()) } else { Ok(token) }
}

fn token_from(input: impl Read) -> Result<String, Failure> {
    let mut token = String::new();
    match input.take(STDIN_BYTES).read_to_string(&mut token) {
        Ok(_) => Ok(token.trim().to_owned()),
        Err(error) => Err(Failure::new(format!("can't read a token from standard input: {error}"))),
    }
}
