//! The source tree as the rules see it.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

/// Every text file that a rule looks at, and the names at the top.
#[derive(Default)]
pub struct Tree {
    /// Sorted by path.
    pub sources: Vec<Source>,
    /// Names in the root folder, dotfiles apart.
    pub top: Vec<String>,
}

pub struct Source {
    /// Relative to the root, with `/`.
    pub path: String,
    pub text: String,
}

impl Tree {
    /// Reads the tree; what starts with a dot, and the build folder, are not part of it.
    pub fn read(root: &Path) -> Result<Self> {
        let mut tree = Self::default();
        tree.walk(root, "").with_context(|| format!("read {}", root.display()))?;
        tree.sources.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(tree)
    }

    /// The file at exactly this path.
    pub fn source(&self, path: &str) -> Option<&Source> {
        self.sources.iter().find(|source| source.path == path)
    }

    /// All Rust files.
    pub fn rust(&self) -> impl Iterator<Item = &Source> {
        self.sources.iter().filter(|source| source.path.ends_with(".rs"))
    }

    fn walk(&mut self, folder: &Path, prefix: &str) -> Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with('.') || name == "target" {
                continue;
            }
            let path = format!("{prefix}{name}");
            if entry.file_type()?.is_dir() {
                self.walk(&entry.path(), &format!("{path}/"))?;
            } else if [".md", ".rs", ".toml"].iter().any(|ending| name.ends_with(ending)) {
                let text = fs::read_to_string(entry.path()).with_context(|| path.clone())?;
                self.sources.push(Source { path, text });
            }
            if prefix.is_empty() {
                self.top.push(name);
            }
        }
        Ok(())
    }
}

impl Source {
    /// The text with comments, strings and characters blanked out, line by line as it was.
    pub fn code(&self) -> String {
        blank(&self.text)
    }

    /// Whether this is a test's file rather than the product's.
    pub fn is_test(&self) -> bool {
        let inside =
            |folder: &str| self.path.starts_with(folder) || self.path.contains(&format!("/{folder}"));
        self.path.ends_with("/tests.rs") || inside("tests/")
    }

    /// [`Self::code`] without the unit tests at its end.
    pub fn product_code(&self) -> String {
        let mut code = self.code();
        if let Some(tests) = code.find("#[cfg(test)]\nmod tests {") {
            code.truncate(tests);
        }
        code
    }
}

/// Whether the text holds the word, not as a part of a longer one.
pub fn has_word(text: &str, word: &str) -> bool {
    let in_word = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word)
        .any(|(at, _)| !text[..at].ends_with(in_word) && !text[at + word.len()..].starts_with(in_word))
}

fn blank(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let after_word = code.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if rest.starts_with('"') {
            string(rest)
        } else if !after_word
            && ["r\"", "r#", "br\"", "br#", "cr\"", "cr#"].iter().any(|start| rest.starts_with(start))
        {
            raw_string(rest)
        } else if rest.starts_with('\'') {
            character(rest)
        } else {
            0
        };
        if skipped == 0 {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            code.extend(rest[..skipped].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
            rest = &rest[skipped..];
        }
    }
    code
}

fn block_comment(text: &str) -> usize {
    let mut depth = 0;
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match &bytes[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            '"' if !escaped => return at + 1,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    text.len()
}

/// Zero for a raw identifier such as `r#type`.
fn raw_string(text: &str) -> usize {
    let hashes = text.find(|c| c != 'r' && c != 'b' && c != 'c').unwrap_or(text.len());
    let Some(quote) = text[hashes..].find(|c| c != '#').map(|at| hashes + at) else { return 0 };
    if !text[quote..].starts_with('"') {
        return 0;
    }
    let end = format!("\"{}", &text[hashes..quote]);
    text[quote + 1..].find(&end).map_or(text.len(), |at| quote + 1 + at + end.len())
}

/// Zero for a lifetime.
fn character(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), Some((escape, c))) => {
            let body = escape + c.len_utf8();
            text[body..].find('\'').map_or(0, |at| body + at + 1)
        }
        (Some(_), Some((quote, '\''))) => quote + 1,
        _ => 0,
    }
}
