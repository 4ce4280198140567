//! HTTP/1.1 messages that two servers could cut differently (ATTACKS 22), over TLS to the real agent and on to an
//! upstream that writes down each byte: it gets the request that was authorised, once, or none.

mod cases;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tests::client::{Client, inside};
use tests::privilege;
use tests::recorder::{Recorder, request};
use tests::stage::Stage;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::timeout;

use self::cases::{Case, Sees, cases};
use crate::http2::UNLIMITED;

const RAW: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9_001);
/// Far above the deadlines, after which the agent ends whatever is unfinished.
const PATIENCE: Duration = Duration::from_secs(20);

const MORE: &str = r#"
[[upstream]]
name = "raw"
endpoints = ["http://127.0.0.1:9001"]

[[route]]
path = "/raw"
upstream = "raw"
auth = "required"

[timeouts]
headers = "2s"
body_idle = "2s"
idle = "1s"
"#;

/// Sends it, and reads all that comes until the connection ends.
async fn exchange(client: &Client, message: &[u8]) -> Result<String> {
    let mut stream = client.handshake(b"http/1.1").await?;
    // The agent may end before it has read everything.
    let _ = stream.write_all(message).await;
    let _ = stream.flush().await;
    let mut answer = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.context("the connection goes on")?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// All at once: each is told by its path.
async fn exchange_all(stage: &Stage, cases: &Arc<Vec<Case>>) -> Result<BTreeMap<usize, String>> {
    let (client, token) = (stage.client(2)?, stage.setup.issuer.token("alice", "", 300)?);
    let mut exchanges = JoinSet::new();
    for number in 0..cases.len() {
        let (client, token, cases) = (client.clone(), token.clone(), Arc::clone(cases));
        exchanges.spawn(async move {
            let message = cases[number].message(&token, number);
            anyhow::Ok((number, exchange(&client, &message).await?))
        });
    }
    exchanges.join_all().await.into_iter().collect()
}

/// A request as the upstream got it, and whether it was whole.
type Heard = (String, bool);

/// The requests that reached the upstream by the case that they are of; and whatever else did.
fn heard(recorder: &Recorder) -> (BTreeMap<usize, Vec<Heard>>, Vec<String>) {
    let (mut requests, mut strange) = (BTreeMap::<usize, Vec<_>>::new(), Vec::new());
    for bytes in recorder.take() {
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let whole = request(rest);
            let (one, after) = rest.split_at(whole.unwrap_or(rest.len()));
            let text = String::from_utf8_lossy(one).into_owned();
            match case_of(&text) {
                Some(number) if is_clean(&text) => {
                    requests.entry(number).or_default().push((text, whole.is_some()));
                }
                _ => strange.push(text),
            }
            rest = after;
        }
    }
    (requests, strange)
}

/// By the target `/raw/NUMBER`, and nothing else.
fn case_of(request: &str) -> Option<usize> {
    let target = request.lines().next()?.strip_suffix(" HTTP/1.1")?.split_once(' ')?.1;
    target.strip_prefix("/raw/")?.parse().ok()
}

/// A head that can be read in one way only, with the identity that was verified.
fn is_clean(request: &str) -> bool {
    let Some((head, _)) = request.split_once("\r\n\r\n") else { return false };
    let count = |name: &str| {
        let is_it = |line: &str| line.split_once(':').is_some_and(|(own, _)| own.eq_ignore_ascii_case(name));
        head.split("\r\n").skip(1).filter(|line| is_it(line)).count()
    };
    let lines_end_well =
        head.split("\r\n").all(|line| !line.contains(['\r', '\n', '\0']) && !line.starts_with([' ', '\t']));
    lines_end_well
        && count("host") == 1
        && count("content-length") + count("transfer-encoding") <= 1
        && count("x-auth-subject") == 1
        && head.to_lowercase().contains("x-auth-subject: alice")
        && ["smuggled", "x_auth", "x.auth"].iter().all(|foreign| !head.to_lowercase().contains(foreign))
}

fn wrong(case: &Case, answer: &str, heard: &[Heard]) -> Option<String> {
    let whole = heard.iter().filter(|(_, whole)| *whole).count();
    let right = match case.sees {
        Sees::Cut => whole == 0 && heard.len() <= 1,
        Sees::Nothing => heard.is_empty(),
        Sees::One => whole == 1 && heard.len() == 1,
        Sees::OneOrNothing => heard.len() == whole && whole <= 1,
    };
    let last = answer.strip_prefix("HTTP/1.1 100 Continue\r\n\r\n").unwrap_or(answer);
    let answered = last.starts_with("HTTP/1.1 200");
    let right = right && (answered == (whole == 1));
    (!right).then(|| {
        format!("{}: {:?}, answered {:?}, heard {heard:?}", case.what, case.sees, answer.lines().next())
    })
}

#[test]
fn a_raw_upstream_gets_exactly_the_authorised_request_whatever_surrounds_it() {
    if !privilege::kernel_usable("smuggling") {
        return;
    }
    let stage = Stage::new(&format!("{UNLIMITED}{MORE}")).unwrap();
    let recorder = Recorder::start(&stage.edge, RAW).unwrap();
    let cases = Arc::new(cases());
    let answers = inside(&stage.crowd, async || exchange_all(&stage, &cases).await).unwrap();
    let (heard, strange) = heard(&recorder);
    let none = Vec::new();
    let failures: Vec<_> = cases
        .iter()
        .enumerate()
        .filter_map(|(number, case)| wrong(case, &answers[&number], heard.get(&number).unwrap_or(&none)))
        .collect();
    assert!(failures.is_empty() && strange.is_empty(), "{failures:#?}\nstrange: {strange:#?}");
}
