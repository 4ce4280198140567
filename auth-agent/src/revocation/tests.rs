use std::collections::HashMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::identity::{Facts, TokenHash};

const NOW: UnixTime = UnixTime(1_800_000_000);

const ALL: Revocation = Revocation { before: None, until: None };

fn before(seconds: i64) -> Revocation {
    Revocation { before: Some(UnixTime(NOW.0.saturating_add_signed(seconds))), until: None }
}

fn facts() -> Facts {
    Facts {
        client: Some("app".into()),
        issued_at: Some(NOW),
        issuer: Some("main".into()),
        token: Some(TokenHash::of("a.b.c")),
        token_id: Some("t1".into()),
        ..Facts::new(Method::Jwt, "alice")
    }
}

fn key() -> Facts {
    Facts { issued_at: Some(NOW), key: Some(id("000000000001")), ..Facts::new(Method::ApiKey, "ci") }
}

fn id(text: &str) -> crate::api_key::KeyId {
    text.parse().unwrap()
}

fn subject(issuer: Option<&str>, subject: &str) -> Target {
    Target::Subject { issuer: issuer.map(Into::into), subject: subject.into() }
}

fn client(issuer: Option<&str>, client: &str) -> Target {
    Target::Client { client: client.into(), issuer: issuer.map(Into::into) }
}

fn issuer(name: &str) -> Target {
    Target::Issuer { issuer: name.into() }
}

fn token_id(issuer: &str, token_id: &str) -> Target {
    Target::TokenId { issuer: issuer.into(), token_id: token_id.into() }
}

fn revoked(revocations: &Revocations, facts: Facts) -> bool {
    revocations.is_revoked(&Identity::verified(facts), NOW)
}

#[test]
fn a_revocation_is_of_what_it_names_and_nothing_else() {
    let token = |text| Target::Token { token: TokenHash::of(text) };
    let key_of = |text| Target::Key { key: id(text) };
    let exchanged = || Facts { key: key().key, ..facts() };
    for (target, facts, expected) in [
        (subject(None, "alice"), facts(), true),
        (subject(None, "Alice"), facts(), false),
        (subject(None, "alice "), facts(), false),
        (subject(Some("main"), "alice"), facts(), true),
        (subject(Some("other"), "alice"), facts(), false),
        (subject(Some("mainalice"), ""), facts(), false),
        (subject(None, "ci"), key(), true),
        (subject(Some("main"), "ci"), key(), false),
        (client(None, "app"), facts(), true),
        (client(None, "alice"), facts(), false),
        (client(Some("main"), "app"), facts(), true),
        (client(Some("other"), "app"), facts(), false),
        (client(None, "app"), key(), false),
        (issuer("main"), facts(), true),
        (issuer("other"), facts(), false),
        (issuer("main"), key(), false),
        (token_id("main", "t1"), facts(), true),
        (token_id("main", "t2"), facts(), false),
        (token_id("other", "t1"), facts(), false),
        (token("a.b.c"), facts(), true),
        (token("a.b.another-signature"), facts(), true),
        (token("a.c.c"), facts(), false),
        (key_of("000000000001"), key(), true),
        (key_of("000000000002"), key(), false),
        (key_of("000000000001"), exchanged(), true),
        (key_of("000000000001"), facts(), false),
    ] {
        let revocations = Revocations::default();
        revocations.revoke(&target, ALL, NOW);
        assert_eq!(revoked(&revocations, facts.clone()), expected, "{target}: {facts:?}");
        assert!(revocations.restore(&target));
        assert!(!revoked(&revocations, facts), "{target}");
        assert!(revocations.is_empty());
    }
}

#[test]
fn what_was_issued_before_is_revoked_to_the_second() {
    let undated = Facts { issued_at: None, ..facts() };
    let exchanged = Facts { key: key().key, ..facts() };
    let of_key = Target::Key { key: id("000000000001") };
    for (target, revocation, facts, expected) in [
        (subject(None, "alice"), before(1), facts(), true),
        (subject(None, "alice"), before(0), facts(), false),
        (subject(None, "alice"), before(-1), facts(), false),
        (subject(None, "alice"), before(-1000), undated.clone(), true),
        (issuer("main"), before(1), facts(), true),
        (issuer("main"), before(0), facts(), false),
        (client(None, "app"), before(1), facts(), true),
        (token_id("main", "t1"), before(1), facts(), true),
        (subject(None, "ci"), before(1), key(), true),
        (of_key.clone(), before(1), exchanged.clone(), true),
        (of_key.clone(), before(0), exchanged, false),
        (of_key, before(1), key(), false),
    ] {
        let revocations = Revocations::default();
        revocations.revoke(&target, revocation, NOW);
        assert_eq!(revoked(&revocations, facts), expected, "{target} {revocation:?}");
    }
}

