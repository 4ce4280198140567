//! A new agent takes over, and nobody notices (promise P13): under load, with streams that go on, and when it fails.

mod load;
mod stopped;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::thread;
use std::time::Instant;

use serde_json::Value;
use tests::agent::{binary, until};
use tests::client::inside;
use tests::heirs;
use tests::privilege;
use tests::stage::{INTERFACE, Stage};
use tests::websocket::FRAME;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::flows::{PATIENCE, breaks_off, goes_on, stream};
use super::lifecycle::program;
use load::Load;

fn status(stage: &Stage) -> Value {
    stage.setup.json(&["status"]).unwrap()
}

fn pid(stage: &Stage) -> u32 {
    u32::try_from(status(stage)["pid"].as_u64().unwrap()).unwrap()
}

/// What a verb says where it fails.
fn refused(stage: &Stage, arguments: &[&str]) -> String {
    let output = stage.setup.cli(arguments).unwrap();
    assert!(!output.status.success(), "{arguments:?}");
    String::from_utf8(output.stderr).unwrap()
}

fn edit(stage: &Stage, from: &str, to: &str) {
    let text = fs::read_to_string(stage.setup.path("config.toml")).unwrap();
    assert!(text.contains(from), "{from}");
    stage.setup.write("config.toml", &text.replacen(from, to, 1)).unwrap();
}

