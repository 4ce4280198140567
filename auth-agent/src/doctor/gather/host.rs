//! What all interfaces share.

use std::fs;
use std::path::Path;

use crate::clock::UnixTime;
use crate::doctor::facts::{Capabilities, Host, Limits, Seen, Unseen, Version};
use crate::doctor::system;

/// Gathers it.
pub fn host(now: UnixTime) -> Host {
    let status = read("/proc/self/status");
    let effective_user =
        status.as_ref().ok().and_then(|status| field(status, "Uid:")?.split_whitespace().nth(1));
    Host {
        architecture: std::env::consts::ARCH,
        bpf: system::bpf(),
        btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
        cpus: cpus(),
        jit: number("/proc/sys/net/core/bpf_jit_enable"),
        kernel: read("/proc/sys/kernel/osrelease").map(|release| release.trim().to_owned()),
        limits: read("/proc/self/limits")
            .and_then(|text| limits(&text).ok_or_else(|| odd("/proc/self/limits"))),
        now,
        page: system::page(),
        root: effective_user == Some("0"),
        synchronised: system::synchronised().map_err(Unseen::from),
        unprivileged_bpf: number("/proc/sys/kernel/unprivileged_bpf_disabled"),
        capabilities: status.and_then(|status| capabilities(&status).ok_or_else(|| odd("/proc/self/status"))),
    }
}

impl Host {
    /// The kernel's version, where it is known.
    pub fn version(&self) -> Option<Version> {
        Version::parse(self.kernel.as_ref().ok()?)
    }
}

fn read(path: &str) -> Seen<String> {
    fs::read_to_string(path).map_err(|error| Unseen { why: format!("{path}: {error}"), ..error.into() })
}

fn number(path: &str) -> Seen<u32> {
    read(path)?.trim().parse().map_err(|_| odd(path))
}

fn odd(path: &str) -> Unseen {
    Unseen::because(format!("{path}: can't be understood"))
}

fn field<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

fn capabilities(status: &str) -> Option<Capabilities> {
    u64::from_str_radix(field(status, "CapEff:")?, 16).ok().map(Capabilities)
}

/// Soft and hard limits stand behind the name, `unlimited` or a number.
fn limits(text: &str) -> Option<Limits> {
    let pair = |name| {
        let mut values = field(text, name)?.split_whitespace().map(|value| match value {
            "unlimited" => Some(u64::MAX),
            number => number.parse().ok(),
        });
        Some((values.next()??, values.next()??))
    };
    let (_, open_files) = pair("Max open files")?;
    let (locked_memory, _) = pair("Max locked memory")?;
    Some(Limits { locked_memory, open_files })
}

/// Online processors, whatever this process may use of them: packets arrive on all.
fn cpus() -> usize {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let numbered = |line: &&str| {
        line.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    stat.lines().filter(numbered).count().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_and_capabilities_are_read_as_proc_writes_them() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max open files            1024                 524288               files     \n\
                    Max locked memory         unlimited            unlimited            bytes     \n";
        let expected = Limits { locked_memory: u64::MAX, open_files: 524_288 };
        assert_eq!(limits(text), Some(expected));
        assert_eq!(limits(""), None);
        let status = "Name:\tx\nCapPrm:\t0000000000000000\nCapEff:\t000001ffffffffff\n";
        assert_eq!(capabilities(status), Some(Capabilities(0x1ff_ffff_ffff)));
    }
}
