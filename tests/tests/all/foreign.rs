//! Other XDP programs where the filter belongs.

use std::fs;

use tests::agent::{Setup, until};
use tests::foreign::Foreign;
use tests::netns::Namespace;
use tests::privilege;

use crate::lifecycle::{UPSTREAM, program, wire};

fn scene(what: &str, mode: &str) -> Option<(Namespace, Setup, Foreign)> {
    if !privilege::kernel_usable(what) {
        return None;
    }
    let namespace = Namespace::new().unwrap();
    wire(&namespace, "v0", "v1");
    let setup = Setup::new(&["localhost"]).unwrap();
    setup.configure("v0", mode, UPSTREAM, "").unwrap();
    Some((namespace, setup, Foreign::load("somebody").unwrap()))
}

fn refusal(setup: &Setup, namespace: &Namespace) -> String {
    setup.start(namespace).err().unwrap().to_string()
}

fn log(setup: &Setup) -> String {
    fs::read_to_string(setup.path("agent.log")).unwrap()
}

#[track_caller]
fn says(said: &str, words: &[&str]) {
    for word in words {
        assert!(said.contains(word), "no {word:?} in: {said}");
    }
}

#[test]
fn one_attached_over_netlink_is_named_with_its_cure_and_replaced_on_demand() {
    let Some((namespace, setup, foreign)) = scene("a program attached over netlink", "native") else {
        return;
    };
    for (mode, off) in [("xdpdrv", "xdpdrv off"), ("xdpgeneric", "xdpgeneric off")] {
        foreign.attach(&namespace, "v0", mode).unwrap();
        let id = program(&namespace, "v0").unwrap();
        let said = refusal(&setup, &namespace);
        says(
            &said,
            &["somebody", &format!("id {id}"), "attached over netlink", off, "auth-agent run --replace"],
        );
        assert_eq!(program(&namespace, "v0"), Some(id), "it was touched");

        let agent = setup.start_with(&namespace, &["--replace"]).unwrap();
        let ours = program(&namespace, "v0").unwrap();
        assert_ne!(ours, id);
        says(&log(&setup), &["took the place of another program", "gap_us="]);
        let shown = setup.json(&["status"]).unwrap()["filter"]["interfaces"][0].take();
        assert_eq!((&shown["mode"], &shown["program_id"]), (&"native".into(), &ours.into()));
        agent.kill().unwrap();
        // By the configuration, and with nothing to replace.
        setup.configure_kernel("replace = true").unwrap();
        setup.start(&namespace).unwrap().kill().unwrap();
        setup.json(&["detach"]).unwrap();
        setup.configure("v0", "native", UPSTREAM, "").unwrap();
    }
}

#[test]
fn one_held_by_a_link_is_never_replaced() {
    let Some((namespace, setup, foreign)) = scene("a program held by a link", "native") else { return };
    let _link = foreign.link(&namespace, "v0").unwrap();
    let id = program(&namespace, "v0").unwrap();
    let said = refusal(&setup, &namespace);
    says(&said, &["somebody", &format!("id {id}"), "held by bpf_link", "bpftool link detach id"]);
    assert!(!said.contains("--replace") && !said.contains("xdp off` takes"), "{said}");
    setup.configure_kernel("replace = true").unwrap();
    says(&refusal(&setup, &namespace), &["can't take its place", "its bpf_link belongs to its owner"]);
    assert_eq!(program(&namespace, "v0"), Some(id));
}

#[test]
fn libxdps_dispatcher_is_never_replaced() {
    let Some((namespace, setup, _)) = scene("libxdp's dispatcher", "native") else { return };
    let dispatcher = Foreign::load("xdp_dispatcher").unwrap();
    dispatcher.attach(&namespace, "v0", "xdpdrv").unwrap();
    setup.configure_kernel("replace = true").unwrap();
    says(&refusal(&setup, &namespace), &["libxdp", "xdp-loader unload v0 --all"]);
    assert!(program(&namespace, "v0").is_some());
}

#[test]
fn one_is_put_back_where_the_filter_cant_take_its_place() {
    let Some((namespace, setup, foreign)) = scene("putting a program back", "native") else { return };
    // Native XDP on a veth takes no more than 3506 from the other end; generic takes all.
    namespace.ip(&["link", "set", "dev", "v1", "mtu", "3600"]).unwrap();
    foreign.attach(&namespace, "v0", "xdpgeneric").unwrap();
    let id = program(&namespace, "v0").unwrap();
    setup.configure_kernel("replace = true").unwrap();
    let said = refusal(&setup, &namespace);
    says(&said, &["attaching the filter in native mode failed", "mtu"]);
    says(&log(&setup), &["the program that was there is back"]);
    assert_eq!(program(&namespace, "v0"), Some(id));
}

#[test]
fn one_that_comes_with_a_late_interface_is_told_and_waited_for() {
    let Some((namespace, setup, foreign)) = scene("a program on a late interface", "native") else { return };
    setup.configure_kernel("hotplug = [\"late0\"]").unwrap();
    let _agent = setup.start(&namespace).unwrap();
    wire(&namespace, "v2", "v3");
    foreign.attach(&namespace, "v2", "xdpdrv").unwrap();
    namespace.ip(&["link", "set", "v2", "name", "late0"]).unwrap();
    let id = program(&namespace, "late0").unwrap();
    let warnings = || setup.json(&["status"]).unwrap()["filter"]["warnings"].to_string();
    until("it is told", || Ok(warnings().contains("late0 is UNFILTERED"))).unwrap();
    until("why", || Ok(warnings().contains(&format!("somebody (id {id})")))).unwrap();
    let text = String::from_utf8(setup.cli(&["status"]).unwrap().stdout).unwrap();
    says(
        &text,
        &["filter     late0 UNFILTERED: detached", "warning    late0 is UNFILTERED: interface late0"],
    );

    namespace.ip(&["link", "set", "dev", "late0", "xdpdrv", "off"]).unwrap();
    until("it is filtered", || Ok(program(&namespace, "late0").is_some_and(|now| now != id))).unwrap();
    until("all is well", || Ok(warnings() == "[]")).unwrap();
}
