//! What this process may do, and skipping loudly what it may not.

use std::fs;
use std::os::unix::fs::MetadataExt;

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
    assert!(std::env::var_os("CI").is_none(), "{test}: {reason}, and nothing is skipped in CI");
    eprintln!("skipped: {test}: {reason}");
    false
}