#[test]
fn two_revocations_of_one_target_revoke_what_either_does_in_any_order() {
    let until = |revocation, seconds| Revocation { until: Some(UnixTime(NOW.0 + seconds)), ..revocation };
    for (one, other, expected) in [
        (before(5), before(10), before(10)),
        (before(5), ALL, ALL),
        (until(before(5), 10), until(before(3), 20), until(before(5), 20)),
        (until(before(5), 10), before(3), before(5)),
    ] {
        for (first, second) in [(one, other), (other, one)] {
            assert_eq!(first.merged(second), expected);
            let revocations = Revocations::default();
            for revocation in [first, second, first] {
                revocations.revoke(&subject(None, "alice"), revocation, NOW);
            }
            assert_eq!(revocations.len(), 1);
            let issued = |seconds| Facts { issued_at: Some(UnixTime(NOW.0 + seconds)), ..facts() };
            for second in 0..15 {
                let expected = expected.before.is_none_or(|before| NOW.0 + second < before.0);
                assert_eq!(revoked(&revocations, issued(second)), expected, "{first:?} {second:?}");
            }
        }
    }
}

#[test]
fn a_revocation_ends_with_what_it_revokes_and_is_forgotten() {
    let revocations = Revocations::default();
    let until = UnixTime(NOW.0 + 10);
    revocations.revoke(&subject(None, "alice"), Revocation { before: None, until: Some(until) }, NOW);
    revocations.revoke(&subject(None, "bob"), ALL, NOW);
    let alice = Identity::verified(facts());
    assert!(revocations.is_revoked(&alice, UnixTime(until.0 - 1)));
    assert!(!revocations.is_revoked(&alice, until));
    let round = |now| (0..SHARDS / PURGED_AT_ONCE).for_each(|_| revocations.purge(now));
    round(UnixTime(until.0 - 1));
    assert_eq!(revocations.len(), 2);
    round(until);
    assert_eq!(revocations.len(), 1);
    assert!(revoked(&revocations, Facts::new(Method::Jwt, "bob")));
}

#[test]
fn an_identity_that_was_clean_is_looked_at_again_after_each_revocation() {
    let revocations = Revocations::default();
    let alice = Identity::verified(facts());
    for number in 0..100 {
        assert!(!revocations.is_revoked(&alice, NOW));
        revocations.revoke(&subject(None, &number.to_string()), ALL, NOW);
    }
    assert!(!revocations.is_revoked(&alice, NOW));
    revocations.revoke(&issuer("main"), ALL, NOW);
    assert!(revocations.is_revoked(&alice, NOW));
}

#[test]
fn a_time_that_no_entry_can_hold_revokes_more_and_not_less() {
    for (revocation, expected) in [
        (Revocation { before: Some(UnixTime(u64::MAX)), until: None }, true),
        (Revocation { before: None, until: Some(UnixTime(u64::MAX)) }, true),
        (Revocation { before: Some(UnixTime(0)), until: None }, false),
        (Revocation { before: None, until: Some(UnixTime(0)) }, false),
    ] {
        let revocations = Revocations::default();
        revocations.revoke(&issuer("main"), revocation, NOW);
        assert_eq!(revoked(&revocations, facts()), expected, "{revocation:?}");
    }
}

/// As the documentation words it, without any cleverness.
#[derive(Default)]
struct Model(HashMap<Target, Revocation>);

impl Model {
    fn revoke(&mut self, target: Target, revocation: Revocation, now: UnixTime) {
        let earlier = self.0.get(&target).filter(|earlier| earlier.until.is_none_or(|until| until > now));
        let merged = earlier.map_or(revocation, |earlier| revocation.merged(*earlier));
        self.0.insert(target, merged);
    }

