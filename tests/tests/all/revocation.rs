//! Revocation end to end: a real agent, whoever is revoked on every protocol, and whoever is not (promises P3 and P8).

use anyhow::Result;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tests::client::{Client, inside};
use tests::privilege;
use tests::stage::Stage;
use tests::websocket::FRAME;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::flows::{PATIENCE, breaks_off, eventually, goes_on, stream};

fn bearer(stage: &Stage, subject: &str, seconds: i64) -> String {
    format!("Bearer {}", stage.setup.issuer.token(subject, "", seconds).unwrap())
}

/// The reason of the refusal; empty for a good answer.
fn refusal(stage: &Stage, client: &Client, credential: (&str, &str)) -> String {
    client.get_from(&stage.crowd, "/", &[credential]).unwrap().reason().to_owned()
}

fn revoke(stage: &Stage, arguments: &[&str]) -> Value {
    stage.setup.json(&[&["revoke"], arguments].concat()).unwrap()
}

async fn echoes(socket: &mut TokioIo<Upgraded>) -> Result<bool> {
    let mut answer = [0; FRAME.len()];
    socket.write_all(FRAME).await?;
    timeout(PATIENCE, socket.read_exact(&mut answer)).await??;
    Ok(answer == FRAME)
}

async fn ends(socket: &mut TokioIo<Upgraded>) -> bool {
    let mut rest = Vec::new();
    // With a reset, or in good order.
    timeout(PATIENCE, socket.read_to_end(&mut rest)).await.is_ok() && rest.is_empty()
}

#[test]
fn a_revoked_subject_is_cut_off_on_every_protocol_and_stays_out_and_others_go_on() {
    if !privilege::kernel_usable("revocation on the wire") {
        return;
    }
    let mut stage = Stage::new("").unwrap();
    let (alice, bob) = (bearer(&stage, "alice", 600), bearer(&stage, "bob", 600));
    let [first, second, third, other] = [3, 4, 5, 6].map(|number| stage.client(number).unwrap());
    let sixth = stage.client6(1, 7).unwrap();
    inside(&stage.crowd, async || {
        let mut one = first.connect().await?;
        let mut shared = second.connect_http2().await?;
        let mut six = sixth.connect_http2().await?;
        let mut theirs = other.connect().await?;
        let mut theirs_too = other.connect().await?;
        let mut bodies = [
            stream(&mut one, &first, &alice).await,
            stream(&mut shared, &second, &alice).await,
            stream(&mut six, &sixth, &alice).await,
        ];
        let mut spared = [stream(&mut shared, &second, &bob).await, stream(&mut theirs, &other, &bob).await];
        let [by_alice, by_bob] = [[("authorization", &*alice)], [("authorization", &*bob)]];
        let mut socket = third.connect().await?.websocket(&third, "/websocket", &by_alice).await?;
        let mut kept = theirs_too.websocket(&other, "/websocket", &by_bob).await?;
        assert!(echoes(&mut socket).await? && echoes(&mut kept).await?);

        let revoked = revoke(&stage, &["subject", "alice", "--reason", "left"]);
        assert_eq!(revoked["ended"]["connections"], 3, "{revoked}");
        assert_eq!(revoked["ended"]["requests"], 1, "{revoked}");
        for body in &mut bodies {
            assert!(breaks_off(body).await);
        }
        assert!(ends(&mut socket).await);
        for body in &mut spared {
            assert!(goes_on(body).await);
        }
        assert!(echoes(&mut kept).await?);
        let again = shared.get(&second, "/", &by_alice).await?;
        assert_eq!((again.status.as_u16(), again.reason()), (401, "credential-revoked"));
        assert_eq!(shared.get(&second, "/", &by_bob).await?.status, 200);
        eventually("the upstream streams to others only", || stage.upstream.streams() == 2);
        Ok(())
    })
    .unwrap();
    let status = stage.setup.json(&["status"]).unwrap();
    assert_eq!(status["http"]["closed"]["revoked"], 3, "{status}");
    assert_eq!(status["filter"]["flows"]["revoked"], 3, "condemned connections, not the shared one");
    assert_eq!(status["revocations"]["count"], 1);

    assert_eq!(refusal(&stage, &first, ("authorization", &alice)), "credential-revoked");
    stage.kill().unwrap();
    stage.restart().unwrap();
    assert_eq!(refusal(&stage, &first, ("authorization", &alice)), "credential-revoked");
    assert_eq!(refusal(&stage, &first, ("authorization", &bob)), "");
    let list = stage.setup.json(&["revocation", "list"]).unwrap();
    let id = list["revocations"][0]["id"].as_str().unwrap();
    stage.setup.json(&["revocation", "remove", id]).unwrap();
    assert_eq!(refusal(&stage, &first, ("authorization", &alice)), "");
}

