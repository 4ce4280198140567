//! Kernel, rights, clock.

use super::{AS_ROOT, quoted, unseen};
use crate::doctor::Finding;
use crate::doctor::Severity::{Note, Problem, Warning};
use crate::doctor::facts::{Agent, BpfCall, Capabilities, Host, Pins, Version};

/// The oldest kernel that the agent is tested with.
const OLDEST: Version = Version(5, 15);
/// BPF maps are charged to the memory cgroup from here on, not to RLIMIT_MEMLOCK.
const NO_MEMLOCK: Version = Version(5, 11);
/// The arm64 JIT knows compare-exchange from here on (commit 1902472b4fa9).
const ARM64_EXCHANGE: Version = Version(5, 18);

/// 2025-01-01: no clock that is right shows an earlier date.
const EARLIEST_SECOND: u64 = 1_735_689_600;

/// Ports below need a capability (`net.ipv4.ip_unprivileged_port_start`).
const PRIVILEGED_PORTS: u16 = 1024;

const NET_BIND_SERVICE: (u32, &str) = (10, "CAP_NET_BIND_SERVICE");
const NET_ADMIN: (u32, &str) = (12, "CAP_NET_ADMIN");
const SYS_ADMIN: (u32, &str) = (21, "CAP_SYS_ADMIN");
const PERFMON: (u32, &str) = (38, "CAP_PERFMON");
const BPF: (u32, &str) = (39, "CAP_BPF");

/// Everything that all interfaces share.
pub fn check(host: &Host, agent: Option<&Agent>) -> Vec<Finding> {
    let mut findings = vec![kernel(host), btf(host), bpf(host), jit(host), unprivileged_bpf(host)];
    findings.push(capabilities(host, agent));
    findings.extend(memlock(host));
    findings.push(clock(host));
    findings
}

fn kernel(host: &Host) -> Finding {
    let (release, arch) = match &host.kernel {
        Ok(release) => (release, host.architecture),
        Err(error) => return unseen("kernel", "its version", error),
    };
    let upgrade = "apt-get install linux-image-generic || dnf upgrade kernel";
    let said = format!("{release} on {arch}");
    match host.version() {
        None => Finding::note("kernel", format!("{said}: no version that can be understood")),
        Some(version) if version < OLDEST => {
            Finding::bad(Problem, "kernel", format!("{said}: older than {OLDEST}"), upgrade)
        }
        Some(_) if !matches!(arch, "aarch64" | "x86_64") => Finding::bad(
            Warning,
            "kernel",
            format!("{said}: only x86_64 and aarch64 are supported"),
            "cargo xtask test",
        ),
        Some(version) if arch == "aarch64" && version < ARM64_EXCHANGE => Finding::bad(
            Warning,
            "kernel",
            format!(
                "{said}: this JIT can't compile the filter before {ARM64_EXCHANGE}: it is interpreted, or refused"
            ),
            upgrade,
        ),
        Some(_) => Finding::ok("kernel", said),
    }
}

fn btf(host: &Host) -> Finding {
    if host.btf {
        Finding::ok("btf", "/sys/kernel/btf/vmlinux")
    } else {
        Finding::note(
            "btf",
            "no /sys/kernel/btf/vmlinux: the filter loads without, but tools show less of it",
        )
    }
}

fn bpf(host: &Host) -> Finding {
    let able = host.capabilities.as_ref().is_ok_and(|held| has(*held, BPF) || has(*held, SYS_ADMIN));
    match host.bpf {
        BpfCall::Available => Finding::ok("bpf", "the system call answers"),
        BpfCall::Denied if able => Finding::bad(
            Problem,
            "bpf",
            "the system call is refused in spite of the capabilities: seccomp, an LSM or lockdown forbids it",
            "run it outside the container, or with a seccomp profile that allows bpf(2)",
        ),
        BpfCall::Denied => {
            Finding::bad(Note, "bpf", "the system call is refused to this user: not looked into", AS_ROOT)
        }
        BpfCall::Missing => Finding::bad(
            Problem,
            "bpf",
            "this kernel has no bpf system call",
            "boot a kernel with CONFIG_BPF_SYSCALL=y",
        ),
    }
}

fn jit(host: &Host) -> Finding {
    match &host.jit {
        Ok(0) => Finding::bad(
            Warning,
            "jit",
            "off: the filter is interpreted, several times slower",
            "sysctl -w net.core.bpf_jit_enable=1",
        ),
        Ok(_) => Finding::ok("jit", "on"),
        // The switch is shown in the host's own network namespace alone.
        Err(error) => Finding {
            fix: Some("sudo nsenter --net=/proc/1/ns/net sysctl net.core.bpf_jit_enable".to_owned()),
            ..unseen("jit", "net.core.bpf_jit_enable", error)
        },
    }
}

