//! What the agent says when it can't start (promise P12): one line that names the thing and the cure, exit code 1,
//! and nothing left behind.

use std::fs;
use std::net::TcpListener;
use std::process::Command;

use anyhow::Result;
use tests::agent::{Setup, binary};
use tests::kernel::PinDirectory;
use tests::netns::Namespace;
use tests::privilege;

const UPSTREAM: &str = "http://127.0.0.1:9000";

/// A namespace and a setup that would start.
fn scene() -> (Namespace, Setup) {
    let setup = Setup::new(&["localhost"]).unwrap();
    setup.configure("lo", "generic", UPSTREAM, "").unwrap();
    (Namespace::new().unwrap(), setup)
}

fn replace(setup: &Setup, from: &str, to: &str) {
    let path = setup.path("config.toml");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{from}");
    fs::write(path, text.replace(from, to)).unwrap();
}

/// Runs the agent, which must refuse, and returns what it said.
fn refusal(mut command: Command, setup: &Setup) -> String {
    let output = command.arg("--config").arg(setup.path("config.toml")).arg("run").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    said
}

/// What breaks the scene, and what the refusal must say.
type Case = (&'static str, fn(&Namespace, &Setup) -> Result<()>, &'static [&'static str]);

const CASES: &[Case] = &[
    (
        "an interface that is not there",
        |_, setup| {
            replace(setup, r#"["lo"]"#, r#"["eth7"]"#);
            Ok(())
        },
        &["eth7", "this host has: lo", "kernel.interfaces"],
    ),
    (
        "a tunnel, whose packets have no Ethernet header",
        |namespace, setup| {
            namespace.ip(&["tuntap", "add", "mode", "tun", "name", "tun0"])?;
            replace(setup, r#"["lo"]"#, r#"["lo", "tun0"]"#);
            Ok(())
        },
        &["tun0", "no Ethernet frames", "kernel.interfaces"],
    ),
    (
        "no bpf file system",
        |_, setup| {
            let elsewhere = setup.path("pins");
            replace(setup, &setup.pins().display().to_string(), &elsewhere.display().to_string());
            Ok(())
        },
        &["pins", "mount -t bpf bpf /sys/fs/bpf"],
    ),
    (
        "a certificate that is not there",
        |_, setup| Ok(fs::remove_file(setup.path("edge.pem"))?),
        &["edge.pem"],
    ),
    ("a key that is not one", |_, setup| setup.write("edge.key", "not a key"), &["edge.key"]),
    (
        "an issuer's key that is not there",
        |_, setup| Ok(fs::remove_file(setup.path("issuer.pem"))?),
        &["issuer.pem"],
    ),
    (
        "the authorities of an issuer's server that are not there",
        |_, setup| {
            replace(
                setup,
                r#"keys = "issuer.pem""#,
                "jwks_url = \"https://127.0.0.1:1/keys\"\nca = \"absent.pem\"",
            );
            Ok(())
        },
        &["absent.pem", "check the path"],
    ),
    (
        "an issuer's private key",
        |_, setup| {
            fs::copy(setup.path("edge.key"), setup.path("issuer.pem"))?;
            Ok(())
        },
        &["issuer.pem", "private"],
    ),
    (
        "a database that is none",
        |_, setup| {
            use std::os::unix::fs::DirBuilderExt;
            fs::DirBuilder::new().mode(0o700).create(setup.path("store"))?;
            for name in database_names(setup)? {
                fs::write(setup.path("store").join(name), "no database, whatever its name says".repeat(99))?;
            }
            Ok(())
        },
        &["store"],
    ),
    (
        "a configuration with a mistake",
        |_, setup| {
            replace(setup, "sources = 65536", "sources = 65000");
            Ok(())
        },
        &["config.toml:", "kernel.sources", "power of two"],
    ),
];

/// The name of the database file, from a store that works.
fn database_names(setup: &Setup) -> Result<Vec<String>> {
    let sample = setup.path("sample");
    drop(auth_agent::store::Store::open(&sample, auth_agent::clock::UnixTime::now())?);
    let names = fs::read_dir(sample)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    Ok(names.collect::<Result<Vec<_>>>()?.into_iter().filter(|name| name.contains("db")).collect())
}

#[test]
fn the_agent_names_what_keeps_it_from_starting_and_leaves_no_pin_behind() {
    if !privilege::kernel_usable("refusals at start") {
        return;
    }
    for (what, break_it, expected) in CASES {
        let (namespace, setup) = scene();
        break_it(&namespace, &setup).unwrap();
        let program = binary().unwrap();
        let said = refusal(namespace.command(&program.to_string_lossy()), &setup);
        for words in *expected {
            assert!(said.contains(words), "{what}: no {words:?} in: {said}");
        }
        let error = said.lines().last().unwrap_or_default();
        assert!(error.starts_with("auth-agent: "), "{what}: the last line is not the refusal: {said}");
        let left = auth_agent::kernel::detach(setup.pins()).unwrap();
        assert!(left.interfaces.is_empty(), "{what}: left attached to {:?}", left.interfaces);
    }
}

#[test]
fn a_taken_port_is_named() {
    if !privilege::kernel_usable("a taken port") {
        return;
    }
    let (namespace, setup) = scene();
    let _taken = namespace.run(|| Ok(TcpListener::bind("[::]:8443")?)).unwrap();
    let said = refusal(namespace.command(&binary().unwrap().to_string_lossy()), &setup);
    assert!(said.contains("8443") && said.contains("ss -ltnp"), "{said}");
}

#[test]
fn missing_rights_are_named() {
    if !privilege::kernel_usable("missing rights") {
        return;
    }
    let (namespace, setup) = scene();
    let mut command = namespace.command("setpriv");
    command.arg("--bounding-set=-sys_admin,-bpf,-net_admin,-perfmon").arg(binary().unwrap());
    let said = refusal(command, &setup);
    assert!(said.contains("CAP_BPF") && said.contains("run as root"), "{said}");
}

#[test]
fn another_xdp_program_is_named_and_left_alone() {
    if !privilege::kernel_usable("another XDP program") {
        return;
    }
    let (namespace, first) = scene();
    let _agent = first.start(&namespace).unwrap();
    let second = Setup::new(&["localhost"]).unwrap();
    second.configure("lo", "generic", UPSTREAM, "").unwrap();
    replace(&second, "8443", "9443");
    let said = refusal(namespace.command(&binary().unwrap().to_string_lossy()), &second);
    let status = first.json(&["status"]).unwrap();
    let program = status["filter"]["interfaces"][0]["program_id"].to_string();
    assert!(said.contains("another XDP program") && said.contains(&program), "{said}");
}

#[test]
fn a_second_agent_on_the_same_store_is_refused() {
    if !privilege::kernel_usable("a second agent") {
        return;
    }
    let (namespace, setup) = scene();
    let _agent = setup.start(&namespace).unwrap();
    let said = refusal(namespace.command(&binary().unwrap().to_string_lossy()), &setup);
    assert!(said.contains("store") || said.contains("another agent"), "{said}");
    assert!(setup.cli(&["status"]).unwrap().status.success(), "the first agent suffered");
}

#[test]
fn a_second_agent_on_the_same_pins_is_refused() {
    if !privilege::kernel_usable("a second agent on the same pins") {
        return;
    }
    let (namespace, first) = scene();
    let agent = first.start(&namespace).unwrap();
    let second = Setup::new(&["localhost"]).unwrap();
    second.configure("lo", "generic", UPSTREAM, "").unwrap();
    replace(&second, "8443", "9443");
    replace(&second, &second.pins().display().to_string(), &first.pins().display().to_string());
    let said = refusal(namespace.command(&binary().unwrap().to_string_lossy()), &second);
    assert!(said.contains("another running agent") && said.contains("kernel.pin_directory"), "{said}");
    agent.kill().unwrap();
    drop(second.start(&namespace).unwrap());
}

#[test]
fn verbs_without_an_agent_say_how_to_start_one() {
    let setup = Setup::new(&["localhost"]).unwrap();
    setup.configure("lo", "generic", UPSTREAM, "").unwrap();
    let output = setup.cli(&["status"]).unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("auth-agent run") && said.contains("control.sock"), "{said}");
}

#[test]
fn pins_of_another_layout_are_refused() {
    if !privilege::kernel_usable("pins of another layout") {
        return;
    }
    let (namespace, setup) = scene();
    setup.start(&namespace).unwrap().kill().unwrap();
    tests::kernel::set_layout_version(setup.pins(), 999).unwrap();
    let said = refusal(namespace.command(&binary().unwrap().to_string_lossy()), &setup);
    assert!(said.contains("layout 999") && said.contains("auth-agent detach"), "{said}");
    // Nothing was lost: with the version put right, it is adopted.
    tests::kernel::set_layout_version(setup.pins(), auth_common::layout::VERSION).unwrap();
    drop(setup.start(&namespace).unwrap());
}

#[test]
fn a_pin_directory_that_was_never_used_detaches_nothing() {
    let pins = PinDirectory::new();
    assert!(auth_agent::kernel::detach(pins.path()).unwrap().interfaces.is_empty());
}