fn script(stage: &Stage, name: &str, text: &str) -> String {
    stage.setup.write(name, &format!("#!/bin/sh\n{text}\n")).unwrap();
    let path = stage.setup.path(name);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Debts that don't drain while a test runs.
const SLOW: &str = "[limits.auth_failures]\nrate = \"1/h\"\nburst = 10\n";

#[test]
fn no_request_fails_over_two_upgrades_under_load_and_the_filter_and_its_debts_stay() {
    if !privilege::kernel_usable("upgrades under load") {
        return;
    }
    let mut stage = Stage::new(SLOW).unwrap();
    stage.setup.json(&["allow", "add", "10.77.0.16/29"]).unwrap();
    stage.setup.json(&["ban", "add", "10.77.0.7"]).unwrap();
    let [guesser, banned] = [6, 7].map(|number| stage.client(number).unwrap());
    for _ in 0..3 {
        let answer = guesser.get_from(&stage.crowd, "/", &[("authorization", "Bearer x")]).unwrap();
        assert_eq!(answer.status, 401);
    }
    banned.get_from(&stage.crowd, "/open", &[]).unwrap_err();
    let seen = |stage: &Stage| {
        let source = stage.setup.json(&["source", "show", "10.77.0.6"]).unwrap();
        (stage.setup.counter("banned").unwrap(), source["debts"]["auth_failures"]["debt_events"].clone())
    };
    let before = seen(&stage);
    assert!(before.0 > 0 && before.1 == 3, "{before:?}");

    let clients: Vec<_> = (16..=20).map(|number| stage.client(number).unwrap()).collect();
    let load = Load::default();
    let first = pid(&stage);
    thread::scope(|scope| {
        let running = scope.spawn(|| inside(&stage.crowd, async || load.run(&clients).await));
        // Whatever fails here, the load ends.
        let _end = load.end_when_dropped();
        let mut pids = vec![first];
        for _ in 0..2 {
            load.go_on(200).unwrap();
            let done = stage.setup.json(&["upgrade"]).unwrap();
            let new = pid(&stage);
            assert_eq!(done["pid"], new, "the control socket is the new agent's");
            until("the old agent has ended", || Ok(heirs::is_gone(*pids.last().unwrap())?)).unwrap();
            assert!(!pids.contains(&new));
            pids.push(new);
        }
        load.go_on(200).unwrap();
        load.end();
        running.join().unwrap().unwrap();
    });
    assert!(stage.agent.as_mut().unwrap().wait().unwrap().success(), "the first one ended in order");
    eprintln!("{load:?}");
    assert_eq!(load.failures(), Vec::<String>::new());
    assert_eq!(seen(&stage), before);
}

#[test]
fn streams_and_websockets_go_on_in_the_old_agent_and_obey_the_new_one() {
    if !privilege::kernel_usable("streams over an upgrade") {
        return;
    }
    let mut stage = Stage::new("[timeouts]\ndrain = \"10m\"\n").unwrap();
    let bearer = |subject: &str| format!("Bearer {}", stage.setup.issuer.token(subject, "", 600).unwrap());
    let (alice, bob, carol) = (bearer("alice"), bearer("bob"), bearer("carol"));
    let [one, two, three, four, five] = [3, 4, 5, 6, 8].map(|number| stage.client(number).unwrap());
    inside(&stage.crowd, async || {
        let mut sessions =
            (one.connect().await?, two.connect_http2().await?, three.connect().await?, four.connect().await?);
        let mut revoked =
            [stream(&mut sessions.0, &one, &alice).await, stream(&mut sessions.1, &two, &alice).await];
        let mut ended = stream(&mut sessions.2, &three, &bob).await;
        let mut banned = stream(&mut sessions.3, &four, &bob).await;
        let authorization = [("authorization", &*carol)];
        let mut socket = five.connect().await?.websocket(&five, "/websocket", &authorization).await?;

        let old = stage.agent.as_ref().unwrap().id();
        stage.setup.json(&["upgrade"])?;
        assert!(!heirs::is_gone(old)?);
        for body in revoked.iter_mut().chain([&mut ended, &mut banned]) {
            assert!(goes_on(body).await, "in the old agent");
        }
        stage.setup.json(&["revoke", "subject", "alice"])?;
        let acknowledged = Instant::now();
        for body in &mut revoked {
            assert!(breaks_off(body).await, "what the new agent revokes ends in the old one");
        }
        eprintln!("seen to end in the old agent {:?} after the verb", acknowledged.elapsed());
        assert!(goes_on(&mut ended).await && goes_on(&mut banned).await);
        stage.setup.json(&["ban", "add", "10.77.0.6"])?;
        stage.setup.json(&["connection", "end", "--source", "10.77.0.5"])?;
        assert!(breaks_off(&mut ended).await, "ended by the new agent's operator");
        let mut answer = [0; FRAME.len()];
        socket.write_all(FRAME).await?;
        timeout(PATIENCE, socket.read_exact(&mut answer)).await??;
        assert_eq!(answer, FRAME);
        assert!(!heirs::is_gone(old)?, "for the WebSocket");
        Ok(())
    })
    .unwrap();
    assert!(
        stage.agent.as_mut().unwrap().wait().unwrap().success(),
        "with its last client, the old one ends"
    );
}

#[test]
fn what_is_open_at_the_end_of_the_drain_is_cut_off_and_the_old_agent_ends() {
    if !privilege::kernel_usable("the drain of an upgrade") {
        return;
    }
    let mut stage = Stage::new("[timeouts]\ndrain = \"1s\"\n").unwrap();
    let bearer = format!("Bearer {}", stage.setup.issuer.token("alice", "", 600).unwrap());
    let client = stage.client(3).unwrap();
    inside(&stage.crowd, async || {
        let mut session = client.connect().await?;
        let mut body = stream(&mut session, &client, &bearer).await;
        stage.setup.json(&["upgrade"])?;
        assert!(breaks_off(&mut body).await);
        Ok(())
    })
    .unwrap();
    assert!(stage.agent.as_mut().unwrap().wait().unwrap().success());
    assert_eq!(client.get_from(&stage.crowd, "/open", &[]).unwrap().status, 200);
}

#[test]
fn a_new_agent_that_can_not_serve_changes_nothing_and_its_reason_is_told() {
    if !privilege::kernel_usable("upgrades that fail") {
        return;
    }
    let stage = Stage::new("").unwrap();
    let client = stage.client(3).unwrap();
    let good = fs::read_to_string(stage.setup.path("config.toml")).unwrap();
    let sleeper = script(&stage, "sleeper", "exec sleep 600");
    stage.setup.json(&["ban", "add", "203.0.113.7"]).unwrap();
    let socket = stage.setup.path("control.sock");
    let socket = socket.to_str().unwrap();
    let (first, filter) = (pid(&stage), program(&stage.edge, INTERFACE));
    let secure = format!("[\"https://{}\"]\nca = \"not.pem\"", "127.0.0.1:9000");
    stage.setup.write("not.pem", "not PEM").unwrap();
    let cases: [(&[&str], &str, &str, &str); 7] = [
        (&["--binary", "/bin/false"], "", "", "/bin/false ended (exit status: 1) before it was ready"),
        (&["--binary", "/nonexistent"], "", "", "/nonexistent: can't start it: No such file"),
        (&["--binary", &sleeper, "--within", "1s"], "", "", "was not ready within 1 s, and was killed"),
        (&[], "[store]", "[store", "not TOML"),
        (&[], "address = \"[::]:8443\"", "address = \"192.0.2.1:8443\"", "no interface has this address"),
        (&[], "certificate = \"edge.pem\"", "certificate = \"not.pem\"", "not.pem"),
        // That is found when its program is in the kernel.
        (&[], "[\"http://127.0.0.1:9000\"]", &secure, "not.pem"),
    ];
    for (options, from, to, expected) in cases {
        if !from.is_empty() {
            edit(&stage, from, to);
        }
        // The verb's own look at a configuration that is broken would fail first.
        let said = refused(&stage, &[&["--socket", socket, "upgrade"], options].concat());
        assert!(said.contains(expected) && said.contains("nothing has changed"), "{expected}: {said}");
        stage.setup.write("config.toml", &good).unwrap();
        assert_eq!((pid(&stage), program(&stage.edge, INTERFACE)), (first, filter), "{expected}");
        assert_eq!(client.get_from(&stage.crowd, "/open", &[]).unwrap().status, 200, "{expected}");
        assert!(heirs::of(&stage.setup.path("config.toml")).unwrap().is_empty(), "{expected}");
        let source = stage.setup.json(&["source", "show", "203.0.113.7"]).unwrap();
        assert_eq!(source["rule"], "banned", "{expected}");
        // Changes are taken again.
        stage.setup.json(&["ban", "add", "203.0.113.8"]).unwrap();
        stage.setup.json(&["ban", "remove", "203.0.113.8"]).unwrap();
        stage.setup.json(&["reload"]).unwrap();
    }
    assert!(!stage.setup.path("control.sock.next").exists());
    // Somebody takes the filter off: the interface is looked after as before.
    let link = fs::read_dir(stage.setup.pins().join("links")).unwrap().next().unwrap().unwrap().path();
    tests::system::detach_link(&link).unwrap();
    until("the filter is back", || Ok(program(&stage.edge, INTERFACE) == filter)).unwrap();
}

#[test]
fn changes_wait_while_a_new_agent_starts_and_it_serves_even_if_the_old_one_is_killed() {
    if !privilege::kernel_usable("an upgrade that is cut short") {
        return;
    }
    let mut stage = Stage::new("").unwrap();
    let client = stage.client(3).unwrap();
    let agent = binary().unwrap();
    let slow = format!(
        "touch {mark}; while [ -e {mark} ]; do sleep 0.05; done; exec {agent} \"$@\"",
        mark = stage.setup.path("starting").display(),
        agent = agent.display(),
    );
    let slow = script(&stage, "slow", &slow);
    let old = pid(&stage);
    let cut_short = thread::scope(|scope| {
        let upgrade = scope.spawn(|| stage.setup.cli(&["upgrade", "--binary", &slow]));
        until("the new agent starts", || Ok(stage.setup.path("starting").exists())).unwrap();
        let said = refused(&stage, &["upgrade"]);
        assert!(said.contains("an upgrade is under way"), "{said}");
        let said = refused(&stage, &["ban", "add", "203.0.113.7"]);
        assert!(said.contains("an upgrade is under way"), "{said}");
        assert_eq!(pid(&stage), old, "looking is free");
        assert_eq!(client.get_from(&stage.crowd, "/open", &[]).unwrap().status, 200);
        tests::system::kill(old).unwrap();
        fs::remove_file(stage.setup.path("starting")).unwrap();
        upgrade.join().unwrap().unwrap()
    });
    assert!(!cut_short.status.success());
    until("the new agent answers", || Ok(stage.setup.cli(&["status"])?.status.success())).unwrap();
    assert_ne!(pid(&stage), old);
    assert_eq!(client.get_from(&stage.crowd, "/open", &[]).unwrap().status, 200);
    stage.setup.json(&["ban", "add", "203.0.113.7"]).unwrap();
    // And it can be followed in its turn.
    stage.setup.json(&["upgrade"]).unwrap();
    assert!(!stage.agent.as_mut().unwrap().wait().unwrap().success(), "it was killed");
}

#[test]
fn an_upgrade_takes_what_a_reload_does_not_and_listeners_come_and_go() {
    if !privilege::kernel_usable("an upgrade with another configuration") {
        return;
    }
    let stage = Stage::new("").unwrap();
    let client = stage.client(3).unwrap();
    edit(&stage, "socket = \"control.sock\"", "socket = \"control.sock\"\nallow_uids = [65534]");
    edit(
        &stage,
        "[[listener]]\n",
        "[[listener]]\naddress = \"[::]:9443\"\ncertificate = \"edge.pem\"\nkey = \"edge.key\"\n\n[[listener]]\n",
    );
    let said = refused(&stage, &["reload"]);
    assert!(said.contains("control.allow_uids can't change while the agent runs"), "{said}");
    stage.setup.json(&["upgrade"]).unwrap();
    let mode = fs::metadata(stage.setup.path("control.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o666);
    let other = client.at_port(9_443);
    for client in [&client, &other] {
        assert_eq!(client.get_from(&stage.crowd, "/open", &[]).unwrap().status, 200);
    }
    edit(&stage, "address = \"[::]:8443\"\n", "address = \"[::]:9444\"\n");
    let old = pid(&stage);
    stage.setup.json(&["upgrade"]).unwrap();
    until("the old agent has ended", || Ok(heirs::is_gone(old)?)).unwrap();
    assert!(client.get_from(&stage.crowd, "/open", &[]).is_err(), "nobody listens there any more");
    for port in [9_443, 9_444] {
        assert_eq!(client.at_port(port).get_from(&stage.crowd, "/open", &[]).unwrap().status, 200, "{port}");
    }
}
