//! Kernel, rights, clock.

use super::*;

#[test]
fn kernel_rights_and_clock_are_judged() {
    each_row_has_one_finding(&[
        (
            |facts| facts.host.kernel = Ok("5.14.21-150500-default".to_owned()),
            Problem,
            "kernel",
            "older than 5.15",
            "apt-get install linux-image-generic || dnf upgrade kernel",
        ),
        (
            |facts| {
                facts.host.architecture = "aarch64";
                facts.host.kernel = Ok("5.15.0-91-generic".to_owned());
            },
            Warning,
            "kernel",
            "before 5.18",
            "apt-get install linux-image-generic || dnf upgrade kernel",
        ),
        (
            |facts| facts.host.architecture = "riscv64",
            Warning,
            "kernel",
            "only x86_64 and aarch64",
            "cargo xtask test",
        ),
        (|facts| facts.host.kernel = Ok("custom".to_owned()), Note, "kernel", "no version", ""),
        (|facts| facts.host.btf = false, Note, "btf", "loads without", ""),
        (
            |facts| facts.host.bpf = BpfCall::Missing,
            Problem,
            "bpf",
            "no bpf system call",
            "boot a kernel with CONFIG_BPF_SYSCALL=y",
        ),
        (
            |facts| facts.host.bpf = BpfCall::Denied,
            Problem,
            "bpf",
            "in spite of the capabilities",
            "run it outside the container, or with a seccomp profile that allows bpf(2)",
        ),
        (
            |facts| facts.host.jit = Ok(0),
            Warning,
            "jit",
            "interpreted",
            "sysctl -w net.core.bpf_jit_enable=1",
        ),
        (
            |facts| facts.host.jit = Err(Unseen::because("No such file or directory")),
            Note,
            "jit",
            "could not be seen: No such file",
            "sudo nsenter --net=/proc/1/ns/net sysctl net.core.bpf_jit_enable",
        ),
        (
            |facts| facts.host.unprivileged_bpf = Ok(0),
            Warning,
            "unprivileged bpf",
            "any user",
            "sysctl -w kernel.unprivileged_bpf_disabled=1",
        ),
        (|facts| facts.host.synchronised = Ok(false), Warning, "clock", "tokens", "timedatectl set-ntp true"),
        (
            |facts| {
                facts.host.now = UnixTime(1000);
                certificate(facts).validity = valid(0, NOW.0);
            },
            Problem,
            "clock",
            "second 1000 since 1970",
            "timedatectl set-ntp true",
        ),
    ]);
}

#[test]
fn missing_capabilities_are_named_with_what_grants_them() {
    each_row_has_one_finding(&[
        (
            |facts| facts.host.capabilities = Ok(Capabilities(1 << 12 | 1 << 10)),
            Problem,
            "capabilities",
            "CAP_BPF, CAP_PERFMON missing",
            "docker run --cap-add BPF --cap-add PERFMON",
        ),
        (
            |facts| {
                facts.host.root = false;
                facts.host.capabilities = Ok(Capabilities(1 << 39 | 1 << 12 | 1 << 38));
            },
            Problem,
            "capabilities",
            "CAP_NET_BIND_SERVICE missing",
            "sudo setcap cap_net_bind_service+ep \"$(command -v auth-agent)\"",
        ),
        (
            |facts| {
                facts.host.root = false;
                facts.host.capabilities = Ok(Capabilities(0));
            },
            Warning,
            "capabilities",
            "this user can't run the agent",
            "sudo auth-agent doctor",
        ),
    ]);
    // CAP_SYS_ADMIN stands for CAP_BPF and CAP_PERFMON, and a high port needs no capability.
    let mut facts = healthy();
    facts.host.capabilities = Ok(Capabilities(1 << 21 | 1 << 12));
    listener(&mut facts).address = "[::]:8443".parse().unwrap();
    assert!(check::all(&facts).iter().all(|finding| finding.severity == Severity::Ok));
}

#[test]
fn locked_memory_matters_to_old_kernels_alone() {
    let mut facts = healthy();
    facts.host.kernel = Ok("5.10.0".to_owned());
    let findings = check::all(&facts);
    let memlock = findings.iter().find(|finding| finding.area == "memlock").unwrap();
    assert_eq!((memlock.severity, memlock.fix.as_deref()), (Problem, Some("ulimit -l unlimited")));
    let findings = check::all(&healthy());
    let memlock = findings.iter().find(|finding| finding.area == "memlock").unwrap();
    assert_eq!((memlock.severity, &*memlock.fix.clone().unwrap_or_default()), (Severity::Ok, ""));
}
