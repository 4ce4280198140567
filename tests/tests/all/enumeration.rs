//! What becomes of principals that walk through the objects of others, on a real wire, and that nobody else pays for it
//! (promises P5 and P6).

use std::net::Ipv4Addr;

use anyhow::Result;
use http::StatusCode;
use tests::agent::until;
use tests::client::{Client, Session, inside};
use tests::privilege;
use tests::stage::Stage;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::ladder::{BEHIND_A_PROXY, bans, made};

/// Mail belongs to whom it is addressed to.
const MAIL: &str = r#"
[[route]]
match = "template"
path = "/mail/{user_id}"
upstream = "echo"
auth = "required"
bind = { user_id = "sub" }
foreign = 404
[limits.enumeration]
objects = 5
per = "1h"
end_after = 3
[limits.auth_failures]
rate = "10/h"
drop_after = 1000
[ladder]
rate = "1/h"
burst = 30
first = "1h"
longest = "1h"
known_factor = 1
prices = { auth_failure = 0, drop = 0, enumeration = 7, forged = 0, limit = 0, protocol = 0 }
"#;

#[test]
fn who_walks_through_the_mail_of_others_is_slowed_then_cut_off_then_banned_and_its_neighbours_are_not() {
    if !privilege::kernel_usable("enumeration on the wire") {
        return;
    }
    let stage = Stage::new(MAIL).unwrap();
    let [client, elsewhere] = [3, 4].map(|number| stage.client(number).unwrap());
    let token = |subject: &str| format!("Bearer {}", stage.setup.issuer.token(subject, "", 600).unwrap());
    let [mallory, alice] = ["mallory", "alice"].map(token);
    let ask = async |session: &mut Session, client: &Client, who: &str, id: &str| {
        let answer = session.get(client, &format!("/mail/{id}"), &[("authorization", who)]).await?;
        anyhow::Ok(format!("{} {}", answer.status.as_u16(), answer.reason()))
    };
    let alone = |client: &Client, who: &str, id: &str| {
        inside(&stage.crowd, async || ask(&mut client.connect().await?, client, who, id).await)
    };
    let (mine, foreign, slowed) = ("200 ", "404 route-not-found", "429 enumeration-limit");
    inside(&stage.crowd, async || {
        let mut session = client.connect().await?;
        // The same one counts once.
        for id in ["1", "2", "3", "3", "3", "4", "5"] {
            assert_eq!(ask(&mut session, &client, &mallory, id).await?, foreign, "{id}");
        }
        // Its own is refused, too: what is asked for is not even looked at.
        for id in ["mallory", "6"] {
            assert_eq!(ask(&mut session, &client, &mallory, id).await?, slowed, "{id}");
        }
        // A neighbour on the same address asks for what is its own, and for what is not.
        let mut neighbour = client.connect().await?;
        assert_eq!(ask(&mut neighbour, &client, &alice, "alice").await?, mine);
        assert_eq!(ask(&mut neighbour, &client, &alice, "1").await?, foreign);
        // One 429 more than it should have needed, and the connection ends.
        let last = ask(&mut session, &client, &mallory, "7").await;
        assert!(last.is_err() || last.is_ok_and(|answer| answer == slowed));
        let cut = until_cut(&mut session, &client, &mallory).await;
        assert_eq!(ask(&mut neighbour, &client, &alice, "alice").await?, mine);
        cut
    })
    .unwrap();
    let status = stage.setup.json(&["status"]).unwrap();
    assert_eq!(status["filter"]["flows"]["revoked"], 1, "{}", status["filter"]["flows"]);
    assert_eq!(status["http"]["closed"]["offence"], 1, "{}", status["http"]["closed"]);
    let ladder = &status["ladder"];
    // With the fifth object and with the connection, its source was charged.
    assert_eq!(
        [&ladder["foreign_objects"], &ladder["slowed"], &ladder["offences"]["enumeration"]],
        [6, 1, 2],
        "{ladder}"
    );
    let shown = stage.setup.json(&["source", "show", "10.77.0.3"]).unwrap();
    assert_eq!(shown["debts"]["auth_failures"]["debt_events"], 1, "{shown}");
    let slow = stage.setup.json(&["offenders"]).unwrap();
    assert_eq!(slow["slowed"][0]["subject"], "mallory", "{slow}");
    let metrics = String::from_utf8(stage.setup.cli(&["metrics"]).unwrap().stdout).unwrap();
    assert!(metrics.contains("auth_agent_offences_total{offence=\"enumeration\"} 2\n"), "{metrics}");
    assert!(metrics.contains("auth_agent_foreign_objects_total 6\n"), "{metrics}");

    // It is slowed from wherever it comes; who goes on coming back has its source banned in the end.
    assert_eq!(alone(&elsewhere, &mallory, "8").unwrap(), slowed);
    assert_eq!(bans(&stage), []);
    until("its source is banned", || {
        let _ = inside(&stage.crowd, async || {
            let mut session = client.connect().await?;
            until_cut(&mut session, &client, &mallory).await
        });
        Ok(!bans(&stage).is_empty())
    })
    .unwrap();
    assert_eq!(bans(&stage), [("10.77.0.3/32".to_owned(), "enumeration".to_owned(), 1, 3_600)]);
    assert_eq!(alone(&elsewhere, &alice, "alice").unwrap(), mine);
}

