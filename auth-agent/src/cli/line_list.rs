//! Lists from a file or standard input, one entry a line: all of it is good, or the wrong lines are named.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Wrong lines that are named; more help nobody.
pub(super) const NAMED: usize = 10;

/// The text of `path`, or of standard input where that is `-`; at most `bytes` long.
pub(super) fn read(path: &Path, bytes: u64) -> Result<String, String> {
    let failed = |error: io::Error| format!("{}: {error}", path.display());
    let mut text = String::new();
    let source: &mut dyn Read = if path == Path::new("-") {
        &mut io::stdin().lock()
    } else {
        &mut File::open(path).map_err(failed)?
    };
    source.take(bytes + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > bytes {
        return Err(format!("{}: longer than {bytes} bytes: split it", path.display()));
    }
    Ok(text)
}

/// The entries if no line is wrong; else what is wrong with the first of those, and what was not done for it.
pub(super) fn all<T>(entries: Vec<T>, mut wrong: Vec<String>, undone: &str) -> Result<Vec<T>, String> {
    if wrong.is_empty() {
        return Ok(entries);
    }
    let more = wrong.len().saturating_sub(NAMED);
    wrong.truncate(NAMED);
    if more > 0 {
        wrong.push(format!("and {more} more; {undone}"));
    }
    Err(wrong.join("\n"))
}
