//! Routes that would answer for the same requests.

use std::collections::HashMap;

use http::Method;

use crate::config::document::{Section, wrong};
use crate::config::{HostPattern, PathPattern, Segment, Template};

/// A host, or any, and the shape of a path.
type Place = (Option<HostPattern>, PathPattern);

/// What earlier routes are for and what they are called, each with its line.
#[derive(Default)]
pub(super) struct Clashes {
    names: HashMap<String, usize>,
    places: HashMap<Place, Vec<(Vec<Method>, usize)>>,
}

impl Clashes {
    /// Notes a route that has a host, a path and a method in common with an earlier one. One without methods and one
    /// with some have none in common: what names a method goes first.
    pub fn check(
        &mut self,
        section: &Section<'_>,
        hosts: &[HostPattern],
        path: &PathPattern,
        methods: &[Method],
    ) {
        let any = hosts.is_empty().then_some(None);
        let mut told = false;
        for host in hosts.iter().cloned().map(Some).chain(any) {
            let others = self.places.entry((host, shape(path))).or_default();
            let same = |other: &[Method]| match (other, methods) {
                ([], []) => true,
                (other, methods) => other.iter().any(|method| methods.contains(method)),
            };
            if let Some((_, line)) = others.iter().find(|(other, _)| same(other)).filter(|_| !told) {
                let what = format!("the route of line {line} has this host, path and method too");
                section.check("path", wrong(what, "change one of them, or take one of the routes out"));
                told = true;
            }
            others.push((methods.to_vec(), section.line("path")));
        }
    }

    /// Notes a name that an earlier route has, too.
    pub fn check_name(&mut self, section: &Section<'_>, name: Option<&str>) {
        let Some(name) = name else { return };
        match self.names.get(name) {
            Some(line) => {
                let what = format!("the route of line {line} has this name too");
                section.check("name", wrong(what, "write another one, or none"));
            }
            None => {
                self.names.insert(name.to_owned(), section.line("name"));
            }
        }
    }
}

/// The path without the names in it, which tell no requests apart.
fn shape(path: &PathPattern) -> PathPattern {
    let PathPattern::Template(template) = path else { return path.clone() };
    let nameless = |segment: &Segment| match segment {
        Segment::Literal(text) => Segment::Literal(text.clone()),
        Segment::Parameter(_) => Segment::Parameter(String::new()),
        Segment::Rest(_) => Segment::Rest(String::new()),
    };
    PathPattern::Template(Template(template.0.iter().map(nameless).collect()))
}