/// Goes on until the connection ends.
async fn until_cut(session: &mut Session, client: &Client, token: &str) -> Result<()> {
    for number in 0..100 {
        if session.get(client, &format!("/mail/more-{number}"), &[("authorization", token)]).await.is_err() {
            return Ok(());
        }
    }
    anyhow::bail!("the connection goes on")
}

/// Their addresses are charged, whatever they come by: the budget of a connection is nothing to who takes another.
#[test]
fn who_goes_on_by_a_connection_for_each_request_or_behind_a_proxy_is_banned_by_its_own_address() {
    if !privilege::kernel_usable("enumeration over many connections") {
        return;
    }
    let stage = Stage::new(&format!("{MAIL}{BEHIND_A_PROXY}")).unwrap();
    let [client, proxy] = [3, 5].map(|number| stage.client(number).unwrap());
    let token = |subject: &str| format!("Bearer {}", stage.setup.issuer.token(subject, "", 600).unwrap());
    let [mallory, trudy, alice] = ["mallory", "trudy", "alice"].map(token);
    let walk = |what: &str, network: &str, ask: &mut dyn FnMut(&str) -> Result<()>| {
        let mut id = 0;
        until(what, || {
            id += 1;
            // Whether it is answered before it is dropped is a race.
            let _ = ask(&format!("/mail/{id}"));
            Ok(bans(&stage).iter().any(|(banned, ..)| banned == network))
        })
        .unwrap();
    };
    walk("who takes a connection each is banned", "10.77.0.3/32", &mut |path| {
        client.get_from(&stage.crowd, path, &[("authorization", &mallory)]).map(drop)
    });
    let through = |path: &str, who: &str, from: &str| {
        proxy.get_from(&stage.crowd, path, &[("authorization", who), ("x-forwarded-for", from)])
    };
    walk("who is behind a proxy is banned", "203.0.113.9/32", &mut |path| {
        through(path, &trudy, "203.0.113.9").map(drop)
    });
    until("the ban is in force", || {
        Ok(through("/mail/alice", &alice, "203.0.113.9")?.reason() == "source-banned")
    })
    .unwrap();
    assert_eq!(through("/mail/alice", &alice, "203.0.113.10").unwrap().status, StatusCode::OK);
    let offences: Vec<_> = made(&stage).into_iter().map(|ban| (ban.network, ban.offence)).collect();
    let by = |network: &str| (network.to_owned(), "enumeration".to_owned());
    assert_eq!(offences, [by("10.77.0.3/32"), by("203.0.113.9/32")]);
}

/// Asks the agent about a request to `path`, as nginx does for a client; the status.
async fn ask_about(path: &str, client: &str, token: &str) -> Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, ASKED_AT)).await?;
    let question = format!(
        "GET /verify/nginx HTTP/1.1\r\nhost: agent.internal\r\nx-original-method: GET\r\nx-original-uri: {path}\r\n\
         x-original-host: localhost\r\nx-real-ip: {client}\r\nauthorization: {token}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(question.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer.split(' ').nth(1).unwrap_or_default().to_owned())
}

const ASKED_AT: u16 = 9_180;

#[test]
fn who_goes_on_behind_a_proxy_that_asks_is_banned_by_its_own_address() {
    if !privilege::kernel_usable("enumeration behind a proxy that asks") {
        return;
    }
    let asked = format!("{MAIL}[forward_auth]\nlisten = \"127.0.0.1:{ASKED_AT}\"\n");
    let stage = Stage::new(&asked).unwrap();
    let token = |subject: &str| format!("Bearer {}", stage.setup.issuer.token(subject, "", 600).unwrap());
    let [mallory, alice] = ["mallory", "alice"].map(token);
    let ask = |path: &str, client: &str, token: &str| {
        inside(&stage.edge, async || ask_about(path, client, token).await).unwrap()
    };
    assert_eq!(ask("/mail/mallory", "203.0.113.9", &mallory), "200");
    let mut id = 0;
    until("its client is banned", || {
        id += 1;
        assert_eq!(ask(&format!("/mail/{id}"), "203.0.113.9", &mallory), "403");
        Ok(!bans(&stage).is_empty())
    })
    .unwrap();
    assert_eq!(bans(&stage), [("203.0.113.9/32".to_owned(), "enumeration".to_owned(), 1, 3_600)]);
    until("the ban is in force", || Ok(ask("/mail/alice", "203.0.113.9", &alice) == "403")).unwrap();
    assert_eq!(ask("/mail/alice", "203.0.113.10", &alice), "200");
}