fn unprivileged_bpf(host: &Host) -> Finding {
    match &host.unprivileged_bpf {
        Ok(0) => Finding::bad(
            Warning,
            "unprivileged bpf",
            "any user may load BPF programs",
            "sysctl -w kernel.unprivileged_bpf_disabled=1",
        ),
        Ok(_) => Finding::ok("unprivileged bpf", "disabled"),
        Err(error) => unseen("unprivileged bpf", "kernel.unprivileged_bpf_disabled", error),
    }
}

fn has(Capabilities(held): Capabilities, (bit, _): (u32, &str)) -> bool {
    held >> bit & 1 == 1
}

fn capabilities(host: &Host, agent: Option<&Agent>) -> Finding {
    let held = match &host.capabilities {
        Ok(held) => *held,
        Err(error) => return unseen("capabilities", "those of this process", error),
    };
    let admin = has(held, SYS_ADMIN);
    let low_port = agent.is_some_and(|agent| {
        agent.listeners.iter().any(|listener| (1..PRIVILEGED_PORTS).contains(&listener.address.port()))
    });
    let lacking: Vec<_> = [(BPF, admin), (NET_ADMIN, false), (PERFMON, admin), (NET_BIND_SERVICE, !low_port)]
        .into_iter()
        .filter(|(capability, spared)| !spared && !has(held, *capability))
        .map(|((_, name), _)| name)
        .collect();
    let none = [BPF, NET_ADMIN, PERFMON, SYS_ADMIN].iter().all(|capability| !has(held, *capability));
    match &lacking[..] {
        [] => Finding::ok("capabilities", "all that are needed"),
        _ if none && !host.root => Finding::bad(
            Warning,
            "capabilities",
            "none: this user can't run the agent, and not all could be seen",
            AS_ROOT,
        ),
        lacking => Finding::bad(
            Problem,
            "capabilities",
            format!("{} missing", lacking.join(", ")),
            grant(lacking, host.root),
        ),
    }
}

fn grant(lacking: &[&str], root: bool) -> String {
    if root {
        // Root lacks capabilities only where somebody took them away.
        let options = lacking.iter().map(|name| format!(" --cap-add {}", name.trim_start_matches("CAP_")));
        format!("docker run{}", options.collect::<String>())
    } else {
        let names = lacking.join(",").to_lowercase();
        format!("sudo setcap {names}+ep \"$(command -v auth-agent)\"")
    }
}

fn memlock(host: &Host) -> Option<Finding> {
    let old = host.version().is_some_and(|version| version < NO_MEMLOCK);
    match &host.limits {
        Ok(limits) if old && limits.locked_memory != u64::MAX => Some(Finding::bad(
            Problem,
            "memlock",
            format!("{} bytes: before {NO_MEMLOCK} the maps must fit in", limits.locked_memory),
            "ulimit -l unlimited",
        )),
        Err(error) if old => Some(unseen("memlock", "the limit", error)),
        _ if host.version().is_some_and(|version| version >= NO_MEMLOCK) => {
            Some(Finding::ok("memlock", "not needed: this kernel charges maps to the memory cgroup"))
        }
        _ => None,
    }
}

fn clock(host: &Host) -> Finding {
    if host.now.0 < EARLIEST_SECOND {
        let seen = format!("shows second {} since 1970: every token looks issued in the future", host.now.0);
        return Finding::bad(Problem, "clock", seen, "timedatectl set-ntp true");
    }
    match &host.synchronised {
        Ok(true) => Finding::ok("clock", "synchronised"),
        Ok(false) => Finding::bad(
            Warning,
            "clock",
            "nobody keeps it in step: tokens will be taken too long, or refused too early",
            "timedatectl set-ntp true",
        ),
        Err(error) => unseen("clock", "whether it is synchronised", error),
    }
}

/// Where the filter lives on.
pub fn pins(pins: &Pins) -> Vec<Finding> {
    let directory = pins.directory.display();
    let home = if pins.on_bpffs {
        Finding::ok("bpffs", directory.to_string())
    } else {
        let usual = pins.directory.starts_with("/sys/fs/bpf");
        let mount = if usual { None } else { pins.directory.parent() };
        let mount = mount.map_or("/sys/fs/bpf".to_owned(), quoted);
        let fix = format!("mount -t bpf bpf {mount}");
        Finding::bad(Problem, "bpffs", format!("{directory} is not on a bpf file system"), fix)
    };
    let pinned = match &pins.pinned {
        Err(error) => Some(unseen("bpffs", "which filters are pinned", error)),
        Ok(pinned) if pinned.elsewhere.is_empty() => None,
        Ok(pinned) => Some(Finding::bad(
            Problem,
            "bpffs",
            format!(
                "{directory} holds filters of another network namespace, on {}: the agent will not start here",
                pinned.elsewhere.join(", ")
            ),
            "set another kernel.pin_directory",
        )),
    };
    std::iter::once(home).chain(pinned).collect()
}
