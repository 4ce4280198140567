//! What the configuration asks for.

use super::*;

#[test]
fn listeners_certificates_and_store_are_judged() {
    each_row_has_one_finding(&[
        (
            |facts| listener(facts).port = Ok(Port::Taken(Some(Process { id: 7, name: "nginx".to_owned() }))),
            Problem,
            "listener",
            "[::]:443: nginx (pid 7) listens there",
            "ss -ltnp 'sport = :443'",
        ),
        (
            |facts| listener(facts).port = Ok(Port::Taken(None)),
            Problem,
            "listener",
            "another process",
            "ss -ltnp 'sport = :443'",
        ),
        (
            |facts| listener(facts).port = Ok(Port::NotHere),
            Problem,
            "listener",
            "no interface has",
            "ip -br address",
        ),
        (
            |facts| certificate(facts).validity = valid(0, NOW.0 - 3 * 86_400),
            Problem,
            "certificate",
            "expired 3 days ago",
            "openssl x509 -noout -subject -dates -in /etc/edge.pem",
        ),
        (
            |facts| certificate(facts).validity = valid(0, NOW.0 + 86_400),
            Warning,
            "certificate",
            "expires in 1 day",
            "openssl x509 -noout -subject -dates -in /etc/edge.pem",
        ),
        (
            |facts| certificate(facts).validity = valid(NOW.0 + 7200, NOW.0 + 90 * 86_400),
            Problem,
            "certificate",
            "not valid before 2 hours from now",
            "openssl x509 -noout -subject -dates -in /etc/edge.pem",
        ),
        (
            |facts| {
                certificate(facts).validity = Err(Unseen::because("the private key does not belong to it"));
            },
            Problem,
            "certificate",
            "does not belong",
            "openssl x509 -noout -subject -dates -in /etc/edge.pem",
        ),
        (
            |facts| {
                let later =
                    Certificate { path: "/etc/other.pem".into(), validity: valid(0, NOW.0 + 13 * 86_400) };
                listener(facts).certificates.push(later);
            },
            Warning,
            "certificate",
            "/etc/other.pem expires in 13 days",
            "openssl x509 -noout -subject -dates -in /etc/other.pem",
        ),
        (
            |facts| {
                facts.agent.as_mut().unwrap().store.state = Ok(Some(Rights { directory: true, mode: 0o755 }));
            },
            Problem,
            "store",
            "mode 0755",
            "chmod 700 /var/lib/auth-agent",
        ),
        (
            |facts| {
                facts.agent.as_mut().unwrap().store.state =
                    Ok(Some(Rights { directory: false, mode: 0o600 }));
            },
            Problem,
            "store",
            "not a directory",
            "set store.directory to another one",
        ),
        (
            |facts| {
                facts.host.limits = Ok(Limits { locked_memory: 0, open_files: 4096 });
            },
            Warning,
            "open files",
            "needs 20512",
            "ulimit -Hn 20512 # as root; for the service, LimitNOFILE=20512 in its unit",
        ),
        (
            |facts| facts.config.state = ConfigState::Broken(3, "file:1: wrong".to_owned()),
            Problem,
            "config",
            "file:1: wrong (and 2 more)",
            "auth-agent --config /etc/auth-agent/config.toml config check",
        ),
        (
            |facts| {
                facts.pins.on_bpffs = false;
                facts.pins.directory = "/run/my bpf/agent".into();
            },
            Problem,
            "bpffs",
            "not on a bpf file system",
            "mount -t bpf bpf '/run/my bpf'",
        ),
    ]);
    let mut facts = healthy();
    listener(&mut facts).port = Ok(Port::Taken(Some(Process { id: 7, name: "auth-agent".to_owned() })));
    assert!(check::all(&facts).iter().all(|finding| finding.severity == Severity::Ok));
}
