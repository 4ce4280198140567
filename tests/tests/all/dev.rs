//! `cargo xtask run`, whose agent may be upgraded while it runs.

use std::fs::File;
use std::process::{Child, Command};

use tests::agent::{binary, until};
use tests::heirs;
use tests::privilege;
use tests::stage::{INTERFACE, Stage};
use tests::system;

/// Killed with its guard.
struct Driver(Child);

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

fn is_filtered(stage: &Stage) -> bool {
    let output = stage.edge.command("ip").args(["link", "show", INTERFACE]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).contains("xdp")
}

#[test]
fn an_upgrade_is_followed_and_the_agent_that_runs_in_the_end_is_ended() {
    if !privilege::kernel_usable("cargo xtask run") {
        return;
    }
    let stage = Stage::without_agent("").unwrap();
    let log = File::create(stage.setup.path("dev.log")).unwrap();
    let mut command: Command = stage.edge.command(env!("CARGO_BIN_EXE_dev"));
    command.arg("--agent").arg(binary().unwrap()).arg("--config").arg(stage.setup.path("config.toml"));
    let mut driver = Driver(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
    let said = |words: &str| std::fs::read_to_string(stage.setup.path("dev.log")).unwrap().contains(words);
    until("the edge is up", || Ok(said("The edge is up"))).unwrap();
    let pid = || u32::try_from(stage.setup.json(&["status"]).unwrap()["pid"].as_u64().unwrap()).unwrap();
    let mut pids = vec![pid()];
    for _ in 0..2 {
        stage.setup.json(&["upgrade"]).unwrap();
        let heir = pid();
        until("it is followed", || Ok(said(&format!("process {heir}\n")))).unwrap();
        assert!(is_filtered(&stage));
        pids.push(heir);
    }
    assert!(driver.0.try_wait().unwrap().is_none(), "an upgrade is no end");
    system::interrupt(driver.0.id()).unwrap();
    until("it ends", || Ok(driver.0.try_wait()?.is_some())).unwrap();
    assert!(
        driver.0.wait().unwrap().success(),
        "{}",
        std::fs::read_to_string(stage.setup.path("dev.log")).unwrap()
    );
    assert!(pids.iter().all(|pid| heirs::is_gone(*pid).unwrap()), "{pids:?}");
    assert!(!is_filtered(&stage), "the filter is detached");
}
