//! A whole control API over a real socket and store, with a kernel half made of plain values.

use std::fs::{self, Permissions};
use std::io::ErrorKind::{BrokenPipe, ConnectionReset};
use std::io::{Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jsonwebtoken::Algorithm;
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use super::*;
use crate::allowlist::Allowlist;
use crate::api_key::Pepper;
use crate::authorization_server::{Sealer, SigningKeys, TokenIssuer};
use crate::clock::Monotonic;
use crate::config::{Config, Issuer, KeySource};
use crate::connections::{Entry, OpenRequest};
use crate::edge::{
    Counter, Debt, Debts, Detached, FilterStatus, Flow, FlowsStatus, Interface, SourceBudget, SourceView,
    SourcesStatus,
};
use crate::events::testing::FakeSwitch;
use crate::events::{Hub, SubscribeError, Subscription, Wanted};
use crate::identity::Method;
use crate::identity::tests::someone;
use crate::limits;
use crate::network;
use crate::proxy::Proxy;
use crate::token::Verifier;

/// What a kernel half was told, and whether it fails.
pub(crate) struct FakeEdge {
    pub(crate) broken: Mutex<bool>,
    pub(crate) flows: Mutex<Vec<(Flow, Monotonic)>>,
    pub(crate) forgiven: Mutex<Vec<(IpAddr, SourceBudget)>>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) rules: Mutex<Vec<Rule>>,
    pub(crate) switch: FakeSwitch,
}

impl Default for FakeEdge {
    fn default() -> Self {
        let switch = FakeSwitch::default();
        let hub = Hub::new(switch.clone());
        let (broken, flows, forgiven, rules) = Default::default();
        Self { broken, flows, forgiven, hub, rules, switch }
    }
}

impl FakeEdge {
    /// The rules but for the class of the configuration.
    pub(crate) fn told(&self) -> Vec<Rule> {
        let rules = self.rules.lock().unwrap();
        let configured = |rule: &&Rule| rule.class().is_some_and(|class| class.name == "partners");
        rules.iter().filter(|rule| !configured(rule)).cloned().collect()
    }

    fn check(&self) -> Result<(), EdgeError> {
        if *self.broken.lock().unwrap() { Err(EdgeError::new("the rule map is full")) } else { Ok(()) }
    }
}

impl Edge for FakeEdge {
    fn apply_rules(&self, rules: &[Rule]) -> Result<(), EdgeError> {
        self.check()?;
        *self.rules.lock().unwrap() = rules.to_vec();
        Ok(())
    }

    fn ipv6_prefix(&self) -> u8 {
        64
    }

    fn detach(&self) -> Result<Detached, EdgeError> {
        self.check()?;
        Ok(Detached { interfaces: vec!["eth0".into()] })
    }

    fn forget_debt(&self, source: IpAddr, budget: SourceBudget) -> Result<bool, EdgeError> {
        self.check()?;
        self.forgiven.lock().unwrap().push((source, budget));
        Ok(true)
    }

    fn forget_flows(&self) -> Result<(), EdgeError> {
        self.flows.lock().unwrap().retain(|(_, until)| *until > Monotonic::now());
        Ok(())
    }

    fn revoke_flows(&self, flows: &[Flow], until: Monotonic) -> Result<usize, EdgeError> {
        self.check()?;
        self.flows.lock().unwrap().extend(flows.iter().map(|flow| (*flow, until)));
        Ok(flows.len())
    }

    fn source(&self, address: IpAddr) -> Result<SourceView, EdgeError> {
        let nothing = Debt { burst: 100, debt_events: 0, debt_ns: 0, dropped: false, over: false };
        let requests = Debt { burst: 5, debt_events: 7, debt_ns: 4_000_000_001, dropped: false, over: true };
        Ok(SourceView {
            banned_until: None,
            class: "default".into(),
            debts: Debts {
                auth_failures: nothing,
                bytes: nothing,
                connections: nothing,
                packets: nothing,
                requests,
            },
            in_table: true,
            known_until: None,
            rule: "none".into(),
            rule_cached: true,
            source: network::host(address),
        })
    }

