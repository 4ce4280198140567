//! What this process may do, and skipping loudly what it may not.

use std::fmt::Display;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt;

use crate::guest;
use crate::netns::Namespace;

/// Why tests that need the kernel can't run here, if they can't.
pub fn missing() -> Option<&'static str> {
    if !fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0) {
        return Some("needs root");
    }
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    if !mounts.lines().any(|mount| mount.split(' ').nth(1) == Some("/sys/fs/bpf")) {
        return Some("needs bpffs: `mount -t bpf bpf /sys/fs/bpf`");
    }
    None
}

/// Whether a test that needs the kernel can go on. In CI a skipped test is a failed one.
///
/// # Panics
/// Where the environment has `CI` set and the kernel can't be used.
pub fn kernel_usable(test: &str) -> bool {
    let Some(reason) = missing() else { return true };
    skip(test, reason);
    false
}

/// Says that a test is skipped, and why.
///
/// # Panics
/// Where the environment has `CI` set.
pub fn skip(test: &str, reason: impl Display) {
    assert!(std::env::var_os("CI").is_none(), "{test}: {reason}, and nothing is skipped in CI");
    say(test, reason);
}

/// Says so past the harness, which keeps the output of tests that pass.
pub(crate) fn say(test: &str, reason: impl Display) {
    // Nobody may be there to read it.
    let _ = writeln!(std::io::stderr(), "skipped: {test}: {reason}");
}

/// Whether a test that needs a kind of interface can go on: what `ip link add` is told beside a name, where `v0`
/// is there to lie below. What this kernel does not have, the guest's has.
///
/// # Panics
/// Where it is the guest that has none.
pub fn interface_usable(test: &str, kind: &[&str]) -> bool {
    if !kernel_usable(test) {
        return false;
    }
    let made = Namespace::new().and_then(|namespace| {
        namespace.ip(&["link", "add", "v0", "type", "veth", "peer", "name", "v1"])?;
        namespace.ip(&[&["link", "add", "name", "probe0"], kind].concat())
    });
    let Err(error) = made else { return true };
    assert!(!guest::is_inside(), "{test}: {error:#}");
    say(test, format_args!("not on this kernel, but in the guest: {error:#}"));
    false
}
