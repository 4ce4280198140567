//! `auth-agent doctor`: what it foretells is what the kernel does.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output};

use serde_json::Value;
use tests::agent::{self, Setup};
use tests::netns::Namespace;
use tests::privilege;

const UPSTREAM: &str = "http://127.0.0.1:9000";
const NOBODY: u32 = 65_534;

struct Doctor {
    code: i32,
    findings: Vec<Value>,
}

impl Doctor {
    fn read(output: &Output) -> Self {
        let text = String::from_utf8_lossy(&output.stdout);
        let report: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {output:?}"));
        let code = output.status.code().unwrap();
        assert_eq!(report["ok"], code == 0, "{report}");
        Self { code, findings: report["findings"].as_array().unwrap().clone() }
    }

    fn ask(setup: &Setup, namespace: &Namespace) -> Self {
        let mut command = namespace.command(&agent::binary().unwrap().to_string_lossy());
        command.arg("--config").arg(setup.path("config.toml")).args(["--json", "doctor"]);
        Self::read(&command.output().unwrap())
    }

    /// Severity and words of the only finding about this.
    #[track_caller]
    fn about(&self, area: &str) -> (&str, &str) {
        let found: Vec<_> = self.findings.iter().filter(|finding| finding["area"] == area).collect();
        let [finding] = &found[..] else { panic!("{area}: {:#?}", self.findings) };
        (finding["severity"].as_str().unwrap(), finding["seen"].as_str().unwrap())
    }
}

#[test]
fn where_it_foretells_a_problem_with_native_mode_the_agent_does_not_start() {
    if !privilege::kernel_usable("foretelling native mode") {
        return;
    }
    let namespace = Namespace::new().unwrap();
    namespace.ip(&["link", "add", "v0", "type", "veth", "peer", "name", "v1"]).unwrap();
    // The largest MTU that veth takes from its other end with XDP, in pages of 4 KiB.
    let table = [("v0", "3506", "ok", "ok"), ("v0", "3507", "ok", "problem"), ("lo", "1500", "problem", "")];
    for (interface, mtu, driver, mtu_severity) in table {
        namespace.ip(&["link", "set", "dev", "v1", "mtu", mtu]).unwrap();
        let setup = Setup::new(&["localhost"]).unwrap();
        setup.configure(interface, "native", UPSTREAM, "").unwrap();
        let doctor = Doctor::ask(&setup, &namespace);
        assert_eq!(doctor.about("driver").0, driver, "{interface}");
        if !mtu_severity.is_empty() {
            assert_eq!(doctor.about("mtu").0, mtu_severity, "{interface} with {mtu}");
        }
        let started = setup.start(&namespace);
        assert_eq!(
            started.is_ok(),
            doctor.code == 0,
            "{interface} with {mtu}: {:?}, {:#?}",
            started.err(),
            doctor.findings
        );
    }
}

#[test]
fn it_knows_its_own_filter_and_that_of_another_agent() {
    if !privilege::kernel_usable("knowing the filter") {
        return;
    }
    let namespace = Namespace::new().unwrap();
    namespace.ip(&["link", "add", "v0", "type", "veth", "peer", "name", "v1"]).unwrap();
    namespace.ip(&["link", "set", "dev", "v0", "up"]).unwrap();
    let (own, other) = (Setup::new(&["localhost"]).unwrap(), Setup::new(&["localhost"]).unwrap());
    for setup in [&own, &other] {
        setup.configure("v0", "native", UPSTREAM, "").unwrap();
    }
    assert_eq!(Doctor::ask(&own, &namespace).about("listener"), ("ok", "[::]:8443 is free"));
    let running = own.start(&namespace).unwrap();

    let doctor = Doctor::ask(&own, &namespace);
    let (severity, seen) = doctor.about("xdp");
    assert!(severity == "ok" && seen.starts_with("the filter (program "), "{seen}");
    let (severity, seen) = doctor.about("listener");
    assert!(severity == "ok" && seen.starts_with("[::]:8443: an agent listens (pid "), "{seen}");
    assert_eq!(doctor.about("store").0, "ok");
    assert_eq!((doctor.about("certificate").0, doctor.code), ("ok", 0), "{:#?}", doctor.findings);

    running.kill().unwrap();
    let doctor = Doctor::ask(&other, &namespace);
    let (severity, seen) = doctor.about("xdp");
    assert!(severity == "problem" && seen.contains("another kernel.pin_directory"), "{seen}");
    assert_eq!(doctor.code, 1);
    assert!(other.start(&namespace).is_err());
}

#[test]
fn bridges_and_their_ports_are_recognised() {
    if !privilege::kernel_usable("bridges") {
        return;
    }
    let namespace = Namespace::new().unwrap();
    namespace.ip(&["link", "add", "v0", "type", "veth", "peer", "name", "v1"]).unwrap();
    if let Err(error) = namespace.ip(&["link", "add", "b0", "type", "bridge"]) {
        assert!(std::env::var_os("CI").is_none(), "bridges: {error:#}, and nothing is skipped in CI");
        eprintln!("skipped: bridges: {error:#}");
        return;
    }
    namespace.ip(&["link", "set", "dev", "v0", "master", "b0"]).unwrap();
    let doctor = |interface: &str| {
        let mut command = namespace.command(&agent::binary().unwrap().to_string_lossy());
        Doctor::read(&command.args(["--json", "doctor", "--interface", interface]).output().unwrap())
    };
    let port = doctor("v0");
    assert_eq!(port.about("bridge").0, "note", "{:#?}", port.findings);
    assert!(port.about("bridge").1.contains("a port of b0"));
    assert_eq!(doctor("b0").about("bridge").0, "warning");
}

#[test]
fn without_root_it_says_what_it_could_not_see() {
    if !privilege::kernel_usable("dropping root") {
        return;
    }
    let setup = Setup::new(&["localhost"]).unwrap();
    setup.configure("lo", "generic", UPSTREAM, "").unwrap();
    fs::set_permissions(setup.path("config.toml"), fs::Permissions::from_mode(0o600)).unwrap();
    // A copy where everyone may enter: the build's folder need not let others in.
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let copy = folder.path().join("auth-agent");
    fs::copy(agent::binary().unwrap(), &copy).unwrap();
    let mut command = Command::new(&copy);
    command.arg("--config").arg(setup.path("config.toml")).args(["--json", "doctor", "--interface", "lo"]);
    let doctor = Doctor::read(&command.uid(NOBODY).gid(NOBODY).output().unwrap());
    assert_eq!(doctor.code, 0, "{:#?}", doctor.findings);
    let (severity, seen) = doctor.about("config");
    assert!(severity == "note" && seen.contains("could not be seen: Permission denied"), "{seen}");
    assert_eq!(doctor.about("capabilities").0, "warning");
}
