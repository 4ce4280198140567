use std::fs;
use std::net::IpAddr;

use http::HeaderMap;

use super::*;
use crate::clock::UnixTime;
use crate::config::tests::MINIMAL;
use crate::explain::Trail;
use crate::identity::{Facts, Kept, KeptClaims, Method as By};
use crate::routes::RouteTable;
use crate::trial::{Table, Trial};

/// Beside [`MINIMAL`]'s beginning.
const CONFIG: &str = r#"
[[issuer]]
name = "main"
issuer = "https://id.example.com"
keys = "issuer.pem"
audiences = ["a"]
algorithms = ["ES256"]
[[issuer]]
name = "partner"
issuer = "https://id.partner.example"
keys = "partner.pem"
audiences = ["a"]
algorithms = ["ES256"]
[[route]]
name = "mail"
path = "/users/{user_id}/mail"
match = "template"
auth = "required"
policy = "mail"
upstream = "app"
[[route]]
name = "folder"
path = "/users/{user_id}/mail/{folder}"
match = "template"
methods = ["GET", "DELETE"]
auth = "required"
policy = "mail"
foreign = 404
upstream = "app"
[[route]]
name = "reports"
path = "/reports"
auth = "required"
policy = "mail"
upstream = "app"
[[policy]]
name = "mail"
files = ["mail.cedar"]
claims = { level = "Long", suspended = "Bool", "/realm_access/roles" = "Set<String>", department = "String" }
"#;

const POLICIES: &str = r#"
// Everyone's own mail.
@unchecked("folder")
permit(principal is Token, action, resource)
when { resource has user_id && resource.user_id == principal.subject };

@id("support-reads")
@unchecked("user_id folder")
permit(principal is Token, action in Action::"GET", resource)
when {
    principal.claims has roles && principal.claims.roles.contains("support") &&
    principal has issuer && principal.issuer == "main"
};

permit(principal, action in [Action::"GET reports", Action::"HEAD reports"], resource)
when { context.scopes.contains("reports") && context.source.isInRange(ip("192.0.2.0/24")) && context.time < 2000 };

@unchecked("user_id folder")
permit(principal == ApiKey::"backup", action == Action::"GET folder", resource);
@unchecked("user_id folder")
permit(principal == Token::"main/root", action in Action::"folder", resource);

@id("suspended")
forbid(principal, action, resource) when { principal.claims has suspended && principal.claims.suspended };

forbid(principal, action, resource) when { principal.claims has level && principal.claims.level < 3 };

@unchecked("user_id")
permit(principal, action, resource)
when { context.authentication == "certificate" && resource has folder && resource.folder == "public mail" };

@unchecked("user_id folder")
permit(principal, action in Action::"folder", resource)
when { principal.claims has department && principal.claims.department == "7" };
"#;

