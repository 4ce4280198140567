//! The sections of the file, and what must hold between their fields.

mod authorization_server;
mod issuers;
pub(super) mod limits;

use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU8, NonZeroU32};
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

use super::defaults::{DAY, HOUR, MILLISECOND, SECOND};
use super::document::{Checked, Section, shown, wrong};
use super::{
    ApiKeys, Auth, Config, Control, IdentityHeaders, Kernel, Listener, Route, Sizes, Store, Timeouts, Tokens,
    Upstream, values,
};

/// Reads the whole file.
pub(super) fn config(mut root: Section<'_>) -> Config {
    let kernel = kernel(root.section("kernel"));
    let listeners = listeners(&mut root, &kernel);
    let (names, upstreams) = upstreams(&mut root);
    let routes = routes(&mut root, &names);
    let mut issuers = issuers::issuers(&mut root);
    let authorization_server =
        authorization_server::authorization_server(root.section("authorization_server"), &mut issuers);
    let api_keys = api_keys(root.section("api_keys"));
    let identity_headers = identity_headers(root.section("identity_headers"), &api_keys);
    let limits = limits::limits(root.section("limits"));
    let classes = limits::classes(&mut root, &limits.source, &kernel);
    let sizes = sizes(root.section("sizes"));
    let timeouts = timeouts(root.section("timeouts"));
    let tokens = tokens(root.section("tokens"));
    let store = store(root.section("store"));
    let control = control(root.section("control"));
    root.finish();
    Config {
        api_keys,
        authorization_server,
        classes,
        control,
        identity_headers,
        issuers,
        kernel,
        limits,
        listeners,
        routes,
        sizes,
        store,
        timeouts,
        tokens,
        upstreams,
    }
}

