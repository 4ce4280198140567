//! The agent behind other proxies, and beside them: whose request it is, and what they are told who ask.

use std::net::Ipv4Addr;
use std::process::Command;

use serde_json::Value;
use tests::agent::until;
use tests::client::{Client, inside};
use tests::heirs;
use tests::pebble::{DIRECTORY, Pebble};
use tests::privilege;
use tests::stage::{EDGE, Stage};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::time::timeout;

use super::flows::{PATIENCE, breaks_off, goes_on};

/// The client that the proxy speaks for; it is on no wire here.
const CLIENT: &str = "198.51.100.7";

/// Debts that don't drain while a test runs.
const BUDGETS: &str = "[limits.requests]\nrate = \"1/h\"\nburst = 3\n[proxies]\ntrusted = [\"10.77.0.3\"]\n";

fn requests(stage: &Stage, source: &str) -> Value {
    stage.setup.json(&["source", "show", source]).unwrap()["debts"]["requests"]["debt_events"].clone()
}

/// A connection from 10.77.0.`number` that starts with `prelude`; none, where it is closed.
async fn open(
    client: &Client,
    number: u8,
    prelude: &[u8],
) -> anyhow::Result<Option<impl AsyncRead + AsyncWrite + Unpin>> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::new(10, 77, 0, number), 0).into())?;
    let mut stream = socket.connect((EDGE, 9_443).into()).await?;
    stream.write_all(prelude).await?;
    Ok(client.secure(stream, b"http/1.1").await.ok())
}

/// What comes back on such a connection; nothing, where it is closed.
async fn through(client: &Client, number: u8, prelude: &[u8]) -> anyhow::Result<String> {
    let Some(mut stream) = open(client, number, prelude).await? else { return Ok(String::new()) };
    stream.write_all(b"GET /open/x HTTP/1.1\r\nHost: localhost:9443\r\nConnection: close\r\n\r\n").await?;
    let mut answer = Vec::new();
    // It may end without a word.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await?;
    Ok(String::from_utf8(answer)?)
}

