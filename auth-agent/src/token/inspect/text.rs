//! An inspection as text for a terminal.

use std::fmt::{self, Write as _};

use serde_json::Value;

use super::{Check, Inspection, Outcome, Verdict};

impl Inspection {
    /// For reading in a terminal. Control and formatting characters from the token are escaped, so that it
    /// can't drive the terminal or reorder the text.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        // Writing to a string can't fail.
        let _ = self.write(&mut text);
        printable(&text)
    }

    fn write(&self, out: &mut String) -> fmt::Result {
        write_json(out, "header", self.header.as_ref())?;
        write_json(out, "claims", self.claims.as_ref())?;
        writeln!(out, "times")?;
        for time in &self.times {
            let date = time.utc.clone().unwrap_or_else(|| time.seconds.to_string());
            writeln!(out, "  {}  {date}  {}", time.claim, time.relative)?;
        }
        writeln!(out, "checks")?;
        self.checks.iter().try_for_each(|check| writeln!(out, "  {check}"))?;
        for warning in &self.warnings {
            writeln!(out, "warning: {warning}")?;
        }
        match (self.accepted, self.refusal) {
            (true, _) => writeln!(out, "verdict: accepted"),
            (false, Some(refusal)) => writeln!(out, "verdict: refused, {}: {refusal}", refusal.name()),
            (false, None) => writeln!(out, "verdict: unknown, the signature was not checked"),
        }
    }
}

impl Verdict {
    /// A line for each check, and one for what it comes to.
    pub fn to_text(&self) -> String {
        let checks: String = self.checks.iter().map(|check| format!("{check}\n")).collect();
        let verdict = if self.accepted { "accepted" } else { "refused" };
        printable(&format!("{checks}verdict: {verdict}\n"))
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = match self.outcome {
            Outcome::Fail => "FAIL",
            Outcome::Pass => "pass",
            Outcome::Skipped => "skipped",
        };
        let reason = self.reason.map_or(String::new(), |reason| format!("{}: ", reason.name()));
        write!(f, "{outcome:<8} {:<19} {reason}{}", self.name, self.detail)
    }
}

/// Escapes what could drive the terminal.
fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => safe.push(c),
            _ if is_unprintable(c) => safe.extend(c.escape_unicode()),
            _ => safe.push(c),
        }
    }
    safe
}

fn write_json(out: &mut String, title: &str, value: Option<&Value>) -> fmt::Result {
    writeln!(out, "{title}")?;
    match value {
        Some(value) => format!("{value:#}").lines().try_for_each(|line| writeln!(out, "  {line}")),
        None => writeln!(out, "  unreadable"),
    }
}

/// Control characters, and those that are invisible or change the direction of what follows.
fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}
