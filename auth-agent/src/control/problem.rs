//! Every way a control request can fail, and the one place that turns it into an answer.

use std::net::IpAddr;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use ipnet::IpNet;

use super::audit::Why;
use super::messages::ProblemDetails;
use crate::api_key::{KeyId, MalformedKeyId, RandomError};
use crate::authorization_server::SigningError;
use crate::edge::EdgeError;
use crate::events::SubscribeError;
use crate::handover::UpgradeError;
use crate::issuers::RefreshError;
use crate::network::NetworkError;
use crate::reload::ReloadError;
use crate::revocation::{MalformedMark, Mark};
use crate::store::{self, StoreError};
use crate::token::TokenError;

/// Why a control request failed.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// Everyone can't be an exception.
    #[error("the allowlist can't hold everyone: name the networks that may pass every limit")]
    AllowEveryone,
    /// Nothing to remove.
    #[error("{network} is not on the allowlist by itself{}", if *configured {
        ": it stands in kernel.allow of the configuration, remove it there"
    } else {
        ": `auth-agent allow list` shows it"
    })]
    AllowMissing {
        /// It stands in the configuration.
        configured: bool,
        /// As asked.
        network: IpNet,
    },
    /// Nothing to remove.
    #[error("there is no ban on exactly {network}{}", covered(*.covering))]
    BanMissing {
        /// A wider ban that holds it.
        covering: Option<IpNet>,
        /// As asked.
        network: IpNet,
    },
    /// Would lock out a good part of the world.
    #[error("{0} is a very wide network: repeat with --force (\"force\": true) if it is what you mean")]
    BanTooWide(IpNet),
    /// Not the JSON that is expected.
    #[error("the request's body can't be used: {0}")]
    BodyInvalid(String),
    /// Too long, or broken off.
    #[error("the request's body is too long, or broke off")]
    BodyUnread,
    /// The configuration was not taken.
    #[error(transparent)]
    Config(#[from] ReloadError),
    /// Nothing to end.
    #[error("there is no open connection {0}: `auth-agent connection list` shows them")]
    ConnectionMissing(u64),
    /// Too many listeners.
    #[error("{}", SubscribeError::Full)]
    EventsFull,
    /// The kernel half failed, and nothing was changed.
    #[error("the kernel filter failed: {0}")]
    Edge(EdgeError),
    /// A value that can't be accepted.
    #[error("{field}: {cure}")]
    Field {
        /// What to write instead.
        cure: String,
        /// Its name.
        field: &'static str,
    },
    /// The agent's part is done, and the kernel's is not.
    #[error("{ended} connections were ended, but the kernel does not drop what still comes of them: {error}")]
    FlowsNotDropped {
        /// How many.
        ended: usize,
        /// Why.
        error: EdgeError,
    },
    /// The work for the request ended without an answer.
    #[error("the agent failed at this request: look at its log, then check the state before trying again")]
    Internal,
    /// Has no successor.
    #[error(
        "the API key {0} is revoked or expired, and can't be rotated: `auth-agent key create` makes a new one"
    )]
    KeyEnded(KeyId),
    /// A text that is not the id of a key.
    #[error(transparent)]
    KeyId(#[from] MalformedKeyId),
    /// A key that can't be imported.
    #[error("key {number}: {problem}; nothing was imported")]
    KeyImport {
        /// Its place among those that were to be imported, from 1.
        number: usize,
        /// What is wrong with it.
        problem: Box<Self>,
    },
    /// No such key.
    #[error("there is no API key {0}: `auth-agent key list` shows them")]
    KeyMissing(KeyId),
    /// Has a successor.
    #[error("the API key {id} was rotated before: its successor is {successor}, rotate that one")]
    KeyRotated {
        /// As asked.
        id: KeyId,
        /// What was made in its place.
        successor: KeyId,
    },
    /// There is no built-in issuer.
    #[error("this agent issues no tokens: add [authorization_server] to its configuration")]
    IssuerOff,
    /// No issuer of that name.
    #[error("there is no issuer {name:?} in the configuration{}", there_are(known))]
    IssuerMissing {
        /// Those that there are.
        known: Vec<String>,
        /// As asked.
        name: String,
    },
    /// Nothing to remove.
    #[error("no limits were set for exactly {network}{}", if *configured {
        ": they stand in a [[class]] of the configuration, change them there"
    } else {
        ": `auth-agent limit show` shows them"
    })]
    LimitMissing {
        /// They stand in the configuration.
        configured: bool,
        /// As asked.
        network: IpNet,
    },
    /// No such limit.
    #[error("there is no [[limit]] or [[quota]] {name:?} in the configuration{}", there_are(known))]
    RequestLimitMissing {
        /// Those that there are.
        known: Vec<String>,
        /// As asked.
        name: String,
    },
    /// Nothing to take back.
    #[error("nothing was set for a limit {0:?}: `auth-agent limit list` shows them")]
    RequestLimitUnset(String),
    /// Wrong method for this path.
    #[error("this path does not take that method")]
    Method,
    /// A text that is not a network.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The caller may not.
    #[error("user id {uid} may not use this socket: run as root, or add the id to control.allow_uids")]
    Peer {
        /// The caller's user id.
        uid: u32,
    },
    /// A new agent has taken over.
    #[error("another agent has taken over from this one: connect to the control socket anew")]
    Replaced,
    /// Nothing to confirm.
    #[error("no change {0} waits to be confirmed: `auth-agent pending` shows those that do")]
    PendingMissing(String),
    /// No such path.
    #[error(
        "there is no such path: the paths start with /v1/ and are status, keys, issuers, allows, bans, limits, \
         pending, revocations, connections, sources, requests, audit, events, signing-keys, tokens, config, upgrade and detach"
    )]
    Path,
    /// No random bytes.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// No new keys.
    #[error(transparent)]
    Refresh(#[from] RefreshError),
    /// Nothing is known of it.
    #[error(
        "nothing is known of the request {id}: of refused ones those since {refused} are remembered, of others those \
         since {answered} (explain.remembered){other}"
    )]
    RequestMissing {
        /// Since when answered requests are remembered.
        answered: String,
        /// As asked.
        id: String,
        /// Who else may know it.
        other: &'static str,
        /// Since when refused requests are remembered.
        refused: String,
    },
    /// A text that is not the id of a revocation.
    #[error(transparent)]
    RevocationId(#[from] MalformedMark),
    /// Nothing to take back.
    #[error("there is no revocation {0}: `auth-agent revocation list` shows them")]
    RevocationMissing(Mark),
    /// No room for more.
    #[error(
        "there is room for {} revocations and no more single tokens: revoke by subject, client, key or issuer",
        store::MAX_REVOCATIONS
    )]
    RevocationsFull,
    /// Durable, and not yet enforced.
    #[error("the change is stored and will be retried, but the kernel does not enforce it yet: {0}")]
    RulesPending(EdgeError),
    /// The built-in issuer's keys can't be changed or used.
    #[error(transparent)]
    Signing(#[from] SigningError),
    /// Not an address.
    #[error("{0:?} is no IP address: write it like 192.0.2.7 or 2001:db8::7")]
    SourceInvalid(String),
    /// This agent ends.
    #[error("this agent is stopping, and takes no changes: start it again, and ask it then")]
    Stopping,
    /// The store failed, and nothing was changed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A text that can't be a token.
    #[error(
        "token {number} is none that would be accepted here: {error}; give the whole token, its hash, or its jti with --id"
    )]
    TokenInvalid {
        /// Why.
        error: TokenError,
        /// Which of those that were given.
        number: usize,
    },
    /// No new agent has taken over.
    #[error(transparent)]
    Upgrade(#[from] UpgradeError),
}

