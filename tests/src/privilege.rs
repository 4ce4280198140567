//! What this process may do, and skipping loudly what it may not.

use std::path::Path;

/// Why tests that need the kernel can't run here, if they can't.
pub fn missing() -> Option<&'static str> {
    // SAFETY: the call has no preconditions.
    #[allow(unsafe_code, reason = "std does not tell the user id")]
    let user = unsafe { libc::geteuid() };
    if user != 0 {
        return Some("needs root");
    }
    if !Path::new("/sys/fs/bpf").exists() {
        return Some("needs bpffs at /sys/fs/bpf");
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
