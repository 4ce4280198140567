//! Requests and answers of the control API: one definition for the agent and the CLI.
//!
//! Times are seconds since 1970, durations seconds. Unknown fields of a request are refused.

mod audit;
mod issuer;
mod keys;
mod ladder;
mod request_limits;
mod requests;
mod revocations;

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use self::audit::{AuditList, AuditRecord};
pub use self::issuer::{
    IssueToken, IssuedToken, OPERATOR, RotateSigningKey, SigningKeyEntry, SigningKeyList,
};
pub use self::keys::{
    CreateKey, CreatedKey, ImportKey, ImportKeys, ImportedKeys, KeyEntry, Keys, RevokedKey, RotateKey,
    RotatedKey,
};
pub use self::ladder::{LadderStatus, OffenderEntry, Offenders};
pub use self::request_limits::{
    OwedDebt, Owing, RequestLimitEntry, RequestLimits, ResetLimit, SetRequestLimit, WhoseDebts,
};
pub use self::requests::{CredentialStory, DeciderStory, LimitStory, RequestStory, UpstreamStory};
pub use self::revocations::{Ended, RevocationEntry, RevocationList, RevocationQuery, Revoke, Revoked};
use crate::clock::UnixTime;
use crate::config::Overrides;
use crate::counters::Snapshot;
use crate::edge::FilterStatus;
use crate::issuers::IssuerStatus;
use crate::limits::Occupancy;
use crate::network::as_text;
use crate::proxy::UpstreamStatus;
use crate::reload::Change;
use crate::store::Automatic;
use crate::tls::{AcmeStatus, CertificateStatus, TrustStatus};

/// `GET /v1/status`
#[derive(Debug, Deserialize, Serialize)]
pub struct Status {
    /// Certificates that are got from an ACME server.
    #[serde(default)]
    pub acme: Vec<AcmeStatus>,
    /// What the listeners show, in the order of the configuration.
    #[serde(default)]
    pub certificates: Vec<CertificateStatus>,
    /// Whose client certificates they believe.
    #[serde(default)]
    pub client_trust: Vec<TrustStatus>,
    /// The filter in the kernel.
    pub filter: FilterStatus,
    /// Connections and requests since the agent started.
    pub http: Snapshot,
    /// Token issuers.
    pub issuers: IssuersStatus,
    /// Keys that are neither revoked nor expired.
    pub keys: usize,
    /// Sources that go on whatever they are told.
    #[serde(default)]
    pub ladder: LadderStatus,
    /// How full the tables of limits and quotas are.
    #[serde(default)]
    pub limits: Vec<Occupancy>,
    /// Changes that are undone unless they are confirmed, oldest first.
    pub pending: Vec<PendingEntry>,
    /// Process id.
    pub pid: u32,
    /// What is revoked.
    pub revocations: RevocationsStatus,
    /// The rules.
    pub rules: RulesStatus,
    /// When the agent started.
    pub started: UnixTime,
    /// Where requests go to.
    pub upstreams: UpstreamsStatus,
    /// How long ago the agent started.
    pub uptime_seconds: u64,
    /// The agent's version.
    pub version: String,
}

/// `GET /v1/config/diff`, `POST /v1/config/reload`
#[derive(Debug, Deserialize, Serialize)]
pub struct ConfigChanges {
    /// What is to change, or has.
    pub changes: Vec<Change>,
}

/// `POST /v1/upgrade`
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Upgrade {
    /// The new agent's program; absent: the file that this one was started from.
    #[serde(default)]
    pub binary: Option<String>,
    /// How long it may take to be ready, seconds; absent: a minute.
    #[serde(default)]
    pub within_seconds: Option<u64>,
}

/// What came of it.
#[derive(Debug, Deserialize, Serialize)]
pub struct Upgraded {
    /// The program that runs now.
    pub binary: String,
    /// Its process.
    pub pid: u32,
    /// Its version.
    pub version: String,
}

/// Revocations, those that are over and not yet forgotten included.
#[derive(Debug, Deserialize, Serialize)]
pub struct RevocationsStatus {
    /// Memory that they take, bytes.
    pub bytes: usize,
    /// How many.
    pub count: usize,
}

/// How the issuers' keys are doing.
#[derive(Debug, Deserialize, Serialize)]
pub struct IssuersStatus {
    /// Those whose keys could not be had anew the last time.
    pub failing: usize,
    /// All of them.
    pub total: usize,
    /// Those whose tokens are answered `token-keys-unavailable`.
    pub without_keys: usize,
}

/// How the upstreams are doing.
#[derive(Debug, Deserialize, Serialize)]
pub struct UpstreamsStatus {
    /// Those without an endpoint that requests are sent to.
    pub down: usize,
    /// All endpoints.
    pub endpoints: usize,
    /// Those that no requests are sent to.
    pub endpoints_out: usize,
    /// All upstreams.
    pub total: usize,
}

