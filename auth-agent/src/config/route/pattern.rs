//! Hosts and paths that routes are for, and the paths that upstreams see instead.

use std::fmt;

/// One of `route.hosts`; in lower case and without a port.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum HostPattern {
    /// This name or address; an IPv6 address in its canonical text (RFC 5952), without brackets.
    Exact(String),
    /// Every name that ends in a dot and this one, with one label or more before: `*.example.com`.
    Under(String),
}

impl fmt::Display for HostPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(address) if address.contains(':') => write!(formatter, "[{address}]"),
            Self::Exact(name) => formatter.write_str(name),
            Self::Under(name) => write!(formatter, "*.{name}"),
        }
    }
}

/// `route.path` with `route.match`; canonical.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum PathPattern {
    /// This path.
    Exact(String),
    /// This path and everything under it, on segment boundaries.
    Prefix(String),
    /// Every path of this shape.
    Template(Template),
}

impl PathPattern {
    /// The names of a template, in their order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let template = match self {
            Self::Template(template) => Some(template),
            Self::Exact(_) | Self::Prefix(_) => None,
        };
        template.into_iter().flat_map(Template::names)
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(path) | Self::Prefix(path) => formatter.write_str(path),
            Self::Template(template) => template.fmt(formatter),
        }
    }
}

/// A path with names in place of some segments: `/users/{user_id}/orders`. No name stands twice.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Template(pub Vec<Segment>);

/// One segment of a [`Template`].
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Segment {
    /// This text; empty after a slash at the end of the path.
    Literal(String),
    /// Any segment that is not empty: `{name}`.
    Parameter(String),
    /// All that is left of the path, at least one byte of it: `{name...}`. Only at the end.
    Rest(String),
}

impl Template {
    /// The names, in their order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|segment| match segment {
            Segment::Literal(_) => None,
            Segment::Parameter(name) | Segment::Rest(name) => Some(name.as_str()),
        })
    }
}

impl fmt::Display for Template {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|segment| match segment {
            Segment::Literal(text) => write!(formatter, "/{text}"),
            Segment::Parameter(name) => write!(formatter, "/{{{name}}}"),
            Segment::Rest(name) => write!(formatter, "/{{{name}...}}"),
        })
    }
}

/// `route.rewrite`. What comes of a canonical path is canonical: whole segments are put in the place of whole segments.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Rewrite {
    /// A template whose names are all those of the route's path.
    Path(Template),
    /// In place of the route's own prefix; `/` takes that off.
    Prefix(String),
}
