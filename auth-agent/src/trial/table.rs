//! The table: people, and what they ask for.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;

use http::request::Parts;
use http::{HeaderName, HeaderValue, Request, header};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::config::{Config, Issuer};
use crate::identity::{Facts, Identity, Method};
use crate::token::{self, TokenError};

/// What is expected of a request that is to go through.
pub(super) const ALLOW: &str = "allow";

/// For requests whose host no route asks for.
const HOST: &str = "localhost";

/// Why a table can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// It is not a table in TOML or JSON.
    #[error("not a table of tests: {0}")]
    Form(String),
    /// No token with the claims of the person of that name would be accepted.
    #[error("who.{0}: no token with these claims is accepted: {1}; see `auth-agent token inspect`")]
    Claims(String, TokenError),
    /// The test of that number names a person that is not there.
    #[error("test {0}: there is no who.{1}; write [who.{1}], or leave `who` out for nobody")]
    Nobody(usize, String),
    /// The request of the test of that number can't be made.
    #[error("test {0}: {1} is not what a client can send; write request = \"GET /path?query\"")]
    Request(usize, String),
    /// The person of that name is not exactly one of what a credential can be.
    #[error("who.{0}: {1}")]
    Who(String, String),
}

/// A table of tests.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    test: Vec<Test>,
    #[serde(default)]
    who: BTreeMap<String, Who>,
}

/// Whoever sends requests: exactly one of `api_key`, `certificate` and `claims`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Who {
    /// The name of an API key.
    api_key: Option<String>,
    /// The name in a client certificate that counts.
    certificate: Option<String>,
    /// What a token claims.
    claims: Option<Map<String, Value>>,
    /// The issuer of the token, by its name in the configuration; the first one if it is not said.
    issuer: Option<String>,
    /// Of a key or a certificate.
    #[serde(default)]
    scopes: Vec<String>,
}

/// A request, and what is to come of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Test {
    /// `allow`, or the name of the reason why it is refused.
    pub expect: String,
    /// Header fields, as lines; `content-length: 9` stands for a body.
    #[serde(default)]
    pub headers: Vec<String>,
    /// Method and target, as in the first line of a request: `GET /a?b`, or `GET https://host/a`.
    request: String,
    /// The label of the route that decides; any if it is not said.
    pub route: Option<String>,
    /// The client's address.
    source: Option<IpAddr>,
    /// When it comes, seconds since 1970; now if it is not said.
    pub time: Option<u64>,
    /// Who sends it; nobody if it is not said.
    pub who: Option<String>,
}

/// A decision, and the route that made it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Expected {
    /// `allow`, or the name of the reason.
    pub decision: String,
    /// The route's label; `None`: it did not come to that.
    pub route: Option<String>,
}

impl fmt::Display for Expected {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.route {
            Some(route) => write!(formatter, "{} by route {route}", self.decision),
            None => formatter.write_str(&self.decision),
        }
    }
}

impl Table {
    /// Reads a table: JSON if the file's name ends so, else TOML.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(text: &str, file: &Path) -> Result<Self, TableError> {
        let form = |error: &dyn fmt::Display| TableError::Form(error.to_string().trim_end().to_owned());
        let table: Self = if file.extension().is_some_and(|extension| extension == "json") {
            serde_json::from_str(text).map_err(|error| form(&error))?
        } else {
            toml::from_str(text).map_err(|error| form(&error))?
        };
        if table.test.is_empty() {
            return Err(TableError::Form("no test; write [[test]] with request and expect".to_owned()));
        }
        let stranger = table.test.iter().enumerate().find_map(|(index, test)| {
            let who = test.who.as_ref().filter(|who| !table.who.contains_key(*who))?;
            Some(TableError::Nobody(index + 1, who.clone()))
        });
        stranger.map_or(Ok(table), Err)
    }

    pub(super) fn tests(&self) -> &[Test] {
        &self.test
    }

    /// Everyone, as their credentials would be found to be.
    pub(super) fn people(&self, config: &Config) -> Result<BTreeMap<&str, Arc<Identity>>, TableError> {
        let mut people = BTreeMap::new();
        for (name, who) in &self.who {
            people.insert(name.as_str(), Identity::verified(who.facts(name, config)?));
        }
        Ok(people)
    }
}

impl Who {
    fn facts(&self, name: &str, config: &Config) -> Result<Facts, TableError> {
        let wrong = |problem: &str| TableError::Who(name.to_owned(), problem.to_owned());
        let of = |method, subject: &str| {
            let scopes = self.scopes.iter().map(|scope| scope.as_str().into()).collect();
            Facts { scopes, ..Facts::new(method, subject) }
        };
        match (&self.api_key, &self.certificate, &self.claims) {
            (Some(key), None, None) => Ok(of(Method::ApiKey, key)),
            (None, Some(certificate), None) => Ok(of(Method::Certificate, certificate)),
            (None, None, Some(_)) if !self.scopes.is_empty() => {
                Err(wrong("a token has its scopes in its claims; write scope = \"a b\" there"))
            }
            (None, None, Some(claims)) => {
                let issuer =
                    self.issuer(config).ok_or_else(|| wrong("the configuration has no such issuer"))?;
                let mut claims = claims.clone();
                claims.entry("iss").or_insert_with(|| issuer.issuer.as_str().into());
                let facts = token::claimed(issuer, &Value::Object(claims));
                facts.map_err(|reason| TableError::Claims(name.to_owned(), reason))
            }
            _ => Err(wrong("write exactly one of claims, api_key and certificate")),
        }
    }

    fn issuer<'c>(&self, config: &'c Config) -> Option<&'c Issuer> {
        match &self.issuer {
            Some(name) => config.issuers.iter().find(|issuer| *issuer.name == **name),
            None => config.issuers.first(),
        }
    }
}

impl Test {
    pub fn source(&self) -> IpAddr {
        self.source.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
    }

    /// The request, as it comes to the judge.
    pub fn request(&self, number: usize) -> Result<Parts, TableError> {
        let wrong = |what: &str| TableError::Request(number, what.to_owned());
        let (method, target) = self.request.split_once(' ').ok_or_else(|| wrong(&self.request))?;
        let request = Request::builder().method(method).uri(target).body(());
        let (mut parts, ()) = request.map_err(|_| wrong(&self.request))?.into_parts();
        for line in &self.headers {
            let field = line.split_once(':').and_then(|(name, value)| {
                let name = HeaderName::try_from(name).ok()?;
                Some((name, HeaderValue::try_from(value.trim()).ok()?))
            });
            let (name, value) = field.ok_or_else(|| wrong(line))?;
            parts.headers.append(name, value);
        }
        if parts.uri.authority().is_none() && !parts.headers.contains_key(header::HOST) {
            parts.headers.insert(header::HOST, HeaderValue::from_static(HOST));
        }
        Ok(parts)
    }
}

impl fmt::Display for Test {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.request)?;
        self.headers.iter().try_for_each(|line| write!(formatter, " [{line}]"))?;
        write!(formatter, " as {}", self.who.as_deref().unwrap_or("nobody"))
    }
}
