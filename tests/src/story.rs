//! The story that the demo plays and an end-to-end test holds it to: one step per promise, each with what was
//! observed.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use http::StatusCode;

use crate::client::{Answer, Client, inside};
use crate::stage::{EDGE, EDGE6, HTTPS, Stage};

/// One step.
pub struct Step {
    /// The promise it shows.
    pub promise: &'static str,
    /// What is claimed.
    pub claim: &'static str,
    /// Plays it, and tells what was observed; an error if the claim does not hold.
    pub play: fn(&mut Stage) -> Result<String>,
}

/// The steps, in the order in which they must be played.
pub const STEPS: &[Step] = &[
    Step { promise: "P1", claim: "TCP to port 80 never reaches a socket", play: plaintext },
    Step { promise: "P3", claim: "no token: 401", play: no_token },
    Step { promise: "P3", claim: "good token: 200", play: good_token },
    Step { promise: "P3", claim: "expired token: 401", play: expired_token },
    Step { promise: "P4", claim: "a token without the route's scope: 403", play: missing_scope },
    Step { promise: "P3", claim: "API key: 200", play: api_key },
    Step { promise: "P8", claim: "revoked key: 401 on its next request", play: revoked_key },
    Step { promise: "P5", claim: "the request after the hundredth: 429", play: request_budget },
    Step { promise: "P6", claim: "who goes on is dropped at the NIC, others are served", play: keeps_going },
    Step { promise: "P5", claim: "a flood is dropped at the NIC, others are served", play: flood },
    Step { promise: "P10", claim: "a banned CIDR is banned until the ban is lifted", play: ban },
    Step { promise: "P9", claim: "kill -9: the filter stays, and keeps what it knew", play: kill },
    Step { promise: "P13", claim: "SIGTERM: the request in flight is answered first", play: drain },
    Step { promise: "P9", claim: "only detach takes the filter off", play: detach },
];

const BRIEF: Duration = Duration::from_millis(700);

