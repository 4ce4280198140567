use std::sync::atomic::Ordering::Relaxed;

use super::*;
use crate::config::ClaimPath;
use crate::identity::{Kept, KeptClaims, Method};
use crate::token::tests::mint::{self, NOW};

fn token(number: u64) -> TextHash {
    let mut hash = [0; 32];
    hash[..8].copy_from_slice(&number.to_le_bytes());
    TextHash(hash)
}

fn accepted(keys: KeysVersion, scopes: usize) -> Accepted {
    let scopes = (0..scopes).map(|number| format!("scope-{number:04}").into()).collect();
    let facts = Facts { scopes, ..Facts::new(Method::Jwt, "8d0a4c1e-4111-4111-8111-111111111111") };
    Accepted { identity: Identity::verified(facts), keys, valid: NOW..UnixTime(NOW.0 + 60) }
}

/// The same with a claim of its own, a list of so many values.
fn claiming(accepted: Accepted, values: usize) -> Accepted {
    let names = [ClaimPath::parse("accounts").unwrap()].into();
    let list = || Kept::List((0..values).map(|number| format!("account-{number}").into()).collect());
    let claims = KeptClaims::read(&names, |_| Some(list())).filter(|_| values > 0);
    let facts = Facts { claims, ..accepted.identity.facts().clone() };
    Accepted { identity: Identity::verified(facts), ..accepted }
}

fn keys() -> KeysVersion {
    let (signer, verifier) = mint::pair();
    mint::verify(&verifier, &signer.token(&mint::claims())).unwrap().keys()
}

fn cache(cache_bytes: u64) -> (Cache, Arc<TokenCounters>) {
    let counters = Arc::<TokenCounters>::default();
    let config = config::Tokens { cache_bytes, ..config::Tokens::default() };
    (Cache::new(&config, Arc::clone(&counters)).unwrap(), counters)
}

#[test]
fn whatever_comes_in_the_memory_stays_within_its_bound() {
    const BYTES: u64 = 4 << 20;
    for (scopes, claims) in [(0, 0), (4, 0), (200, 0), (4, 1), (0, 200)] {
        let (cache, counters) = cache(BYTES);
        let keys = keys();
        for number in 0..100_000 {
            cache.accept(token(number), claiming(accepted(keys, scopes), claims));
            cache.refuse(token(number), Forged { guess: Guess(number), keys });
        }
        let (weight, entries) = (cache.accepted.weight(), cache.accepted.len());
        assert!(weight <= BYTES, "{scopes} scopes: {weight}");
        assert!(weight > BYTES / 2, "{scopes} scopes: {weight}");
        assert_eq!(counters.evictions.load(Relaxed), 100_000 - entries as u64);
        let identities = cache.accepted.iter().map(|(_, entry)| heap(&entry.identity)).sum::<usize>();
        let tables = cache.accepted.memory_used();
        let used = identities + tables.map + tables.entries;
        assert!(used as u64 <= BYTES, "{scopes} scopes: {used} bytes in {entries} entries");
        assert!(cache.forged.len() <= 4_096);
    }
}

/// What an identity takes on the heap, each block with the allocator's own word.
fn heap(identity: &Identity) -> usize {
    const BLOCK: usize = 8;
    let facts = identity.facts();
    let text = |text: &Arc<str>| (16 + text.len()).next_multiple_of(16) + BLOCK;
    let list = 16 + facts.scopes.len() * size_of::<Arc<str>>() + BLOCK;
    16 + size_of::<Facts>()
        + BLOCK
        + list
        + facts.claims.as_ref().map_or(0, |claims| claims.heap_bytes())
        + text(&facts.subject)
        + facts.scopes.iter().map(text).sum::<usize>()
}

#[test]
fn an_entry_that_would_fill_the_whole_cache_is_not_kept() {
    let (cache, _) = cache(4 << 10);
    let keys = keys();
    cache.accept(token(1), accepted(keys, 0));
    cache.accept(token(2), accepted(keys, 256));
    assert!(cache.find(&token(1), NOW, |_| true).is_some());
    assert!(cache.find(&token(2), NOW, |_| true).is_none());
}

#[test]
fn what_is_over_makes_room_at_once() {
    let (cache, _) = cache(1 << 20);
    cache.accept(token(1), accepted(keys(), 0));
    assert!(cache.find(&token(1), UnixTime(NOW.0 + 60), |_| true).is_none());
    assert_eq!(cache.accepted.len(), 0);
    cache.accept(token(1), accepted(keys(), 0));
    assert!(cache.find(&token(1), NOW, |_| false).is_none());
    assert_eq!(cache.accepted.len(), 0);
}
