//! Which endpoint a request goes to.

use crate::config::Balance;

/// What the choice needs to know of an endpoint.
pub(super) trait Candidate {
    /// Requests in flight to it.
    fn in_flight(&self) -> usize;
    /// A number that is its own, and the same at every start.
    fn mark(&self) -> u64;
}

/// The index of the endpoint for a request, among those that are `usable`: the `turn`-th in turn, or the one for `key`.
pub(super) fn choose<C: Candidate>(
    balance: Balance,
    candidates: &[C],
    turn: usize,
    key: u64,
    usable: impl Fn(&C) -> bool,
) -> Option<usize> {
    let count = candidates.len();
    let first = turn.checked_rem(count)?;
    // Those that are alike otherwise are taken in turn.
    let mut usable = (first..count).chain(0..first).filter(|&index| usable(&candidates[index]));
    match balance {
        Balance::LeastRequests => usable.min_by_key(|&index| candidates[index].in_flight()),
        Balance::PrincipalHash => usable.max_by_key(|&index| score(key, candidates[index].mark())),
        Balance::RoundRobin => usable.next(),
    }
}

/// Rendezvous hashing: each key ranks all endpoints in its own order, so that one that goes or comes moves only the
/// keys that were or will be its own.
fn score(key: u64, mark: u64) -> u64 {
    mix(key ^ mix(mark))
}

/// FNV-1a. Stable, so that several edges and several starts choose alike.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    bytes.iter().fold(OFFSET, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME))
}

/// The finish of SplitMix64: every bit of the input moves half of the output's.
fn mix(mut number: u64) -> u64 {
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Copy)]
    struct Fake {
        in_flight: usize,
        mark: u64,
    }

    impl Candidate for Fake {
        fn in_flight(&self) -> usize {
            self.in_flight
        }

        fn mark(&self) -> u64 {
            self.mark
        }
    }

    fn fakes(in_flight: &[usize]) -> Vec<Fake> {
        let mark = |index: usize| hash(format!("http://10.0.0.{index}:80").as_bytes());
        in_flight
            .iter()
            .enumerate()
            .map(|(index, &in_flight)| Fake { in_flight, mark: mark(index) })
            .collect()
    }

    #[test]
    fn in_turn_each_has_as_many_as_the_others() {
        let fakes = fakes(&[9, 0, 5]);
        let chosen: Vec<_> =
            (0..6).map(|turn| choose(Balance::RoundRobin, &fakes, turn, 0, |_| true).unwrap()).collect();
        assert_eq!(chosen, [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn the_least_busy_one_is_taken_and_equals_in_turn() {
        for (in_flight, turn, expected) in [
            (&[3, 1, 2][..], 0, 1),
            (&[1, 1, 1], 0, 0),
            (&[1, 1, 1], 1, 1),
            (&[1, 1, 1], 5, 2),
            (&[2, 1, 1], 0, 1),
        ] {
            let chosen = choose(Balance::LeastRequests, &fakes(in_flight), turn, 0, |_| true);
            assert_eq!(chosen, Some(expected), "{in_flight:?} {turn}");
        }
    }

    #[test]
    fn where_nothing_is_usable_nothing_is_chosen() {
        for balance in [Balance::LeastRequests, Balance::PrincipalHash, Balance::RoundRobin] {
            assert_eq!(choose(balance, &fakes(&[1, 2]), 7, 7, |_| false), None);
            assert_eq!(choose(balance, &fakes(&[]), 7, 7, |_| true), None);
        }
    }

    #[test]
    fn keys_are_spread_evenly() {
        let fakes = fakes(&[0; 5]);
        let mut counts = [0; 5];
        for key in 0..10_000 {
            let key = hash(format!("user-{key}").as_bytes());
            counts[choose(Balance::PrincipalHash, &fakes, 0, key, |_| true).unwrap()] += 1;
        }
        assert!(counts.iter().all(|count| (1_700..2_300).contains(count)), "{counts:?}");
    }

    proptest! {
        #[test]
        fn only_usable_ones_are_chosen(turn: usize, key: u64, usable in prop::collection::vec(any::<bool>(), 0..9)) {
            let fakes = fakes(&vec![0; usable.len()]);
            let is_usable = |fake: &Fake| {
                fakes.iter().position(|other| other.mark == fake.mark).is_some_and(|index| usable[index])
            };
            for balance in [Balance::LeastRequests, Balance::PrincipalHash, Balance::RoundRobin] {
                match choose(balance, &fakes, turn, key, is_usable) {
                    Some(index) => prop_assert!(usable[index]),
                    None => prop_assert!(!usable.contains(&true)),
                }
            }
        }

        #[test]
        fn one_that_goes_moves_only_its_own_keys(count in 2_usize..9, gone in 0_usize..9, key: u64, turn: usize) {
            let fakes = fakes(&vec![0; count]);
            let gone = fakes[gone % count].mark;
            let before = choose(Balance::PrincipalHash, &fakes, 0, key, |_| true).unwrap();
            let after = choose(Balance::PrincipalHash, &fakes, turn, key, |fake| fake.mark != gone).unwrap();
            prop_assert!(after == before || fakes[before].mark == gone);
        }
    }
}
