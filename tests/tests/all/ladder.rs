//! What becomes of clients that go on whatever they are told, on a real wire, and that nobody else pays for it (promises
//! P6, P11 and P16).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};
use http::StatusCode;
use serde_json::{Value, json};
use socket2::{Domain, Protocol, Socket, Type};
use tests::agent::until;
use tests::client::{Client, PATIENCE, inside};
use tests::frames::{Ip, SYN, tcp};
use tests::issuer::Issuer;
use tests::pki::Authority;
use tests::privilege;
use tests::stage::{EDGE, HTTPS, Stage};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio::time::timeout;

/// A drop and a few refusals fit in, a second drop does not.
const LADDER: &str = r#"
[limits.requests]
rate = "20/min"
burst = 5
drop_after = 5
drop_for = "1s"
[limits.auth_failures]
rate = "1000/s"
[ladder]
rate = "1/h"
burst = 30
first = "1h"
factor = 2
longest = "1h"
forget_after = "1h"
prices = { auth_failure = 0, drop = 20, enumeration = 0, forged = 8, limit = 1, protocol = 11 }
"#;

/// The bans that nobody made: network, offence, number, seconds.
pub fn bans(stage: &Stage) -> Vec<(String, String, u64, u64)> {
    let list = stage.setup.json(&["ban", "list"]).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let entry = |ban: &Value| {
        let seconds = ban["until"].as_u64()? - ban["created"].as_u64()?;
        let why = ban["automatic"].as_object()?;
        Some((text(&ban["network"]), text(&why["offence"]), why["times"].as_u64()?, seconds))
    };
    list["bans"].as_array().unwrap().iter().filter_map(entry).collect()
}

/// A ban that nobody made, as the log has it, whether or not it is over.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Made {
    lasts: u64,
    pub network: String,
    pub offence: String,
    times: u64,
    until: u64,
}

pub fn made(stage: &Stage) -> Vec<Made> {
    let audit = stage.setup.json(&["audit"]).unwrap();
    let entries = audit["entries"].as_array().unwrap().iter();
    let entry = |entry: &Value| {
        let ban = &entry["detail"];
        let text = |field: &str| ban[field].as_str().map(str::to_owned);
        let (time, until) = (entry["time"].as_u64()?, ban["until"].as_u64()?);
        let (network, offence, times) = (text("network")?, text("offence")?, ban["times"].as_u64()?);
        Some(Made { lasts: until - time, network, offence, times, until })
    };
    entries.filter(|entry| entry["action"] == "ban.automatic").filter_map(entry).collect()
}

/// Asks again and again, whatever the answer, until it is banned once more; what it was answered, and the ban.
fn persist(stage: &Stage, client: &Client) -> (Vec<String>, Made) {
    let before = made(stage).len();
    let (mut reasons, mut bans) = (Vec::new(), Vec::new());
    until("it is banned", || {
        if let Ok(answer) = client.get_from(&stage.crowd, "/open", &[]) {
            reasons.push(format!("{} {}", answer.status.as_u16(), answer.reason()).trim().to_owned());
        }
        bans = made(stage);
        Ok(bans.len() > before)
    })
    .unwrap();
    assert_eq!(bans.len(), before + 1, "{bans:?}");
    // It is stored first, and pays when it is in force.
    until("it is in force", || Ok(stage.setup.json(&["offenders"])?["offenders"] == json!([]))).unwrap();
    (reasons, bans.pop().unwrap())
}

fn is_let_in(stage: &Stage, client: &Client) -> Result<bool> {
    inside(&stage.crowd, async || Ok(client.connect().await.is_ok()))
}

/// Seconds since 1970, on the clock of the agent.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Waits until a client is let in again, which it is not before its ban is over.
fn outlast(stage: &Stage, client: &Client, ban: &Made) {
    until("the ban ends", || {
        let let_in = is_let_in(stage, client)?;
        ensure!(!let_in || now() >= ban.until, "{ban:?} was over too soon");
        Ok(let_in)
    })
    .unwrap();
}