    fn status(&self) -> Result<FilterStatus, EdgeError> {
        Ok(FilterStatus {
            counters: vec![Counter { packets: 12, reason: "plaintext-port".into(), verdict: "drop".into() }],
            flows: FlowsStatus { capacity: 8, overflowed: 1, revoked: 2 },
            interfaces: vec![Interface {
                index: 2,
                mode: "native".into(),
                name: "eth0".into(),
                program_id: 31,
            }],
            sources: SourcesStatus { lines: 1024, used: 3 },
            warnings: vec!["eth1 is absent".into()],
        })
    }

    fn subscribe(&self, wanted: Wanted) -> Result<Subscription, SubscribeError> {
        self.hub.subscribe(wanted)
    }
}

/// With a class `partners` for 192.0.2.0/24, and a built-in issuer.
fn config() -> Config {
    let more = "[[class]]\nname = \"partners\"\nnetworks = [\"192.0.2.0/24\"]\nrequests = { rate = \"500/min\" }\n\
         [[limit]]\nname = \"per-user\"\nby = [\"principal\"]\nrate = \"60/h\"\nburst = 2\n\
         [[quota]]\nname = \"monthly\"\nby = [\"tenant\"]\namount = 1000\nper = \"month\"\n\
         [authorization_server]\nissuer = \"https://edge.example\"\naudience = \"https://api.example\"\n";
    Config::parse(&format!("{}\n{more}", crate::config::tests::MINIMAL), Path::new("edge.toml")).unwrap()
}

/// One with its key in the file `issuer.pem`, and one that is not reached.
fn issuers(directory: &Path) -> Issuers {
    let key = rcgen::KeyPair::generate().unwrap().public_key_pem();
    fs::write(directory.join("issuer.pem"), key).unwrap();
    let more = r#"
        [[issuer]]
        name = "main"
        issuer = "https://id.example.com"
        keys = "issuer.pem"
        audiences = ["edge"]
        algorithms = ["ES256"]
        [[issuer]]
        name = "partner"
        issuer = "https://id.partner.example"
        discovery = true
        audiences = ["edge"]
        algorithms = ["ES256"]
    "#;
    let text = format!("{}\n{more}", crate::config::tests::MINIMAL);
    let config = Config::parse(&text, &directory.join("edge.toml")).unwrap();
    let tokens = Arc::new(Verifier::load(&config.issuers, 8192).unwrap());
    Issuers::open(&config.issuers, directory, tokens, UnixTime::now()).unwrap()
}

/// One without keys, for `main`.
fn issuer() -> Issuer {
    Issuer {
        algorithms: vec![Algorithm::ES256],
        audiences: vec!["https://api.example".into()],
        claims: Default::default(),
        sensitive_claims: Default::default(),
        issuer: "https://issuer.example".into(),
        keys: KeySource::Own,
        leeway: Duration::from_secs(5),
        max_lifetime: Duration::from_secs(3600),
        name: "main".into(),
        types: vec!["at+jwt".into()],
    }
}

/// Has someone send a request on a connection; it is open until it is dropped.
pub(crate) fn used_by(entry: &Entry, method: Method, subject: &str) -> OpenRequest {
    let request = entry.connection().begin();
    let user = someone(method, subject, &[]);
    request.identified(&user);
    request.accepted(&user);
    request
}

/// A running control API.
pub(crate) struct Desk {
    pub(crate) connections: Arc<Connections>,
    pub(crate) control: Arc<Control>,
    pub(crate) directory: TempDir,
    pub(crate) edge: Arc<FakeEdge>,
    pub(crate) keys: Arc<KeyRing>,
    pub(crate) limiter: Arc<Limiter>,
    pub(crate) revocations: Arc<Revocations>,
    pub(crate) socket: PathBuf,
    pub(crate) store: Arc<Store>,
    pub(crate) tokens: Arc<Verifier>,
    _runtime: Runtime,
}

