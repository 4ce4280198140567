//! Interfaces that appear, go away, come back and change their names while the agent runs.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tests::agent::{Agent, Setup, until};
use tests::netns::Namespace;
use tests::{privilege, system};

use crate::lifecycle::{UPSTREAM, program, wire};

/// An agent that filters `lo`, and `v0` and `v1` when they appear.
fn scene(what: &str) -> Option<(Namespace, Setup, Agent)> {
    if !privilege::kernel_usable(what) {
        return None;
    }
    let namespace = Namespace::new().unwrap();
    let setup = Setup::new(&["localhost"]).unwrap();
    setup.configure("lo", "auto", UPSTREAM, "").unwrap();
    setup.configure_kernel("hotplug = [\"v0\", \"v1\"]").unwrap();
    let agent = setup.start(&namespace).unwrap();
    Some((namespace, setup, agent))
}

fn status(setup: &Setup) -> serde_json::Value {
    setup.json(&["status"]).unwrap()["filter"].take()
}

fn mode(setup: &Setup, name: &str) -> String {
    let status = status(setup);
    let interface = status["interfaces"].as_array().unwrap().iter().find(|shown| shown["name"] == name);
    interface.unwrap_or_else(|| panic!("no {name} in {status}"))["mode"].as_str().unwrap().to_owned()
}

#[track_caller]
fn becomes(setup: &Setup, name: &str, wanted: &str) {
    let found = until(&format!("{name} is {wanted}"), || Ok(mode(setup, name) == wanted));
    found.unwrap_or_else(|error| panic!("{error}: {}", log(setup)));
}

fn warned(setup: &Setup, words: &[&str]) -> bool {
    let status = status(setup);
    let warnings = status["warnings"].as_array().unwrap().iter().filter_map(|warning| warning.as_str());
    warnings.into_iter().any(|warning| words.iter().all(|word| warning.contains(word)))
}

fn log(setup: &Setup) -> String {
    fs::read_to_string(setup.path("agent.log")).unwrap()
}

/// Interface names in the pin directory, and where they are pinned.
fn pins(setup: &Setup) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(setup.pins().join("links")).unwrap().map(|entry| entry.unwrap().path());
    let name = |path: &PathBuf| path.to_string_lossy().rsplit(':').next().unwrap().to_owned();
    let mut pins: Vec<_> = entries.map(|path| (name(&path), path)).collect();
    pins.sort();
    pins
}

fn pinned_names(setup: &Setup) -> Vec<String> {
    pins(setup).into_iter().map(|(name, _)| name).collect()
}

#[test]
fn an_interface_that_appears_is_filtered_goes_away_and_is_filtered_when_it_is_back() {
    let Some((namespace, setup, agent)) = scene("interfaces that come and go") else { return };
    assert_eq!(mode(&setup, "v0"), "absent");
    assert!(warned(&setup, &["v0 is absent"]));
    for _ in 0..3 {
        wire(&namespace, "v0", "w0");
        becomes(&setup, "v0", "native");
        assert!(!warned(&setup, &["v0"]));
        assert_eq!(pinned_names(&setup), ["lo", "v0"]);
        namespace.ip(&["link", "delete", "v0"]).unwrap();
        becomes(&setup, "v0", "absent");
        until("its pin is removed", || Ok(pinned_names(&setup) == ["lo"])).unwrap();
    }
    // What was attached late outlives the agent like everything else.
    wire(&namespace, "v0", "w0");
    becomes(&setup, "v0", "native");
    agent.kill().unwrap();
    assert!(program(&namespace, "v0").is_some());
    let _agent = setup.start(&namespace).unwrap();
    assert_eq!(mode(&setup, "v0"), "native");
    assert_eq!(pinned_names(&setup), ["lo", "v0"]);
}

#[test]
fn an_interface_that_must_be_there_at_the_start_may_go_and_come_back_later() {
    if !privilege::kernel_usable("a needed interface that goes away") {
        return;
    }
    let namespace = Namespace::new().unwrap();
    let setup = Setup::new(&["localhost"]).unwrap();
    setup.configure("v0", "native", UPSTREAM, "").unwrap();
    let refused = setup.start(&namespace).err().unwrap().to_string();
    assert!(refused.contains("v0 does not exist") && refused.contains("kernel.hotplug"), "{refused}");
    wire(&namespace, "v0", "w0");
    let _agent = setup.start(&namespace).unwrap();
    namespace.ip(&["link", "delete", "v0"]).unwrap();
    becomes(&setup, "v0", "absent");
    wire(&namespace, "v0", "w0");
    becomes(&setup, "v0", "native");
}

