//! Allow and block lists, from the command line to the wire (promises P10 and P11).

use std::fmt::Write;

use http::StatusCode;
use tests::client::inside;
use tests::privilege;
use tests::stage::Stage;

#[test]
fn an_allowed_source_is_never_limited_and_a_stranger_still_is() {
    if !privilege::kernel_usable("the allowlist on the wire") {
        return;
    }
    let stage = Stage::new("").unwrap();
    let allowed = stage.client(3).unwrap();
    stage.setup.json(&["allow", "add", "10.77.0.3", "--reason", "monitoring"]).unwrap();
    for (client, expected) in
        [(&allowed, StatusCode::OK), (&stage.client(4).unwrap(), StatusCode::TOO_MANY_REQUESTS)]
    {
        let last = inside(&stage.crowd, async || {
            let mut session = client.connect().await?;
            for _ in 0..149 {
                session.get(client, "/open", &[]).await?;
            }
            session.get(client, "/open", &[]).await
        });
        assert_eq!(last.unwrap().status, expected, "{}", client.source());
    }
    // Not even a ban that covers it stops it, and its failures cost it nothing.
    stage.setup.json(&["ban", "add", "10.77.0.0/16"]).unwrap();
    let answer = allowed.get_from(&stage.crowd, "/", &[("authorization", "Bearer nonsense")]).unwrap();
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    let shown = stage.setup.json(&["source", "show", "10.77.0.3"]).unwrap();
    assert_eq!(
        (&shown["rule"], &shown["debts"]["auth_failures"]["debt_ns"]),
        (&"allowed".into(), &0.into()),
        "{shown}"
    );
    // Off the list, the ban bites.
    stage.setup.json(&["allow", "remove", "10.77.0.3"]).unwrap();
    allowed.get_from(&stage.crowd, "/open", &[]).unwrap_err();
}

#[test]
fn a_block_list_of_a_hundred_thousand_lines_is_enforced_and_survives_a_restart() {
    if !privilege::kernel_usable("a long block list") {
        return;
    }
    let mut stage = Stage::new("").unwrap();
    let mut list = String::from("# a block list, as they are published\n");
    for index in 0..100_000_u32 {
        let address = std::net::Ipv4Addr::from(0x0b00_0000 + index * 16);
        writeln!(list, "{address}/28 ; {index}").unwrap();
    }
    list += "10.77.0.5\nfd77:0:0:1::/64\n";
    stage.setup.write("list", &list).unwrap();
    let path = stage.setup.path("list");
    let imported = stage.setup.json(&["ban", "import", path.to_str().unwrap(), "--for", "1h"]).unwrap();
    assert_eq!(imported["imported"], 100_002);
    for round in ["before", "after"] {
        for (address, rule) in [("11.0.0.17", "banned"), ("11.24.106.0", "none"), ("10.77.0.6", "none")] {
            let shown = stage.setup.json(&["source", "show", address]).unwrap();
            assert_eq!(shown["rule"], rule, "{address} {round}");
        }
        stage.client(5).unwrap().get_from(&stage.crowd, "/open", &[]).unwrap_err();
        stage.client6(1, 3).unwrap().get_from(&stage.crowd, "/open", &[]).unwrap_err();
        stage.client(6).unwrap().get_from(&stage.crowd, "/open", &[]).unwrap();
        if round == "before" {
            stage.restart().unwrap();
        }
    }
}