/// `GET /v1/upstreams`
#[derive(Debug, Deserialize, Serialize)]
pub struct UpstreamList {
    /// In the order of the configuration.
    pub upstreams: Vec<UpstreamStatus>,
}

/// Allowlist and bans, and whether the kernel has them.
#[derive(Debug, Deserialize, Serialize)]
pub struct RulesStatus {
    /// Networks on the allowlist.
    pub allowed: usize,
    /// Bans that hold.
    pub banned: usize,
    /// Why the kernel does not enforce all of them yet; absent: it does.
    pub error: Option<String>,
}

/// `GET /v1/issuers`; `POST /v1/issuers/{name}/refresh` answers with the one.
#[derive(Debug, Deserialize, Serialize)]
pub struct IssuerList {
    /// In the order of the configuration.
    pub issuers: Vec<IssuerStatus>,
}

/// `POST /v1/allows`
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AddAllow {
    /// An address or a CIDR.
    pub network: String,
    /// A remark.
    #[serde(default)]
    pub reason: Option<String>,
}

/// `GET /v1/allows`
#[derive(Debug, Deserialize, Serialize)]
pub struct Allows {
    /// The configured ones first, then the added ones by network.
    pub allows: Vec<AllowEntry>,
}

/// One allowed network.
#[derive(Debug, Deserialize, Serialize)]
pub struct AllowEntry {
    /// It stands in `kernel.allow`, and so can only be removed there.
    pub configured: bool,
    /// When it was added.
    pub created: Option<UnixTime>,
    /// Who is allowed.
    #[serde(with = "as_text")]
    pub network: IpNet,
    /// The operator's remark.
    pub reason: Option<String>,
}

/// The answer to `DELETE /v1/allows/{network}`
#[derive(Debug, Deserialize, Serialize)]
pub struct RemovedAllow {
    /// Who is no longer allowed by this entry.
    #[serde(with = "as_text")]
    pub network: IpNet,
}

/// `POST /v1/bans`
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AddBan {
    /// How long; absent: until it is removed.
    #[serde(default)]
    pub for_seconds: Option<u64>,
    /// Needed for a very wide network.
    #[serde(default)]
    pub force: bool,
    /// An address or a CIDR.
    pub network: String,
    /// A remark.
    #[serde(default)]
    pub reason: Option<String>,
}

/// The answer to [`AddBan`].
#[derive(Debug, Deserialize, Serialize)]
pub struct AddedBan {
    /// Live connections of the banned that were ended.
    pub ended: usize,
    /// As it will be listed.
    #[serde(flatten)]
    pub entry: BanEntry,
    /// What the operator should know about its effect.
    pub notes: Vec<String>,
}

/// `POST /v1/bans/import`
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ImportBans {
    /// How long; absent: until they are removed.
    #[serde(default)]
    pub for_seconds: Option<u64>,
    /// Needed if one of them is very wide.
    #[serde(default)]
    pub force: bool,
    /// Addresses and CIDRs.
    pub networks: Vec<String>,
    /// A remark, the same for all.
    #[serde(default)]
    pub reason: Option<String>,
}

/// The answer to [`ImportBans`].
#[derive(Debug, Deserialize, Serialize)]
pub struct ImportedBans {
    /// Live connections of the banned that were ended.
    pub ended: usize,
    /// How many networks were banned, or banned anew.
    pub imported: usize,
    /// The first second in which they no longer hold; absent: until they are removed.
    pub until: Option<UnixTime>,
}

/// `GET /v1/bans`
#[derive(Debug, Deserialize, Serialize)]
pub struct Bans {
    /// By network.
    pub bans: Vec<BanEntry>,
}

/// One ban.
#[derive(Debug, Deserialize, Serialize)]
pub struct BanEntry {
    /// What it was made for, where no operator made it; absent: one did.
    #[serde(default)]
    pub automatic: Option<Automatic>,
    /// When it was made.
    pub created: UnixTime,
    /// Who is banned.
    #[serde(with = "as_text")]
    pub network: IpNet,
    /// The operator's remark.
    pub reason: Option<String>,
    /// The first second in which it no longer holds; absent: until it is removed.
    pub until: Option<UnixTime>,
}

/// The answer to `DELETE /v1/bans/{network}`
#[derive(Debug, Deserialize, Serialize)]
pub struct RemovedBan {
    /// Who is no longer banned by a ban on exactly this network.
    #[serde(with = "as_text")]
    pub network: IpNet,
}

/// `GET /v1/connections`, with `source=CIDR` and `subject=NAME` only those that match.
#[derive(Debug, Deserialize, Serialize)]
pub struct ConnectionList {
    /// Oldest first.
    pub connections: Vec<ConnectionEntry>,
}