    fn is_revoked(&self, facts: &Facts, now: UnixTime) -> bool {
        self.0.iter().any(|(target, revocation)| {
            let same = |wanted: &str, found: &Option<Arc<str>>| found.as_deref() == Some(wanted);
            let of =
                |issuer: &Option<String>| issuer.as_ref().is_none_or(|issuer| same(issuer, &facts.issuer));
            let meant = match target {
                Target::Client { client, issuer } => same(client, &facts.client) && of(issuer),
                Target::Issuer { issuer } => same(issuer, &facts.issuer),
                Target::Key { key } => facts.key == Some(*key),
                Target::Subject { issuer, subject } => *facts.subject == **subject && of(issuer),
                Target::Token { token } => facts.token == Some(*token),
                Target::TokenId { issuer, token_id } => {
                    same(issuer, &facts.issuer) && same(token_id, &facts.token_id)
                }
            };
            let is_key = matches!(target, Target::Key { .. }) && facts.method == Method::ApiKey;
            let issued = revocation
                .before
                .is_none_or(|before| !is_key && facts.issued_at.is_none_or(|issued_at| issued_at < before));
            meant && issued && revocation.until.is_none_or(|until| until > now)
        })
    }
}

fn names() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "ab", "main"]).prop_map(Into::into)
}

fn ids() -> impl Strategy<Value = crate::api_key::KeyId> {
    prop::sample::select(vec!["000000000001", "000000000002"]).prop_map(id)
}

fn hashes() -> impl Strategy<Value = TokenHash> {
    prop::sample::select(vec!["a.b.c", "a.d.c"]).prop_map(TokenHash::of)
}

fn targets() -> impl Strategy<Value = Target> {
    let some = || prop::option::of(names());
    prop_oneof![
        (names(), some()).prop_map(|(client, issuer)| Target::Client { client, issuer }),
        names().prop_map(|issuer| Target::Issuer { issuer }),
        ids().prop_map(|key| Target::Key { key }),
        (some(), names()).prop_map(|(issuer, subject)| Target::Subject { issuer, subject }),
        hashes().prop_map(|token| Target::Token { token }),
        (names(), names()).prop_map(|(issuer, token_id)| Target::TokenId { issuer, token_id }),
    ]
}

fn times() -> impl Strategy<Value = Option<UnixTime>> {
    prop::option::of((0u64..20).prop_map(|seconds| UnixTime(NOW.0 + seconds)))
}

fn any_facts() -> impl Strategy<Value = Facts> {
    let text = || prop::option::of(names().prop_map(Arc::<str>::from));
    let ids = prop::option::of(ids());
    let hashes = prop::option::of(hashes());
    (text(), times(), text(), ids, names(), hashes, (text(), any::<bool>())).prop_map(
        |(client, issued_at, issuer, key, subject, token, (token_id, is_key))| {
            let method = if is_key { Method::ApiKey } else { Method::Jwt };
            let base = Facts::new(method, &subject);
            Facts { client, issued_at, issuer, key, token, token_id, ..base }
        },
    )
}

#[derive(Clone, Debug)]
enum Step {
    Check(Facts),
    CheckAgain(usize),
    Purge,
    Restore(Target),
    Revoke(Target, Revocation),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => any_facts().prop_map(Step::Check),
        8 => (0usize..8).prop_map(Step::CheckAgain),
        1 => Just(Step::Purge),
        1 => targets().prop_map(Step::Restore),
        6 => (targets(), times(), times())
            .prop_map(|(target, before, until)| Step::Revoke(target, Revocation { before, until })),
        1 => (0u64..4).prop_map(Step::Wait),
    ]
}

proptest! {
    #[test]
    fn the_index_revokes_what_the_list_says(steps in prop::collection::vec(steps(), 1..120)) {
        let (revocations, mut model) = (Revocations::default(), Model::default());
        let (mut now, mut seen) = (NOW, Vec::new());
        for step in steps {
            match step {
                Step::Check(facts) => {
                    let expected = model.is_revoked(&facts, now);
                    let identity = Identity::verified(facts);
                    prop_assert_eq!(revocations.is_revoked(&identity, now), expected);
                    seen.push(identity);
                }
                Step::CheckAgain(which) => {
                    if let Some(identity) = seen.iter().rev().nth(which) {
                        let expected = model.is_revoked(identity.facts(), now);
                        prop_assert_eq!(revocations.is_revoked(identity, now), expected);
                    }
                }
                Step::Purge => (0..SHARDS / PURGED_AT_ONCE).for_each(|_| revocations.purge(now)),
                Step::Restore(target) => {
                    revocations.restore(&target);
                    model.0.remove(&target);
                }
                Step::Revoke(target, revocation) => {
                    revocations.revoke(&target, revocation, now);
                    model.revoke(target, revocation, now);
                }
                Step::Wait(seconds) => now.0 += seconds,
            }
        }
    }
}
