use std::fs::Permissions;
use std::num::NonZeroU32;
use std::os::unix::fs::PermissionsExt as _;

use tempfile::{Builder, TempDir};

use super::*;
use crate::store::When;

const NOW: UnixTime = UnixTime(1_700_000_000);

fn later(seconds: u64) -> UnixTime {
    UnixTime(NOW.0 + seconds)
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn open() -> (TempDir, Store) {
    let directory = Builder::new().permissions(Permissions::from_mode(0o700)).tempdir().unwrap();
    let store = Store::open(directory.path(), NOW).unwrap();
    (directory, store)
}

/// 10 s, 30 s, 50 s; forgotten 100 s after the end.
fn terms() -> Ladder {
    Ladder {
        factor: NonZeroU32::new(3).unwrap(),
        first: Duration::from_secs(10),
        forget_after: Duration::from_secs(100),
        longest: Duration::from_secs(50),
        ..Ladder::default()
    }
}

fn sentence(network: &str) -> Sentence {
    Sentence { network: net(network), offence: "forged" }
}

/// How long the bans last that come of it.
fn ban(store: &Store, networks: &[&str], at: u64) -> Vec<u64> {
    let sentences: Vec<_> = networks.iter().map(|network| sentence(network)).collect();
    let bans = store.ban_offenders(&sentences, &terms(), later(at)).unwrap().bans;
    bans.iter().map(|ban| ban.until.unwrap().0 - later(at).0).collect()
}

const ONE: &str = "192.0.2.1/32";

#[test]
fn each_ban_is_longer_than_the_last_until_the_source_counts_as_new_also_after_a_restart() {
    let (directory, mut store) = open();
    for (at, lasts) in [(0, 10), (10, 30), (50, 50), (100, 50), (249, 50), (300 + 99, 10)] {
        drop(store);
        store = Store::open(directory.path(), NOW).unwrap();
        assert_eq!(ban(&store, &[ONE], at), [lasts], "after {at} s");
        assert_eq!(ban(&store, &[ONE], at + lasts - 1), [0; 0], "it is banned already");
    }
    let shown = &store.bans(later(400)).unwrap()[0];
    assert_eq!(shown.automatic, Some(Automatic { offence: "forged".into(), times: 1 }));
    assert_eq!(store.times_banned(net(ONE), later(400)).unwrap(), 1);
}

#[test]
fn the_log_tells_such_a_ban_from_an_operators_with_its_reason() {
    let (_directory, store) = open();
    store.add_ban(net("192.0.2.2/32"), None, Some("by hand"), NOW).unwrap();
    ban(&store, &[ONE, "2001:db8::/64"], 1);
    store.note_drops(&[net(ONE)], later(2)).unwrap();
    let ended = ("192.0.2.1".parse().unwrap(), Some("mallory".to_owned()));
    store.note_ends(&[ended], "enumeration", later(3)).unwrap();
    let log: Vec<_> =
        store.changes(0, 9).unwrap().into_iter().map(|change| (change.kind, change.payload)).collect();
    let automatic = |network: &str| {
        let payload = json!({ "network": network, "until": later(11), "offence": "forged", "times": 1 });
        ("ban.automatic".to_owned(), payload)
    };
    let by_hand = json!({ "network": "192.0.2.2/32", "until": null, "reason": "by hand" });
    let dropped = ("source.drop".to_owned(), json!({ "networks": [ONE], "more": 0 }));
    let connections = json!([{ "source": "192.0.2.1", "subject": "mallory" }]);
    let ended = json!({ "connections": connections, "more": 0, "offence": "enumeration" });
    let ended = ("connection.end".to_owned(), ended);
    let by_hand = ("ban.add".to_owned(), by_hand);
    assert_eq!(log, [by_hand, automatic(ONE), automatic("2001:db8::/64"), dropped, ended]);
}

#[test]
fn what_an_operator_said_of_a_source_stands() {
    let (_directory, store) = open();
    store.add_ban(net(ONE), None, Some("by hand"), NOW).unwrap();
    assert_eq!(ban(&store, &[ONE], 1), [0; 0]);
    // Whether that ban is over, its confirmation decides.
    store.remove_ban(net(ONE), When { confirm_by: Some(later(60)), now: later(2) }).unwrap();
    assert_eq!(ban(&store, &[ONE], 3), [0; 0]);
    store.undo_unconfirmed(later(60)).unwrap();
    let [back] = &store.bans(later(61)).unwrap()[..] else { panic!("one ban") };
    assert_eq!((back.until, back.reason.as_deref(), &back.automatic), (None, Some("by hand"), &None));
}

#[test]
fn who_lifts_a_ban_has_its_source_start_over_and_who_bans_it_again_makes_it_an_operators() {
    let (_directory, store) = open();
    assert_eq!((ban(&store, &[ONE], 0), ban(&store, &[ONE], 10)), (vec![10], vec![30]));
    assert!(store.remove_ban(net(ONE), later(11)).unwrap());
    assert_eq!(store.times_banned(net(ONE), later(11)).unwrap(), 0);
    assert_eq!(ban(&store, &[ONE], 12), [10]);
    let by_hand = store.add_ban(net(ONE), None, None, later(13)).unwrap();
    assert_eq!(store.bans(later(14)).unwrap(), [by_hand]);
}

#[test]
fn an_unconfirmed_removal_brings_such_a_ban_back_as_it_was() {
    let (_directory, store) = open();
    ban(&store, &[ONE], 0);
    let before = store.bans(later(1)).unwrap();
    store.remove_ban(net(ONE), When { confirm_by: Some(later(5)), now: later(1) }).unwrap();
    store.undo_unconfirmed(later(5)).unwrap();
    assert_eq!(store.bans(later(6)).unwrap(), before);
}

#[test]
fn a_source_starts_over_once_the_removal_of_its_ban_is_confirmed_and_not_where_it_is_undone() {
    for (confirmed, times) in [(true, 0), (false, 2)] {
        let (_directory, store) = open();
        ban(&store, &[ONE, "192.0.2.2/32"], 0);
        ban(&store, &[ONE, "192.0.2.2/32"], 10);
        store.remove_ban(net(ONE), When { confirm_by: Some(later(20)), now: later(11) }).unwrap();
        let remembered = |network, at| store.times_banned(net(network), later(at)).unwrap();
        assert_eq!(remembered(ONE, 12), 2);
        // Another change that is confirmed forgives nothing.
        store
            .add_ban(net("192.0.2.2/32"), None, None, When { confirm_by: Some(later(20)), now: later(12) })
            .unwrap();
        assert!(store.confirm(2, later(13)).unwrap());
        assert_eq!((remembered(ONE, 13), remembered("192.0.2.2/32", 13)), (2, 2));
        assert!(!confirmed || store.confirm(1, later(13)).unwrap());
        store.undo_unconfirmed(later(20)).unwrap();
        assert_eq!((remembered(ONE, 20), remembered("192.0.2.2/32", 20)), (times, 2), "{confirmed}");
    }
}

#[test]
fn what_became_of_each_source_is_told() {
    let (_directory, store) = open();
    store.add_ban(net("192.0.2.2/32"), None, None, NOW).unwrap();
    store.add_ban(net("192.0.2.3/32"), None, None, NOW).unwrap();
    store.remove_ban(net("192.0.2.3/32"), When { confirm_by: Some(later(60)), now: later(1) }).unwrap();
    let sentences = [ONE, "192.0.2.2/32", "192.0.2.3/32"].map(sentence);
    let Sentenced { bans, left, standing } = store.ban_offenders(&sentences, &terms(), later(2)).unwrap();
    assert_eq!(bans.iter().map(|ban| ban.network).collect::<Vec<_>>(), [net(ONE)]);
    assert_eq!((left, standing), (0, vec![net("192.0.2.2/32")]));
    let again = store.ban_offenders(&sentences[..1], &terms(), later(3)).unwrap();
    assert_eq!((again.bans.len(), again.standing), (0, vec![net(ONE)]));
}

#[test]
fn operators_find_room_for_their_bans_and_sources_that_found_none_are_told_of() {
    let (_directory, store) = open();
    let fill = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
        INSERT INTO bans (network, until, created, offence, times)
        SELECT printf('10.%d.%d.%d/32', i >> 16, i >> 8 & 255, i & 255), ?2, ?3, 'forged', 1 FROM n";
    let but_one = MAX_AUTOMATIC_BANS as i64 - 1;
    store.write(|transaction| Ok(transaction.execute(fill, (but_one, later(10), NOW))?)).unwrap();
    let sentences = [ONE, "192.0.2.2/32", "192.0.2.3/32"].map(sentence);
    let became = |at| store.ban_offenders(&sentences, &terms(), later(at)).unwrap();
    let Sentenced { bans, left, .. } = became(0);
    assert_eq!((bans.len(), left), (1, 2));
    store.add_ban(net("198.51.100.0/24"), None, None, NOW).unwrap();
    // Those that are over make room, forgotten or not.
    let Sentenced { bans, left, .. } = became(10);
    assert_eq!((bans.len(), left), (3, 0));
}

#[test]
fn of_bans_that_may_be_over_no_more_are_kept_than_there_could_be() {
    let (_directory, store) = open();
    let fill = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
        INSERT INTO bans (network, until, created)
        SELECT printf('10.%d.%d.%d/32', i >> 16, i >> 8 & 255, i & 255), ?2 + i, ?2 FROM n";
    let most = MAX_BANS as i64;
    store.write(|transaction| Ok(transaction.execute(fill, (most + 3, NOW))?)).unwrap();
    let day = UnixTime(NOW.0 + 10 * most as u64);
    assert_eq!(store.purge_surplus(NOW).unwrap(), 0);
    assert_eq!((store.purge_surplus(day).unwrap(), store.purge_surplus(day).unwrap()), (3, 0));
    // Those that ended first.
    let left = store.bans(NOW).unwrap();
    assert_eq!((left.len(), left.iter().filter_map(|ban| ban.until).min()), (MAX_BANS, Some(later(4))));
}

#[test]
fn a_source_that_counts_as_new_leaves_nothing_behind() {
    let (_directory, store) = open();
    ban(&store, &[ONE, "192.0.2.2/32"], 0);
    ban(&store, &["192.0.2.2/32"], 20);
    assert_eq!(store.purge_expired(later(110)).unwrap(), 2);
    let left = |at| {
        let times = |network| store.times_banned(net(network), later(at)).unwrap();
        (times(ONE), times("192.0.2.2/32"))
    };
    assert_eq!((left(109), left(20 + 30 + 100)), ((0, 2), (0, 0)));
}

#[test]
fn a_factor_too_large_for_arithmetic_is_the_longest_ban() {
    for (times, expected) in [(1, 10), (2, 30), (3, 50), (40, 50), (u32::MAX, 50)] {
        assert_eq!(lasts(times, &terms()).as_secs(), expected, "{times}");
    }
}
