//! `auth-agent token inspect|verify`.

use std::io::{self, Read};

use super::Failure;
use super::args::TokenVerb;
use super::session::Session;
use crate::config::Config;
use crate::token::{self, Verifier};

/// No token is longer; `sizes.token_bytes` is far below.
const STDIN_BYTES: u64 = 1024 * 1024;

pub(super) fn run(session: &mut Session<'_>, verb: TokenVerb) -> Result<(), Failure> {
    match verb {
        TokenVerb::Inspect { token } => inspect(session, token),
        TokenVerb::Verify { token } => verify(session, token),
    }
}

fn inspect(session: &mut Session<'_>, token: String) -> Result<(), Failure> {
    let token = text(token)?;
    let verifier = session.optional_config()?.as_ref().map(verifier).transpose()?;
    let inspection = token::inspect(&token, verifier.as_ref(), session.now);
    if session.json {
        session.print_json(&inspection)
    } else {
        Ok(writeln!(session.out, "{}", inspection.to_text().trim_end())?)
    }
}

/// For scripts: the exit code is the answer, and nothing of the token is printed but how each check went.
fn verify(session: &mut Session<'_>, token: String) -> Result<(), Failure> {
    let token = text(token)?;
    let verifier = verifier(&Config::load(session.config_path())?)?;
    let verdict = token::inspect(&token, Some(&verifier), session.now).into_verdict();
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

fn verifier(config: &Config) -> Result<Verifier, Failure> {
    Verifier::load(&config.issuers, config.sizes.token_bytes.get())
        .map_err(|error| Failure::new(error.to_string()))
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
