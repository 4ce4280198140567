use std::net::Ipv6Addr;
use std::sync::Arc;

use auth_common::rules::Outcome;
use proptest::prelude::*;

use super::*;
use crate::config::SourceLimits;
use crate::kernel::classes::ByAddress;

fn rule(network: &str, action: Action) -> Rule {
    Rule { action, network: network.parse().unwrap() }
}

const FOREVER: Action = Action::Ban { until: None };

fn until(second: u64) -> Action {
    Action::Ban { until: Some(UnixTime(second)) }
}

/// A class that the kernel knows by this number.
fn class(number: u16) -> Action {
    Action::Limit(Arc::new(Class { limits: SourceLimits::default(), name: number.to_string() }))
}

fn number(class: &Class) -> u16 {
    class.name.parse().unwrap()
}

fn compiled(rules: &[Rule]) -> BTreeMap<Prefix, Entry> {
    compile(rules, 64, number, |time| time.0).unwrap()
}

const FREE: Outcome = Outcome::Limited { class: 0 };

/// What the trie does: the longest prefix answers.
fn look_up(entries: &BTreeMap<Prefix, Entry>, address: u128) -> Entry {
    let whole = Prefix { address, length: ADDRESS_BITS };
    entries
        .iter()
        .filter(|(prefix, _)| prefix.covers(whole))
        .max_by_key(|(prefix, _)| prefix.length)
        .map_or_else(Entry::default, |(_, entry)| *entry)
}

/// What the operator means, without a trie.
fn meant(rules: &[Rule], address: IpAddr, now: u64) -> Outcome {
    let applying: Vec<_> = rules.iter().filter(|rule| rule.network.contains(&address)).collect();
    let banned = |rule: &&Rule| match rule.action {
        Action::Allow | Action::Limit(_) => false,
        Action::Ban { until } => until.is_none_or(|until| until.0 > now),
    };
    let limited = applying.iter().filter(|rule| rule.class().is_some());
    if applying.iter().any(|rule| rule.action == Action::Allow) {
        Outcome::Allowed
    } else if applying.iter().any(banned) {
        Outcome::Banned
    } else {
        let longest = limited.max_by_key(|rule| rule.network.prefix_len());
        longest
            .and_then(|rule| rule.class())
            .map_or(FREE, |class| Outcome::Limited { class: number(class).into() })
    }
}

fn outcome(rules: &[Rule], address: &str, now: u64) -> Outcome {
    look_up(&compiled(rules), mapped(address.parse().unwrap())).outcome(now)
}

#[test]
fn a_wide_ban_outlives_a_narrow_one_inside_it() {
    let rules = [rule("10.0.0.0/8", until(100)), rule("10.1.0.0/16", until(10))];
    assert_eq!(outcome(&rules, "10.1.2.3", 50), Outcome::Banned);
    assert_eq!(outcome(&rules, "10.1.2.3", 100), FREE);
}

#[test]
fn an_allowed_network_stays_allowed_inside_and_around_a_ban() {
    let inside = [rule("10.0.0.0/8", FOREVER), rule("10.1.0.0/16", Action::Allow)];
    assert_eq!(outcome(&inside, "10.1.2.3", 0), Outcome::Allowed);
    assert_eq!(outcome(&inside, "10.2.2.3", 0), Outcome::Banned);
    let around = [rule("10.0.0.0/8", Action::Allow), rule("10.1.0.0/16", FOREVER)];
    assert_eq!(outcome(&around, "10.1.2.3", 0), Outcome::Allowed);
}

#[test]
fn a_rule_for_all_of_ipv6_says_nothing_of_ipv4() {
    let rules = [rule("::/0", FOREVER)];
    assert_eq!(outcome(&rules, "2001:db8::1", 0), Outcome::Banned);
    assert_eq!(outcome(&rules, "192.0.2.1", 0), FREE);
    let rules = [rule("::/0", FOREVER), rule("0.0.0.0/0", Action::Allow)];
    assert_eq!(outcome(&rules, "192.0.2.1", 0), Outcome::Allowed);
    assert_eq!(outcome(&rules, "::1", 0), Outcome::Banned);
}

#[test]
fn a_rule_inside_a_source_prefix_marks_the_whole_prefix() {
    let entries = compiled(&[rule("2001:db8::1/128", FOREVER)]);
    let neighbour = look_up(&entries, mapped("2001:db8::2".parse().unwrap()));
    assert_eq!((neighbour.outcome(0), neighbour.mixed), (FREE, 1));
    let banned = look_up(&entries, mapped("2001:db8::1".parse().unwrap()));
    assert_eq!((banned.outcome(0), banned.mixed), (Outcome::Banned, 1));
    let elsewhere = look_up(&entries, mapped("2001:db8:1::1".parse().unwrap()));
    assert_eq!(elsewhere.mixed, 0);
}