#[test]
fn the_proxy_protocol_names_the_client_from_the_first_byte_on() {
    if !privilege::kernel_usable("the PROXY protocol on the wire") {
        return;
    }
    let listener = "\n[[listener]]\naddress = \"0.0.0.0:9443\"\ncertificate = \"edge.pem\"\nkey = \"edge.key\"\nproxy_protocol = true\n";
    let stage = Stage::new(&format!("{BUDGETS}{listener}")).unwrap();
    let client = stage.client(3).unwrap();
    let v1 = format!("PROXY TCP4 {CLIENT} 10.77.0.1 1234 9443\r\n");
    let mut v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c".to_vec();
    v2.extend([198, 51, 100, 7, 10, 77, 0, 1, 4, 210, 36, 227]);
    inside(&stage.crowd, async || {
        for prelude in [v1.as_bytes(), &v2] {
            let answer = through(&client, 3, prelude).await?;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
            assert!(answer.contains(&format!("\"{CLIENT}\"")), "{answer}");
        }
        // Nobody else is believed, and nobody comes without a header.
        for (number, prelude) in [(4, v1.as_bytes()), (4, b""), (3, b"")] {
            assert_eq!(through(&client, number, prelude).await?, "", "{number}");
        }
        Ok(())
    })
    .unwrap();
    assert_eq!((requests(&stage, CLIENT), requests(&stage, "10.77.0.3")), (2.into(), 0.into()));
    let statuses = inside(&stage.crowd, async || {
        let mut statuses = Vec::new();
        for client_address in [CLIENT, CLIENT, "198.51.100.8"] {
            let prelude = v1.replace(CLIENT, client_address);
            statuses.push(through(&client, 3, prelude.as_bytes()).await?[9..12].to_owned());
        }
        Ok(statuses)
    })
    .unwrap();
    assert_eq!(statuses, ["200", "429", "200"], "each has a budget of its own");
    inside(&stage.crowd, async || {
        let mut stream = open(&client, 3, v1.as_bytes()).await?.unwrap();
        let list = stage.setup.json(&["connection", "list", "--source", CLIENT])?;
        let one = &list["connections"][0];
        assert_eq!((&one["client"], &one["source"]), (&CLIENT.into(), &"10.77.0.3".into()), "{list}");
        assert_eq!(stage.setup.json(&["ban", "add", CLIENT])?["ended"], 1);
        // With a reset, or in good order.
        let _ = timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await?;
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_field_of_a_trusted_proxy_names_the_client_and_one_without_it_is_refused() {
    if !privilege::kernel_usable("clients behind a proxy") {
        return;
    }
    let stage = Stage::new(BUDGETS).unwrap();
    let (proxy, other) = (stage.client(3).unwrap(), stage.client(4).unwrap());
    let ask = |client: &Client, fields: &[(&str, &str)]| {
        let answer = client.get_from(&stage.crowd, "/open", fields).unwrap();
        (answer.status.as_u16(), answer.reason().to_owned())
    };
    let named = [("x-forwarded-for", CLIENT)];
    assert_eq!(ask(&proxy, &named).0, 200);
    assert_eq!(ask(&other, &named).0, 200, "and is not looked at");
    assert_eq!(ask(&proxy, &[]), (400, "client-address-invalid".to_owned()));
    assert_eq!(ask(&proxy, &[("x-forwarded-for", "10.77.0.3")]).0, 200, "its own checks name itself");
    for (source, expected) in [(CLIENT, 1), ("10.77.0.3", 2), ("10.77.0.4", 1)] {
        assert_eq!(requests(&stage, source), expected, "{source}");
    }
}

#[test]
fn a_ban_ends_what_goes_on_for_a_client_of_a_proxy_and_nothing_of_the_others() {
    if !privilege::kernel_usable("bans of clients behind a proxy") {
        return;
    }
    let stage = Stage::new("[proxies]\ntrusted = [\"10.77.0.3\"]\n").unwrap();
    let proxy = stage.client(3).unwrap();
    let token = format!("Bearer {}", stage.setup.issuer.token("alice", "", 600).unwrap());
    inside(&stage.crowd, async || {
        let for_client = |client| [("authorization", &*token), ("x-forwarded-for", client)];
        let (banned, other) = (for_client(CLIENT), for_client("198.51.100.8"));
        let mut shared = proxy.connect_http2().await?;
        let (mut one, mut two) = (proxy.connect().await?, proxy.connect().await?);
        let mut ended = shared.stream(&proxy, "/stream", &banned).await?.into_body();
        let mut spared = shared.stream(&proxy, "/stream", &other).await?.into_body();
        let mut socket = one.websocket(&proxy, "/websocket", &banned).await?;
        let mut kept = two.stream(&proxy, "/stream", &other).await?.into_body();
        let ban = stage.setup.json(&["ban", "add", CLIENT])?;
        assert_eq!(ban["ended"], 1, "the connection that was the WebSocket: {ban}");
        assert!(breaks_off(&mut ended).await);
        // With a reset, or in good order.
        let _ = timeout(PATIENCE, socket.read_to_end(&mut Vec::new())).await?;
        assert!(goes_on(&mut spared).await && goes_on(&mut kept).await);
        let again = shared.get(&proxy, "/", &banned).await?;
        assert_eq!((again.status.as_u16(), again.reason()), (403, "source-banned"));
        assert_eq!(shared.get(&proxy, "/", &other).await?.status, 200);
        Ok(())
    })
    .unwrap();
}

/// What a proxy on the edge's host is told, that asks about a GET of `path`: the status, and the subject.
fn verify(stage: &Stage, at: &[&str], path: &str, bearer: &str) -> (String, String) {
    let mut curl: Command = stage.edge.command("curl");
    curl.args(["--silent", "--max-time", "20", "--output", "/dev/null"]);
    curl.args(["--write-out", "%{http_code} %header{x-auth-subject}"]);
    for field in ["x-original-method: GET", "x-original-host: localhost", "x-real-ip: 198.51.100.7", bearer] {
        curl.args(["--header", field]);
    }
    let output = curl.args(["--header", &format!("x-original-uri: {path}")]).args(at).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (status, subject) = text.split_once(' ').unwrap();
    (status.to_owned(), subject.to_owned())
}

/// The status of a request under a name whose certificate only ACME gives; 000: no handshake.
fn shown(stage: &Stage, name: &str) -> String {
    let mut curl = stage.edge.command("curl");
    curl.args(["--silent", "--insecure", "--max-time", "20", "--output", "/dev/null"]);
    curl.args(["--write-out", "%{http_code}", "--resolve", &format!("{name}:9443:127.0.0.1")]);
    let output = curl.arg(format!("https://{name}:9443/open")).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn proxies_ask_one_agent_after_the_other_and_certificates_that_were_got_go_over() {
    const TEST: &str = "forward-auth and ACME over an upgrade";
    if !privilege::kernel_usable(TEST) {
        return;
    }
    const NAME: &str = "api.edge.test";
    let acme = Pebble::is_here();
    if !acme {
        privilege::skip(TEST, "pebble is not installed: `apt-get install pebble`");
    }
    let certificate = format!(
        "[[listener]]\naddress = \"[::]:9443\"\nacme = [\"{NAME}\"]\n\n[acme]\ndirectory = \"{DIRECTORY}\"\n\
         terms_of_service_agreed = true\ncontact = [\"mailto:ops@edge.test\"]\nca = \"acme-ca.pem\"\n"
    );
    let certificate = if acme { &*certificate } else { "" };
    for listen in ["127.0.0.1:9180", "unix:ask.sock"] {
        let more = format!("[forward_auth]\nlisten = \"{listen}\"\n{certificate}");
        let mut stage = Stage::without_agent(&more).unwrap();
        stage.setup.write("acme-ca.pem", stage.setup.authority.pem()).unwrap();
        let folder = stage.setup.path("");
        let pebble =
            acme.then(|| Pebble::start(&stage.edge, &stage.setup.authority, &folder, 9_443).unwrap());
        stage.restart().unwrap();
        let status = || stage.setup.json(&["status"]).unwrap();
        if acme {
            until("a certificate", || Ok(!status()["acme"][0]["not_after"].is_null())).unwrap();
        }
        // From here on, nobody gives another one.
        drop(pebble);
        let before = status()["acme"].clone();
        let path = stage.setup.path("ask.sock").display().to_string();
        let at: &[&str] = match listen {
            "unix:ask.sock" => &["--unix-socket", &path, "http://localhost/verify/nginx"],
            _ => &["http://127.0.0.1:9180/verify/nginx"],
        };
        let bearer = |subject: &str| {
            format!("authorization: Bearer {}", stage.setup.issuer.token(subject, "", 600).unwrap())
        };
        let (alice, bob) = (bearer("alice"), bearer("bob"));
        let told = |path, bearer: &str| verify(&stage, at, path, bearer);
        let yes = |subject: &str| ("200".to_owned(), subject.to_owned());
        let no = |status: &str| (status.to_owned(), String::new());
        let mut old = stage.agent.as_ref().unwrap().id();
        for round in 0..3 {
            assert_eq!(told("/x", &alice), yes("alice"), "{listen} {round}");
            assert_eq!(told("/admin", &alice), no("403"), "{listen} {round}");
            assert_eq!(told("/x", "x-no: credential"), no("401"), "{listen} {round}");
            assert_eq!(status()["acme"][0]["not_after"], before[0]["not_after"], "{listen} {round}");
            if acme {
                assert_eq!(shown(&stage, NAME), "200", "{listen} {round}");
            }
            stage.setup.json(&["upgrade"]).unwrap();
            until("the old agent has ended", || Ok(heirs::is_gone(old)?)).unwrap();
            old = u32::try_from(status()["pid"].as_u64().unwrap()).unwrap();
        }
        stage.setup.json(&["revoke", "subject", "alice"]).unwrap();
        assert_eq!(told("/x", &alice), no("401"), "{listen}");
        assert_eq!(told("/x", &bob), yes("bob"), "{listen}");
        assert!(requests(&stage, CLIENT).as_u64().unwrap() > 0, "{listen}");
    }
}
