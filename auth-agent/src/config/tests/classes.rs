use super::*;

#[test]
fn a_class_has_the_limits_of_everyone_but_for_what_it_says() {
    let config = minimal_with(
        r#"
        [limits.requests]
        rate = "50/min"
        drop_after = 7
        [limits.auth_failures]
        rate = "5/min"
        drop_after = 9
        [[class]]
        name = "partners"
        networks = ["192.0.2.0/24", "2001:db8::/48", "203.0.113.7"]
        requests = { rate = "1000/min" }
        auth_failures = { drop_for = "2m" }
        [[class]]
        name = "all-of-ipv6"
        networks = ["::/0"]
        [class.packets]
        burst = 3
        "#,
    )
    .unwrap();
    let default = config.limits.source;
    let [partners, ipv6] = &config.classes[..] else { panic!("two classes") };
    let requests = partners.limits.requests;
    assert_eq!(
        (requests.rate.events.get(), requests.rate.burst.get(), requests.drop_after.get()),
        (1_000, 1_000, 1_000)
    );
    assert_eq!(requests.drop_for, default.requests.drop_for);
    let failures = partners.limits.auth_failures;
    assert_eq!((failures.rate, failures.drop_after.get()), (default.auth_failures.rate, 9));
    assert_eq!(failures.drop_for, Duration::from_secs(120));
    assert_eq!(partners.limits.packets, default.packets);
    assert_eq!(ipv6.limits.requests, default.requests);
    assert_eq!((ipv6.limits.packets.events, ipv6.limits.packets.burst.get()), (default.packets.events, 3));
    assert_eq!(partners.networks.len(), 3);
}

#[test]
fn a_class_that_has_no_one_meaning_is_refused() {
    let table = [
        ("name = \"a\"\nnetworks = []", "class[1].networks: empty"),
        ("networks = [\"10.0.0.0/8\"]", "class[1].name: missing"),
        (
            "name = \"default\"\nnetworks = [\"10.0.0.0/8\"]",
            "class[1].name: that is the class of everyone else",
        ),
        ("name = \"a\"\nnetworks = [\"10.0.0.1/8\"]", "bits set beyond its prefix"),
        ("name = \"a\"\nnetworks = [\"2001:db8::/65\"]", "write its /64, as kernel.ipv6_prefix says"),
        ("name = \"a\"\nnetworks = [\"10.0.0.0/8\", \"10.0.0.0/8\"]", "class[1].networks[2]: listed twice"),
        (
            "name = \"a\"\nnetworks = [\"10.0.0.0/8\"]\n[[class]]\nname = \"b\"\nnetworks = [\"10.0.0.0/8\"]",
            "class[2].networks: 10.0.0.0/8 is in the class of line",
        ),
        (
            "name = \"a\"\nnetworks = [\"10.0.0.0/8\"]\n[[class]]\nname = \"a\"\nnetworks = [\"11.0.0.0/8\"]",
            "class[2].name: already taken in line",
        ),
        ("name = \"a\"\nnetworks = [\"10.0.0.0/8\"]\nrequests = \"5/s\"", "write [class[1].requests]"),
        (
            "name = \"a\"\nnetworks = [\"10.0.0.0/8\"]\nrequests = { rate = \"0/s\" }",
            "class[1].requests.rate",
        ),
        (
            "name = \"a\"\nnetworks = [\"10.0.0.0/8\"]\nbreaker = { rate = \"1/s\" }",
            "class[1].breaker: unknown field",
        ),
    ];
    for (class, words) in table {
        let problems = problems(&format!("{MINIMAL}[[class]]\n{class}"));
        assert!(problems.iter().any(|problem| problem.contains(words)), "{class}: {problems:?}");
    }
    let many: String =
        (0..256).map(|n| format!("[[class]]\nname = \"n{n}\"\nnetworks = [\"10.0.{n}.0/24\"]\n")).collect();
    assert_eq!(problems(&format!("{MINIMAL}{many}")).len(), 1);
}

proptest! {
    /// What `limit show` prints can be set, and then means the same.
    #[test]
    fn limits_that_are_printed_and_read_again_are_the_same(
        events in 1_u32..1_000_000,
        burst in 1_u32..1_000_000,
        unit in 0_usize..3,
        bytes in (1_u64 << 17)..1 << 32,
        seconds in 1_u64..600_000,
    ) {
        let nonzero = |number| NonZeroU32::new(number).unwrap();
        let period = [defaults::SECOND, defaults::MINUTE, defaults::HOUR][unit];
        let rate = Rate { burst: nonzero(burst), events: nonzero(events), period };
        prop_assume!(u64::from(burst) * period.as_secs() / u64::from(events) < 29 * 86_400);
        let http = HttpLimit { drop_after: rate.burst, drop_for: Duration::from_secs(seconds), rate };
        let bytes = ByteRate { burst: bytes, per_second: bytes };
        let limits =
            SourceLimits { auth_failures: http, bytes, connections: rate, packets: rate, requests: http };
        prop_assert_eq!(Overrides::from(&limits).resolve(&SourceLimits::default()), Ok(limits));
    }
}
