//! Each finding, from facts that no machine needs to have.

mod agent;
mod driver;
mod host;
mod interface;

use super::Severity::{Note, Problem, Warning};
use super::facts::*;
use super::*;
use crate::clock::UnixTime;
use crate::config::XdpMode;
use crate::tls::Validity;

const NOW: UnixTime = UnixTime(1_800_000_000);
const ALL_CAPABILITIES: u64 = 0x1ff_ffff_ffff;

/// A host on which everything is as it should be.
fn healthy() -> Facts {
    Facts {
        agent: Some(Agent {
            connections: 10_000,
            descriptors: 20_512,
            listeners: vec![Listener {
                address: "[::]:443".parse().unwrap(),
                certificates: vec![Certificate {
                    path: "/etc/edge.pem".into(),
                    validity: valid(NOW.0 - 1, NOW.0 + 90 * 86_400),
                }],
                port: Ok(Port::Free),
            }],
            store: Store {
                directory: "/var/lib/auth-agent".into(),
                state: Ok(Some(Rights { directory: true, mode: 0o700 })),
            },
        }),
        config: Configuration { path: "/etc/auth-agent/config.toml".into(), state: ConfigState::Good },
        host: Host {
            architecture: "x86_64",
            bpf: BpfCall::Available,
            btf: true,
            capabilities: Ok(Capabilities(ALL_CAPABILITIES)),
            cpus: 4,
            jit: Ok(1),
            kernel: Ok("6.1.0-18-amd64".to_owned()),
            limits: Ok(Limits { locked_memory: 65_536, open_files: 524_288 }),
            now: NOW,
            page: 4096,
            root: true,
            synchronised: Ok(true),
            unprivileged_bpf: Ok(2),
        },
        interfaces: vec![Interface { late: false, link: Some(link()), name: "eth0".to_owned() }],
        mode: XdpMode::Native,
        others: Vec::new(),
        pins: Pins {
            directory: "/sys/fs/bpf/auth-agent".into(),
            on_bpffs: true,
            pinned: Ok(Pinned::default()),
        },
        replace: false,
    }
}

fn link() -> Link {
    Link {
        channels: Some(Channels { combined: true, in_use: 4, most: 8 }),
        driver: Some("ena".to_owned()),
        ethernet: true,
        features: Some(Features::default()),
        index: 2,
        interrupts: Some(Interrupts { cpus: vec![0, 1, 2, 3], numbers: vec![24, 25, 26, 27] }),
        kind: None,
        lower: None,
        master: None,
        mtu: 1500,
        native: Native { source: NativeSource::Kernel, supported: Some(true) },
        peer: None,
        program: None,
        programs_above: Vec::new(),
        rps: Some((0, 4)),
        rss: Some(4),
        up: true,
        vlans: Vec::new(),
    }
}

fn denied() -> Unseen {
    Unseen { denied: true, why: "Permission denied".to_owned() }
}

fn on_link(facts: &mut Facts) -> &mut Link {
    facts.interfaces[0].link.as_mut().unwrap()
}

fn valid(not_before: u64, not_after: u64) -> Seen<Validity> {
    Ok(Validity { not_after: UnixTime(not_after), not_before: UnixTime(not_before) })
}

fn certificate(facts: &mut Facts) -> &mut Certificate {
    &mut listener(facts).certificates[0]
}

fn listener(facts: &mut Facts) -> &mut Listener {
    &mut facts.agent.as_mut().unwrap().listeners[0]
}

/// What is done to the healthy host, and the only finding that is then not ok: severity, subject, words of it, fix.
type Row = (fn(&mut Facts), Severity, &'static str, &'static str, &'static str);

#[track_caller]
fn each_row_has_one_finding(table: &[Row]) {
    for (change, severity, subject, words, fix) in table {
        let mut facts = healthy();
        change(&mut facts);
        let findings = check::all(&facts);
        let noted: Vec<_> = findings.iter().filter(|finding| finding.severity != Severity::Ok).collect();
        let [finding] = &noted[..] else { panic!("{subject}, {words}: {noted:#?}") };
        let interface = finding.interface.as_deref().map(|name| format!("{name} ")).unwrap_or_default();
        assert_eq!(
            (
                finding.severity,
                &*format!("{interface}{}", finding.area),
                finding.fix.as_deref().unwrap_or("")
            ),
            (*severity, *subject, *fix),
            "{finding:?}"
        );
        assert!(finding.seen.contains(words), "{words}: {}", finding.seen);
    }
}

#[test]
fn a_healthy_host_has_nothing_but_ok() {
    let findings = check::all(&healthy());
    assert!(findings.iter().all(|finding| finding.severity == Severity::Ok), "{findings:#?}");
    assert!(findings.iter().all(|finding| finding.fix.is_none()));
    assert!(Report::new(findings).ok);
}

#[test]
fn what_this_user_may_not_see_is_said_and_is_no_problem() {
    let mut facts = healthy();
    facts.config.state = ConfigState::Unseen(denied());
    facts.host.bpf = BpfCall::Denied;
    facts.host.capabilities = Ok(Capabilities(0));
    facts.host.root = false;
    facts.pins.pinned = Err(denied());
    on_link(&mut facts).program = interface::program(None, Holder::Unseen);
    listener(&mut facts).port = Ok(Port::Taken(None));
    certificate(&mut facts).validity = Err(denied());
    facts.agent.as_mut().unwrap().store.state = Err(denied());
    let report = Report::new(check::all(&facts));
    assert!(report.ok, "{:#?}", report.findings);
    let unseen: Vec<_> = report.findings.iter().filter(|finding| finding.severity != Severity::Ok).collect();
    let areas: Vec<_> = unseen.iter().map(|finding| finding.area).collect();
    let expected = ["config", "bpf", "bpffs", "xdp", "store", "listener", "certificate", "capabilities"];
    assert_eq!(areas, expected, "{unseen:#?}");
    for finding in unseen {
        assert!(finding.fix.as_deref().is_some_and(|fix| fix.starts_with("sudo ")), "{finding:?}");
    }
}

#[test]
fn the_report_puts_problems_last_and_one_of_them_is_enough() {
    let mut facts = healthy();
    facts.host.btf = false;
    facts.host.jit = Ok(0);
    on_link(&mut facts).mtu = 9000;
    let report = Report::new(check::all(&facts));
    assert!(!report.ok);
    assert!(report.findings.is_sorted_by_key(|finding| finding.severity));
    assert_eq!([Note, Warning, Problem].map(|severity| report.count(severity)), [1, 1, 1]);
}
