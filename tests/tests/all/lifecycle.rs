//! Attaching, adopting, letting go (promise P9).

use std::fs;

use tests::agent::{Setup, until};
use tests::netns::Namespace;
use tests::privilege;

pub const UPSTREAM: &str = "http://127.0.0.1:9000";

fn interfaces(setup: &Setup) -> Vec<(String, String)> {
    let status = setup.json(&["status"]).unwrap();
    let interfaces = status["filter"]["interfaces"].as_array().unwrap().iter();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    interfaces.map(|interface| (text(&interface["name"]), text(&interface["mode"]))).collect()
}

fn pair(names: [&str; 2]) -> Vec<(String, String)> {
    vec![(names[0].to_owned(), names[1].to_owned())]
}

#[test]
fn auto_is_native_where_the_driver_can_and_generic_elsewhere() {
    if !privilege::kernel_usable("attach modes") {
        return;
    }
    let namespace = Namespace::new().unwrap();
    namespace.ip(&["link", "add", "v0", "type", "veth", "peer", "name", "v1"]).unwrap();
    for (interface, mode) in [("lo", "generic"), ("v0", "native")] {
        let setup = Setup::new(&["localhost"]).unwrap();
        setup.configure(interface, "auto", UPSTREAM, "").unwrap();
        let _agent = setup.start(&namespace).unwrap();
        assert_eq!(interfaces(&setup), pair([interface, mode]));
    }
}

#[test]
fn an_interface_that_is_no_longer_wanted_is_let_go_at_the_next_start() {
    if !privilege::kernel_usable("changing interfaces") {
        return;
    }
    let namespace = Namespace::new().unwrap();
    namespace.ip(&["link", "add", "v0", "type", "veth", "peer", "name", "v1"]).unwrap();
    let setup = Setup::new(&["localhost"]).unwrap();
    setup.configure("v0", "native", UPSTREAM, "").unwrap();
    setup.start(&namespace).unwrap().kill().unwrap();
    setup.configure("v1", "native", UPSTREAM, "").unwrap();
    let _agent = setup.start(&namespace).unwrap();
    assert_eq!(interfaces(&setup), pair(["v1", "native"]));
    assert_eq!(program(&namespace, "v0"), None);
}

#[test]
fn an_interface_that_went_away_and_came_back_is_attached_anew() {
    if !privilege::kernel_usable("an interface that comes back") {
        return;
    }
    let namespace = Namespace::new().unwrap();
    let setup = Setup::new(&["localhost"]).unwrap();
    setup.configure("v0", "native", UPSTREAM, "").unwrap();
    let link = ["link", "add", "v0", "type", "veth", "peer", "name", "v1"];
    namespace.ip(&link).unwrap();
    setup.start(&namespace).unwrap().kill().unwrap();
    namespace.ip(&["link", "delete", "v0"]).unwrap();
    namespace.ip(&link).unwrap();
    let _agent = setup.start(&namespace).unwrap();
    assert_eq!(interfaces(&setup), pair(["v0", "native"]));
}

pub fn wire(namespace: &Namespace, name: &str, peer: &str) {
    namespace.ip(&["link", "add", name, "type", "veth", "peer", "name", peer]).unwrap();
}

pub fn program(namespace: &Namespace, name: &str) -> Option<u32> {
    let all = namespace.run(|| Ok(auth_agent::kernel::interfaces::list()?)).unwrap();
    all.iter().find(|interface| interface.name == name).unwrap().program.map(|program| program.id)
}

/// Those of VLANs have one, and bpffs refuses file names that do.
#[test]
fn an_interface_with_a_dot_in_its_name_is_filtered_and_adopted() {
    if !privilege::kernel_usable("an interface with a dot in its name") {
        return;
    }
    let namespace = Namespace::new().unwrap();
    wire(&namespace, "v0.100", "v1");
    let setup = Setup::new(&["localhost"]).unwrap();
    setup.configure("v0.100", "native", UPSTREAM, "").unwrap();
    setup.start(&namespace).unwrap().kill().unwrap();
    setup.start(&namespace).unwrap().kill().unwrap();
    assert_eq!(setup.json(&["detach"]).unwrap()["interfaces"][0], "v0.100");
    assert_eq!(program(&namespace, "v0.100"), None);
}

#[test]
fn a_renamed_interface_is_adopted_under_its_new_name() {
    if !privilege::kernel_usable("a renamed interface") {
        return;
    }
    let namespace = Namespace::new().unwrap();
    wire(&namespace, "v0", "v1");
    let setup = Setup::new(&["localhost"]).unwrap();
    setup.configure("v0", "native", UPSTREAM, "").unwrap();
    setup.start(&namespace).unwrap().kill().unwrap();
    namespace.ip(&["link", "set", "v0", "name", "lan0"]).unwrap();
    setup.configure("lan0", "native", UPSTREAM, "").unwrap();
    setup.start(&namespace).unwrap().kill().unwrap();
    assert_eq!(setup.json(&["detach"]).unwrap()["interfaces"][0], "lan0");
    assert_eq!(program(&namespace, "lan0"), None);
}

#[test]
fn names_that_two_interfaces_swapped_are_not_taken_for_the_interfaces() {
    if !privilege::kernel_usable("swapped names") {
        return;
    }
    let namespace = Namespace::new().unwrap();
    wire(&namespace, "v0", "w0");
    wire(&namespace, "v1", "w1");
    let setup = Setup::new(&["localhost"]).unwrap();
    setup.configure("v0", "native", UPSTREAM, "").unwrap();
    setup.start(&namespace).unwrap().kill().unwrap();
    for [from, to] in [["v0", "v2"], ["v1", "v0"], ["v2", "v1"]] {
        namespace.ip(&["link", "set", from, "name", to]).unwrap();
    }
    let _agent = setup.start(&namespace).unwrap();
    assert_eq!(interfaces(&setup), pair(["v0", "native"]));
    assert_eq!(program(&namespace, "v1"), None);
}

