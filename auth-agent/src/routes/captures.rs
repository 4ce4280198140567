//! What a path holds in the named places of a template.

use crate::config::{MAX_TEMPLATE_NAMES, Template};

/// Values in the order of the template's names.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Values<'p> {
    count: usize,
    values: [&'p str; MAX_TEMPLATE_NAMES],
}

impl<'p> Values<'p> {
    /// With one more. A template has no more names than there is room for.
    pub fn with(mut self, value: &'p str) -> Self {
        if let Some(place) = self.values.get_mut(self.count) {
            *place = value;
            self.count += 1;
        }
        self
    }

    pub fn as_slice(&self) -> &[&'p str] {
        self.values.get(..self.count).unwrap_or_default()
    }
}

/// Names and what stands for them: canonical text, with its percent-escapes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Captures<'t, 'p> {
    template: Option<&'t Template>,
    values: Values<'p>,
}

impl<'t, 'p> Captures<'t, 'p> {
    pub(super) fn new(template: Option<&'t Template>, values: Values<'p>) -> Self {
        Self { template, values }
    }

    /// What stands for `name`.
    pub fn value(&self, name: &str) -> Option<&'p str> {
        self.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// All of them, in the order of the path.
    pub fn iter(&self) -> impl Iterator<Item = (&'t str, &'p str)> {
        let names = self.template.into_iter().flat_map(Template::names);
        names.zip(self.values.as_slice().iter().copied())
    }
}
