//! Budgets that sources share: IPv6 sites, and the breaker on strangers' new connections (promises P5 and P16).

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Result;
use http::StatusCode;
use socket2::{Domain, Protocol, Socket, Type};
use tests::client::{Client, inside};
use tests::frames::{Ip, SYN, tcp};
use tests::privilege;
use tests::stage::{EDGE, HTTPS, Stage};

#[test]
fn a_client_that_changes_its_prefix_stays_within_the_budget_of_its_site() {
    if !privilege::kernel_usable("IPv6 sites on the wire") {
        return;
    }
    let stage = Stage::new("[limits]\nsite_factor = 1\n").unwrap();
    let [first, second] = [stage.client6(0, 3).unwrap(), stage.client6(1, 3).unwrap()];
    let until_refused = |client: &Client| {
        inside(&stage.crowd, async || {
            let mut session = client.connect().await?;
            for admitted in 0..200 {
                let answer = session.get(client, "/open", &[]).await?;
                if answer.status == StatusCode::TOO_MANY_REQUESTS {
                    return Ok(admitted);
                }
            }
            anyhow::bail!("never refused")
        })
        .unwrap()
    };
    let admitted = until_refused(&first);
    assert!(admitted >= 100, "{admitted}");
    // What time has paid meanwhile, but no budget of its own.
    let afresh = until_refused(&second);
    assert!(afresh < 50, "{afresh}");
}

/// The edge's second wire, and who is on it.
const OTHER_EDGE: Ipv4Addr = Ipv4Addr::new(10, 79, 0, 1);
const OTHER_CLIENT: Ipv4Addr = Ipv4Addr::new(10, 79, 0, 3);

fn second_wire(stage: &Stage) -> Result<()> {
    let (edge, crowd) = (&stage.edge, &stage.crowd);
    edge.ip(&["link", "add", "edge1", "type", "veth", "peer", "name", "crowd1", "netns", crowd.name()])?;
    edge.ip(&["address", "add", &format!("{OTHER_EDGE}/24"), "dev", "edge1"])?;
    edge.ip(&["link", "set", "edge1", "up"])?;
    crowd.ip(&["address", "add", &format!("{OTHER_CLIENT}/24"), "dev", "crowd1"])?;
    crowd.ip(&["link", "set", "crowd1", "up"])
}

#[test]
fn strangers_at_another_interface_have_a_breaker_of_their_own() {
    if !privilege::kernel_usable("the breakers of two interfaces") {
        return;
    }
    let mut stage = Stage::without_agent("[limits.breaker]\nrate = \"1/min\"\nburst = 50\n").unwrap();
    second_wire(&stage).unwrap();
    let text = std::fs::read_to_string(stage.setup.path("config.toml")).unwrap();
    let both = text.replace("interfaces = [\"edge0\"]", "interfaces = [\"edge0\", \"edge1\"]");
    assert_ne!(text, both);
    stage.setup.write("config.toml", &both).unwrap();
    stage.agent = Some(stage.setup.start(&stage.edge).unwrap());
    let here = stage.client(4).unwrap();
    let edge = SocketAddr::new(OTHER_EDGE.into(), HTTPS);
    let elsewhere = Client::new(OTHER_CLIENT.into(), edge, stage.setup.authority.pem()).unwrap();

    stage.crowd.run(|| spoofed_connections(2_000)).unwrap();
    let dropped = stage.setup.counter("breaker").unwrap();
    assert!(dropped >= 1_900, "{dropped} dropped");
    here.get_from(&stage.crowd, "/open", &[]).unwrap_err();
    for _ in 0..20 {
        assert_eq!(elsewhere.get_from(&stage.crowd, "/open", &[]).unwrap().status, StatusCode::OK);
    }
}

#[test]
fn a_client_that_guesses_from_another_prefix_of_its_site_is_refused_before_anything_is_verified() {
    if !privilege::kernel_usable("guesses from an IPv6 site") {
        return;
    }
    let budget = "[limits]\nsite_factor = 1\n[limits.auth_failures]\nrate = \"20/h\"\n";
    let stage = Stage::new(budget).unwrap();
    let [first, second] = [stage.client6(0, 3).unwrap(), stage.client6(1, 3).unwrap()];
    let guesses = |client: &Client| {
        inside(&stage.crowd, async || {
            let mut session = client.connect().await?;
            let wrong = [("authorization", "Bearer wrong")];
            for guess in 0..40 {
                let answer = session.get(client, "/", &wrong).await?;
                if answer.status == StatusCode::TOO_MANY_REQUESTS {
                    return Ok((guess, answer.reason().to_owned()));
                }
            }
            anyhow::bail!("never refused")
        })
        .unwrap()
    };
    let refused = |guesses: u32| (guesses, "auth-failure-limit".to_owned());
    assert_eq!(guesses(&first), refused(20));
    assert_eq!(guesses(&second), refused(0));
    // Other sites, and IPv4, are nobody's neighbours.
    assert_eq!(guesses(&stage.client(3).unwrap()), refused(20));
}

/// Each from another address, as a flood of spoofed packets is. They pass no router but the wire.
fn spoofed_connections(count: u32) -> Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::TCP))?;
    socket.set_header_included_v4(true)?;
    let edge = SocketAddr::from((EDGE, HTTPS)).into();
    for index in 0..count {
        let source = Ipv4Addr::from(0x0a4e_0000 + index);
        let packet = Ip::new(&source.to_string(), &EDGE.to_string(), 6, tcp(40_000, HTTPS, SYN)).bytes();
        socket.send_to(&packet, &edge)?;
    }
    Ok(())
}

#[test]
fn when_strangers_trip_the_breaker_a_known_client_is_still_served() {
    if !privilege::kernel_usable("the breaker on the wire") {
        return;
    }
    let stage = Stage::new("[limits.breaker]\nrate = \"1/min\"\nburst = 50\n").unwrap();
    let token = format!("Bearer {}", stage.setup.issuer.token("alice", "", 60).unwrap());
    let headers = [("authorization", token.as_str())];
    let [known, stranger] = [stage.client(3).unwrap(), stage.client(4).unwrap()];
    assert_eq!(known.get_from(&stage.crowd, "/", &headers).unwrap().status, StatusCode::OK);

    stage.crowd.run(|| spoofed_connections(2_000)).unwrap();
    let dropped = stage.setup.counter("breaker").unwrap();
    assert!(dropped >= 1_900, "{dropped} dropped");
    stranger.get_from(&stage.crowd, "/", &headers).unwrap_err();
    for _ in 0..20 {
        assert_eq!(known.get_from(&stage.crowd, "/", &headers).unwrap().status, StatusCode::OK);
    }
}
