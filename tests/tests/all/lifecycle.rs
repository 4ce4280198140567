//! Attaching, adopting, letting go (promise P9).

use tests::agent::Setup;
use tests::netns::Namespace;
use tests::privilege;

const UPSTREAM: &str = "http://127.0.0.1:9000";

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
    let all = namespace.run(|| Ok(auth_agent::kernel::interfaces::list()?)).unwrap();
    let v0 = all.iter().find(|interface| interface.name == "v0").unwrap();
    assert_eq!(v0.program, None);
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