fn there_are(known: &[String]) -> String {
    if known.is_empty() { String::new() } else { format!(": there are {}", known.join(", ")) }
}

fn covered(covering: Option<IpNet>) -> String {
    match covering {
        Some(wider) => format!(": it is covered by the ban on {wider}"),
        None => ": `auth-agent ban list` shows the bans".to_owned(),
    }
}

impl Problem {
    /// A field's value that can't be accepted.
    pub(super) fn field(field: &'static str, cure: impl Into<String>) -> Self {
        Self::Field { cure: cure.into(), field }
    }

    /// Reads an address from a path.
    pub(super) fn address(text: &str) -> Result<IpAddr, Self> {
        let address: Result<IpAddr, _> = text.parse();
        address
            .map(|address| address.to_canonical())
            .map_err(|_| Self::SourceInvalid(text.chars().take(64).collect()))
    }

    /// Why there is no subscription.
    pub(super) fn subscribe(error: SubscribeError) -> Self {
        match error {
            SubscribeError::Edge(error) => Self::Edge(error),
            SubscribeError::Full => Self::EventsFull,
        }
    }

    /// Short name.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::AllowEveryone => "allow-everyone",
            Self::AllowMissing { .. } => "allow-missing",
            Self::BanMissing { .. } => "ban-missing",
            Self::BanTooWide(_) => "ban-too-wide",
            Self::BodyInvalid(_) => "body-invalid",
            Self::BodyUnread => "body-unread",
            Self::Config(ReloadError::Start(_)) => "config-needs-start",
            Self::Config(_) => "config-invalid",
            Self::ConnectionMissing(_) => "connection-missing",
            Self::Edge(_) => "kernel-failed",
            Self::EventsFull => "events-full",
            Self::Field { .. } => "field-invalid",
            Self::FlowsNotDropped { .. } => "flows-not-dropped",
            Self::Internal => "internal",
            Self::KeyEnded(_) => "key-ended",
            Self::IssuerMissing { .. } => "issuer-missing",
            Self::IssuerOff => "issuer-off",
            Self::KeyId(_) => "key-id-invalid",
            Self::KeyImport { .. } => "key-import-invalid",
            Self::KeyMissing(_) => "key-missing",
            Self::KeyRotated { .. } => "key-rotated",
            Self::LimitMissing { .. } => "limit-missing",
            Self::Method => "method-not-allowed",
            Self::Network(_) => "network-invalid",
            Self::Path => "path-missing",
            Self::PendingMissing(_) => "pending-missing",
            Self::RequestMissing { .. } => "request-missing",
            Self::Peer { .. } => "peer-refused",
            Self::Random(_) => "random-failed",
            Self::Replaced => "agent-replaced",
            Self::Refresh(RefreshError::Failed { .. }) => "refresh-failed",
            Self::Refresh(RefreshError::Missing(_)) => "issuer-missing",
            Self::Refresh(RefreshError::Own(_)) => "issuer-own",
            Self::RequestLimitMissing { .. } => "request-limit-missing",
            Self::RequestLimitUnset(_) => "request-limit-unset",
            Self::RevocationId(_) => "revocation-id-invalid",
            Self::RevocationMissing(_) => "revocation-missing",
            Self::RevocationsFull => "revocations-full",
            Self::RulesPending(_) => "rules-pending",
            Self::Signing(SigningError::AlreadyRotating { .. }) => "signing-key-waits",
            Self::Signing(_) => "signing-failed",
            Self::SourceInvalid(_) => "source-invalid",
            Self::Stopping | Self::Upgrade(UpgradeError::Stopping) => "agent-stopping",
            Self::Store(_) => "store-failed",
            Self::TokenInvalid { .. } => "token-invalid",
            Self::Upgrade(UpgradeError::UnderWay) => "upgrade-under-way",
            Self::Upgrade(_) => "upgrade-failed",
        }
    }

    /// The status it is answered with.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::AllowEveryone
            | Self::BanTooWide(_)
            | Self::BodyInvalid(_)
            | Self::Field { .. }
            | Self::KeyId(_)
            | Self::KeyImport { .. }
            | Self::Network(_)
            | Self::RevocationId(_)
            | Self::SourceInvalid(_)
            | Self::TokenInvalid { .. } => StatusCode::BAD_REQUEST,
            Self::AllowMissing { .. }
            | Self::BanMissing { .. }
            | Self::ConnectionMissing(_)
            | Self::IssuerMissing { .. }
            | Self::KeyMissing(_)
            | Self::LimitMissing { .. }
            | Self::Path
            | Self::PendingMissing(_)
            | Self::RequestMissing { .. }
            | Self::Refresh(RefreshError::Missing(_))
            | Self::RequestLimitMissing { .. }
            | Self::RequestLimitUnset(_)
            | Self::RevocationMissing(_) => StatusCode::NOT_FOUND,
            Self::Refresh(RefreshError::Failed { .. }) => StatusCode::BAD_GATEWAY,
            Self::BodyUnread => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Peer { .. } => StatusCode::FORBIDDEN,
            Self::Config(_)
            | Self::EventsFull
            | Self::IssuerOff
            | Self::KeyEnded(_)
            | Self::Signing(SigningError::AlreadyRotating { .. } | SigningError::TooMany)
            | Self::KeyRotated { .. }
            | Self::Refresh(RefreshError::Own(_))
            | Self::RevocationsFull
            | Self::Store(StoreError {
                problem: store::Problem::KeyKnown(_) | store::Problem::TooMany { .. },
                ..
            }) => StatusCode::CONFLICT,
            Self::Replaced
            | Self::Stopping
            | Self::Upgrade(UpgradeError::Stopping | UpgradeError::UnderWay) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Edge(_)
            | Self::FlowsNotDropped { .. }
            | Self::Internal
            | Self::Random(_)
            | Self::RulesPending(_)
            | Self::Signing(_)
            | Self::Store(_)
            | Self::Upgrade(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status();
        let details = ProblemDetails {
            detail: self.to_string(),
            reason: self.reason().to_owned(),
            status: status.as_u16(),
            title: status.canonical_reason().unwrap_or_default().to_owned(),
        };
        let why = Why(details.detail.clone());
        let mut response = (status, Json(details)).into_response();
        response.extensions_mut().insert(why);
        let json = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        response
    }
}
