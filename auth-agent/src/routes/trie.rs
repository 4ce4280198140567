//! Paths segment by segment: prefixes, and templates.

use std::collections::HashMap;

use super::captures::Values;
use crate::config::{Segment, Template};

/// The first segment of what is left of a path, and what is left after it; `None` at its end.
type Left<'p> = Option<&'p str>;

/// `path` is canonical, so that it starts with a slash.
fn left(path: &str) -> Left<'_> {
    path.strip_prefix('/')
}

fn split(left: &str) -> (&str, Left<'_>) {
    match left.split_once('/') {
        Some((segment, left)) => (segment, Some(left)),
        None => (left, None),
    }
}

/// Prefixes of paths, on segment boundaries.
#[derive(Debug, Default)]
pub(super) struct Literals {
    root: LiteralNode,
}

#[derive(Debug, Default)]
struct LiteralNode {
    children: HashMap<Box<str>, LiteralNode>,
    value: Option<usize>,
}

impl Literals {
    /// The value of a prefix: `value`, if it has none yet.
    pub fn insert(&mut self, prefix: &str, value: usize) -> usize {
        let mut node = &mut self.root;
        for segment in prefix.split('/').filter(|segment| !segment.is_empty()) {
            node = node.children.entry(segment.into()).or_default();
        }
        *node.value.get_or_insert(value)
    }

    /// The value of the longest prefix.
    pub fn longest(&self, path: &str) -> Option<usize> {
        let (mut node, mut found) = (&self.root, self.root.value);
        let mut rest = left(path);
        while let Some(text) = rest {
            let (segment, after) = split(text);
            let Some(child) = node.children.get(segment) else { break };
            found = child.value.or(found);
            (node, rest) = (child, after);
        }
        found
    }
}

/// Templates. Where several cover a path, the one with the more literal segment wins at the first place where they differ.
#[derive(Debug, Default)]
pub(super) struct Templates {
    root: TemplateNode,
}

#[derive(Debug, Default)]
struct TemplateNode {
    /// Of templates that end here.
    end: Option<usize>,
    literals: HashMap<Box<str>, TemplateNode>,
    parameter: Option<Box<TemplateNode>>,
    /// Of templates that take all that is left.
    rest: Option<usize>,
}

impl Templates {
    /// The value of a template, whatever its names are: `value`, if it has none yet.
    pub fn insert(&mut self, template: &Template, value: usize) -> usize {
        let mut node = &mut self.root;
        for segment in &template.0 {
            node = match segment {
                Segment::Literal(text) => node.literals.entry(text.as_str().into()).or_default(),
                Segment::Parameter(_) => node.parameter.get_or_insert_default(),
                Segment::Rest(_) => return *node.rest.get_or_insert(value),
            };
        }
        *node.end.get_or_insert(value)
    }

    /// The value of the most specific template, and what the path holds for its names.
    pub fn find<'p>(&self, path: &'p str) -> Option<(usize, Values<'p>)> {
        self.root.find(left(path), Values::default(), &mut 0)
    }

    #[cfg(test)]
    pub fn steps(&self, path: &str) -> usize {
        let mut steps = 0;
        self.root.find(left(path), Values::default(), &mut steps);
        steps
    }

    /// No path takes more steps.
    pub fn most_steps(&self) -> usize {
        if self.root.is_empty() { 0 } else { self.root.most_steps() }
    }
}

impl TemplateNode {
    fn is_empty(&self) -> bool {
        self.end.is_none() && self.rest.is_none() && self.literals.is_empty() && self.parameter.is_none()
    }

    /// Each node is looked at once at most, and no deeper than templates are long.
    fn find<'p>(&self, left: Left<'p>, values: Values<'p>, steps: &mut usize) -> Option<(usize, Values<'p>)> {
        *steps += 1;
        let Some(text) = left else { return self.end.map(|end| (end, values)) };
        let (segment, after) = split(text);
        let literal = self.literals.get(segment).and_then(|node| node.find(after, values, steps));
        let parameter = || {
            let node = self.parameter.as_ref().filter(|_| !segment.is_empty())?;
            node.find(after, values.with(segment), steps)
        };
        let found = literal.or_else(parameter);
        found.or_else(|| self.rest.filter(|_| !text.is_empty()).map(|rest| (rest, values.with(text))))
    }

    fn most_steps(&self) -> usize {
        let literal = self.literals.values().map(Self::most_steps).max().unwrap_or(0);
        let parameter = self.parameter.as_ref().map_or(0, |node| node.most_steps());
        1 + literal + parameter
    }
}