fn serves(stage: &Stage, client: &Client) {
    assert_eq!(client.get_from(&stage.crowd, "/open", &[]).unwrap().status, StatusCode::OK);
}

#[test]
fn who_goes_on_is_refused_then_dropped_then_banned_for_longer_each_time_and_nobody_else_is() {
    if !privilege::kernel_usable("the ladder on the wire") {
        return;
    }
    let short =
        LADDER.replace("first = \"1h\"", "first = \"2s\"").replace("longest = \"1h\"", "longest = \"4s\"");
    let mut stage = Stage::new(&short).unwrap();
    let [offender, innocent, allowed] = [3, 4, 5].map(|number| stage.client(number).unwrap());
    stage.setup.json(&["allow", "add", "10.77.0.5"]).unwrap();
    serves(&stage, &innocent);

    let (reasons, ban) = persist(&stage, &offender);
    let within = reasons.iter().take_while(|reason| **reason == "200").count();
    assert!(within >= 5 && reasons[within] == "429 request-limit", "{reasons:?}");
    assert!(stage.setup.counter("request-debt").unwrap() > 0, "it was dropped for what it owed");
    let expected = |ban: &Made, times, lasts| {
        let (network, offence) = ("10.77.0.3/32".to_owned(), "drop".to_owned());
        Made { lasts, network, offence, times, until: ban.until }
    };
    assert_eq!(ban, expected(&ban, 1, 2));
    serves(&stage, &innocent);
    let audit = stage.setup.json(&["audit"]).unwrap();
    let entries = audit["entries"].as_array().unwrap();
    let by_nobody = entries.iter().filter(|entry| entry["actor"] == "agent");
    let steps: Vec<_> = by_nobody.filter_map(|entry| entry["action"].as_str()).collect();
    let at = |action: &str| steps.iter().position(|step| *step == action);
    assert!(at("source.drop").is_some() && at("source.drop") < at("ban.automatic"), "{steps:?}");

    // A ban ends by itself, and the next one is longer.
    outlast(&stage, &offender, &ban);
    let (_, ban) = persist(&stage, &offender);
    assert_eq!(ban, expected(&ban, 2, 4));

    // A restart changes nothing, but for how long bans last from now on.
    let text = std::fs::read_to_string(stage.setup.path("config.toml")).unwrap();
    stage.setup.write("config.toml", &text.replace(&short, LADDER)).unwrap();
    stage.restart().unwrap();
    serves(&stage, &innocent);
    outlast(&stage, &offender, &ban);
    let (_, ban) = persist(&stage, &offender);
    assert_eq!(ban, expected(&ban, 3, 3_600));
    assert!(!is_let_in(&stage, &offender).unwrap());

    // Who is let off starts over.
    stage.setup.json(&["ban", "remove", "10.77.0.3"]).unwrap();
    until("the ban was lifted", || is_let_in(&stage, &offender)).unwrap();
    let (_, ban) = persist(&stage, &offender);
    assert_eq!(ban, expected(&ban, 1, 3_600));

    let last = inside(&stage.crowd, async || {
        let mut session = allowed.connect().await?;
        for _ in 0..60 {
            session.get(&allowed, "/open", &[]).await?;
        }
        session.get(&allowed, "/open", &[]).await
    });
    assert_eq!(last.unwrap().status, StatusCode::OK);
    serves(&stage, &innocent);
    assert_eq!(bans(&stage).len(), 1, "{:?}", bans(&stage));
    let metrics = String::from_utf8(stage.setup.cli(&["metrics"]).unwrap().stdout).unwrap();
    assert!(metrics.contains("auth_agent_bans_automatic 1\n"), "{metrics}");
}

/// Whether it counts as known.
fn is_known(stage: &Stage, client: &Client) -> bool {
    let shown = stage.setup.json(&["source", "show", &client.source().to_string()]).unwrap();
    !shown["known_until"].is_null()
}

