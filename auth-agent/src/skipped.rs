//! What a test can't do on this machine is said past the harness, which keeps the output of those that pass.

use std::io::Write as _;

/// Says why a test does not run.
pub fn say(test: &str, reason: &str) {
    // Nobody may be there to read it.
    let _ = writeln!(std::io::stderr(), "skipped: {test}: {reason}");
}
