//! The operator stops an agent while another one takes over from it.

use std::thread;

use tests::agent::{LOG, binary, until};
use tests::heirs;
use tests::privilege;
use tests::stage::Stage;

use super::{refused, script};

/// Takes over in no hurry: it says what a new agent says, the last word when it may.
const HEIR: &str = r#"exec python3 - "$@" 3<&0 <<'END'
import os, signal, socket, time
channel = socket.socket(fileno=3)
mark = lambda name: open(f"FOLDER/{name}", "w").close()
while channel.recv(65536) != b'"handed"':
    pass
def stop(*_):
    mark("stopped")
    os._exit(0)
signal.signal(signal.SIGTERM, stop)
channel.send(b'{"ready":{"version":"9.9.9"}}')
assert channel.recv(65536) == b'"go"'
mark("told")
while not os.path.exists("FOLDER/serve"):
    time.sleep(0.02)
channel.send(b'"serving"')
while True:
    time.sleep(1)
END"#;

#[test]
fn a_new_agent_that_was_told_to_serve_is_stopped_in_good_order_too() {
    if !privilege::kernel_usable("an agent that is stopped as another takes over") {
        return;
    }
    let mut stage = Stage::new("").unwrap();
    let path = |name: &str| stage.setup.path(name);
    let heir = HEIR.replace("FOLDER", &path("").display().to_string());
    let heir = script(&stage, "heir", &heir);
    let old = stage.agent.as_ref().unwrap().id();
    thread::scope(|scope| {
        let upgrade = scope.spawn(|| stage.setup.cli(&["upgrade", "--binary", &heir]));
        until("the new agent is told to serve", || Ok(path("told").exists())).unwrap();
        stage.agent.as_ref().unwrap().terminate().unwrap();
        let stops = || Ok(refused(&stage, &["ban", "add", "203.0.113.7"]).contains("this agent is stopping"));
        until("the old agent stops", stops).unwrap();
        assert!(!heirs::is_gone(old).unwrap(), "it waits for what it has begun");
        assert!(!path("stopped").exists());
        std::fs::write(path("serve"), "").unwrap();
        until("the new agent is told to stop", || Ok(path("stopped").exists())).unwrap();
        // Its answer may be cut off with the agent.
        drop(upgrade.join().unwrap().unwrap());
    });
    assert!(stage.agent.as_mut().unwrap().wait().unwrap().success());
}

#[test]
fn a_new_agent_that_is_stopped_before_it_is_told_to_serve_changes_nothing() {
    if !privilege::kernel_usable("a new agent that is stopped") {
        return;
    }
    let stage = Stage::new("").unwrap();
    let agent = stage.agent.as_ref().unwrap();
    let path = |name: &str| stage.setup.path(name);
    let wait = format!(
        "touch {mark}; while [ -e {mark} ]; do sleep 0.05; done; exec {agent} \"$@\"",
        mark = path("starting").display(),
        agent = binary().unwrap().display(),
    );
    let slow = script(&stage, "slow", &wait);
    let ended = thread::scope(|scope| {
        let upgrade = scope.spawn(|| stage.setup.cli(&["upgrade", "--binary", &slow]));
        until("the new agent starts", || Ok(path("starting").exists())).unwrap();
        // It can't be told to serve, and has everything else.
        agent.pause().unwrap();
        std::fs::remove_file(path("starting")).unwrap();
        until("the new agent is ready", || Ok(path("control.sock.next").exists())).unwrap();
        let [heir] = heirs::of(&path("config.toml")).unwrap()[..] else { panic!("one new agent") };
        tests::system::terminate(heir).unwrap();
        until("the new agent has ended", || Ok(heirs::is_gone(heir)?)).unwrap();
        agent.resume().unwrap();
        upgrade.join().unwrap().unwrap()
    });
    let said = String::from_utf8(ended.stderr).unwrap();
    // It may have said that it is ready before it was stopped: then it died as it took over.
    let goes_on = ["nothing has changed", "this one goes on"].iter().any(|words| said.contains(words));
    assert!(!ended.status.success() && goes_on, "{said}");
    let log = std::fs::read_to_string(path(LOG)).unwrap();
    assert!(log.contains("stopped before it took over"), "{log}");
    let client = stage.client(3).unwrap();
    assert_eq!(client.get_from(&stage.crowd, "/open", &[]).unwrap().status, 200);
    stage.setup.json(&["ban", "add", "203.0.113.7"]).unwrap();
}
