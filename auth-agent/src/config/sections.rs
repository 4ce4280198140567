//! The sections of the file, and what must hold between their fields.

mod acme;
mod authorization_server;
mod bounds;
mod earlier;
mod explain;
mod forward_auth;
mod internal_token;
mod issuers;
mod ladder;
pub(super) mod limits;
mod listeners;
mod policies;
pub(super) mod request_limits;
mod routes;
mod upstreams;

use std::num::{NonZeroU8, NonZeroU32};
use std::sync::Arc;

use http::HeaderName;

use self::earlier::Earlier;
use self::routes::Given;
use super::defaults::{HOUR, SECOND};
use super::document::{Checked, Section, wrong};
use super::{ApiKeys, Config, Control, IdentityHeaders, Kernel, Listener, Proxies, Store, Tokens, values};

/// Reads the whole file.
pub(super) fn config(mut root: Section<'_>) -> Config {
    let kernel = kernel(root.section("kernel"));
    let listeners = listeners::listeners(&mut root, &kernel);
    let acme = acme::acme(root.section("acme"), &listeners);
    let (names, upstreams) = upstreams::upstreams(&mut root);
    let route_sections = root.required_sections("route", "[[route]] with path, auth and upstream");
    let proxies = proxies(root.section("proxies"));
    root.check("listener", are_reachable(&listeners, &proxies));
    let forward_auth = forward_auth::forward_auth(root.section("forward_auth"), &kernel, &listeners);
    let mut issuers = issuers::issuers(&mut root);
    let authorization_server =
        authorization_server::authorization_server(root.section("authorization_server"), &mut issuers);
    let api_keys = api_keys(root.section("api_keys"));
    let identity_headers = identity_headers(root.section("identity_headers"), &api_keys);
    let limits = limits::limits(root.section("limits"));
    let ladder = ladder::ladder(root.section("ladder"));
    let classes = limits::classes(&mut root, &limits.source, &kernel);
    let sizes = bounds::sizes(root.section("sizes"));
    let timeouts = bounds::timeouts(root.section("timeouts"));
    let tokens = tokens(root.section("tokens"));
    let store = store(root.section("store"));
    let control = control(root.section("control"));
    let mut identity: Vec<_> = identity_headers.names().into_iter().chain([&api_keys.header]).collect();
    let internal_token =
        internal_token::internal_token(root.section("internal_token"), &identity, forward_auth.is_some());
    identity.extend(internal_token.as_ref().map(|token| &token.header));
    let told = upstreams.iter().find(|upstream| upstream.identity.has_token());
    if let (Some(upstream), None) = (told, &internal_token) {
        let what = format!("\"{}\" is to get a token that there is none of", upstream.name);
        root.check("upstream", wrong(what, "write [internal_token], or identity = \"headers\""));
    }
    let explain = explain::explain(root.section("explain"), &identity);
    let access_log = explain::access_log(root.section("access_log"));
    let audit = explain::audit(root.section("audit"));
    let (policy_names, policies) = policies::policies(&mut root);
    let given = Given {
        identity: &identity,
        policies: &policy_names,
        request_id: explain.header.as_ref(),
        sizes: &sizes,
        timeouts: &timeouts,
        upstreams: &names,
    };
    let mut routes = routes::routes(route_sections, &given);
    let request_limits = request_limits::request_limits(&mut root, &mut routes);
    root.check("policy", policies::are_named(&policies, &routes));
    let kept = routes::kept_claims(&routes, &policies);
    issuers.iter_mut().for_each(|issuer| issuer.claims.kept = Arc::clone(&kept));
    root.check("route", routes::are_quick_to_find(&routes));
    root.finish();
    Config {
        access_log,
        acme,
        api_keys,
        audit,
        authorization_server,
        classes,
        control,
        explain,
        forward_auth,
        identity_headers,
        internal_token,
        issuers,
        kernel,
        ladder,
        limits,
        listeners,
        policies,
        proxies,
        request_limits,
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

/// A listener that takes connections from trusted proxies only needs some.
fn are_reachable(listeners: &[Listener], proxies: &Proxies) -> Checked<()> {
    match listeners.iter().find(|listener| listener.proxy_protocol && proxies.trusted.is_empty()) {
        Some(listener) => wrong(
            format!("{} speaks the PROXY protocol, and no proxy is trusted to", listener.address),
            "name the proxies in [proxies] trusted, or take proxy_protocol out",
        ),
        None => Ok(()),
    }
}

fn proxies(mut section: Section<'_>) -> Proxies {
    let default = Proxies::default();
    let proxies = Proxies {
        trusted: section.list("trusted", values::network).unwrap_or(default.trusted),
        read: section.or("read", values::forwarding, default.read),
        send: section.list("send", values::forwarding).unwrap_or(default.send),
    };
    section.finish();
    proxies
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
