//! The configuration of a running agent changes, and nothing that goes on is cut off (promise P13).

use std::fs;

use anyhow::Result;
use serde_json::Value;
use tests::client::inside;
use tests::privilege;
use tests::stage::Stage;
use tests::system;
use tests::websocket::FRAME;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::flows::{PATIENCE, eventually, goes_on, stream};

/// Replaces a text of the configuration file.
fn edit(stage: &Stage, from: &str, to: &str) {
    let text = fs::read_to_string(stage.setup.path("config.toml")).unwrap();
    assert!(text.contains(from), "{from}");
    stage.setup.write("config.toml", &text.replacen(from, to, 1)).unwrap();
}

fn fields(changes: &Value) -> Vec<&str> {
    changes["changes"].as_array().unwrap().iter().map(|change| change["field"].as_str().unwrap()).collect()
}

const OPEN: &str = "path = \"/open\"\nupstream = \"echo\"\nauth = \"none\"";

#[test]
fn routes_limits_and_listeners_change_and_streams_and_websockets_go_on() {
    if !privilege::kernel_usable("reload on the wire") {
        return;
    }
    let stage = Stage::new("").unwrap();
    let bearer = format!("Bearer {}", stage.setup.issuer.token("alice", "", 600).unwrap());
    let (first, second) = (stage.client(3).unwrap(), stage.client(4).unwrap());
    let elsewhere = second.at_port(9_443);
    let stranger = stage.client(5).unwrap();
    let status = |client: &tests::client::Client, path: &str| {
        client.get_from(&stage.crowd, path, &[]).unwrap().status.as_u16()
    };
    assert_eq!(status(&stranger, "/open"), 200);
    assert!(elsewhere.get_from(&stage.crowd, "/open", &[]).is_err(), "nobody listens there yet");
    inside(&stage.crowd, async || {
        let mut one = first.connect().await?;
        let mut body = stream(&mut one, &first, &bearer).await;
        let authorization = [("authorization", &*bearer)];
        let mut socket = second.connect().await?.websocket(&second, "/websocket", &authorization).await?;
        let mut kept = second.connect().await?;
        assert_eq!(kept.get(&second, "/open", &[]).await?.status, 200);

        edit(&stage, OPEN, "path = \"/public\"\nupstream = \"echo\"\nauth = \"none\"");
        edit(&stage, "address = \"[::]:8443\"", "address = \"[::]:9443\"");
        edit(&stage, "[store]", "[limits.requests]\nrate = \"100/min\"\nburst = 20\n\n[store]");
        let planned = stage.setup.json(&["config", "diff"])?;
        let done = stage.setup.json(&["reload"])?;
        assert_eq!(planned, done);
        assert!(fields(&done).contains(&"limits.requests.burst"), "{done}");
        assert_eq!(fields(&stage.setup.json(&["config", "diff"])?), [""; 0]);

        // What was there goes on, on the listener that is gone, too, and goes by the new routes.
        assert!(goes_on(&mut body).await);
        let mut answer = [0; FRAME.len()];
        socket.write_all(FRAME).await?;
        timeout(PATIENCE, socket.read_exact(&mut answer)).await??;
        assert_eq!(answer, FRAME);
        assert_eq!(kept.get(&second, "/public", &[]).await?.status, 200);
        assert_eq!(kept.get(&second, "/open", &[]).await?.status, 401, "it falls under the route of all");
        Ok(())
    })
    .unwrap();
    assert!(stranger.get_from(&stage.crowd, "/public", &[]).is_err(), "nobody listens there any more");
    let stranger = stranger.at_port(9_443);
    let statuses: Vec<_> = (0..25).map(|_| status(&stranger, "/public")).collect();
    assert!(statuses.starts_with(&[200]) && statuses.ends_with(&[429]), "{statuses:?}");
    let source = stage.setup.json(&["source", "show", "10.77.0.5"]).unwrap();
    assert_eq!(source["debts"]["requests"]["burst"], 20, "{source}");
}

