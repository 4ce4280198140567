//! Values of `[[upstream]]`.

use toml::de::DeValue;

use super::choice;
use crate::config::document::Checked;
use crate::config::{Balance, Protocol};

pub(in crate::config) fn balance(value: &DeValue<'_>) -> Checked<Balance> {
    choice(
        value,
        &[
            ("least-requests", Balance::LeastRequests),
            ("principal-hash", Balance::PrincipalHash),
            ("round-robin", Balance::RoundRobin),
        ],
    )
}

pub(in crate::config) fn protocol(value: &DeValue<'_>) -> Checked<Protocol> {
    choice(value, &[("auto", Protocol::Auto), ("http1", Protocol::Http1), ("http2", Protocol::Http2)])
}