#[test]
fn a_token_a_key_a_client_and_what_was_issued_before_are_revoked_each_by_itself() {
    if !privilege::kernel_usable("revocation by kind") {
        return;
    }
    let stage = Stage::new("").unwrap();
    let client = stage.client(3).unwrap();
    let with = |token: &str| refusal(&stage, &client, ("authorization", token));

    let (one, other) = (bearer(&stage, "alice", 600), bearer(&stage, "alice", 601));
    let text = one.strip_prefix("Bearer ").unwrap();
    revoke(&stage, &["token", text]);
    assert_eq!((&*with(&one), &*with(&other)), ("credential-revoked", ""));

    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let claims = |jti: &str, client: &str, issued: u64| {
        let claims = serde_json::json!({
            "iss": tests::issuer::ISSUER, "aud": tests::issuer::AUDIENCE, "sub": "carol", "jti": jti,
            "client_id": client, "iat": issued, "exp": now + 600,
        });
        format!("Bearer {}", stage.setup.issuer.sign(&claims).unwrap())
    };
    let (first, second) = (claims("1", "app", now - 50), claims("2", "app", now - 40));
    revoke(&stage, &["token", "--id", "1", "--issuer", "test"]);
    assert_eq!((&*with(&first), &*with(&second)), ("credential-revoked", ""));

    let (old, new) = (claims("3", "app", now - 100), claims("4", "app", now));
    revoke(&stage, &["subject", "carol", "--before", "1m"]);
    assert_eq!((&*with(&old), &*with(&new)), ("credential-revoked", ""));

    let elsewhere = claims("5", "other", now);
    revoke(&stage, &["client", "app", "--issuer", "test"]);
    assert_eq!((&*with(&new), &*with(&elsewhere)), ("credential-revoked", ""));

    let [lost, kept] =
        ["lost", "kept"].map(|name| stage.setup.json(&["key", "create", "--name", name]).unwrap());
    let key = |key: &Value| refusal(&stage, &client, ("x-api-key", key["key"].as_str().unwrap()));
    assert_eq!((&*key(&lost), &*key(&kept)), ("", ""));
    revoke(&stage, &["key", lost["id"].as_str().unwrap()]);
    assert_eq!((&*key(&lost), &*key(&kept)), ("api-key-revoked", ""));

    revoke(&stage, &["issuer", "test", "--before", "now"]);
    assert_eq!(
        (&*with(&other), &*with(&elsewhere), &*key(&kept)),
        ("credential-revoked", "credential-revoked", "")
    );
}

#[test]
fn a_stream_ends_when_its_token_is_over_and_the_grace_is_too() {
    if !privilege::kernel_usable("the end of a token") {
        return;
    }
    let stage = Stage::new("[timeouts]\ncredential_grace = \"0s\"\n").unwrap();
    let [short, long] = [3, 4].map(|number| stage.client(number).unwrap());
    // Over, but for the issuer's leeway of 10 s.
    let (over, good) = (bearer(&stage, "alice", -8), bearer(&stage, "bob", 600));
    inside(&stage.crowd, async || {
        let mut sessions = (short.connect_http2().await?, long.connect().await?);
        let mut cut = stream(&mut sessions.0, &short, &over).await;
        let mut spared = stream(&mut sessions.1, &long, &good).await;
        assert!(breaks_off(&mut cut).await && goes_on(&mut spared).await);
        let again = sessions.0.get(&short, "/", &[("authorization", &over)]).await?;
        assert_eq!((again.status.as_u16(), again.reason()), (401, "token-expired"));
        Ok(())
    })
    .unwrap();
}