/// The clients of each step, so that no step pays for another.
mod cast {
    pub const PLAIN: u8 = 2;
    pub const HONEST: u8 = 3;
    pub const GREEDY: u8 = 4;
    pub const FLOODER: u8 = 5;
    pub const BYSTANDER: u8 = 6;
    pub const BANNED: u8 = 7;
    pub const LATE: u8 = 8;
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

/// A GET from inside the crowd.
fn get(stage: &Stage, client: &Client, path: &str, headers: &[(&str, &str)]) -> Result<Answer> {
    client.get_from(&stage.crowd, path, headers)
}

fn expect(answer: &Answer, status: StatusCode) -> Result<()> {
    ensure!(answer.status == status, "{} {}, expected {status}", answer.status, answer.body);
    Ok(())
}

/// Whether a client still gets through.
fn served(stage: &Stage, number: u8) -> Result<()> {
    let token = stage.setup.issuer.token("bystander", "", 60)?;
    let answer = get(stage, &stage.client(number)?, "/", &[("authorization", &bearer(&token))])?;
    expect(&answer, StatusCode::OK)
}

/// Whether a TCP connection from the crowd is answered at all.
fn connects(stage: &Stage, source: IpAddr, edge: SocketAddr) -> Result<bool> {
    inside(&stage.crowd, async || {
        let socket = match source {
            IpAddr::V4(_) => tokio::net::TcpSocket::new_v4(),
            IpAddr::V6(_) => tokio::net::TcpSocket::new_v6(),
        }?;
        socket.bind(SocketAddr::new(source, 0))?;
        Ok(tokio::time::timeout(BRIEF, socket.connect(edge)).await.is_ok_and(|result| result.is_ok()))
    })
}

fn plaintext(stage: &mut Stage) -> Result<String> {
    let listener = plain_listener(stage)?;
    listener.set_nonblocking(true)?;
    let before = stage.setup.counter("plaintext-port")?;
    let (v4, v6) = (stage.client(cast::PLAIN)?.source(), stage.client6(0, cast::PLAIN.into())?.source());
    ensure!(!connects(stage, v4, (EDGE, 80).into())?, "IPv4 connected");
    ensure!(!connects(stage, v6, (EDGE6, 80).into())?, "IPv6 connected");
    ensure!(listener.accept().is_err(), "a connection reached the listener");
    let dropped = stage.setup.counter("plaintext-port")? - before;
    ensure!(dropped >= 2, "{dropped} packets counted");
    Ok(format!("IPv4 and IPv6 unanswered, a real listener saw nothing, {dropped} packets dropped"))
}

fn no_token(stage: &mut Stage) -> Result<String> {
    let answer = get(stage, &stage.client(cast::HONEST)?, "/", &[])?;
    expect(&answer, StatusCode::UNAUTHORIZED)?;
    let challenge = answer.header("www-authenticate");
    ensure!(challenge.starts_with("Bearer"), "challenge: {challenge:?}");
    ensure!(stage.upstream.requests() == 0, "the upstream saw it");
    Ok(format!("401 {}, challenge `{challenge}`, nothing reached the upstream", answer.reason()))
}

fn good_token(stage: &mut Stage) -> Result<String> {
    let token = bearer(&stage.setup.issuer.token("alice", "mail:read", 60)?);
    let headers = [("authorization", token.as_str()), ("X-Auth_Subject", "mallory")];
    let client = stage.client6(0, cast::HONEST.into())?;
    let answers = inside(&stage.crowd, async || {
        let first = client.connect().await?.get(&client, "/mail?box=in", &headers).await?;
        let second = client.connect_http2().await?.get(&client, "/mail?box=in", &headers).await?;
        Ok([first, second])
    })?;
    for answer in &answers {
        expect(answer, StatusCode::OK)?;
        let seen = &answer.body["headers"];
        ensure!(seen["x-auth-subject"] == serde_json::json!(["alice"]), "upstream saw {seen}");
        ensure!(seen.get("authorization").is_none(), "the token went on to the upstream");
        ensure!(seen.get("x-auth_subject").is_none(), "a forged identity went through");
    }
    Ok("200 over HTTP/1.1 and HTTP/2; upstream saw X-Auth-Subject: alice, no token, no forged header"
        .to_owned())
}

fn expired_token(stage: &mut Stage) -> Result<String> {
    let token = bearer(&stage.setup.issuer.token("alice", "", -60)?);
    let answer = get(stage, &stage.client(cast::HONEST)?, "/", &[("authorization", &token)])?;
    expect(&answer, StatusCode::UNAUTHORIZED)?;
    ensure!(answer.reason() == "token-expired", "reason {}", answer.reason());
    Ok(format!("401 {}", answer.reason()))
}

fn missing_scope(stage: &mut Stage) -> Result<String> {
    let client = stage.client(cast::HONEST)?;
    let poor = bearer(&stage.setup.issuer.token("alice", "mail:read", 60)?);
    let answer = get(stage, &client, "/admin/users", &[("authorization", &poor)])?;
    expect(&answer, StatusCode::FORBIDDEN)?;
    let rich = bearer(&stage.setup.issuer.token("alice", "mail:read admin", 60)?);
    expect(&get(stage, &client, "/admin/users", &[("authorization", &rich)])?, StatusCode::OK)?;
    Ok(format!("403 {}; with the scope 200", answer.reason()))
}

/// The key that the next two steps share.
const KEY_NAME: &str = "billing";

fn create_key(stage: &Stage) -> Result<(String, String)> {
    let key = stage.setup.json(&["key", "create", "--name", KEY_NAME, "--scope", "mail:read"])?;
    let text =
        |field: &str| key[field].as_str().map(str::to_owned).with_context(|| format!("no {field} in {key}"));
    Ok((text("id")?, text("key")?))
}

fn api_key(stage: &mut Stage) -> Result<String> {
    let (_, key) = create_key(stage)?;
    let answer = get(stage, &stage.client(cast::HONEST)?, "/", &[("x-api-key", &key)])?;
    expect(&answer, StatusCode::OK)?;
    let subject = &answer.body["headers"]["x-auth-subject"][0];
    ensure!(subject == KEY_NAME, "subject {subject}");
    ensure!(answer.body["headers"].get("x-api-key").is_none(), "the key went on to the upstream");
    Ok(format!("200, upstream saw X-Auth-Subject: {KEY_NAME} and no key"))
}

fn revoked_key(stage: &mut Stage) -> Result<String> {
    let (id, key) = create_key(stage)?;
    let client = stage.client(cast::HONEST)?;
    let headers = [("x-api-key", key.as_str())];
    expect(&get(stage, &client, "/", &headers)?, StatusCode::OK)?;
    let revoked = Instant::now();
    stage.setup.json(&["key", "revoke", &id])?;
    let answer = get(stage, &client, "/", &headers)?;
    let after = revoked.elapsed();
    expect(&answer, StatusCode::UNAUTHORIZED)?;
    Ok(format!("200, revoked, 401 {} ({} ms after the command began)", answer.reason(), after.as_millis()))
}

/// Requests of the greedy client until it is refused; the last answer.
fn exhaust(stage: &Stage, client: &Client) -> Result<(usize, Duration, Answer)> {
    let token = bearer(&stage.setup.issuer.token("greedy", "", 60)?);
    inside(&stage.crowd, async || {
        let mut session = client.connect().await?;
        let began = Instant::now();
        for admitted in 0..500 {
            let answer = session.get(client, "/", &[("authorization", &token)]).await?;
            if answer.status != StatusCode::OK {
                return Ok((admitted, began.elapsed(), answer));
            }
        }
        bail!("500 requests, and none was refused")
    })
}

fn request_budget(stage: &mut Stage) -> Result<String> {
    let (admitted, elapsed, answer) = exhaust(stage, &stage.client(cast::GREEDY)?)?;
    expect(&answer, StatusCode::TOO_MANY_REQUESTS)?;
    let retry: u64 = answer.header("retry-after").parse().context("no Retry-After")?;
    // A hundred at once, and one more for each 0.6 s that they took.
    let earned = 100 + (elapsed.as_secs_f64() / 0.6).ceil() as usize;
    ensure!((100..=earned).contains(&admitted), "{admitted} admitted in {elapsed:?}");
    ensure!(retry >= 1, "Retry-After: {retry}");
    Ok(format!(
        "{admitted} answered 200 in {} ms, the next 429 {} with Retry-After: {retry}",
        elapsed.as_millis(),
        answer.reason()
    ))
}

/// Plays on from the step before: the greedy client is over its budget already.
fn keeps_going(stage: &mut Stage) -> Result<String> {
    let client = stage.client(cast::GREEDY)?;
    let before = stage.setup.counter("request-debt")?;
    let refused = inside(&stage.crowd, async || {
        let mut session = client.connect().await?;
        for refused in 0..500 {
            match session.get(&client, "/", &[]).await {
                Ok(answer) => expect(&answer, StatusCode::TOO_MANY_REQUESTS)?,
                Err(_) => return Ok(refused),
            }
        }
        bail!("500 refused requests, and still answered")
    })?;
    ensure!(!connects(stage, client.source(), (EDGE, HTTPS).into())?, "still connects");
    let dropped = stage.setup.counter("request-debt")? - before;
    ensure!(dropped > 0, "no packet counted");
    let shown = stage.setup.json(&["source", "show", &client.source().to_string()])?;
    ensure!(shown["debts"]["requests"]["dropped"] == true, "source show: {shown}");
    served(stage, cast::BYSTANDER)?;
    Ok(format!("{refused} more answered 429, then silence: {dropped} packets dropped; the bystander got 200"))
}

fn flood(stage: &mut Stage) -> Result<String> {
    const PACKETS: u32 = 300_000;
    let source = stage.client(cast::FLOODER)?.source();
    let before = stage.setup.counter("packet-budget")?;
    let began = Instant::now();
    stage.crowd.run(|| {
        let socket = UdpSocket::bind((source, 0))?;
        for packet in 0..PACKETS {
            // Port unreachable comes back as an error now and then; the flood does not care.
            let _ = socket.send_to(&[0; 18], (EDGE, 40_000 + (packet % 1_000) as u16));
        }
        Ok(())
    })?;
    served(stage, cast::BYSTANDER)?;
    let dropped = stage.setup.counter("packet-budget")? - before;
    ensure!(dropped > u64::from(PACKETS) / 4, "{dropped} of {PACKETS} packets dropped");
    Ok(format!(
        "{dropped} of {PACKETS} packets dropped in {} ms; the bystander got 200",
        began.elapsed().as_millis()
    ))
}

fn ban(stage: &mut Stage) -> Result<String> {
    let client = stage.client(cast::BANNED)?;
    let (address, edge) = (client.source(), SocketAddr::from((EDGE, HTTPS)));
    ensure!(connects(stage, address, edge)?, "not even without a ban");
    let network = format!("{address}/32");
    stage.setup.json(&["ban", "add", &network, "--for", "10m"])?;
    ensure!(!connects(stage, address, edge)?, "connects though banned");
    served(stage, cast::BYSTANDER)?;
    stage.setup.json(&["ban", "remove", &network])?;
    ensure!(connects(stage, address, edge)?, "still banned");

    stage.setup.json(&["ban", "add", "fd77:0:0:1::/64", "--for", "10m"])?;
    let (inside_it, outside) = (stage.client6(1, 3)?.source(), stage.client6(0, 3)?.source());
    let edge6 = SocketAddr::from((EDGE6, HTTPS));
    ensure!(!connects(stage, inside_it, edge6)?, "an address of the banned CIDR connects");
    ensure!(connects(stage, outside, edge6)?, "an address outside the banned CIDR does not connect");
    Ok(format!("{network} banned: silence, lifted: served; fd77:0:0:1::/64 banned, its neighbour served"))
}

/// Plays on: the IPv6 ban of the step before is still in force.
fn kill(stage: &mut Stage) -> Result<String> {
    let late = stage.client(cast::LATE)?;
    let (_, _, refused) = exhaust(stage, &late)?;
    expect(&refused, StatusCode::TOO_MANY_REQUESTS)?;
    let programs = programs(stage)?;
    let (began, owed) = (Instant::now(), request_debt(stage, &late)?);
    stage.kill()?;

    let listener = stage.edge.run(|| Ok(TcpListener::bind((EDGE6, 9_443))?))?;
    let banned = stage.client6(1, 3)?.source();
    let other = stage.client6(0, 3)?.source();
    let edge6 = listener.local_addr()?;
    ensure!(!connects(stage, banned, edge6)?, "the ban ended with the agent");
    ensure!(connects(stage, other, edge6)?, "nobody connects without the agent");
    let plain = plain_listener(stage)?;
    ensure!(!connects(stage, late.source(), (EDGE, 80).into())?, "port 80 opened without the agent");
    drop(plain);

    stage.restart()?;
    let after = self::programs(stage)?;
    // A debt is paid by time alone.
    let owes = request_debt(stage, &late)?;
    ensure!(owes + began.elapsed() >= owed, "the debt fell from {owed:?} to {owes:?}");
    ensure!(!connects(stage, banned, (EDGE6, HTTPS).into())?, "the ban ended with the restart");
    Ok(format!(
        "ban and port 80 held without an agent; the next one adopted the link (program {programs} -> {after}), the ban and the debt ({:.0} s before, {:.0} s after)",
        owed.as_secs_f64(),
        owes.as_secs_f64()
    ))
}

/// What a client owes in requests.
fn request_debt(stage: &Stage, client: &Client) -> Result<Duration> {
    let shown = stage.setup.json(&["source", "show", &client.source().to_string()])?;
    let debt = shown["debts"]["requests"]["debt_ns"].as_u64();
    Ok(Duration::from_nanos(debt.with_context(|| format!("no debt in {shown}"))?))
}

fn programs(stage: &Stage) -> Result<u64> {
    let status = stage.setup.json(&["status"])?;
    let interface = &status["filter"]["interfaces"][0];
    ensure!(interface["mode"] == "native", "interface: {interface}");
    interface["program_id"].as_u64().with_context(|| format!("no program on {interface}"))
}

/// Listens on port 80 of the edge. A process that another thread has forked may hold the last listener for a moment.
fn plain_listener(stage: &Stage) -> Result<TcpListener> {
    stage.edge.run(|| {
        let mut tries = 0;
        loop {
            match TcpListener::bind("[::]:80") {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries < 100 => {
                    tries += 1;
                    std::thread::sleep(Duration::from_millis(20));
                }
                bound => return Ok(bound?),
            }
        }
    })
}

fn drain(stage: &mut Stage) -> Result<String> {
    let client = stage.client(cast::HONEST)?;
    let token = bearer(&stage.setup.issuer.token("alice", "", 60)?);
    let mut agent = stage.agent.take().context("no agent")?;
    let before = stage.upstream.requests();
    let upstream = &stage.upstream;
    let answer = inside(&stage.crowd, async || {
        let mut session = client.connect().await?;
        let headers = [("authorization", token.as_str())];
        let request = session.get(&client, "/slow", &headers);
        let terminate = async {
            while upstream.requests() == before {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            agent.terminate()
        };
        let (answer, terminated) = tokio::join!(request, terminate);
        terminated?;
        answer
    })?;
    expect(&answer, StatusCode::OK)?;
    let status = agent.wait()?;
    ensure!(status.success(), "the agent ended with {status}");
    let plain = plain_listener(stage)?;
    ensure!(!connects(stage, client.source(), (EDGE, 80).into())?, "the filter went with the agent");
    drop(plain);
    Ok("answered 200, then the agent ended with success; port 80 stays shut".to_owned())
}

fn detach(stage: &mut Stage) -> Result<String> {
    let source = stage.client(cast::PLAIN)?.source();
    let _plain = plain_listener(stage)?;
    ensure!(!connects(stage, source, (EDGE, 80).into())?, "the filter is already gone");
    let detached = stage.setup.json(&["detach"])?;
    ensure!(connects(stage, source, (EDGE, 80).into())?, "still filtered");
    ensure!(!stage.setup.pins().exists(), "pins are left");
    Ok(format!("{detached}, and port 80 connects"))
}
