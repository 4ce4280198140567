//! Request bodies before they are forwarded: whether there is one, and what becomes of one that is not wanted.

use http::header::EXPECT;
use http::request::Parts;
use http_body::Body as _;
use http_body_util::BodyExt as _;

use crate::proxy::{RequestBody, is_extended};
use crate::refusal::Refusal;

/// The body of a request that may be refused before it is read.
pub(super) struct Unread(Option<RequestBody>);

impl Unread {
    /// A client that waits for `100 Continue` sends nothing unasked, and reading is what asks it.
    pub fn of(request: &Parts, body: &RequestBody) -> Self {
        Self((!request.headers.contains_key(EXPECT)).then(|| body.clone()))
    }

    pub fn linger(self, refusal: Refusal) {
        // Where it is in doubt what the body is, none of it is read.
        if let (Some(body), false) = (self.0, refusal == Refusal::FramingInvalid) {
            body.linger();
        }
    }
}

/// Whether there is a body, or may be one: over HTTP/2 that is known when the stream ends. What a WebSocket carries is none.
pub(super) fn has_body(request: &Parts, body: &RequestBody) -> bool {
    !body.is_end_stream() && body.size_hint().exact() != Some(0) && !is_extended(request)
}

/// Waits for the end of a body that is said to be empty: over HTTP/2 it comes by itself, and more may come instead.
pub(super) async fn settle_empty(body: &RequestBody) -> Result<(), Refusal> {
    if body.size_hint().exact() == Some(0) && !body.is_end_stream() {
        body.clone().frame().await.transpose()?;
    }
    Ok(())
}
