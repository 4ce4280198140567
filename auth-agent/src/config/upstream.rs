//! Where requests go to.

use std::sync::Arc;

use http::Uri;

/// `[[upstream]]`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Upstream {
    /// `http://host:port` each, without a path; used in turn.
    pub endpoints: Vec<Uri>,
    /// Name that routes refer to.
    pub name: Arc<str>,
}
