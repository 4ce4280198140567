//! Tokens that were verified a short while ago, and those whose signature did not hold.
//!
//! A token is found by the SHA-256 of its whole text, so a hit is this very token. What is found holds only under
//! the keys that it was verified with, and between the token's own first and last second; whoever asks checks what
//! else may have changed since (revocation). The cache belongs to one configuration: another one starts with none.

use std::ops::Range;
use std::sync::Arc;

use aws_lc_rs::digest;
use quick_cache::sync::Cache as Store;
use quick_cache::{Lifecycle, OptionsBuilder, UnitWeighter, Weighter};

use crate::authenticate::Guess;
use crate::clock::UnixTime;
use crate::config;
use crate::counters::{TokenCounters, count};
use crate::identity::{Facts, Identity};
use crate::revocation::Marks;
use crate::token::KeysVersion;

/// What an entry takes besides its texts, with what the cache remembers of entries that are gone and with tables that
/// are not full. A test holds it against what is really taken.
const ENTRY_BYTES: usize =
    3 * (size_of::<TextHash>() + size_of::<Accepted>() + 24) + size_of::<Facts>() + size_of::<Marks>();

/// No part of the cache is so small that an ordinary entry does not find room in it.
const SHARD_BYTES: usize = 64 << 10;

/// As many parts as that are locked one by one, at most.
const MAX_SHARDS: usize = 64;

/// SHA-256 of a token's whole text, its signature included: what differs in nothing but the signature is another
/// token. (Not so [`TokenHash`](crate::identity::TokenHash), which is what a token is revoked by.)
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct TextHash([u8; 32]);

impl TextHash {
    pub fn of(token: &str) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
        Self(hash)
    }
}

/// A token that was verified.
#[derive(Clone)]
pub(super) struct Accepted {
    pub identity: Arc<Identity>,
    pub keys: KeysVersion,
    pub valid: Range<UnixTime>,
}

/// A token whose signature did not hold.
#[derive(Clone, Copy)]
pub(super) struct Forged {
    pub guess: Guess,
    pub keys: KeysVersion,
}

/// What is known of a token.
pub(super) enum Known {
    Accepted(Arc<Identity>),
    Forged(Guess),
}

/// Both kinds, each within its bound.
pub(super) struct Cache {
    accepted: Store<TextHash, Accepted, Bytes, std::hash::RandomState, Evictions>,
    counters: Arc<TokenCounters>,
    forged: Store<TextHash, Forged, UnitWeighter, std::hash::RandomState>,
}

impl Cache {
    /// `None`: the configuration wants none.
    pub fn new(config: &config::Tokens, counters: Arc<TokenCounters>) -> Option<Self> {
        let bytes = usize::try_from(config.cache_bytes).ok().filter(|bytes| *bytes > 0)?;
        let options = OptionsBuilder::new()
            .shards((bytes / SHARD_BYTES).clamp(1, MAX_SHARDS))
            .estimated_items_capacity(bytes / (2 * ENTRY_BYTES))
            .weight_capacity(bytes as u64)
            .build()
            .ok()?;
        let evictions = Evictions(Arc::clone(&counters));
        Some(Self {
            accepted: Store::with_options(options, Bytes, std::hash::RandomState::new(), evictions),
            counters,
            forged: Store::with(
                config.negative_entries.get() as usize,
                u64::from(config.negative_entries.get()),
                UnitWeighter,
                std::hash::RandomState::new(),
                Default::default(),
            ),
        })
    }

    /// What is known of the token now, given how to tell whether keys are still the issuer's.
    pub fn find(
        &self,
        token: &TextHash,
        now: UnixTime,
        is_current: impl Fn(KeysVersion) -> bool,
    ) -> Option<Known> {
        if let Some(found) = self.accepted.get(token) {
            if found.valid.contains(&now) && is_current(found.keys) {
                count(&self.counters.hits);
                return Some(Known::Accepted(found.identity));
            }
            self.accepted.remove(token);
        }
        if let Some(found) = self.forged.get(token).filter(|found| is_current(found.keys)) {
            count(&self.counters.negative_hits);
            return Some(Known::Forged(found.guess));
        }
        count(&self.counters.misses);
        None
    }

    pub fn accept(&self, token: TextHash, accepted: Accepted) {
        self.accepted.insert(token, accepted);
        self.counters.note_cached(self.accepted.len(), self.accepted.weight());
    }

    pub fn refuse(&self, token: TextHash, forged: Forged) {
        self.forged.insert(token, forged);
    }
}

/// Weighs an entry: as much as it takes, with its texts.
#[derive(Clone)]
struct Bytes;

impl Weighter<TextHash, Accepted> for Bytes {
    fn weight(&self, _: &TextHash, entry: &Accepted) -> u64 {
        let facts = entry.identity.facts();
        let text = |text: &Arc<str>| block(text.len());
        let optional = [&facts.client, &facts.tenant, &facts.token_id];
        let texts = text(&facts.subject) + optional.into_iter().flatten().map(text).sum::<usize>();
        let scopes = facts.scopes.iter().map(|scope| text(scope) + size_of::<Arc<str>>()).sum::<usize>();
        let claims = facts.claims.as_ref().map_or(0, |claims| claims.heap_bytes());
        (ENTRY_BYTES + texts + scopes + claims) as u64
    }
}

/// What the text of an `Arc<str>` takes: two counters before it, rounded as allocators do, and their own word.
const fn block(bytes: usize) -> usize {
    (16 + bytes).next_multiple_of(16) + 8
}

/// Counts what had to make room.
#[derive(Clone)]
struct Evictions(Arc<TokenCounters>);

impl Lifecycle<TextHash, Accepted> for Evictions {
    type RequestState = ();

    fn on_evict(&self, (): &mut (), _: TextHash, _: Accepted) {
        count(&self.0.evictions);
    }
}

#[cfg(test)]
mod tests;