impl Desk {
    /// With 198.51.100.0/24 on the allowlist .
    pub(crate) fn open(allow_uids: &[u32]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        // Other users reach the socket, as they do in /run.
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        let store_directory = directory.path().join("store");
        let store = Arc::new(Store::open(&store_directory, UnixTime::now()).unwrap());
        let pepper = Pepper::open(&store_directory, false).unwrap();
        let sealer = Sealer::new(&pepper).unwrap();
        let secret = limits::Secret::new(&pepper);
        let keys = Arc::new(KeyRing::new(pepper, []));
        let config = config();
        let tokens =
            Arc::new(Verifier::load(&[config.issuers.as_slice(), &[issuer()]].concat(), 8192).unwrap());
        let server = config.authorization_server.clone().unwrap();
        let now = UnixTime::now();
        let signing =
            SigningKeys::open(&server, Arc::clone(&store), sealer, Arc::clone(&tokens), now).unwrap();
        let issuers = Arc::new(issuers(directory.path()));
        let edge = Arc::new(FakeEdge::default());
        let allow = vec!["198.51.100.0/24".parse().unwrap()];
        let connections = Arc::<Connections>::default();
        let revocations = Arc::<Revocations>::default();
        let allowlist = Arc::new(Allowlist::new(allow));
        let limiter = Arc::new(Limiter::new(&config, Arc::clone(&allowlist), secret));
        let (ladder, _steps) = Ladder::new(&config);
        let parts = Parts {
            acme: None,
            allowlist,
            audit: Audit::default(),
            bans: Arc::default(),
            classes: Classes::new(&config),
            connections: Arc::clone(&connections),
            counters: Arc::default(),
            edge: Arc::clone(&edge) as _,
            enumeration: Arc::new(Enumeration::new(config.limits.enumeration)),
            internal_keys: None,
            issuer: Some(Arc::new(TokenIssuer::new(server, signing))),
            issuers: Arc::clone(&issuers),
            keys: Arc::clone(&keys),
            ladder: Arc::new(ladder),
            limiter: Arc::clone(&limiter),
            revocations: Arc::clone(&revocations),
            store: Arc::clone(&store),
            tls: Arc::default(),
            tokens: Arc::clone(&tokens),
        };
        let control = Arc::new(Control::new(parts, UnixTime::now()));
        let socket = directory.path().join("run/control.sock");
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let bound = runtime.block_on(ControlSocket::bind(&socket, allow_uids)).unwrap();
        runtime.spawn(serve(bound, Arc::clone(&control), None, std::future::pending()));
        Self {
            connections,
            control,
            directory,
            edge,
            keys,
            limiter,
            revocations,
            socket,
            store,
            tokens,
            _runtime: runtime,
        }
    }

    /// Has the way to the upstreams of a configuration.
    pub(crate) fn set_upstreams(&self, config: &Config) {
        let _runtime = self._runtime.enter();
        let proxy = Proxy::new(config).unwrap();
        self.control.counters.upstreams.set(proxy.board()).unwrap();
    }

    /// One request; the status and the JSON of the answer.
    pub(crate) fn ask(&self, method: &str, target: &str, body: &str) -> (u16, Value) {
        let length = body.len();
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        // A body that is too long is refused, and the connection closed, before all of it is written.
        let refused_early = |done: io::Result<usize>| {
            if let Err(error) = done {
                assert!(matches!(error.kind(), BrokenPipe | ConnectionReset), "{error}");
            }
        };
        let request = format!(
            "{method} {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        refused_early(stream.write_all(request.as_bytes()).map(|()| request.len()));
        let mut answer = Vec::new();
        refused_early(stream.read_to_end(&mut answer));
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}")))
    }
}
