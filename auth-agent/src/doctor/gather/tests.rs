//! On this machine: what must be true of any.

use std::net::TcpListener;

use super::*;
use crate::doctor::facts::{Pinned, Port, Process, Version};

fn request(interfaces: &[&str]) -> Request {
    Request {
        config: "/absent/config.toml".into(),
        config_named: false,
        interfaces: interfaces.iter().map(|&name| name.to_owned()).collect(),
    }
}

#[test]
fn the_loopback_interface_is_seen_as_what_it_is() {
    let facts = facts(&request(&["lo", "absent0"]));
    assert!(facts.host.version().unwrap() >= Version(4, 18), "{:?}", facts.host.kernel);
    assert!(facts.host.cpus >= 1 && facts.host.page >= 4096);
    let [lo, absent] = &facts.interfaces[..] else { panic!("{:?}", facts.interfaces) };
    let link = lo.link.as_ref().unwrap();
    assert!(lo.name == "lo" && link.native.supported != Some(true), "{link:?}");
    assert!(link.mtu > 1500 && link.master.is_none() && link.lower.is_none(), "{link:?}");
    assert!(absent.link.is_none());
    assert!(!facts.others.contains(&"lo".to_owned()));
}

#[test]
fn a_named_configuration_must_be_there_and_the_default_one_need_not() {
    let absent = request(&[]);
    assert_eq!(configuration(&absent).0, ConfigState::Absent);
    let named = Request { config_named: true, ..absent };
    let (state, config) = configuration(&named);
    assert!(config.is_none());
    assert!(
        matches!(&state, ConfigState::Broken(1, first) if first.contains("/absent/config.toml")),
        "{state:?}"
    );
}

#[test]
fn a_taken_port_names_its_process_and_a_free_one_stays_free() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let Ok(Port::Taken(Some(Process { id, .. }))) = ports::probe(address) else { panic!("not taken") };
    assert_eq!(id, std::process::id());
    let everywhere = ([0, 0, 0, 0], address.port()).into();
    assert!(matches!(ports::probe(everywhere), Ok(Port::Taken(_))));
    assert_eq!(ports::probe("192.0.2.1:443".parse().unwrap()), Ok(Port::NotHere));
    drop(listener);
    assert_eq!(ports::probe(address), Ok(Port::Free));
    // Twice: probing leaves nothing behind.
    assert_eq!(ports::probe(address), Ok(Port::Free));
}

#[test]
fn the_directory_of_the_pins_is_judged_by_its_file_system() {
    let directory = tempfile::tempdir().unwrap();
    let pins = pins(directory.path().join("pins"));
    assert!(!pins.on_bpffs);
    assert_eq!(pins.pinned, Ok(Pinned::default()));
}
