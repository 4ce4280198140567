use std::num::NonZeroU32;
use std::sync::Arc;

use super::*;
use crate::identity::tests::someone;
use crate::identity::{Facts, Method};

const SECOND: u64 = 1_000_000_000;
const START: u64 = 1_000;

/// Three objects in a minute, six for a whole source.
fn enumeration() -> Enumeration {
    let [end_after, objects, source_factor] = [5, 3, 2].map(|number| NonZeroU32::new(number).unwrap());
    Enumeration::new(Some(EnumerationLimit {
        end_after,
        objects,
        per: Duration::from_secs(60),
        source_factor,
    }))
}

fn at(seconds: u64) -> Monotonic {
    Monotonic((START + seconds) * SECOND)
}

fn user(name: &str) -> Arc<Identity> {
    someone(Method::Jwt, name, &[])
}

fn over(seconds: u64) -> Charge {
    Charge::Over { retry_after: Duration::from_secs(seconds) }
}

const COUNTED: Noted = Noted::Now { against_source: false, slowed: false };
const SLOWED: Noted = Noted::Now { against_source: true, slowed: true };

#[test]
fn who_asks_for_too_many_is_slowed_until_one_more_would_be_within() {
    let enumeration = enumeration();
    let mallory = user("mallory");
    for (object, second, expected, then) in [
        (1, 0, COUNTED, Charge::Within),
        (2, 0, COUNTED, Charge::Within),
        (1, 0, Noted::Before, Charge::Within),
        (3, 0, SLOWED, over(20)),
        (3, 5, Noted::Before, over(15)),
        (4, 5, Noted::Over { retry_after: Duration::from_secs(15) }, over(15)),
        (5, 20, SLOWED, over(20)),
        (6, 100, COUNTED, Charge::Within),
    ] {
        let noted = enumeration.foreign(7, &mallory, object, at(second));
        assert_eq!(noted, expected, "{object} after {second} s");
        assert_eq!(enumeration.debt(&mallory, at(second)), then, "{object} after {second} s");
    }
    assert_eq!(enumeration.counts(), (5, 2));
}

#[test]
fn nobody_is_slowed_for_what_another_principal_asked_for() {
    let enumeration = enumeration();
    let mallory = user("mallory");
    for object in 0..10 {
        enumeration.foreign(7, &mallory, object, at(0));
    }
    let of_issuer = |issuer: &str| {
        Identity::verified(Facts { issuer: Some(issuer.into()), ..Facts::new(Method::Jwt, "mallory") })
    };
    for other in [
        user("alice"),
        someone(Method::ApiKey, "mallory", &[]),
        someone(Method::Certificate, "mallory", &[]),
        of_issuer("main"),
        of_issuer("partner"),
    ] {
        assert_eq!(enumeration.debt(&other, at(0)), Charge::Within, "{other:?}");
        assert_eq!(enumeration.foreign(8, &other, 1, at(0)), COUNTED, "{other:?}");
    }
    // From wherever it comes.
    assert_eq!(enumeration.debt(&mallory, at(0)), over(20));
    assert!(matches!(enumeration.foreign(9, &mallory, 11, at(0)), Noted::Over { .. }));
}

#[test]
fn what_many_principals_of_a_source_ask_for_is_held_against_that_source_alone() {
    let enumeration = enumeration();
    let principals: Vec<_> = (0..4).map(|number| user(&format!("user-{number}"))).collect();
    let ask = |source, object| -> Vec<_> {
        let ask = |user: &Arc<Identity>| enumeration.foreign(source, user, object, at(0));
        principals.iter().map(ask).collect()
    };
    let against = Noted::Now { against_source: true, slowed: false };
    assert_eq!(ask(7, 1), [COUNTED; 4]);
    assert_eq!(ask(7, 2), [COUNTED, COUNTED, against, against]);
    assert!(principals.iter().all(|user| enumeration.debt(user, at(0)) == Charge::Within));
    assert_eq!(enumeration.foreign(8, &user("alice"), 1, at(0)), COUNTED);
}

