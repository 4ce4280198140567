//! Routes, proxies, and those who keep their own.

use super::*;

#[test]
fn a_route_says_what_it_says_and_has_the_defaults_of_all_for_the_rest() {
    let example = parse(EXAMPLE).unwrap();
    let [all, health, files] = &example.routes[..] else { panic!("three routes") };
    assert_eq!(all, &Route { scopes: vec![], ..Route::under("/", Auth::Required, &[], 0) });
    assert_eq!(health.path, PathPattern::Exact("/health".into()));
    let text = "/users/{user_id}/files/{file...}";
    let PathPattern::Template(template) = &files.path else { panic!("a template") };
    assert_eq!(
        (template.to_string(), template.names().collect::<Vec<_>>()),
        (text.into(), vec!["user_id", "file"])
    );
    let hosts: Vec<_> = files.hosts.iter().map(ToString::to_string).collect();
    assert_eq!(hosts, ["files.example.com", "*.files.example.com"]);
    assert_eq!(files.methods, ["GET", "PUT"]);
    let Some(Rewrite::Path(rewrite)) = &files.rewrite else { panic!("a path") };
    assert_eq!(rewrite.to_string(), "/files/{user_id}/{file...}");
    let seconds = Duration::from_secs;
    let timeouts =
        RouteTimeouts { body_idle: seconds(10), request: Some(seconds(600)), response: seconds(5) };
    assert_eq!((files.timeouts, files.body_bytes), (timeouts, 1 << 30));
    assert_eq!(files.request_headers.set[0].0, "x-edge");
    assert_eq!(files.request_headers.remove, ["x-debug"]);
    assert_eq!(files.response_headers.remove, ["server"]);

    let config = minimal_with("[timeouts]\nresponse = \"7s\"\n[sizes]\nbody_bytes = 5").unwrap();
    assert_eq!((config.routes[0].timeouts.response, config.routes[0].body_bytes), (seconds(7), 5));
}

#[test]
fn a_route_says_what_it_needs_beyond_a_credential_and_what_it_is_called() {
    let example = parse(EXAMPLE).unwrap();
    let files = &example.routes[2];
    assert_eq!(files.label(), "files");
    let hosts = "path = \"/\"\nhosts = [\"b.example\", \"*.a.example\"]";
    let nameless = parse(&MINIMAL.replace("path = \"/\"", hosts)).unwrap();
    assert_eq!(nameless.routes[0].label(), "b.example,*.a.example/");
    let claim = |text| ClaimPath::parse(text).unwrap();
    let rule = |name, values: &[&str]| ClaimRule {
        claim: claim(name),
        values: values.iter().map(|&value| value.to_owned()).collect(),
    };
    let bound = |part, name| Binding::new(part, claim(name));
    assert_eq!(
        files.access,
        Access {
            bindings: vec![
                bound(Part::Path("user_id".into()), "sub"),
                bound(Part::Query("account".into()), "accounts"),
            ],
            body_unchecked: true,
            foreign: Foreign::NotFound,
            policy: Some("files".into()),
            unchecked: true,
            unless_claims: vec![rule("role", &["support"])],
            unless_scopes: vec!["files:admin".into()],
            ..Access::default()
        }
    );
    let [policy] = &example.policies[..] else { panic!("one policy") };
    let seen =
        |name, attribute: &str, kind| PolicyClaim { attribute: attribute.into(), claim: claim(name), kind };
    let claims = vec![
        seen("/realm_access/roles", "roles", ClaimKind::Set),
        seen("department", "department", ClaimKind::String),
    ];
    assert_eq!(
        *policy,
        Policy { claims, files: vec!["/etc/auth-agent/files.cedar".into()], name: "files".into() }
    );
    let kept: Vec<_> = example.issuers[0].claims.kept.iter().map(ToString::to_string).collect();
    assert_eq!(kept, ["accounts", "department", "/realm_access/roles", "role"]);
    let text = minimal_required().replace(
        "path = \"/\"",
        "path = \"/\"\nname = \"all\"\nany_scopes = [\"a\", \"b\"]\n\
         claims = { admin = true, level = [3, 0x10], \"/a/b\" = \"c\" }\n\
         bind_query = { Account = \"accounts\" }\nbind_headers = { X-Account = \"/a/b\" }",
    );
    let all = &parse(&text).unwrap().routes[0];
    assert_eq!(all.label(), "all");
    assert_eq!(
        all.access,
        Access {
            any_scopes: vec!["a".into(), "b".into()],
            bindings: vec![
                bound(Part::Query("Account".into()), "accounts"),
                bound(Part::Header(HeaderName::from_static("x-account")), "/a/b"),
            ],
            claims: vec![rule("/a/b", &["c"]), rule("admin", &["true"]), rule("level", &["3", "16"])],
            ..Access::default()
        }
    );
}

