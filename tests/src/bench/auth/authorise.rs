//! From who sent a request to whether it may go on: the route, scopes, claims, objects, policies.

use std::path::Path;

use anyhow::{Result, ensure};
use auth_agent::config::Config;
use auth_agent::policy::Policies;
use auth_agent::trial::{Table, Trial};

use super::EDGE;

/// A route that asks for nothing but a credential, one with two bindings of which one is to a list of 20, a claim and a
/// scope, and one that leaves it to policies.
const ROUTES: &str = r#"
[[issuer]]
name = "main"
issuer = "https://id.example.com"
keys = "issuer.pem"
audiences = ["a"]
algorithms = ["ES256"]
[[route]]
path = "/plain"
auth = "required"
upstream = "app"
[[route]]
path = "/users/{user_id}/accounts/{account}"
match = "template"
auth = "required"
scopes = ["accounts"]
claims = { tenant = "acme" }
bind = { user_id = "sub", account = "accounts" }
upstream = "app"
[[route]]
name = "cedar"
path = "/cedar/{user_id}/accounts/{account}"
match = "template"
auth = "required"
policy = "accounts"
upstream = "app"
[[policy]]
name = "accounts"
files = ["accounts.cedar"]
claims = { tenant = "String", accounts = "Set<String>", suspended = "Bool" }
"#;

const POLICIES: &str = r#"
permit(principal is Token, action in Action::"GET", resource)
when {
    resource.user_id == principal.subject && principal.claims has accounts &&
    principal.claims.accounts.contains(resource.account) && context.scopes.contains("accounts")
};
@unchecked("user_id account")
permit(principal, action, resource) when { context.scopes.contains("accounts:admin") };
@unchecked("user_id account")
permit(principal is ApiKey, action, resource) when { context.source.isInRange(ip("192.0.2.0/24")) };
forbid(principal, action, resource) when { principal.claims has suspended && principal.claims.suspended };
forbid(principal, action, resource) unless { principal.claims has tenant && principal.claims.tenant == "acme" };
"#;

/// By name, a request that goes through.
const REQUESTS: [(&str, &str); 3] = [
    ("authorise_plain", "GET /plain"),
    ("authorise_bindings", "GET /users/8d0a4c1e-4111-4111-8111-111111111111/accounts/account-19"),
    ("authorise_cedar", "GET /cedar/8d0a4c1e-4111-4111-8111-111111111111/accounts/account-19"),
];

/// What is measured, by name.
pub fn trials(folder: &Path) -> Result<Vec<(&'static str, Trial)>> {
    std::fs::write(folder.join("accounts.cedar"), POLICIES)?;
    let config = Config::parse(&format!("{EDGE}{ROUTES}"), &folder.join("edge.toml"))?;
    let accounts: Vec<_> = (0..20).map(|number| format!("account-{number}")).collect();
    let claims = serde_json::json!({
        "sub": "8d0a4c1e-4111-4111-8111-111111111111", "scope": "read write accounts", "tenant": "acme",
        "accounts": accounts, "suspended": false,
    });
    let trial = |(name, request): (&'static str, &str)| {
        let table = serde_json::json!({
            "test": [{"request": request, "who": "user", "expect": "allow"}], "who": {"user": {"claims": claims}},
        });
        let table = Table::parse(&table.to_string(), Path::new("table.json"))?;
        let trial = Trial::new(config.clone(), Policies::load(&config)?, &table)?;
        ensure!(trial.allows_first(), "{name} is refused");
        Ok((name, trial))
    };
    REQUESTS.into_iter().map(trial).collect()
}