#[test]
fn a_filter_that_somebody_took_off_is_put_back() {
    let Some((namespace, setup, _agent)) = scene("a filter that is taken off") else { return };
    wire(&namespace, "v0", "w0");
    becomes(&setup, "v0", "native");
    let pin = |setup: &Setup| pins(setup).into_iter().find(|(name, _)| name == "v0").unwrap().1;
    let ways: [fn(&PathBuf); 2] =
        [|pin| system::detach_link(pin).unwrap(), |pin| fs::remove_file(pin).unwrap()];
    for (times, take_off) in (1..).zip(ways) {
        take_off(&pin(&setup));
        let back = || Ok(log(&setup).matches("somebody had taken the filter off").count() == times);
        until("it is back", back).unwrap();
        assert_eq!(mode(&setup, "v0"), "native");
        assert!(pin(&setup).exists());
    }
    // Over netlink nobody can: the kernel keeps a link's program.
    assert!(namespace.ip(&["link", "set", "dev", "v0", "xdp", "off"]).is_err());
}

#[test]
fn a_renamed_interface_stays_filtered_until_another_has_its_name() {
    let Some((namespace, setup, _agent)) = scene("renaming while the agent runs") else { return };
    wire(&namespace, "v0", "w0");
    becomes(&setup, "v0", "native");
    namespace.ip(&["link", "set", "v0", "name", "lan0"]).unwrap();
    becomes(&setup, "v0", "absent");
    assert!(program(&namespace, "lan0").is_some());
    assert!(warned(&setup, &["v0 is absent", "is now lan0, and is still filtered"]), "{}", status(&setup));

    wire(&namespace, "v0", "w1");
    becomes(&setup, "v0", "native");
    until("lan0 is let go", || Ok(program(&namespace, "lan0").is_none())).unwrap();
    assert_eq!(pinned_names(&setup), ["lo", "v0"]);

    // To a name that is wanted as well.
    namespace.ip(&["link", "set", "v0", "name", "v1"]).unwrap();
    becomes(&setup, "v1", "native");
    until("the pin has the new name", || Ok(pinned_names(&setup) == ["lo", "v1"])).unwrap();
    assert_eq!(mode(&setup, "v0"), "absent");
}

#[test]
fn an_interface_that_visits_another_namespace_stays_filtered() {
    let Some((namespace, setup, _agent)) = scene("an interface in another namespace") else { return };
    let elsewhere = Namespace::new().unwrap();
    wire(&namespace, "v0", "w0");
    becomes(&setup, "v0", "native");
    let before = program(&namespace, "v0");
    namespace.ip(&["link", "set", "v0", "netns", elsewhere.name()]).unwrap();
    becomes(&setup, "v0", "absent");
    assert_eq!(program(&elsewhere, "v0"), before);
    elsewhere.ip(&["link", "set", "v0", "netns", namespace.name()]).unwrap();
    becomes(&setup, "v0", "native");
    assert_eq!(program(&namespace, "v0"), before);
    assert_eq!(pinned_names(&setup), ["lo", "v0"]);
}

#[test]
fn what_detach_took_off_stays_off_until_the_next_start() {
    let Some((namespace, setup, agent)) = scene("detach while the agent runs") else { return };
    wire(&namespace, "v0", "w0");
    becomes(&setup, "v0", "native");
    setup.json(&["detach"]).unwrap();
    // The agent is told of it all, and has time for two rounds.
    let deadline = Instant::now() + Duration::from_secs(2);
    while Instant::now() < deadline {
        namespace.ip(&["link", "set", "dev", "v0", "up"]).unwrap();
        namespace.ip(&["link", "set", "dev", "v0", "down"]).unwrap();
        assert_eq!(mode(&setup, "v0"), "detached");
    }
    assert!(warned(&setup, &["taken off by `auth-agent detach`"]));
    agent.kill().unwrap();
    let _agent = setup.start(&namespace).unwrap();
    assert_eq!(mode(&setup, "v0"), "native");
}

#[test]
fn more_news_than_the_agent_has_room_for_is_no_loss() {
    let Some((namespace, setup, agent)) = scene("lost news") else { return };
    wire(&namespace, "v1", "w1");
    becomes(&setup, "v1", "native");
    agent.pause().unwrap();
    // Some 200 KiB of messages wait; each of these is several KiB in the kernel.
    let batch: String = (0..400).map(|mtu| format!("link set dev v1 mtu {}\n", 1300 + mtu % 2)).collect();
    setup.write("batch", &batch).unwrap();
    namespace.ip(&["-batch", &setup.path("batch").to_string_lossy()]).unwrap();
    wire(&namespace, "v0", "w0");
    agent.resume().unwrap();
    becomes(&setup, "v0", "native");
    // And it hears again.
    namespace.ip(&["link", "delete", "v1"]).unwrap();
    becomes(&setup, "v1", "absent");
    assert!(!log(&setup).contains("interfaces that appear are not filtered"), "{}", log(&setup));
}
