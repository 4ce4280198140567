//! `/v1/signing-keys` and `/v1/tokens`: the built-in issuer.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::StatusCode;

use super::body::Body;
use super::messages::{IssueToken, IssuedToken, RotateSigningKey, SigningKeyEntry, SigningKeyList};
use super::problem::Problem;
use super::{Control, blocking};
use crate::authorization_server::{Grant, RevokeToken, Rotation, TokenIssuer};
use crate::clock::UnixTime;
use crate::config::{LONGEST_LEEWAY, LONGEST_OWN_TOKEN};
use crate::identity::Identity;

/// Who is named in a token, as RFC 9068 tokens are read here.
const NAME_BYTES: usize = 255;

pub(super) async fn list(State(control): State<Arc<Control>>) -> Result<Json<SigningKeyList>, Problem> {
    blocking(control, |control| Ok(Json(keys(control.issuer()?, UnixTime::now())))).await
}

pub(super) async fn rotate(
    State(control): State<Arc<Control>>,
    Body(request): Body<RotateSigningKey>,
) -> Result<(StatusCode, Json<SigningKeyList>), Problem> {
    blocking(control, move |control| {
        let now = UnixTime::now();
        let issuer = control.issuer()?;
        issuer.keys.rotate(rotation(&request)?, now)?;
        Ok((StatusCode::CREATED, Json(keys(issuer, now))))
    })
    .await
}

pub(super) async fn issue(
    State(control): State<Arc<Control>>,
    Body(request): Body<IssueToken>,
) -> Result<(StatusCode, Json<IssuedToken>), Problem> {
    blocking(control, move |control| {
        let now = UnixTime::now();
        let issuer = control.issuer()?;
        let grant = checked(request, now)?;
        let issued = issuer.issue(&grant, now)?;
        if issued.token.len() > control.tokens.max_token_bytes() {
            return Err(Problem::field(
                "scopes",
                "ask for fewer: the token is longer than sizes.token_bytes",
            ));
        }
        // Before anyone has it: who asks later who was let in finds it.
        control.store.note_issued_token(&issued.claims, grant.expires, now)?;
        Ok((StatusCode::CREATED, Json(IssuedToken { claims: issued.claims, token: issued.token })))
    })
    .await
}

impl Control {
    fn issuer(&self) -> Result<&TokenIssuer, Problem> {
        self.issuer.as_deref().ok_or(Problem::IssuerOff)
    }
}

impl RevokeToken for Control {
    fn revoke_token(&self, token: &Identity, now: UnixTime) -> Result<(), String> {
        let Some(hash) = token.facts().token else { return Err("not a token".to_owned()) };
        // Leeway and a clock that is set back keep a token valid for longer than it says.
        let over = |expires: UnixTime| UnixTime(expires.0.saturating_add(2 * LONGEST_LEEWAY.as_secs()));
        let until = token.facts().expires.map(over);
        self.give_up(hash, until, now).map_err(|problem| problem.to_string())
    }
}

fn rotation(request: &RotateSigningKey) -> Result<Rotation, Problem> {
    match (request.now, request.drop_old) {
        (false, false) => Ok(Rotation::Announced),
        (true, false) => Ok(Rotation::Now),
        (true, true) => Ok(Rotation::DropOld),
        (false, true) => Err(Problem::field(
            "drop_old",
            "add \"now\": true, as without the old keys the new one signs at once",
        )),
    }
}

fn keys(issuer: &TokenIssuer, now: UnixTime) -> SigningKeyList {
    let entry = |key: crate::authorization_server::KeyReport| SigningKeyEntry {
        algorithm: key.algorithm.to_owned(),
        created: key.created,
        kid: key.kid,
        signs: key.signs,
        signs_from: key.signs_from,
    };
    SigningKeyList { signing_keys: issuer.keys.report(now).into_iter().map(entry).collect() }
}

fn checked(request: IssueToken, now: UnixTime) -> Result<Grant, Problem> {
    let IssueToken { client, lifetime_seconds, scopes, subject } = request;
    let longest = LONGEST_OWN_TOKEN.as_secs();
    if !(1..=longest).contains(&lifetime_seconds) {
        return Err(Problem::field("lifetime_seconds", format!("write 1 to {longest}: an hour at most")));
    }
    for (field, name) in [("subject", &subject), ("client", &client)] {
        let printable = !name.chars().any(super::is_unprintable) && name.trim() == name.as_str();
        if !((1..=NAME_BYTES).contains(&name.len()) && printable) {
            let cure =
                format!("write 1 to {NAME_BYTES} bytes without control characters; spaces only between");
            return Err(Problem::field(field, cure));
        }
    }
    super::keys::check_scopes(&scopes)?;
    let expires = UnixTime(now.0.saturating_add(lifetime_seconds));
    Ok(Grant { client, expires, scopes, subject })
}