#[test]
fn a_mode_that_an_adopted_filter_does_not_have_is_said() {
    if !privilege::kernel_usable("a changed mode") {
        return;
    }
    let namespace = Namespace::new().unwrap();
    wire(&namespace, "v0", "v1");
    for (first, second, warned) in
        [("generic", "native", true), ("native", "generic", true), ("generic", "auto", false)]
    {
        let setup = Setup::new(&["localhost"]).unwrap();
        setup.configure("v0", first, UPSTREAM, "").unwrap();
        setup.start(&namespace).unwrap().kill().unwrap();
        setup.configure("v0", second, UPSTREAM, "").unwrap();
        let _agent = setup.start(&namespace).unwrap();
        assert_eq!(interfaces(&setup), pair(["v0", first]));
        let log = fs::read_to_string(setup.path("agent.log")).unwrap();
        let cure = "takes effect after `auth-agent detach`";
        assert_eq!(log.lines().any(|line| line.contains("WARN") && line.contains(cure)), warned, "{log}");
        let warnings = setup.json(&["status"]).unwrap()["filter"]["warnings"].to_string();
        assert!(warnings.contains(if warned { cure } else { "costs more per packet" }), "{warnings}");
    }
}

#[test]
fn a_fallback_to_generic_mode_is_in_the_status_with_its_reason() {
    if !privilege::kernel_usable("a fallback to generic mode") {
        return;
    }
    let namespace = Namespace::new().unwrap();
    wire(&namespace, "v0", "v1");
    namespace.ip(&["link", "set", "dev", "v1", "mtu", "3600"]).unwrap();
    let setup = Setup::new(&["localhost"]).unwrap();
    setup.configure("v0", "auto", UPSTREAM, "").unwrap();
    let _agent = setup.start(&namespace).unwrap();
    assert_eq!(interfaces(&setup), pair(["v0", "generic"]));
    let text = String::from_utf8(setup.cli(&["status"]).unwrap().stdout).unwrap();
    let warning = text.lines().find(|line| line.starts_with("warning ")).unwrap_or_else(|| panic!("{text}"));
    for words in ["v0 is in generic mode", "attaching the filter in native mode failed", "MTU"] {
        assert!(warning.contains(words), "no {words:?} in: {warning}");
    }
}

/// Interface indexes repeat in every namespace.
#[test]
fn pins_of_another_network_namespace_are_refused_while_it_lives() {
    if !privilege::kernel_usable("pins of another namespace") {
        return;
    }
    let setup = Setup::new(&["localhost"]).unwrap();
    setup.configure("lo", "generic", UPSTREAM, "").unwrap();
    let (first, second) = (Namespace::new().unwrap(), Namespace::new().unwrap());
    setup.start(&first).unwrap().kill().unwrap();
    let filter = program(&first, "lo");
    let said = setup.start(&second).err().unwrap().to_string();
    for words in ["filters of another network namespace (net:[", "on lo;", "kernel.pin_directory"] {
        assert!(said.contains(words), "no {words:?} in: {said}");
    }
    assert!(filter.is_some() && program(&first, "lo") == filter);
    drop(first);
    // The kernel takes its time to take a namespace apart.
    until("the other namespace is gone", || Ok(setup.start(&second).is_ok())).unwrap();
    assert!(program(&second, "lo").is_some());
}

/// As after a detach that was cut short, or a file removed by hand.
#[test]
fn any_missing_pin_is_made_anew_and_the_filter_stays() {
    if !privilege::kernel_usable("missing pins") {
        return;
    }
    let namespace = Namespace::new().unwrap();
    let setup = Setup::new(&["localhost"]).unwrap();
    setup.configure("lo", "generic", UPSTREAM, "").unwrap();
    let agent = setup.start(&namespace).unwrap();
    setup.json(&["ban", "add", "203.0.113.0/24"]).unwrap();
    agent.kill().unwrap();
    let maps: Vec<_> =
        fs::read_dir(setup.pins().join("maps")).unwrap().map(|map| map.unwrap().path()).collect();
    for map in maps {
        fs::remove_file(&map).unwrap();
        assert!(program(&namespace, "lo").is_some());
        let agent = setup.start(&namespace).unwrap();
        let shown = setup.json(&["source", "show", "203.0.113.9"]).unwrap();
        assert_eq!(shown["rule"], "banned", "without {}", map.display());
        agent.kill().unwrap();
    }
}

#[test]
fn bans_survive_a_restart_and_a_fresh_filter() {
    if !privilege::kernel_usable("bans across restarts") {
        return;
    }
    let namespace = Namespace::new().unwrap();
    let setup = Setup::new(&["localhost"]).unwrap();
    setup.configure("lo", "generic", UPSTREAM, "").unwrap();
    let agent = setup.start(&namespace).unwrap();
    setup.json(&["ban", "add", "203.0.113.0/24", "--for", "1h"]).unwrap();
    agent.kill().unwrap();
    // As after a reboot: the pins are gone, the store is not.
    setup.json(&["detach"]).unwrap();
    let _agent = setup.start(&namespace).unwrap();
    let shown = setup.json(&["source", "show", "203.0.113.9"]).unwrap();
    assert_eq!(shown["rule"], "banned", "{shown}");
    let elsewhere = setup.json(&["source", "show", "203.0.114.9"]).unwrap();
    assert_eq!(elsewhere["rule"], "none", "{elsewhere}");
}