#[test]
fn who_makes_up_tokens_loses_its_good_name_and_is_banned_before_long_and_others_keep_theirs() {
    if !privilege::kernel_usable("forged tokens on the wire") {
        return;
    }
    let stage = Stage::new(&LADDER.replacen("20/min", "1000/s", 1)).unwrap();
    let bearer = |issuer: &Issuer| format!("Bearer {}", issuer.token("alice", "", 600).unwrap());
    let (good, forged) = (bearer(&stage.setup.issuer), bearer(&Issuer::new().unwrap()));
    let [offender, innocent] = [3, 4].map(|number| stage.client(number).unwrap());
    let ask = |client: &Client, token: &str| {
        client.get_from(&stage.crowd, "/", &[("authorization", token)]).map(|answer| answer.status.as_u16())
    };
    for client in [&offender, &innocent] {
        assert_eq!(ask(client, &good).unwrap(), 200);
        assert!(is_known(&stage, client));
    }
    assert_eq!(ask(&offender, &forged).unwrap(), 401);
    assert!(!is_known(&stage, &offender));
    // It can be earned again, until more than half of a ban is owed.
    assert_eq!(ask(&offender, &good).unwrap(), 200);
    assert!(is_known(&stage, &offender));
    assert_eq!((ask(&offender, &forged).unwrap(), ask(&offender, &forged).unwrap()), (401, 401));
    assert!(!is_known(&stage, &offender));
    let owed = stage.setup.json(&["offenders"]).unwrap();
    assert_eq!((&owed["offenders"][0]["network"], &owed["banned_at"]), (&"10.77.0.3/32".into(), &30.into()));
    until("it is banned", || {
        // Whether it is answered before it is dropped is a race.
        let _ = ask(&offender, &forged);
        Ok(!bans(&stage).is_empty())
    })
    .unwrap();
    assert_eq!(bans(&stage)[0].1, "forged");
    assert!(is_known(&stage, &innocent));
    assert_eq!(ask(&innocent, &good).unwrap(), 200);
}

/// What web pages can have browsers send: HTTP, and STUN.
const OF_PAGES: [&[u8]; 2] = [
    b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n",
    b"\0\x03\0\x08\x21\x12\xa4\x42page-of-mallory\0\x19\0\x04\x11\0\0\0",
];
const GARBAGE: &[u8] = b"EHLO mail.example\r\n";

/// Says something to the edge that is no TLS; whether anybody was there to hear it.
async fn babble(source: IpAddr, what: &[u8]) -> Result<bool> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(source, 0))?;
    let Ok(Ok(mut stream)) = timeout(PATIENCE, socket.connect((EDGE, HTTPS).into())).await else {
        return Ok(false);
    };
    stream.write_all(what).await?;
    let end = timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await;
    ensure!(end.is_ok(), "the connection goes on");
    Ok(true)
}

#[test]
fn who_speaks_no_tls_is_banned_and_spoofed_packets_ban_nobody() {
    if !privilege::kernel_usable("garbage on the wire") {
        return;
    }
    let stage = Stage::new(LADDER).unwrap();
    let [offender, innocent] = [3, 4].map(|number| stage.client(number).unwrap());
    // Who does not like our certificate says so in TLS.
    let stranger = Authority::new().unwrap();
    let distrustful = Client::new(offender.source(), (EDGE, HTTPS).into(), stranger.pem()).unwrap();
    for _ in 0..3 {
        inside(&stage.crowd, async || distrustful.connect().await.map(drop)).unwrap_err();
    }
    let garbage = || inside(&stage.crowd, async || babble(offender.source(), GARBAGE).await);
    assert_eq!((garbage().unwrap(), garbage().unwrap()), (true, true));
    assert_eq!(bans(&stage), []);
    until("it is banned", || {
        garbage()?;
        Ok(!bans(&stage).is_empty())
    })
    .unwrap();
    assert_eq!(bans(&stage)[0].1, "protocol");

    let claimed = Ip::new("10.77.0.4", &EDGE.to_string(), 6, tcp(40_000, HTTPS, SYN)).bytes();
    stage.crowd.run(|| send(&mut std::iter::repeat_n(claimed.clone(), 500))).unwrap();
    serves(&stage, &innocent);
    let status = stage.setup.json(&["status"]).unwrap();
    assert_eq!((bans(&stage).len(), status["ladder"]["offences"]["protocol"].as_u64() >= Some(3)), (1, true));
}

