//! What must not stand twice.

use crate::config::document::{Section, wrong};

/// What earlier sections hold, each with its line.
pub(super) struct Earlier<T>(Vec<(T, usize)>);

impl<T> Default for Earlier<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: PartialEq> Earlier<T> {
    /// The line of an earlier value that is the same.
    pub(super) fn line_of(&self, value: &T) -> Option<usize> {
        self.0.iter().find(|(earlier, _)| earlier == value).map(|(_, line)| *line)
    }
}

impl<T> Earlier<T> {
    /// Notes a value that can't stand beside an earlier one.
    pub(super) fn check(
        &mut self,
        section: &Section<'_>,
        key: &str,
        value: T,
        same: impl Fn(&T, &T) -> bool,
    ) {
        if let Some((_, line)) = self.0.iter().find(|(earlier, _)| same(earlier, &value)) {
            section.check(
                key,
                wrong(format!("already taken in line {line}"), "choose another, or take one out"),
            );
        }
        self.add(section, key, value);
    }

    pub(super) fn add(&mut self, section: &Section<'_>, key: &str, value: T) {
        self.0.push((value, section.line(key)));
    }
}