fn kernel(mut section: Section<'_>) -> Kernel {
    let interfaces = section.required_list("interfaces", values::interface, r#"interfaces = ["eth0"]"#);
    let default = Kernel::default();
    let kernel = Kernel {
        agent_gone_after: section.or(
            "agent_gone_after",
            values::duration(SECOND * 2..=HOUR),
            default.agent_gone_after,
        ),
        allow: section.list("allow", values::network).unwrap_or(default.allow),
        guarded_ports: section.list("guarded_ports", values::port).unwrap_or(default.guarded_ports),
        hotplug: section.list("hotplug", values::interface).unwrap_or(default.hotplug),
        interfaces: interfaces.unwrap_or_default(),
        ipv6_site: section
            .optional("ipv6_site", values::count(16..=48))
            .map_or(default.ipv6_site, NonZeroU8::get),
        ipv6_prefix: section
            .optional("ipv6_prefix", values::count(32..=64))
            .map_or(default.ipv6_prefix, NonZeroU8::get),
        mode: section.or("mode", values::mode, default.mode),
        pin_directory: section.or("pin_directory", values::absolute_path, default.pin_directory),
        plaintext: section.or("plaintext", values::plaintext, default.plaintext),
        plaintext_ports: section.list("plaintext_ports", values::port).unwrap_or(default.plaintext_ports),
        replace: section.or("replace", values::boolean, default.replace),
        sources: section.or("sources", values::count(1 << 10..=1 << 24), default.sources),
        when_agent_gone: section.or("when_agent_gone", values::when_agent_gone, default.when_agent_gone),
    };
    if let Some(twice) = kernel.hotplug.iter().find(|name| kernel.interfaces.contains(name)) {
        let problem =
            wrong(format!("\"{twice}\" is in interfaces too"), "take it out of one of the two lists");
        section.check("hotplug", problem);
    }
    section.check("sources", power_of_two(kernel.sources));
    if let Some(port) = kernel.guarded_ports.iter().find(|port| kernel.plaintext_ports.contains(port)) {
        let problem = wrong(format!("{port} is a plaintext port too"), "take it out of one of the two lists");
        section.check("guarded_ports", problem);
    }
    section.finish();
    kernel
}

fn power_of_two(sources: NonZeroU32) -> Checked<()> {
    if sources.is_power_of_two() {
        return Ok(());
    }
    let above = sources.get().next_power_of_two();
    wrong(format!("{sources} is not a power of two"), format!("write {} or {above}", above / 2))
}

fn listeners(root: &mut Section<'_>, kernel: &Kernel) -> Vec<Listener> {
    let mut earlier = Earlier::default();
    let sections = root.required_sections("listener", "[[listener]] with address, certificate and key");
    sections.into_iter().filter_map(|section| listener(section, kernel, &mut earlier)).collect()
}

fn listener(
    mut section: Section<'_>,
    kernel: &Kernel,
    earlier: &mut Earlier<SocketAddr>,
) -> Option<Listener> {
    let path = values::path(section.folder());
    let address = section.required("address", values::address, r#"address = "[::]:443""#);
    let certificate = section.required("certificate", &path, r#"certificate = "edge.crt""#);
    let key = section.required("key", &path, r#"key = "edge.key""#);
    if let Some(address) = address {
        section.check("address", port_is_free(address.port(), kernel));
        earlier.check(&section, "address", address, overlap);
    }
    section.finish();
    Some(Listener { address: address?, certificate: certificate?, key: key? })
}

fn port_is_free(port: u16, kernel: &Kernel) -> Checked<()> {
    if kernel.plaintext_ports.contains(&port) {
        wrong(
            format!("{port} is a plaintext port: nothing sent there arrives"),
            "choose another port, or take this one out of kernel.plaintext_ports",
        )
    } else if kernel.guarded_ports.contains(&port) {
        wrong(
            format!("{port} is a guarded port: its clients would have no limits"),
            "choose another port, or take this one out of kernel.guarded_ports",
        )
    } else {
        Ok(())
    }
}

/// Whether two sockets can't both listen: `[::]` takes IPv4 too.
fn overlap(a: &SocketAddr, b: &SocketAddr) -> bool {
    let covers = |all: IpAddr, one: IpAddr| all.is_unspecified() && (all.is_ipv6() || one.is_ipv4());
    a.port() == b.port() && (a.ip() == b.ip() || covers(a.ip(), b.ip()) || covers(b.ip(), a.ip()))
}

/// The names of all upstreams, also of those with a problem, so that routes to them have none.
fn upstreams(root: &mut Section<'_>) -> (Vec<String>, Vec<Upstream>) {
    let mut earlier = Earlier::default();
    let mut names = Vec::new();
    let mut upstreams = Vec::new();
    for mut section in root.required_sections("upstream", "[[upstream]] with name and endpoints") {
        let name = section.required("name", values::name, r#"name = "app""#);
        let write = r#"endpoints = ["http://127.0.0.1:8080"]"#;
        let endpoints = section.required_list("endpoints", values::endpoint, write);
        if let Some(name) = name {
            earlier.check(&section, "name", name.clone(), String::eq);
            upstreams
                .push(Upstream { endpoints: endpoints.unwrap_or_default(), name: Arc::from(name.as_str()) });
            names.push(name);
        }
        section.finish();
    }
    (names, upstreams)
}

fn routes(root: &mut Section<'_>, upstreams: &[String]) -> Vec<Route> {
    let mut earlier = Earlier::default();
    let sections = root.required_sections("route", "[[route]] with path, auth and upstream");
    sections.into_iter().filter_map(|section| route(section, upstreams, &mut earlier)).collect()
}

fn route(mut section: Section<'_>, upstreams: &[String], earlier: &mut Earlier<String>) -> Option<Route> {
    let path = section.required("path", values::route_path, r#"path = "/api""#);
    let auth =
        section.required("auth", values::auth, r#"auth = "required", or auth = "none" to let everyone in"#);
    let scopes = section.list("scopes", values::scope).unwrap_or_default();
    let upstream = section.required("upstream", values::text, &format!("upstream = {}", choices(upstreams)));
    if let Some(path) = &path {
        earlier.check(&section, "path", path.clone(), String::eq);
    }
    if auth == Some(Auth::None) && !scopes.is_empty() {
        section.check(
            "scopes",
            wrong(
                "needed of nobody, as auth is \"none\"",
                "write auth = \"required\", or take the scopes out",
            ),
        );
    }
    let index = upstream.as_ref().and_then(|wanted| upstreams.iter().position(|name| name == wanted));
    if let (Some(wanted), None) = (&upstream, index) {
        section.check(
            "upstream",
            wrong(
                format!("there is no upstream \"{}\"", shown(wanted)),
                format!("write {}", choices(upstreams)),
            ),
        );
    }
    section.finish();
    Some(Route { auth: auth?, path: path?, scopes, upstream: index? })
}

fn choices(upstreams: &[String]) -> String {
    if upstreams.is_empty() {
        return "the name of an [[upstream]]".to_owned();
    }
    upstreams.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(" or ")
}

fn api_keys(mut section: Section<'_>) -> ApiKeys {
    let default = ApiKeys::default();
    let api_keys = ApiKeys {
        allow_browsers: section.or("allow_browsers", values::boolean, default.allow_browsers),
        header: section.or("header", values::header, default.header),
    };
    section.finish();
    api_keys
}

fn identity_headers(mut section: Section<'_>, api_keys: &ApiKeys) -> IdentityHeaders {
    let default = IdentityHeaders::default();
    let mut earlier = vec![("api_keys.header", api_keys.header.clone())];
    let mut header = |key: &'static str, field: &'static str, default: HeaderName| {
        let name = section.or(key, values::header, default);
        if let Some((other, _)) = earlier.iter().find(|(_, earlier)| *earlier == name) {
            section.check(key, wrong(format!("{name} is {other} too"), "choose another name"));
        }
        earlier.push((field, name.clone()));
        name
    };
    let identity_headers = IdentityHeaders {
        subject: header("subject", "identity_headers.subject", default.subject),
        method: header("method", "identity_headers.method", default.method),
        scopes: header("scopes", "identity_headers.scopes", default.scopes),
        client: header("client", "identity_headers.client", default.client),
        tenant: header("tenant", "identity_headers.tenant", default.tenant),
        issuer: header("issuer", "identity_headers.issuer", default.issuer),
    };
    section.finish();
    identity_headers
}

fn sizes(mut section: Section<'_>) -> Sizes {
    const KIB: u32 = 1 << 10;
    const MIB: u32 = 1 << 20;
    let default = Sizes::default();
    let sizes = Sizes {
        body_bytes: section.or("body_bytes", values::bytes(0..=1 << 40), default.body_bytes),
        connections: section.or("connections", values::count(1..=1_000_000), default.connections),
        connections_per_source: section.or(
            "connections_per_source",
            values::count(1..=1_000_000),
            default.connections_per_source,
        ),
        header_bytes: section.or("header_bytes", values::nonzero_bytes(8 * KIB..=MIB), default.header_bytes),
        headers: section.or("headers", values::count(16..=1_000), default.headers),
        streams: section.or("streams", values::count(1..=10_000), default.streams),
        token_bytes: section.or("token_bytes", values::nonzero_bytes(256..=64 * KIB), default.token_bytes),
        uri_bytes: section.or("uri_bytes", values::nonzero_bytes(256..=64 * KIB), default.uri_bytes),
    };
    section.finish();
    sizes
}

fn timeouts(mut section: Section<'_>) -> Timeouts {
    let default = Timeouts::default();
    let credential_grace =
        section.or("credential_grace", values::duration(Duration::ZERO..=HOUR), default.credential_grace);
    let mut timeout =
        |key: &'static str, default| section.or(key, values::duration(MILLISECOND..=DAY), default);
    let timeouts = Timeouts {
        body_idle: timeout("body_idle", default.body_idle),
        connect: timeout("connect", default.connect),
        credential_grace,
        drain: timeout("drain", default.drain),
        handshake: timeout("handshake", default.handshake),
        headers: timeout("headers", default.headers),
        response: timeout("response", default.response),
        upgraded_idle: timeout("upgraded_idle", default.upgraded_idle),
    };
    section.finish();
    timeouts
}

fn tokens(mut section: Section<'_>) -> Tokens {
    let default = Tokens::default();
    let tokens = Tokens {
        cache_bytes: section.or("cache_bytes", values::bytes(0..=16 << 30), default.cache_bytes),
        negative_entries: section.or(
            "negative_entries",
            values::count(1..=1 << 20),
            default.negative_entries,
        ),
    };
    section.finish();
    tokens
}

fn store(mut section: Section<'_>) -> Store {
    let path = values::path(section.folder());
    let store = Store { directory: section.or("directory", path, Store::default().directory) };
    section.finish();
    store
}

fn control(mut section: Section<'_>) -> Control {
    let path = values::socket(section.folder());
    let default = Control::default();
    let control = Control {
        allow_uids: section.list("allow_uids", values::uid).unwrap_or_default(),
        socket: section.or("socket", path, default.socket),
    };
    section.finish();
    control
}

/// What earlier sections hold, each with its line.
struct Earlier<T>(Vec<(T, usize)>);

impl<T> Default for Earlier<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: PartialEq> Earlier<T> {
    /// The line of an earlier value that is the same.
    fn line_of(&self, value: &T) -> Option<usize> {
        self.0.iter().find(|(earlier, _)| earlier == value).map(|(_, line)| *line)
    }
}

impl<T> Earlier<T> {
    /// Notes a value that can't stand beside an earlier one.
    fn check(&mut self, section: &Section<'_>, key: &str, value: T, same: impl Fn(&T, &T) -> bool) {
        if let Some((_, line)) = self.0.iter().find(|(earlier, _)| same(earlier, &value)) {
            section.check(
                key,
                wrong(format!("already taken in line {line}"), "choose another, or take one out"),
            );
        }
        self.add(section, key, value);
    }

    fn add(&mut self, section: &Section<'_>, key: &str, value: T) {
        self.0.push((value, section.line(key)));
    }
}