#[test]
fn nobody_is_banned_for_what_a_web_page_has_its_browser_send() {
    const EACH: u64 = 10;
    if !privilege::kernel_usable("plaintext on the wire") {
        return;
    }
    let stage = Stage::new(LADDER).unwrap();
    let visitor = stage.client(3).unwrap();
    inside(&stage.crowd, async || {
        for what in OF_PAGES {
            for _ in 0..EACH {
                assert!(babble(visitor.source(), what).await?);
            }
        }
        Ok(())
    })
    .unwrap();
    until("all of it is counted", || {
        let status = stage.setup.json(&["status"])?;
        Ok(status["ladder"]["offences"]["plaintext"] == 2 * EACH)
    })
    .unwrap();
    assert_eq!(made(&stage), []);
    serves(&stage, &visitor);
}

/// A site has the budget of one source; a few refused requests make a ban.
const SITE: &str = r#"
[limits]
site_factor = 1
[limits.requests]
rate = "10/h"
burst = 20
drop_after = 100
[ladder]
rate = "1/h"
burst = 3
first = "1h"
longest = "1h"
known_factor = 1
prices = { auth_failure = 0, drop = 0, enumeration = 0, forged = 0, limit = 1, protocol = 0 }
"#;

#[test]
fn nobody_is_banned_for_what_its_neighbours_owe() {
    if !privilege::kernel_usable("the ladder in an IPv6 site") {
        return;
    }
    let stage = Stage::new(SITE).unwrap();
    let [neighbour, innocent] = [0, 1].map(|network| stage.client6(network, 3).unwrap());
    let ask = |client: &Client, requests: usize| {
        inside(&stage.crowd, async || {
            let (mut session, mut answers) = (client.connect().await?, Vec::new());
            for _ in 0..requests {
                let answer = session.get(client, "/open", &[]).await?;
                answers.push(format!("{} {}", answer.status.as_u16(), answer.reason()));
            }
            Ok(answers)
        })
    };
    // All that the site has.
    assert_eq!(ask(&neighbour, 20).unwrap(), vec!["200 "; 20]);
    // Who is refused within its own budget owes nothing but that.
    assert_eq!(ask(&innocent, 15).unwrap(), vec!["429 request-limit"; 15]);
    let offenders = || stage.setup.json(&["offenders"]).unwrap()["offenders"].clone();
    assert_eq!((offenders(), made(&stage)), (json!([]), Vec::new()));
    // Who goes on over its own is banned.
    until("the neighbour is banned", || {
        let _ = ask(&neighbour, 1);
        Ok(!made(&stage).is_empty())
    })
    .unwrap();
    let [ban] = &made(&stage)[..] else { panic!("one ban: {:?}", made(&stage)) };
    assert_eq!((&*ban.network, &*ban.offence), ("fd77::/64", "limit"));
    assert_eq!(ask(&innocent, 1).unwrap(), ["429 request-limit"]);
}

pub const BEHIND_A_PROXY: &str = "[proxies]\ntrusted = [\"10.77.0.5\"]\n";

#[test]
fn a_client_behind_a_proxy_is_banned_by_its_own_address_and_the_proxy_never() {
    if !privilege::kernel_usable("the ladder behind a proxy") {
        return;
    }
    let stage = Stage::new(&format!("{LADDER}{BEHIND_A_PROXY}")).unwrap();
    let proxy = stage.client(5).unwrap();
    let ask = |client: &str| {
        let answer = proxy.get_from(&stage.crowd, "/open", &[("x-forwarded-for", client)]).unwrap();
        format!("{} {}", answer.status.as_u16(), answer.reason())
    };
    until("it is banned", || {
        ask("203.0.113.9");
        Ok(!bans(&stage).is_empty())
    })
    .unwrap();
    assert_eq!(bans(&stage)[0].0, "203.0.113.9/32");
    // It is still over its limits, and a ban made by hand counts as well.
    assert!(["403 source-banned", "429 request-limit"].contains(&&*ask("203.0.113.9")));
    stage.setup.json(&["ban", "add", "203.0.113.64/26"]).unwrap();
    assert_eq!(ask("203.0.113.77"), "403 source-banned");
    assert_eq!(ask("203.0.113.10"), "200 ");
    // Whatever it says itself.
    inside(&stage.crowd, async || {
        for _ in 0..10 {
            assert!(babble(proxy.source(), GARBAGE).await?);
        }
        Ok(())
    })
    .unwrap();
    assert_eq!(ask("203.0.113.11"), "200 ");
}

