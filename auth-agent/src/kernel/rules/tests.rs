use std::net::Ipv6Addr;

use auth_common::rules::Outcome;
use proptest::prelude::*;

use super::*;

fn rule(network: &str, action: Action) -> Rule {
    Rule { action, network: network.parse().unwrap() }
}

const FOREVER: Action = Action::Ban { until: None };

fn until(second: u64) -> Action {
    Action::Ban { until: Some(UnixTime(second)) }
}

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
        Action::Allow => false,
        Action::Ban { until } => until.is_none_or(|until| until.0 > now),
    };
    if applying.iter().any(|rule| rule.action == Action::Allow) {
        Outcome::Allowed
    } else if applying.iter().any(banned) {
        Outcome::Banned
    } else {
        Outcome::None
    }
}

fn outcome(rules: &[Rule], address: &str, now: u64) -> Outcome {
    look_up(&compile(rules, 64, |time| time.0), mapped(address.parse().unwrap())).outcome(now)
}

#[test]
fn a_wide_ban_outlives_a_narrow_one_inside_it() {
    let rules = [rule("10.0.0.0/8", until(100)), rule("10.1.0.0/16", until(10))];
    assert_eq!(outcome(&rules, "10.1.2.3", 50), Outcome::Banned);
    assert_eq!(outcome(&rules, "10.1.2.3", 100), Outcome::None);
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
    assert_eq!(outcome(&rules, "192.0.2.1", 0), Outcome::None);
    let rules = [rule("::/0", FOREVER), rule("0.0.0.0/0", Action::Allow)];
    assert_eq!(outcome(&rules, "192.0.2.1", 0), Outcome::Allowed);
    assert_eq!(outcome(&rules, "::1", 0), Outcome::Banned);
}

#[test]
fn a_rule_inside_a_source_prefix_marks_the_whole_prefix() {
    let entries = compile(&[rule("2001:db8::1/128", FOREVER)], 64, |time| time.0);
    let neighbour = look_up(&entries, mapped("2001:db8::2".parse().unwrap()));
    assert_eq!((neighbour.outcome(0), neighbour.mixed), (Outcome::None, 1));
    let banned = look_up(&entries, mapped("2001:db8::1".parse().unwrap()));
    assert_eq!((banned.outcome(0), banned.mixed), (Outcome::Banned, 1));
    let elsewhere = look_up(&entries, mapped("2001:db8:1::1".parse().unwrap()));
    assert_eq!(elsewhere.mixed, 0);
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
        stated in prop::collection::vec((networks(), 0u64..4), 0..12),
        addresses in prop::collection::vec(addresses(), 1..20),
        now in 0u64..4,
    ) {
        let rules: Vec<_> = stated
            .iter()
            .map(|(network, kind)| Rule {
                action: match kind {
                    0 => Action::Allow,
                    1 => FOREVER,
                    second => until(*second),
                },
                network: *network,
            })
            .collect();
        let entries = compile(&rules, 64, |time| time.0);
        for address in addresses {
            let entry = look_up(&entries, mapped(address));
            prop_assert_eq!(entry.outcome(now), meant(&rules, address, now), "{}", address);
        }
    }

    /// Where the kernel caches, every address of the source has the same outcome.
    #[test]
    fn an_unmarked_outcome_holds_for_the_whole_source(
        stated in prop::collection::vec(networks(), 0..12),
        high in 0u128..16, middle in 0u128..16, left in 0u128..16, right in 0u128..16,
    ) {
        let rules: Vec<_> = stated.iter().map(|network| Rule { action: FOREVER, network: *network }).collect();
        let entries = compile(&rules, 64, |time| time.0);
        let prefix = high << 124 | middle << 60 & !u128::from(u64::MAX);
        let (left, right) = (look_up(&entries, prefix | left), look_up(&entries, prefix | right));
        if left.mixed == 0 {
            prop_assert_eq!(left, right);
        }
    }
}