#[test]
fn a_limit_can_be_changed_and_taken_away() {
    let enumeration = enumeration();
    let mallory = user("mallory");
    for object in 0..3 {
        enumeration.foreign(7, &mallory, object, at(0));
    }
    enumeration.limit_to(None);
    assert!((0..5).all(|_| !enumeration.goes_on(&mallory)));
    assert_eq!(enumeration.debt(&mallory, at(0)), Charge::Within);
    assert_eq!(enumeration.foreign(7, &mallory, 9, at(0)), Noted::Before);
    let [end_after, objects, source_factor] = [5, 60, 2].map(|number| NonZeroU32::new(number).unwrap());
    let limit = EnumerationLimit { end_after, objects, per: Duration::from_secs(60), source_factor };
    enumeration.limit_to(Some(limit));
    // A minute is owed, which is all of the new limit, too.
    assert_eq!(enumeration.debt(&mallory, at(0)), over(1));
    assert_eq!(enumeration.foreign(7, &mallory, 9, at(2)), COUNTED);
}

#[test]
fn who_goes_on_pays_every_so_often_and_starts_over_with_the_next_object() {
    let enumeration = enumeration();
    let [mallory, alice] = ["mallory", "alice"].map(user);
    let pays = |who: &Identity| (0..12).filter(|_| enumeration.goes_on(who)).count();
    assert_eq!(pays(&mallory), 0);
    for object in 0..3 {
        enumeration.foreign(7, &mallory, object, at(0));
    }
    // With the fifth and the tenth refusal.
    assert_eq!((pays(&mallory), pays(&alice)), (2, 0));
    assert_eq!(enumeration.foreign(7, &mallory, 9, at(20)), SLOWED);
    let when: Vec<_> = (1..=5).filter(|_| enumeration.goes_on(&mallory)).collect();
    assert_eq!(when, [5]);
}

#[test]
fn of_principals_that_share_a_line_nobody_pays_for_going_on() {
    let enumeration = Enumeration { principals: Table::new(1), ..enumeration() };
    for number in 0..7 {
        enumeration.foreign(number + 1, &user(&format!("first-{number}")), 1, at(0));
    }
    let [one, other] = ["one", "other"].map(user);
    for object in 0..9 {
        enumeration.foreign(8, &one, object, at(0));
    }
    assert!((0..20).all(|_| !enumeration.goes_on(&one) && !enumeration.goes_on(&other)));
}

#[test]
fn sources_that_share_a_line_are_not_blamed_for_each_other() {
    let enumeration = Enumeration { sources: Table::new(1), ..enumeration() };
    for source in 1..=7 {
        assert_eq!(enumeration.foreign(source, &user(&format!("user-{source}")), 1, at(0)), COUNTED);
    }
    for number in 0..20 {
        let who = user(&format!("newcomer-{number}"));
        assert_eq!(enumeration.foreign(8 + number, &who, 1, at(0)), COUNTED, "{number}");
    }
}

#[test]
fn newcomers_to_a_full_table_share_a_limit_and_are_slowed_only_where_they_ask_for_what_is_not_theirs() {
    let enumeration = Enumeration { principals: Table::new(1), ..enumeration() };
    for number in 0..7 {
        assert_eq!(enumeration.foreign(number + 1, &user(&format!("first-{number}")), 1, at(0)), COUNTED);
    }
    let [one, other] = ["one", "other"].map(user);
    for object in 0..3 {
        assert_eq!(enumeration.foreign(8, &one, object, at(0)), COUNTED);
    }
    assert_eq!(enumeration.debt(&one, at(0)), Charge::Within);
    assert_eq!(enumeration.debt(&other, at(0)), Charge::Within);
    let refused = Noted::Over { retry_after: Duration::from_secs(20) };
    assert_eq!(enumeration.foreign(8, &other, 9, at(0)), refused);
    // The first ones owe nothing after a third of a minute, and make room.
    assert_eq!(enumeration.foreign(8, &other, 9, at(20)), COUNTED);
}
