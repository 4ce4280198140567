//! `auth-agent token issue`, `auth-agent signing-key`

use http::Method;

use super::Failure;
use super::args::{IssueToken, SigningKeyVerb};
use super::session::Session;
use super::table::table;
use crate::clock::UnixTime;
use crate::control::messages::{self, IssuedToken, SigningKeyList};
use crate::duration::relative;

pub(super) fn issue(session: &mut Session<'_>, issue: IssueToken) -> Result<(), Failure> {
    let request = messages::IssueToken {
        client: issue.client,
        lifetime_seconds: issue.lifetime.as_secs(),
        scopes: issue.scopes,
        subject: issue.subject,
    };
    let body = session.ask(Method::POST, "/v1/tokens", Some(request))?;
    session.show(&body, |issued: &IssuedToken| format!("{}\n", issued.token))
}

pub(super) fn signing_key(session: &mut Session<'_>, verb: &SigningKeyVerb) -> Result<(), Failure> {
    let now = session.now;
    let body = match verb {
        SigningKeyVerb::List => session.ask(Method::GET, "/v1/signing-keys", None::<()>)?,
        SigningKeyVerb::Rotate { drop_old, now } => {
            let request = messages::RotateSigningKey { drop_old: *drop_old, now: *now };
            session.ask(Method::POST, "/v1/signing-keys/rotate", Some(request))?
        }
    };
    session.show(&body, |keys| list(keys, now))
}

fn list(keys: &SigningKeyList, now: UnixTime) -> String {
    let rows = keys.signing_keys.iter().map(|key| {
        let state = match key.signs {
            true => "signs".to_owned(),
            false if key.signs_from > now => format!("signs {}", relative(key.signs_from, now)),
            false => "verifies".to_owned(),
        };
        [key.kid.clone(), key.algorithm.clone(), state, relative(key.created, now)]
    });
    table(["KID", "ALGORITHM", "STATE", "CREATED"], &rows.collect::<Vec<_>>())
}
