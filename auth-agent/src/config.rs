//! What the operator wrote, as closed types: every value here has been checked, so that nothing
//! behind it needs to check again.
//!
//! [`Config::load`] and [`Config::parse`] are the only ways in. Fields are documented in
//! `config/example.toml`, which `auth-agent config example` prints.

mod bounds;
mod claims;
mod defaults;
mod document;
mod error;
mod explain;
mod forward_auth;
mod internal_token;
mod ladder;
mod listener;
mod overrides;
mod policy;
mod proxies;
mod request_limit;
mod route;
mod sections;
#[cfg(test)]
pub(crate) mod tests;
mod upstream;
mod values;

use std::fmt;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use ipnet::IpNet;

pub use self::bounds::{Sizes, Timeouts};
pub use self::claims::{ClaimMap, ClaimPath, NotAClaim, SensitiveClaims};
use crate::https_url::HttpsUrl;

pub use self::error::{ConfigError, ConfigErrors};
pub use self::explain::{AccessLog, Audit, Explain, LogTarget};
pub use self::forward_auth::{ForwardAuth, LocalAddress};
pub use self::internal_token::{IdentityForm, InternalToken, LONGEST_INTERNAL_TOKEN};
pub use self::ladder::{Ladder, Prices};
pub use self::listener::{
    Acme, CertificateFiles, CertificateIdentity, CertificateName, ClientCertificates, Listener, TlsVersion,
    UnknownName,
};
pub use self::overrides::{BudgetText, ByteOverride, HttpOverride, Overrides, RateOverride};
pub use self::policy::{ClaimKind, Policy, PolicyClaim};
pub use self::proxies::{Forwarding, Proxies};
pub use self::request_limit::{
    By, Counted, Dimension, MAX_LIMITS_PER_ROUTE, MAX_REQUEST_LIMITS, Period, RequestBudget, RequestLimit,
    VolumeRate,
};
pub use self::route::{
    Access, Auth, Binding, ClaimRule, Foreign, HeaderChanges, HostPattern, Part, PathPattern, Retries,
    Rewrite, Route, RouteTimeouts, Segment, Template,
};
pub use self::upstream::{
    Address, Balance, Ejection, HealthCheck, NotAnAddress, Place, Protocol, Scheme, Upstream, UpstreamTls,
};

/// A configuration that names every field, with its default where it has one.
pub const EXAMPLE: &str = include_str!("config/example.toml");

/// No template names more segments.
pub const MAX_TEMPLATE_NAMES: usize = 8;

/// No issuer's `max_lifetime` is longer.
pub const LONGEST_TOKEN: Duration = Duration::from_secs(24 * 60 * 60);
/// No issuer's `leeway` is longer.
pub const LONGEST_LEEWAY: Duration = Duration::from_secs(30);

/// The whole configuration.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    /// Where it is written down what became of each request.
    pub access_log: AccessLog,
    /// Where certificates are got, where any are.
    pub acme: Option<Acme>,
    /// How an API key is sent.
    pub api_keys: ApiKeys,
    /// What is kept of who changed what.
    pub audit: Audit,
    /// The built-in issuer, where there is one.
    pub authorization_server: Option<AuthorizationServer>,
    /// Networks whose sources have limits of their own.
    pub classes: Vec<Class>,
    /// The control socket.
    pub control: Control,
    /// What is remembered of requests.
    pub explain: Explain,
    /// Where other proxies ask about their requests, if they do.
    pub forward_auth: Option<ForwardAuth>,
    /// Names of the headers that carry the identity to the upstream.
    pub identity_headers: IdentityHeaders,
    /// Tokens for upstreams, if they get any.
    pub internal_token: Option<InternalToken>,
    /// Token issuers; a token's `iss` picks exactly one.
    pub issuers: Vec<Issuer>,
    /// The XDP filter.
    pub kernel: Kernel,
    /// Bans of sources that go on whatever they are told.
    pub ladder: Ladder,
    /// Budgets per source address.
    pub limits: Limits,
    /// Public TLS listeners; at least one.
    pub listeners: Vec<Listener>,
    /// Rules in files of their own.
    pub policies: Vec<Policy>,
    /// Proxies in front of this edge, and what upstreams are told of a request's way.
    pub proxies: Proxies,
    /// Limits and quotas of requests; each route says which are for it.
    pub request_limits: Vec<RequestLimit>,
    /// Where requests go; [`RouteTable`](crate::routes::RouteTable) finds the one for a request.
    pub routes: Vec<Route>,
    /// Size and count limits.
    pub sizes: Sizes,
    /// Durable state.
    pub store: Store,
    /// Deadlines.
    pub timeouts: Timeouts,
    /// What is remembered of tokens.
    pub tokens: Tokens,
    /// Named groups of endpoints.
    pub upstreams: Vec<Upstream>,
}

