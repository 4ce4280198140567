use super::*;
use crate::config::{Overrides, RateOverride};

fn classes() -> Classes {
    let text =
        "[[class]]\nname = \"a\"\nnetworks = [\"10.0.0.0/8\", \"10.1.0.0/16\"]\npackets = { rate = \"7/s\" }";
    let text = format!("{}{text}", config::tests::MINIMAL);
    Classes::new(&Config::parse(&text, std::path::Path::new("edge.toml")).unwrap())
}

fn set(network: &str, packets: &str) -> Limit {
    let rate = Some(packets.to_owned());
    let limits = Overrides { packets: Some(RateOverride { burst: None, rate }), ..Overrides::default() };
    Limit { created: UnixTime(1), limits, network: network.parse().unwrap(), reason: None }
}

#[test]
fn what_was_set_wins_over_what_is_configured_for_the_same_network() {
    let entries = classes().entries(&[set("10.1.0.0/16", "9/s"), set("10.1.2.0/24", "8/s")], 64);
    let events = |address: &str| {
        let applying = applying(entries.clone(), address.parse().unwrap());
        applying.iter().map(|entry| entry.class.limits.packets.events.get()).collect::<Vec<_>>()
    };
    assert_eq!(events("10.2.0.1"), [7]);
    assert_eq!(events("10.1.0.1"), [9, 7]);
    assert_eq!(events("10.1.2.1"), [8, 9, 7]);
    assert_eq!(events("11.0.0.1"), [] as [u32; 0]);
    let idle: Vec<_> = entries.iter().filter(|entry| entry.obstacle.is_some()).collect();
    assert!(
        idle.len() == 1 && idle[0].set.is_none() && idle[0].network.to_string() == "10.1.0.0/16",
        "{idle:?}"
    );
    assert_eq!(rules(&entries).count(), 3);
}

#[test]
fn what_can_no_longer_be_enforced_is_kept_and_says_why() {
    let mut odd = set("192.0.2.0/24", "5/h");
    odd.limits.packets.as_mut().unwrap().burst = Some(1_000_000);
    for (limit, prefix, words) in
        [(set("2001:db8::/64", "9/s"), 56, "longer than the /56"), (odd, 64, "days to pay off")]
    {
        let entries = classes().entries(std::slice::from_ref(&limit), prefix);
        let entry = entries.iter().find(|entry| entry.network == limit.network).unwrap();
        assert!(entry.obstacle.as_ref().unwrap().contains(words), "{entry:?}");
        assert_eq!(rules(&entries).filter(|rule| rule.network == limit.network).count(), 0);
    }
}

#[test]
fn so_many_different_limits_as_the_kernel_has_numbers_for_fit_and_no_more() {
    let sets = |count: u32| -> Vec<_> {
        (1..=count)
            .map(|n| set(&format!("11.{}.{}.0/24", n / 256, n % 256), &format!("{}/s", 100 + n)))
            .collect()
    };
    // One number is the configured class's.
    assert!(fit(&classes().entries(&sets(254), 64)));
    assert!(!fit(&classes().entries(&sets(255), 64)));
    let same: Vec<_> = (0..256).map(|n| set(&format!("11.0.{n}.0/24"), "9/s")).collect();
    assert!(fit(&classes().entries(&same, 64)));
}
