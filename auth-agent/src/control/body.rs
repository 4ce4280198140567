//! A request's JSON body, whatever its content type says: `curl -d` calls everything a form.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use serde::de::DeserializeOwned;

use super::problem::Problem;

/// Far above any request of ours.
pub(super) const BODY_BYTES: usize = 64 * 1024;
/// Above the longest list of networks that the store takes.
pub(super) const IMPORT_BYTES: usize = 16 * 1024 * 1024;

/// A hundred thousand keys with names and scopes of usual length.
pub(super) const KEYS_BYTES: usize = 32 * 1024 * 1024;

/// A body that holds secrets: what is wrong with it is told without a word of it.
pub(super) struct SecretBody<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for SecretBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let bytes = Bytes::from_request(request, state).await;
        let bytes = bytes.map_err(|_| Problem::BodyUnread)?;
        serde_json::from_slice(&bytes).map(Self).map_err(|error| {
            let what = if error.is_data() { "not the fields that are expected" } else { "not JSON" };
            Problem::BodyInvalid(format!("{what}, at line {} column {}", error.line(), error.column()))
        })
    }
}

pub(super) struct Body<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let bytes = Bytes::from_request(request, state).await;
        let bytes = bytes.map_err(|_| Problem::BodyUnread)?;
        serde_json::from_slice(&bytes).map(Self).map_err(|error| Problem::BodyInvalid(error.to_string()))
    }
}