const TABLE: &str = r#"
test = [
  { who = "alice", request = "GET /users/alice/mail", expect = "allow", route = "mail" },
  { who = "alice", request = "POST /users/alice/mail", expect = "allow" },
  { who = "alice", request = "GET /users/%61lice/mail", expect = "allow" },
  { who = "alice", request = "GET /users/bob/mail", expect = "policy-denied" },
  { who = "alice", request = "GET /users/alice%20/mail", expect = "policy-denied" },
  { who = "alice", request = "GET /users/alice+/mail", expect = "object-ambiguous" },
  { who = "alice", request = "GET /users/alice/mail?_method=DELETE", expect = "method-ambiguous" },
  { who = "alice", request = "PURGE /users/alice/mail", expect = "policy-denied" },
  { who = "alice", request = "DELETE /users/alice/mail/inbox", expect = "allow", route = "folder" },
  { who = "alice", request = "HEAD /users/alice/mail/inbox", expect = "allow" },
  { who = "alice", request = "GET /users/bob/mail/inbox", expect = "policy-denied" },
  { who = "alice", request = "PUT /users/alice/mail/inbox", expect = "method-not-allowed" },
  { who = "alice", request = "GET /reports", expect = "policy-denied" },
  { request = "GET /users/alice/mail", expect = "credential-missing" },
  { who = "support", request = "GET /users/bob/mail", expect = "allow" },
  { who = "support", request = "DELETE /users/bob/mail/inbox", expect = "policy-denied" },
  { who = "support", request = "HEAD /users/bob/mail", expect = "allow" },
  { who = "sole-role", request = "GET /users/bob/mail", expect = "allow" },
  { who = "partner-support", request = "GET /users/bob/mail", expect = "policy-denied" },
  { who = "suspended", request = "GET /users/sue/mail", expect = "policy-denied" },
  { who = "reinstated", request = "GET /users/sue/mail", expect = "allow" },
  { who = "text-suspended", request = "GET /users/sue/mail", expect = "policy-failed" },
  { who = "object-suspended", request = "GET /users/sue/mail", expect = "policy-failed" },
  { who = "low", request = "GET /users/low/mail", expect = "policy-denied" },
  { who = "high", request = "GET /users/high/mail", expect = "allow" },
  { who = "fraction", request = "GET /users/high/mail", expect = "policy-failed" },
  { who = "reporter", request = "GET /reports", source = "192.0.2.7", time = 1999, expect = "allow" },
  { who = "reporter", request = "HEAD /reports", source = "192.0.2.7", time = 1999, expect = "allow" },
  { who = "reporter", request = "GET /reports/x", source = "192.0.2.7", time = 1999, expect = "allow" },
  { who = "reporter", request = "POST /reports", source = "192.0.2.7", time = 1999, expect = "policy-denied" },
  { who = "reporter", request = "GET /reports", source = "192.0.2.7", time = 2000, expect = "policy-denied" },
  { who = "reporter", request = "GET /reports", source = "198.51.100.7", time = 1999, expect = "policy-denied" },
  { who = "reporter", request = "GET /reports", source = "2001:db8::1", time = 1999, expect = "policy-denied" },
  { who = "backup", request = "GET /users/bob/mail/inbox", expect = "allow" },
  { who = "backup", request = "GET /users/backup/mail", expect = "policy-denied" },
  { who = "backup-token", request = "GET /users/bob/mail/inbox", expect = "policy-denied" },
  { who = "root", request = "DELETE /users/bob/mail/inbox", expect = "allow" },
  { who = "root", request = "GET /users/bob/mail", expect = "policy-denied" },
  { who = "partner-root", request = "DELETE /users/bob/mail/inbox", expect = "policy-denied" },
  { who = "certificate", request = "GET /users/bob/mail/public%20mail", expect = "allow" },
  { who = "certificate", request = "GET /users/bob/mail/inbox", expect = "policy-denied" },
  { who = "seven", request = "GET /users/bob/mail/inbox", expect = "allow" },
  { who = "seven", request = "GET /users/bob/mail", expect = "policy-denied" },
]
[who.alice]
claims = { sub = "alice" }
[who.support]
claims = { sub = "sue", realm_access = { roles = ["a", "support"] } }
[who.sole-role]
claims = { sub = "sue", realm_access = { roles = "support" } }
[who.partner-support]
issuer = "partner"
claims = { sub = "sue", realm_access = { roles = ["support"] } }
[who.suspended]
claims = { sub = "sue", suspended = true }
[who.reinstated]
claims = { sub = "sue", suspended = false }
[who.text-suspended]
claims = { sub = "sue", suspended = "false" }
[who.object-suspended]
claims = { sub = "sue", suspended = { until = 7 } }
[who.low]
claims = { sub = "low", level = 2 }
[who.high]
claims = { sub = "high", level = 3 }
[who.fraction]
claims = { sub = "high", level = 3.5 }
[who.reporter]
claims = { sub = "rep", scope = "a reports" }
[who.backup]
api_key = "backup"
[who.backup-token]
claims = { sub = "backup" }
[who.root]
claims = { sub = "root" }
[who.partner-root]
issuer = "partner"
claims = { sub = "root" }
[who.certificate]
certificate = "c"
[who.seven]
claims = { sub = "seven", department = 7 }
"#;

/// The configuration with these policies, and its folder.
fn configured(policies: &str) -> (Config, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("mail.cedar"), policies).unwrap();
    let (before, _) = MINIMAL.split_once("[[route]]").unwrap();
    (Config::parse(&format!("{before}{CONFIG}"), &folder.path().join("edge.toml")).unwrap(), folder)
}

