//! `cargo xtask tidy`: the repository's rules that a machine can hold.

mod rules;
mod source;
#[cfg(test)]
mod tests;

use std::fmt;

use anyhow::{Result, ensure};

use self::source::Tree;
use crate::process;

pub fn run() -> Result<()> {
    let findings = rules::check(&Tree::read(process::root())?);
    for finding in &findings {
        println!("{finding}");
    }
    ensure!(findings.is_empty(), "{} findings of `cargo xtask tidy`", findings.len());
    Ok(())
}

/// A breach of a rule, and the way out.
#[derive(Debug, Eq, PartialEq)]
struct Finding {
    cure: &'static str,
    line: usize,
    path: String,
    what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}; {}", self.path, self.line, self.what, self.cure)
    }
}