impl Config {
    /// Reads a file. All problems are found at once, as far as one does not hide another.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        Self::load_with_text(path).map(|(config, _)| config)
    }

    /// Reads a file, and gives its text, too.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_with_text(path: &Path) -> Result<(Self, String), ConfigErrors> {
        let text = document::read(path)?;
        Ok((Self::parse(&text, path)?, text))
    }

    /// Reads a text. `file` names it in messages, and its folder is where relative paths start.
    pub fn parse(text: &str, file: &Path) -> Result<Self, ConfigErrors> {
        document::parse(text, file, sections::config)
    }
}

/// `[api_keys]`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ApiKeys {
    /// Whether a browser may send one.
    pub allow_browsers: bool,
    /// Header that carries an API key (`x-api-key`).
    pub header: HeaderName,
}

/// The name of the built-in issuer, among those of the configuration.
pub const OWN_ISSUER: &str = "self";
/// How far the clocks of this host may be off between issuing a token of its own and taking it.
pub const OWN_LEEWAY: Duration = Duration::from_secs(10);
/// No token of the built-in issuer is valid for longer.
pub const LONGEST_OWN_TOKEN: Duration = Duration::from_secs(60 * 60);

/// `[authorization_server]`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AuthorizationServer {
    /// What it signs with: ES256 or EdDSA.
    pub algorithm: jsonwebtoken::Algorithm,
    /// The `aud` of its tokens.
    pub audience: String,
    /// The scope that a key needs to ask about tokens.
    pub introspection_scope: String,
    /// The `iss` of its tokens, and where it is served.
    pub issuer: IssuerUrl,
    /// How long a key signs.
    pub rotate_every: Duration,
    /// How long a token is valid that is exchanged for a key.
    pub token_lifetime: Duration,
}

/// An https URL without query and fragment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct IssuerUrl {
    /// Host, and port where it is not 443.
    pub authority: String,
    /// Canonical, and without a slash at its end; empty where there is none.
    pub path: String,
    /// As it was written.
    pub text: String,
}

/// The name of the class of every source that is in no other.
pub const DEFAULT_CLASS_NAME: &str = "default";

/// `[[class]]`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Class {
    /// What each of its sources may do; what the section leaves out is as in `[limits]`.
    pub limits: SourceLimits,
    /// Its name, for people.
    pub name: String,
    /// Whose limits these are; at least one. Where networks of several classes overlap, the longest one decides.
    pub networks: Vec<IpNet>,
}

/// `[control]`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Control {
    /// User ids, besides root and the agent's own, that may use the control socket.
    pub allow_uids: Vec<u32>,
    /// Path of the Unix socket.
    pub socket: PathBuf,
}

/// `[identity_headers]`: sent to the upstream, and stripped from what the client sends.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct IdentityHeaders {
    /// The client that a token was issued to.
    pub client: HeaderName,
    /// The name in the configuration of the issuer of a token.
    pub issuer: HeaderName,
    /// `api-key` or `jwt`.
    pub method: HeaderName,
    /// Space-separated scopes.
    pub scopes: HeaderName,
    /// The token's subject or the API key's name.
    pub subject: HeaderName,
    /// The tenant that a token names.
    pub tenant: HeaderName,
}