/// One open connection.
#[derive(Debug, Deserialize, Serialize)]
pub struct ConnectionEntry {
    /// When it was accepted.
    pub accepted: UnixTime,
    /// The client's address, where the proxy at `source` said it of the connection (PROXY protocol).
    #[serde(default)]
    pub client: Option<IpAddr>,
    /// Its number since the agent started.
    pub id: u64,
    /// The address and port that the client reached.
    pub listener: SocketAddr,
    /// How the client proved who it is, with its last request that did: `jwt`, `api-key` or `certificate`.
    pub method: Option<String>,
    /// Requests that are open.
    pub open_requests: u64,
    /// `handshake`, `http/1.1` or `h2`.
    pub protocol: String,
    /// Requests in all.
    pub requests: u64,
    /// Where its packets come from: the client's address, or a proxy's.
    pub source: IpAddr,
    /// The port there.
    pub source_port: u16,
    /// Who the client was with its last request that said so.
    pub subject: Option<String>,
}

/// `POST /v1/connections/end`: either one connection or those of a source.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct EndConnections {
    /// How long the kernel drops what still comes from the same address and port to the same; absent: not at all.
    #[serde(default)]
    pub drop_for_seconds: Option<u64>,
    /// The connection's number.
    #[serde(default)]
    pub id: Option<u64>,
    /// An address or a CIDR.
    #[serde(default)]
    pub source: Option<String>,
}

/// The answer to [`EndConnections`].
#[derive(Debug, Deserialize, Serialize)]
pub struct EndedConnections {
    /// How many of them the kernel drops packets of; fewer than were ended where its map is full.
    pub dropped: Option<usize>,
    /// The first second in which it no longer does.
    pub dropped_until: Option<UnixTime>,
    /// What they were.
    pub ended: Vec<ConnectionEntry>,
}

/// `POST /v1/limits`
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SetLimit {
    /// The limits, as in a `[[class]]` of the configuration; at least one. What is absent is as in `[limits]`.
    pub limits: Overrides,
    /// An address or a CIDR.
    pub network: String,
    /// A remark.
    #[serde(default)]
    pub reason: Option<String>,
}

/// `GET /v1/limits`
#[derive(Debug, Deserialize, Serialize)]
pub struct Limits {
    /// The default first, then by network.
    pub limits: Vec<LimitEntry>,
}

/// `GET /v1/limits/{address}`
#[derive(Debug, Deserialize, Serialize)]
pub struct LimitsOf {
    /// It is on the allowlist, so that no limit holds for it.
    pub allowed: bool,
    /// Everything that covers it: the first is what it is held to, the last is the default.
    pub limits: Vec<LimitEntry>,
}

/// The limits of one network.
#[derive(Debug, Deserialize, Serialize)]
pub struct LimitEntry {
    /// Name of the class; of limits that were set, the network.
    pub class: String,
    /// They stand in the configuration, and so can only be changed there.
    pub configured: bool,
    /// When they were set.
    pub created: Option<UnixTime>,
    /// All limits in full.
    pub limits: Overrides,
    /// Whose limits they are; absent: everyone else's.
    pub network: Option<String>,
    /// Why they are not in force; absent: they are.
    pub obstacle: Option<String>,
    /// The operator's remark.
    pub reason: Option<String>,
}

/// The answer to `DELETE /v1/limits/{network}`
#[derive(Debug, Deserialize, Serialize)]
pub struct RemovedLimit {
    /// Whose limits are no longer those that were set for exactly this network.
    #[serde(with = "as_text")]
    pub network: IpNet,
}

/// The answer to a change of a list. Each takes `?confirm_within_seconds=N`.
#[derive(Debug, Deserialize, Serialize)]
pub struct Changed<T> {
    /// What it would be without.
    #[serde(flatten)]
    pub answer: T,
    /// The change as it waits to be confirmed; absent: it stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<PendingEntry>,
}

/// `GET /v1/pending`
#[derive(Debug, Deserialize, Serialize)]
pub struct PendingList {
    /// Oldest first.
    pub pending: Vec<PendingEntry>,
}

/// A change that waits to be confirmed.
#[derive(Debug, Deserialize, Serialize)]
pub struct PendingEntry {
    /// When it was made.
    pub created: UnixTime,
    /// The first second in which it is undone.
    pub deadline: UnixTime,
    /// Its number.
    pub id: i64,
    /// What it did: `allow.add`, `allow.remove`, `ban.add`, `ban.import`, `ban.remove`, `limit.remove`, `limit.set`.
    pub kind: String,
    /// A network that it changed.
    #[serde(with = "as_text")]
    pub network: IpNet,
    /// How many networks it changed.
    pub networks: u32,
}

/// The answer to `POST /v1/pending/{id}/confirm`
#[derive(Debug, Deserialize, Serialize)]
pub struct Confirmed {
    /// Which change.
    pub id: i64,
}

/// Every error's body (RFC 9457).
#[derive(Debug, Deserialize, Serialize)]
pub struct ProblemDetails {
    /// What happened and what to do.
    pub detail: String,
    /// Short name of the problem.
    pub reason: String,
    /// HTTP status.
    pub status: u16,
    /// The status in words.
    pub title: String,
}