#[test]
fn policies_decide_by_who_asks_for_what_from_where_and_when() {
    let (config, _folder) = configured(POLICIES);
    let policies = Policies::load(&config).unwrap();
    let table = Table::parse(TABLE, "a.toml".as_ref()).unwrap();
    let outcomes = Trial::new(config, policies, &table).unwrap().outcomes();
    let wrong: Vec<_> = outcomes.iter().filter(|outcome| !outcome.ok).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn only_what_can_match_is_evaluated_and_what_is_alike_is_there_once() {
    let (config, _folder) = configured(POLICIES);
    let policies = Policies::load(&config).unwrap();
    let slices = |route: &str, method: &Method| {
        let (_, action) = policies.0["mail"].actions[route].iter().find(|(of, _)| of == method).unwrap();
        action.slices.clone()
    };
    let names = |slice: &PolicySet| {
        let mut names: Vec<_> = slice.policies().map(|policy| policy.id().to_string()).collect();
        names.sort();
        names.join(" ")
    };
    let everywhere = "mail.7 mail.8 suspended";
    for (route, method, key, certificate, token) in [
        ("mail", Method::GET, "", "", "mail.1 support-reads"),
        ("mail", Method::PUT, "", "", "mail.1"),
        ("folder", Method::GET, "mail.4 mail.9", "mail.9", "mail.1 mail.5 mail.9 support-reads"),
        ("reports", Method::HEAD, "mail.3", "mail.3", "mail.1 mail.3 support-reads"),
    ] {
        for (slice, own) in slices(route, &method).iter().zip([key, certificate, token]) {
            let mut expected: Vec<_> =
                own.split(' ').chain(everywhere.split(' ')).filter(|id| !id.is_empty()).collect();
            expected.sort_unstable();
            assert_eq!(names(slice), expected.join(" "), "{method} {route}");
        }
    }
    let (put, post) = (slices("mail", &Method::PUT), slices("mail", &Method::POST));
    assert!(Arc::ptr_eq(&put[2], &post[2]) && Arc::ptr_eq(&put[0], &post[1]));
}

/// What a request of a token for alice's mail comes to, and again.
fn verdicts(policies: &Policies, routes: &RouteTable, claims: Option<Arc<KeptClaims>>) -> [Verdict; 2] {
    const PATH: &str = "/users/alice/mail";
    let matched = routes.find("edge.example", &Method::GET, PATH).unwrap();
    let identity = Identity::verified(Facts { claims, ..Facts::new(By::Jwt, "alice") });
    let (headers, trail) = (HeaderMap::new(), Trail::default());
    let asked = Asked {
        captures: &matched.captures,
        has_body: false,
        headers: &headers,
        method: &Method::GET,
        now: UnixTime(0),
        path: PATH,
        query: None,
        source: IpAddr::from([192, 0, 2, 1]),
        trail: &trail,
    };
    [(); 2].map(|()| policies.decide("mail", matched.route, &identity, &asked))
}

#[test]
fn a_token_that_was_verified_before_policies_asked_for_its_claims_has_not_failed() {
    let (config, _folder) = configured(POLICIES);
    let policies = Policies::load(&config).unwrap();
    let names: Vec<_> = config.policies[0].claims.iter().map(|claim| claim.claim.clone()).collect();
    let (fewer, all): (Arc<[_]>, Arc<[_]>) = (names[..1].into(), names.into());
    let kept = |names| KeptClaims::read(names, |_| None);
    let routes = RouteTable::new(&config.routes);
    let of = |claims| verdicts(&policies, &routes, claims);
    assert_eq!(of(kept(&all)), [Verdict::Allowed, Verdict::Allowed]);
    assert_eq!(of(kept(&fewer)), [Verdict::Unread, Verdict::Unread]);
    assert_eq!(of(None), [Verdict::Unread, Verdict::Unread]);
    let unreadable = KeptClaims::read(&all, |_| Some(Kept::Unreadable));
    assert_eq!(of(unreadable), [Verdict::Failed, Verdict::Failed]);
}

#[test]
fn policies_that_could_fail_or_let_an_object_slip_are_not_taken() {
    const OWN: &str = "permit(principal, action, resource)\nwhen { resource has user_id && resource.user_id == principal.subject";
    let whole = format!("{OWN} && resource has folder && resource.folder != \"\" }};");
    for (policies, expected) in [
        (whole.clone(), None),
        (
            "permit(principal, action, resource".to_owned(),
            Some("mail.cedar: line 1: unexpected end of input"),
        ),
        (
            format!("{whole}\n\npermit(principal, action, resource) when {{ nonsense }};"),
            Some("mail.cedar: line 4:"),
        ),
        ("permit(principal == ?principal, action, resource);".to_owned(), Some("it holds a template")),
        (
            format!("{whole}\npermit(principal, action, resource) when {{ principal.claims.level > 3 }};"),
            Some("level"),
        ),
        (
            format!("{whole}\npermit(principal, action, resource) when {{ principal.nobody == 1 }};"),
            Some("nobody"),
        ),
        (
            format!("{whole}\npermit(principal, action, resource) when {{ context.time == \"x\" }};"),
            Some("line 3:"),
        ),
        (
            format!("{whole}\npermit(principal, action == Action::\"GET inbox\", resource);"),
            Some("GET inbox"),
        ),
        (format!("@id(\"a\")\n{whole}\n@id(\"a\")\n{whole}"), Some("two policies are called a")),
        (
            format!("{OWN} }};"),
            Some("nothing in it looks at resource.folder, which names an object of route folder"),
        ),
        (String::new(), Some("nothing in it looks at resource.user_id, which names an object of route mail")),
    ] {
        let (config, _folder) = configured(&policies);
        let problem = Policies::load(&config).err().map(|error| error.to_string());
        match (&problem, expected) {
            (None, None) => {}
            (Some(problem), Some(expected)) if problem.contains(expected) && !problem.contains('\n') => {}
            _ => panic!("{policies}: {problem:?}"),
        }
    }
    let (config, folder) = configured("");
    fs::remove_file(folder.path().join("mail.cedar")).unwrap();
    let problem = Policies::load(&config).unwrap_err().to_string();
    assert!(problem.contains("mail.cedar: can't be read: No such file"), "{problem}");
}

#[test]
fn whoever_may_permit_something_on_a_route_looks_at_its_objects() {
    const OWN: &str = "resource has user_id && resource.user_id == principal.subject";
    let mail = format!("permit(principal, action in Action::\"mail\", resource) when {{ {OWN} }};\n");
    let folder = |annotation: &str, condition: &str| {
        let head = format!("{annotation} permit(principal, action in Action::\"folder\", resource)");
        format!("{mail}{head} when {{ {condition} }};\n")
    };
    let whole = format!("{OWN} && resource has folder && resource.folder != \"\"");
    let rest = "permit(principal, action == Action::\"DELETE folder\", resource) when { context.time < 1 };";
    for (policies, expected) in [
        (folder("", &whole), None),
        // The other route's look is none of this one's.
        (folder("", "context.time < 1"), Some("nothing in it looks at resource.user_id")),
        (
            folder("", &format!("resource has folder && {OWN}")),
            Some("nothing in it looks at resource.folder, which names an object of route folder"),
        ),
        (
            mail.clone(),
            Some("nothing in it looks at resource.user_id, which names an object of route folder"),
        ),
        (folder("@unchecked(\"folder\")", OWN), None),
        (folder("@unchecked(\"user_id\")", OWN), Some("looks at resource.folder")),
        // Nor is one permission's another one's.
        (
            format!("{}{rest}", folder("", &whole)),
            Some("permits requests of route folder whatever resource.user_id is"),
        ),
        (format!("{}@unchecked(\"user_id folder\"){rest}", folder("", &whole)), None),
        // What is forbidden is not permitted.
        (
            format!("{}{rest}forbid(principal, action, resource) unless {{ {whole} }};", folder("", &whole)),
            None,
        ),
        (
            format!(
                "{}{rest}forbid(principal, action in Action::\"GET\", resource) unless {{ {whole} }};",
                folder("", &whole)
            ),
            Some("whatever resource.user_id is"),
        ),
    ] {
        let (config, _folder) = configured(&policies);
        let problem = Policies::load(&config).err().map(|error| error.to_string());
        let is_right = match (&problem, expected) {
            (None, None) => true,
            (Some(problem), Some(expected)) => problem.contains(expected),
            _ => false,
        };
        assert!(is_right, "{policies}: {problem:?}");
    }
}

#[test]
fn the_schema_says_what_policies_can_ask() {
    let (config, _folder) = configured("");
    let text = schema_text(&config.policies[0], &config.routes);
    for line in [
        "    \"roles\"?: Set<String>,",
        "    \"level\"?: Long,",
        "entity ApiKey, Certificate, Token = {",
        "    \"user_id\"?: String,",
        "action \"DELETE folder\" in [\"folder\", \"DELETE\"] appliesTo {",
        "action \"HEAD folder\" in [\"folder\", \"HEAD\", \"GET\"] appliesTo {",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    assert!(!text.contains("\"PUT folder\""));
}