impl IdentityHeaders {
    /// All of them.
    pub fn names(&self) -> [&HeaderName; 6] {
        [&self.client, &self.issuer, &self.method, &self.scopes, &self.subject, &self.tenant]
    }
}

/// `[[issuer]]`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Issuer {
    /// Signature algorithms that this issuer may use; a key is pinned to one of them.
    pub algorithms: Vec<jsonwebtoken::Algorithm>,
    /// Accepted `aud` values; at least one.
    pub audiences: Vec<String>,
    /// Which claims say who a token stands for, and what it may do.
    pub claims: ClaimMap,
    /// The exact `iss` value.
    pub issuer: String,
    /// Where its keys come from.
    pub keys: KeySource,
    /// Allowed clock difference, 0-30 s.
    pub leeway: Duration,
    /// Longest accepted `exp` - `iat`.
    pub max_lifetime: Duration,
    /// Short name for logs and metrics.
    pub name: Arc<str>,
    /// What becomes of tokens with personal data or secrets in their claims.
    pub sensitive_claims: SensitiveClaims,
    /// Accepted `typ` header values, lower case, without `application/`; an absent `typ` is accepted
    /// only if the list holds `""`.
    pub types: Vec<String>,
}

/// Where an issuer's keys come from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum KeySource {
    /// PEM public key, JWK or JWKS file; for HS algorithms a file of raw secret bytes or a JWK(S).
    File(PathBuf),
    /// This agent: it is the issuer.
    Own,
    /// A key set (RFC 7517 5) that the issuer publishes.
    Remote(RemoteKeys),
}

/// Keys that are fetched, and fetched again.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RemoteKeys {
    /// PEM bundle of the authorities that the server's certificate may come from, in place of the host's own.
    pub ca: Option<PathBuf>,
    /// How old the last good set may become while no newer one can be had.
    pub max_age: Duration,
    /// Least time between two fetches for the sake of a key that is not known.
    pub refetch_interval: Duration,
    /// When the set is fetched again where the server does not say.
    pub refresh_default: Duration,
    /// Longest time between two refreshes, whatever the server says.
    pub refresh_max: Duration,
    /// Shortest time between two refreshes, whatever the server says.
    pub refresh_min: Duration,
    /// Where they are.
    pub source: RemoteSource,
}

/// Where a published key set is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RemoteSource {
    /// Where the metadata of this issuer says (OpenID Connect Discovery 1.0 section 4, RFC 8414 section 3).
    Discovery(HttpsUrl),
    /// Here.
    Jwks(HttpsUrl),
}

impl fmt::Display for RemoteSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Discovery(issuer) => write!(formatter, "discovery at {issuer}"),
            Self::Jwks(url) => url.fmt(formatter),
        }
    }
}

impl fmt::Display for KeySource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(formatter),
            Self::Own => formatter.write_str("this agent's own"),
            Self::Remote(keys) => keys.source.fmt(formatter),
        }
    }
}

/// `[kernel]`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Kernel {
    /// Without a sign of life for so long, the agent counts as gone.
    pub agent_gone_after: Duration,
    /// Sources that pass every limit and ban (not the plaintext drop).
    pub allow: Vec<IpNet>,
    /// Ports (TCP and UDP) that are never limited or banned.
    pub guarded_ports: Vec<u16>,
    /// Interfaces that the filter is attached to when they appear.
    pub hotplug: Vec<String>,
    /// Interfaces the filter is attached to at the start; at least one.
    pub interfaces: Vec<String>,
    /// IPv6 sources are aggregated by this prefix length, 32-64.
    pub ipv6_prefix: u8,
    /// IPv6 sources of one site share a wider budget; the site's prefix length, 16-48.
    pub ipv6_site: u8,
    /// How the filter is attached.
    pub mode: XdpMode,
    /// Directory in bpffs that holds the pinned links and maps.
    pub pin_directory: PathBuf,
    /// What senders to plaintext ports are told.
    pub plaintext: PlaintextAnswer,
    /// TCP ports that never reach a socket.
    pub plaintext_ports: Vec<u16>,
    /// Whether the filter takes the place of another program, where that can be put back.
    pub replace: bool,
    /// Lines of the source table: a power of two, 1024 to 2^24.
    pub sources: NonZeroU32,
    /// What becomes of packets when the agent is gone.
    pub when_agent_gone: WhenAgentGone,
}