fn minimal_required() -> String {
    MINIMAL.replace("auth = \"none\"", "auth = \"required\"")
}

#[test]
fn hosts_are_one_spelling_and_upgrades_may_be_none() {
    let text = MINIMAL.replace(
        "path = \"/\"",
        "path = \"/\"\nhosts = [\"[2001:DB8:0::1]\", \"API.example\"]\nupgrades = []\nretries = { attempts = 0 }",
    );
    let config = parse(&text).unwrap();
    let hosts: Vec<_> = config.routes[0].hosts.iter().map(ToString::to_string).collect();
    assert_eq!(hosts, ["[2001:db8::1]", "api.example"]);
    assert!(config.routes[0].upgrades.is_empty() && config.routes[0].retries.attempts == 0);
}

/// Each segment a name or not: every path is held against all of them.
#[test]
fn templates_that_overlap_too_much_are_refused_and_a_thousand_that_do_not_are_taken() {
    let route = |path: &str| {
        format!(
            "[[route]]\npath = \"{path}\"\nmatch = \"template\"\nauth = \"none\"\nobject = \"unchecked\"\nupstream = \"app\"\n"
        )
    };
    let overlapping: String = (0..511_u32)
        .map(|bits| {
            let segment =
                |at: u32| if (bits >> at) & 1 == 1 { format!("/{{n{at}}}") } else { "/a".to_owned() };
            route(&(0..9).map(segment).collect::<String>())
        })
        .collect();
    let problem = problems(&format!("{MINIMAL}{overlapping}")).remove(0);
    let expected = "route: the templates overlap so much that a path may be held against 1022 of their segments; \
                    write literal segments in place of some names until it is at most 512";
    assert_eq!(problem, expected);
    let apart: String =
        (0..1_000).map(|number| route(&format!("/svc{number}/{{id}}/items/{{item}}"))).collect();
    assert_eq!(minimal_with(&apart).unwrap().routes.len(), 1_001);
}

#[test]
fn proxies_and_the_listener_for_them_are_off_unless_they_are_written() {
    let config = parse(MINIMAL).unwrap();
    assert_eq!(
        (config.proxies, config.forward_auth, config.internal_token),
        (Proxies::default(), None, None)
    );
    assert!(!config.listeners[0].proxy_protocol);
    let config = minimal_with(
        "[proxies]\ntrusted = [\"10.0.0.0/8\"]\nread = \"forwarded\"\nsend = []\n\
         [forward_auth]\nlisten = \"unix:forward-auth.sock\"\n[internal_token]\nlifetime = \"15m\"",
    )
    .unwrap();
    assert_eq!((config.proxies.read, config.proxies.send.len()), (Forwarding::Forwarded, 0));
    let listen = config.forward_auth.unwrap().listen;
    assert_eq!(listen, LocalAddress::Unix("/etc/auth-agent/forward-auth.sock".into()));
    let token = config.internal_token.unwrap();
    assert_eq!((&*token.issuer, token.lifetime), ("auth-agent", LONGEST_INTERNAL_TOKEN));
    for (listen, accepted) in [("[::1]:9180", true), ("127.9.9.9:1", true), ("10.0.0.1:9180", false)] {
        let section = format!("[forward_auth]\nlisten = \"{listen}\"\n");
        assert_eq!(minimal_with(&section).is_ok(), accepted, "{listen}");
        assert!(minimal_with(&format!("{section}allow_remote = true")).is_ok(), "{listen}");
    }
}