#[test]
fn the_longest_network_with_a_class_decides_and_bans_and_allows_inside_keep_it() {
    let rules = [
        rule("10.0.0.0/8", class(1)),
        rule("10.1.0.0/16", class(2)),
        rule("10.1.2.0/24", until(10)),
        rule("10.1.3.0/24", Action::Allow),
        rule("2001:db8::/48", class(3)),
        rule("2001:db8::1/128", until(10)),
    ];
    for (address, now, expected) in [
        ("10.2.0.1", 0, Outcome::Limited { class: 1 }),
        ("10.1.0.1", 0, Outcome::Limited { class: 2 }),
        ("10.1.2.1", 0, Outcome::Banned),
        ("10.1.2.1", 10, Outcome::Limited { class: 2 }),
        ("10.1.3.1", 0, Outcome::Allowed),
        ("11.0.0.1", 0, FREE),
        ("2001:db8::1", 10, Outcome::Limited { class: 3 }),
        ("2001:db8::2", 0, Outcome::Limited { class: 3 }),
        ("2001:db8:1::1", 0, FREE),
    ] {
        assert_eq!(outcome(&rules, address, now), expected, "{address} at {now}");
    }
}

#[test]
fn a_class_on_a_part_of_a_source_is_refused_with_the_prefix_to_write() {
    let compile = |network, prefix| compile(&[rule(network, class(1))], prefix, number, |time| time.0);
    for (network, prefix) in [("2001:db8::/65", 64), ("2001:db8::1/128", 64), ("2001:db8::/64", 56)] {
        let error = compile(network, prefix).unwrap_err().to_string();
        assert!(error.contains(network) && error.ends_with(&format!("write its /{prefix}")), "{error}");
    }
    assert!(compile("192.0.2.7/32", 64).is_ok() && compile("2001:db8::/64", 64).is_ok());
}

/// Few bits, so that rules overlap.
fn networks() -> impl Strategy<Value = IpNet> {
    prop_oneof![
        (0u32..16, 0u8..=32).prop_map(|(bits, length)| {
            IpNet::new(IpAddr::V4((bits << 28 | bits).into()), length).unwrap().trunc()
        }),
        (0u128..16, 0u8..=128).prop_map(|(bits, length)| {
            IpNet::new(IpAddr::V6((bits << 124 | bits << 60 | bits).into()), length).unwrap().trunc()
        }),
    ]
}

fn whole_source(network: IpNet) -> IpNet {
    match network {
        IpNet::V4(_) => network,
        IpNet::V6(_) => IpNet::new(network.addr(), network.prefix_len().min(64)).unwrap().trunc(),
    }
}

fn addresses() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        (0u32..16, 0u32..16).prop_map(|(high, low)| IpAddr::V4((high << 28 | low).into())),
        (0u128..16, 0u128..16, 0u128..16)
            .prop_map(|(high, middle, low)| { IpAddr::V6(Ipv6Addr::from(high << 124 | middle << 60 | low)) }),
    ]
}

proptest! {
    #[test]
    fn the_longest_prefix_always_tells_what_all_rules_amount_to(
        stated in prop::collection::vec((networks(), 0u64..8), 0..12),
        addresses in prop::collection::vec(addresses(), 1..20),
        now in 0u64..4,
    ) {
        let mut rules: Vec<_> = stated
            .iter()
            .map(|(network, kind)| match kind {
                0 => Rule { action: Action::Allow, network: *network },
                1 => Rule { action: FOREVER, network: *network },
                2 | 3 => Rule { action: until(*kind), network: *network },
                number => Rule { action: class(*number as u16), network: whole_source(*network) },
            })
            .collect();
        // Of a network in two classes, nobody could say what was meant.
        let mut taken = std::collections::BTreeSet::new();
        rules.retain(|rule| rule.class().is_none() || taken.insert(rule.network));
        let by_address = ByAddress::new(&rules);
        let entries = compiled(&rules);
        for address in addresses {
            let entry = look_up(&entries, mapped(address));
            let meant = meant(&rules, address, now);
            prop_assert_eq!(entry.outcome(now), meant, "{}", address);
            if let Outcome::Limited { class } = meant {
                // The request path agrees with the kernel.
                let number = by_address.class(address).map_or(0, |class| number(class));
                prop_assert_eq!(u32::from(number), class, "{}", address);
            }
        }
    }

    /// Where the kernel caches, every address of the source has the same outcome.
    #[test]
    fn an_unmarked_outcome_holds_for_the_whole_source(
        stated in prop::collection::vec(networks(), 0..12),
        high in 0u128..16, middle in 0u128..16, left in 0u128..16, right in 0u128..16,
    ) {
        let rules: Vec<_> = stated.iter().map(|network| Rule { action: FOREVER, network: *network }).collect();
        let entries = compiled(&rules);
        let prefix = high << 124 | middle << 60 & !u128::from(u64::MAX);
        let (left, right) = (look_up(&entries, prefix | left), look_up(&entries, prefix | right));
        if left.mixed == 0 {
            prop_assert_eq!(left, right);
        }
    }
}