/// Sends packets as they are.
fn send(packets: &mut dyn Iterator<Item = Vec<u8>>) -> Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::TCP))?;
    socket.set_header_included_v4(true)?;
    let edge = SocketAddr::from((EDGE, HTTPS)).into();
    for packet in packets {
        socket.send_to(&packet, &edge)?;
    }
    Ok(())
}

/// At a time; then a breath, so that who floods leaves the machine to others as well.
const VOLLEY: u32 = 200;
const BREATH: Duration = Duration::from_millis(10);

/// Asks for connections in the name of ever more addresses until it is told to stop; how often.
fn flood(stop: &AtomicBool) -> Result<u32> {
    let mut sent = 0;
    while !stop.load(Relaxed) {
        let spoofed = |index: u32| {
            let source = Ipv4Addr::from(0x0a4e_0000 + index).to_string();
            Ip::new(&source, &EDGE.to_string(), 6, tcp(40_000, HTTPS, SYN)).bytes()
        };
        send(&mut (sent..sent + VOLLEY).map(spoofed))?;
        sent += VOLLEY;
        thread::sleep(BREATH);
    }
    Ok(sent)
}

#[test]
fn a_known_client_is_served_as_ever_through_a_spoofed_flood_and_a_crowd_of_strangers() {
    const REQUESTS: u32 = 60;
    if !privilege::kernel_usable("earned trust on the wire") {
        return;
    }
    let limits = "[limits.breaker]\nrate = \"10/s\"\nburst = 50\n[limits.requests]\nrate = \"10000/s\"\n";
    let stage = Stage::new(limits).unwrap();
    let token = format!("Bearer {}", stage.setup.issuer.token("alice", "", 600).unwrap());
    let known = stage.client(3).unwrap();
    // Each over a connection of its own.
    let served = || {
        let ask = || known.get_from(&stage.crowd, "/", &[("authorization", &token)]);
        (0..REQUESTS).filter(|_| ask().is_ok_and(|answer| answer.status == StatusCode::OK)).count()
    };
    let undisturbed = served();
    assert_eq!(undisturbed, REQUESTS as usize);

    let (stop, turned_away) = (AtomicBool::new(false), AtomicU32::new(0));
    let strangers: Vec<_> = (5..13).map(|number| stage.client(number).unwrap()).collect();
    let (disturbed, sent) = thread::scope(|scope| {
        let flooding = scope.spawn(|| stage.crowd.run(|| flood(&stop)));
        for stranger in &strangers {
            let (stage, stop, turned_away) = (&stage, &stop, &turned_away);
            scope.spawn(move || {
                while !stop.load(Relaxed) {
                    if stranger.get_from(&stage.crowd, "/open", &[]).is_err() {
                        turned_away.fetch_add(1, Relaxed);
                    }
                }
            });
        }
        let tripped = until("the breaker trips", || Ok(stage.setup.counter("breaker")? > 1_000));
        let disturbed = served();
        let shared = until("strangers share what is left", || Ok(turned_away.load(Relaxed) > 0));
        stop.store(true, Relaxed);
        let sent = flooding.join().unwrap();
        tripped.and(shared).map(|()| (disturbed, sent))
    })
    .unwrap();
    let sent = sent.unwrap();
    assert!(100 * disturbed >= 95 * undisturbed, "{disturbed} of {undisturbed}, through {sent} packets");
}