#[test]
fn a_listener_moves_on_its_port_and_what_goes_on_there_does() {
    if !privilege::kernel_usable("reload on the wire") {
        return;
    }
    let stage = Stage::new("").unwrap();
    let client = stage.client(3).unwrap();
    let bearer = format!("Bearer {}", stage.setup.issuer.token("alice", "", 600).unwrap());
    inside(&stage.crowd, async || {
        let mut session = client.connect().await?;
        let mut body = stream(&mut session, &client, &bearer).await;
        let mut here = "[::]:8443";
        for there in ["0.0.0.0:8443", "10.77.0.1:8443", "[::]:8443", "0.0.0.0:8443"] {
            edit(&stage, &format!("address = \"{here}\""), &format!("address = \"{there}\""));
            // A new start gets the sockets of the one before, and is to move in the same way.
            let verb = if there.starts_with('[') { "upgrade" } else { "reload" };
            stage.setup.json(&[verb])?;
            assert_eq!(client.get("/open", &[]).await?.status, 200, "{there}");
            assert!(goes_on(&mut body).await, "{there}");
            here = there;
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_configuration_that_can_not_be_taken_changes_nothing_and_says_why() {
    if !privilege::kernel_usable("reload on the wire") {
        return;
    }
    let stage = Stage::new("").unwrap();
    let client = stage.client(3).unwrap();
    let good = fs::read_to_string(stage.setup.path("config.toml")).unwrap();
    stage.setup.write("not.pem", "not PEM").unwrap();
    for (from, to, expected) in [
        (
            OPEN,
            "path = \"/open\"\nupstream = \"nowhere\"\nauth = \"none\"",
            "there is no upstream \"nowhere\"",
        ),
        ("keys = \"issuer.pem\"", "keys = \"not.pem\"", "not.pem"),
        ("certificate = \"edge.pem\"", "certificate = \"not.pem\"", "not.pem"),
        ("address = \"[::]:8443\"", "address = \"192.0.2.1:8443\"", "no interface has this address"),
        ("sources = 65536", "sources = 131072", "kernel.sources can't change while the agent runs"),
        ("[store]", "[store", "not TOML"),
    ] {
        edit(&stage, from, to);
        // What else is wrong with it must not come half way.
        edit(&stage, "scopes = [\"admin\"]", "scopes = [\"root\"]");
        let output = stage.setup.cli(&["reload"]).unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(expected), "{expected}: {text}");
        stage.setup.write("config.toml", &good).unwrap();
        let answer = client.get_from(&stage.crowd, "/open", &[]).unwrap();
        assert_eq!(answer.status, 200, "{expected}");
        assert_eq!(fields(&stage.setup.json(&["config", "diff"]).unwrap()), [""; 0], "{expected}");
    }
}

#[test]
fn a_hangup_reloads_and_issuers_come_and_go() -> Result<()> {
    if !privilege::kernel_usable("reload on the wire") {
        return Ok(());
    }
    let stage = Stage::new("")?;
    let client = stage.client(3)?;
    let token = stage.setup.issuer.token("alice", "", 600)?;
    let bearer = format!("Bearer {token}");
    let status =
        || client.get_from(&stage.crowd, "/", &[("authorization", &bearer)]).unwrap().status.as_u16();
    assert_eq!(status(), 200);
    for (from, to, expected) in [
        ("algorithms = [\"ES256\"]", "algorithms = [\"EdDSA\"]", None),
        ("issuer = \"https://", "issuer = \"https://other-", Some(401)),
        ("issuer = \"https://other-", "issuer = \"https://", Some(200)),
    ] {
        edit(&stage, from, to);
        system::hang_up(stage.agent.as_ref().unwrap().id())?;
        match expected {
            Some(expected) => eventually("the issuer counts", || status() == expected),
            None => {
                // An ES256 key can't verify EdDSA: nothing changes, and the file is put back.
                eventually("the log says why", || {
                    let log = fs::read_to_string(stage.setup.path("agent.log")).unwrap();
                    log.contains("configuration not reloaded")
                });
                assert_eq!(status(), 200);
                edit(&stage, to, from);
            }
        }
    }
    Ok(())
}