/// `kernel.plaintext`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PlaintextAnswer {
    /// Nothing: the packet vanishes.
    Drop,
    /// That nobody listens: a TCP reset.
    Reset,
}

/// `kernel.when_agent_gone`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WhenAgentGone {
    /// They are filtered as before.
    Filter,
    /// They pass every limit and ban (not the plaintext drop).
    Pass,
}

/// `kernel.mode`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum XdpMode {
    /// Native if the driver can, else generic, with a warning.
    Auto,
    /// In the stack, after the driver: works everywhere, slower.
    Generic,
    /// In the driver, or not at all.
    Native,
}

/// `[limits.*]`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// New TCP connections of all strangers at one interface together, counted in the kernel.
    pub breaker: Rate,
    /// Distinct objects of others that are asked for; none: they are not counted.
    pub enumeration: Option<EnumerationLimit>,
    /// Failed authentications with one API key's id or one signing key, from all sources together.
    pub credential_failures: Rate,
    /// Resets sent from plaintext ports, all together, counted in the kernel.
    pub resets: Rate,
    /// How many times the budget of one source all sources of an IPv6 site have together.
    pub site_factor: NonZeroU32,
    /// Of every source that is in no class.
    pub source: SourceLimits,
}

/// How many of the objects that are not its own a principal may ask for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct EnumerationLimit {
    /// So many of a principal's requests that are refused for it are held against the address that they come from.
    pub end_after: NonZeroU32,
    /// Distinct ones in `per`; at most [`MOST_OBJECTS`].
    pub objects: NonZeroU32,
    /// In so much time.
    pub per: Duration,
    /// How many times as many all principals of one source may ask for together, before it is held against the source.
    pub source_factor: NonZeroU32,
}

/// No principal may ask for more objects of others: they are kept, so that none counts twice.
pub const MOST_OBJECTS: u32 = 64;

/// What one source address may do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SourceLimits {
    /// Failed authentications, counted by the agent.
    pub auth_failures: HttpLimit,
    /// Bytes, counted in the kernel.
    pub bytes: ByteRate,
    /// New TCP connections, counted in the kernel.
    pub connections: Rate,
    /// Packets, counted in the kernel.
    pub packets: Rate,
    /// HTTP requests, counted by the agent.
    pub requests: HttpLimit,
}

/// So many bytes a second, and how many may come at once; Ethernet headers included.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ByteRate {
    /// Bytes that may come at once after a pause.
    pub burst: u64,
    /// Sustained bytes per second.
    pub per_second: u64,
}

/// So many events in so much time, and how many may come at once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rate {
    /// Events that may come at once after a pause.
    pub burst: NonZeroU32,
    /// Sustained events per `period`.
    pub events: NonZeroU32,
    /// The period: a second, a minute or an hour.
    pub period: Duration,
}

/// A limit that answers 429 first, and drops at the NIC whoever keeps going.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HttpLimit {
    /// Refused events, beyond the burst, after which the source is dropped at the NIC.
    pub drop_after: NonZeroU32,
    /// How long it is dropped once that is reached.
    pub drop_for: Duration,
    /// The budget.
    pub rate: Rate,
}

/// `[store]`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Store {
    /// Directory of the database and the API-key secret; mode 0700.
    pub directory: PathBuf,
}

/// `[tokens]`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Tokens {
    /// Bytes for tokens that were verified; 0: none are remembered, nor forged ones.
    pub cache_bytes: u64,
    /// Tokens whose signature did not hold.
    pub negative_entries: NonZeroU32,
}
