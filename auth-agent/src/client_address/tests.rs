use proptest::prelude::*;

use super::*;

const PROXY: &str = "10.0.0.1";

fn proxies(read: Forwarding) -> TrustedProxies {
    let trusted = vec!["10.0.0.0/8".parse().unwrap(), "2001:db8:1::/48".parse().unwrap()];
    TrustedProxies::new(&Proxies { read, trusted, ..Proxies::default() })
}

fn client(read: Forwarding, peer: &str, fields: &[(&'static str, &str)]) -> Option<String> {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(*name, http::HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    let client = proxies(read).client(peer.parse().unwrap(), &headers);
    client.ok().map(|address| address.to_string())
}

/// ATTACKS.md, 19.
#[test]
fn nobody_but_a_trusted_proxy_says_where_a_request_comes_from() {
    for peer in ["192.0.2.9", "11.0.0.1", "2001:db8:2::1", "127.0.0.1"] {
        for read in [Forwarding::Forwarded, Forwarding::XForwarded] {
            let fields = [
                ("x-forwarded-for", "198.51.100.1"),
                ("x-forwarded-for", PROXY),
                ("forwarded", "for=198.51.100.1"),
                ("forwarded", "for=\"broken"),
                ("x-real-ip", "198.51.100.1"),
            ];
            assert_eq!(client(read, peer, &fields).as_deref(), Some(peer), "{read:?}");
        }
    }
}

#[test]
fn only_the_field_that_the_proxies_write_is_read() {
    let fields = [("x-forwarded-for", "198.51.100.1"), ("forwarded", "for=198.51.100.2")];
    for (read, expected) in
        [(Forwarding::Forwarded, "198.51.100.2"), (Forwarding::XForwarded, "198.51.100.1")]
    {
        assert_eq!(client(read, PROXY, &fields).as_deref(), Some(expected));
    }
    let strange =
        [("x_forwarded_for", "198.51.100.1"), ("x-real-ip", "198.51.100.1"), ("client-ip", "1.1.1.1")];
    assert_eq!(client(Forwarding::XForwarded, PROXY, &strange), None);
    assert_eq!(client(Forwarding::Forwarded, PROXY, &strange), None);
}

#[test]
fn a_trusted_proxy_speaks_for_itself_only_if_it_says_so() {
    let itself = format!("for={PROXY}");
    for (read, field, value) in
        [(Forwarding::Forwarded, "forwarded", &*itself), (Forwarding::XForwarded, "x-forwarded-for", PROXY)]
    {
        assert_eq!(client(read, PROXY, &[]), None, "{read:?}");
        assert_eq!(client(read, PROXY, &[(field, value)]).as_deref(), Some(PROXY), "{read:?}");
    }
}

#[test]
fn the_last_address_that_is_no_proxys_is_the_clients() {
    for (values, expected) in [
        (&["198.51.100.1"][..], Some("198.51.100.1")),
        (&["198.51.100.1:4711"], Some("198.51.100.1")),
        (&["2001:db8::5"], Some("2001:db8::5")),
        (&["[2001:db8::5]"], Some("2001:db8::5")),
        (&["[2001:db8::5]:443"], Some("2001:db8::5")),
        (&["::ffff:198.51.100.1"], Some("198.51.100.1")),
        (&["203.0.113.7, 198.51.100.1"], Some("198.51.100.1")),
        (&["203.0.113.7", "198.51.100.1"], Some("198.51.100.1")),
        (&["198.51.100.1,10.0.0.2 ,\t10.0.0.3"], Some("198.51.100.1")),
        (&["198.51.100.1", "2001:db8:1::2"], Some("198.51.100.1")),
        (&["10.0.0.9, 10.0.0.2"], Some("10.0.0.9")),
        (&["garbage, 198.51.100.1"], Some("198.51.100.1")),
        (&["\u{1b}\u{e9}, 198.51.100.1".trim_start_matches('\u{1b}')], Some("198.51.100.1")),
        (&["198.51.100.1, garbage"], None),
        (&["198.51.100.1, garbage, 10.0.0.2"], None),
        (&["198.51.100.1,"], None),
        (&[""], None),
        (&["unknown"], None),
        (&["198.51.100.1 10.0.0.2"], None),
        (&["198.51.100.01"], None),
        (&["198.51.100.1:99999"], None),
        (&["[2001:db8::5"], None),
        (&["\"198.51.100.1\""], None),
    ] {
        let fields: Vec<_> = values.iter().map(|value| ("x-forwarded-for", *value)).collect();
        assert_eq!(client(Forwarding::XForwarded, PROXY, &fields).as_deref(), expected, "{values:?}");
    }
}

#[test]
fn forwarded_is_read_as_rfc_7239_writes_it() {
    for (values, expected) in [
        (&["for=198.51.100.1"][..], Some("198.51.100.1")),
        (&["For=\"198.51.100.1:80\""], Some("198.51.100.1")),
        (&["for=\"[2001:db8::5]:443\";proto=https; by=203.0.113.43"], Some("2001:db8::5")),
        (&["proto=https;host=\"a,b;c\";for=198.51.100.1"], Some("198.51.100.1")),
        (&["for=203.0.113.7, for=198.51.100.1"], Some("198.51.100.1")),
        (&["for=203.0.113.7", "for=198.51.100.1;by=10.0.0.2 , for=10.0.0.2"], Some("198.51.100.1")),
        (&["for=_hidden, for=198.51.100.1"], Some("198.51.100.1")),
        (&["for=198.51.100.1, for=_hidden"], None),
        (&["for=unknown"], None),
        (&["proto=https"], None),
        (&["for=198.51.100.1;for=198.51.100.2"], None),
        (&["for=\"198.51.100.1"], None),
        // What the client wrote does not spoil what its proxy added.
        (&["for=\"x, for=198.51.100.1"], Some("198.51.100.1")),
        (&["for=\"x, for=\"[2001:db8::5]\""], Some("2001:db8::5")),
        (&["for=\"\\1\", for=198.51.100.1"], Some("198.51.100.1")),
        (&["for=\"", "for=198.51.100.1, for=10.0.0.2"], Some("198.51.100.1")),
        (&["for=198.51.100.1 for=10.0.0.2"], None),
        (&["198.51.100.1"], None),
        (&[""], None),
        (&["for=198.51.100.1,"], None),
    ] {
        let fields: Vec<_> = values.iter().map(|value| ("forwarded", *value)).collect();
        assert_eq!(client(Forwarding::Forwarded, PROXY, &fields).as_deref(), expected, "{values:?}");
    }
}

#[test]
fn what_is_written_reads_back_with_addresses_and_ports_in_quotes() {
    for (address, host, expected) in [
        ("192.0.2.1", "api.example", "for=192.0.2.1;by=_auth-agent;host=api.example;proto=https"),
        ("2001:db8::5", "h:8443", "for=\"[2001:db8::5]\";by=_auth-agent;host=\"h:8443\";proto=https"),
        ("192.0.2.1", "[::1]", "for=192.0.2.1;by=_auth-agent;host=\"[::1]\";proto=https"),
    ] {
        let host = http::HeaderValue::from_static(host);
        let written = forwarded(address.parse().unwrap(), &host).unwrap();
        assert_eq!(written, expected);
        let fields = [("forwarded", written.to_str().unwrap())];
        assert_eq!(client(Forwarding::Forwarded, PROXY, &fields).as_deref(), Some(address));
    }
}

proptest! {
    /// Whatever a client writes, a proxy's addition after it decides, or the request is refused.
    #[test]
    fn a_client_can_not_hide_what_its_proxy_adds(
        own in "[ -~]{0,60}|(for|by|host)=(\"[^\"]{0,9}\"|[a-z0-9.]{0,9})[;,]?.{0,20}",
        split in any::<bool>(),
    ) {
        prop_assume!(http::HeaderValue::from_str(&own).is_ok());
        for (read, name, added) in [
            (Forwarding::XForwarded, "x-forwarded-for", "198.51.100.1"),
            (Forwarding::Forwarded, "forwarded", "for=198.51.100.1"),
            (Forwarding::Forwarded, "forwarded", "for=\"[2001:db8::5]\""),
        ] {
            let joined = format!("{own}, {added}");
            let fields = if split { vec![(name, own.as_str()), (name, added)] } else { vec![(name, joined.as_str())] };
            let found = client(read, PROXY, &fields);
            let right = ["198.51.100.1", "2001:db8::5"];
            prop_assert!(found.as_deref().is_none_or(|found| right.contains(&found)), "{:?}: {:?}", fields, found);
        }
    }
}
