use std::num::NonZeroU32;

use proptest::prelude::*;

use super::*;
use crate::config::{Limits, Rate, SourceLimits};
use crate::edge::Action;

/// Limits that differ by `packets`.
fn rule(network: &str, packets: u32) -> Rule {
    let burst = NonZeroU32::new(1_000_000 + packets).unwrap();
    let default = SourceLimits::default();
    let limits = SourceLimits { packets: Rate { burst, ..default.packets }, ..default };
    let class = Arc::new(Class { limits, name: packets.to_string() });
    Rule { action: Action::Limit(class), network: network.parse().unwrap() }
}

fn budgets() -> Budgets {
    Budgets::from(&Limits::default())
}

fn number(numbers: &Numbers, rule: &Rule) -> u16 {
    numbers.of(&budgets().of_class(&rule.class().unwrap().limits).class())
}

#[test]
fn a_class_keeps_its_number_and_a_new_one_gets_one_that_nobody_has() {
    let [a, b, c] = [rule("10.0.0.0/8", 1), rule("10.1.0.0/16", 2), rule("10.2.0.0/16", 3)];
    let both = Numbers::default().assign(&[a.clone(), b.clone()], &budgets()).unwrap();
    let numbered = [number(&both, &a), number(&both, &b)];
    assert_eq!(numbered, [1, 2]);
    let changed = both.assign(&[b.clone(), c.clone()], &budgets()).unwrap();
    assert_eq!([number(&changed, &b), number(&changed, &c)], [2, 3], "1 may still be looked up");
    let again = changed.assign(&[b, c, a.clone()], &budgets()).unwrap();
    assert_eq!(number(&again, &a), 1);
}

#[test]
fn classes_with_the_same_limits_share_a_number_and_one_like_the_default_has_its_own() {
    let default = Class { limits: SourceLimits::default(), name: "a".into() };
    let rules = [
        rule("10.0.0.0/8", 1),
        rule("11.0.0.0/8", 1),
        Rule { action: Action::Limit(Arc::new(default)), network: "10.1.0.0/16".parse().unwrap() },
    ];
    let numbers = Numbers::default().assign(&rules, &budgets()).unwrap();
    assert_eq!(rules.each_ref().map(|rule| number(&numbers, rule)), [1, 1, 2]);
}

#[test]
fn as_many_classes_as_there_are_numbers_can_all_be_replaced_and_one_more_is_refused() {
    let rules = |first: u32, count: u32| -> Vec<_> {
        (first..first + count).map(|n| rule(&format!("10.0.{}.0/24", n % 256), n)).collect()
    };
    let most = MAX_CLASSES - 1;
    let full = Numbers::default().assign(&rules(0, most), &budgets()).unwrap();
    let replaced = full.assign(&rules(1_000, most), &budgets()).unwrap();
    for rule in rules(1_000, most) {
        assert_ne!(number(&replaced, &rule), DEFAULT_CLASS);
    }
    let error = full.assign(&rules(0, MAX_CLASSES), &budgets()).unwrap_err().to_string();
    assert!(error.contains("256 networks") && error.contains("holds 255"), "{error}");
}

#[test]
fn ranges_end_where_their_family_does() {
    let rules = [rule("255.255.255.0/24", 1), rule("ff00::/8", 2), rule("::/0", 3)];
    let classes = ByAddress::new(&rules);
    let name = |address: &str| classes.class(address.parse().unwrap()).map(|class| class.name.clone());
    for (address, expected) in [
        ("255.255.255.255", Some("1")),
        ("255.255.254.255", None),
        ("0.0.0.0", None),
        ("::", Some("3")),
        ("ffff::1", Some("2")),
        ("fe80::1", Some("3")),
        ("::ffff:255.255.255.1", Some("1")),
    ] {
        assert_eq!(name(address).as_deref(), expected, "{address}");
    }
}

proptest! {
    #[test]
    fn whatever_was_in_use_every_class_gets_a_number_of_its_own(
        steps in prop::collection::vec(prop::collection::btree_set(0_u32..400, 0..120), 1..6),
    ) {
        let mut numbers = Numbers::default();
        for wanted in steps {
            let rules: Vec<_> = wanted.iter().map(|n| rule("10.0.0.0/8", *n)).collect();
            let before = numbers.clone();
            numbers = numbers.assign(&rules, &budgets()).unwrap();
            prop_assert_eq!(numbers.iter().count(), wanted.len());
            for (number, class) in numbers.iter() {
                prop_assert!(number != DEFAULT_CLASS && u32::from(number) < MAX_CLASSES);
                // Few enough that no number has to change hands.
                prop_assert!(before.iter().all(|(other, old)| (other == number) == (old == class)));
            }
        }
    }
}
