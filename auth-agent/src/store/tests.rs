use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use ipnet::IpNet;
use rusqlite::Connection;
use tempfile::{Builder, TempDir};

use super::*;
use crate::api_key::{ApiKey, KeyHash, KeyId};
use crate::config::{Overrides, RateOverride};
use crate::revocation::{Revocation, Target};

const NOW: UnixTime = UnixTime(1_700_000_000);
const DATABASE: &str = "auth-agent.db";

fn later(seconds: u64) -> UnixTime {
    UnixTime(NOW.0 + seconds)
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn tempdir() -> io::Result<TempDir> {
    Builder::new().permissions(Permissions::from_mode(0o700)).tempdir()
}

fn revoke_key(store: &Store, key: KeyId, now: UnixTime) {
    store.revoke(&[(Target::Key { key }, Revocation { before: None, until: None })], None, now).unwrap();
}

fn open() -> (TempDir, Store) {
    let directory = tempdir().unwrap();
    let store = Store::open(directory.path(), NOW).unwrap();
    (directory, store)
}

fn new_key(hash: u8) -> NewKey {
    NewKey {
        created: None,
        expires: Some(later(90)),
        hash: KeyHash([hash; 32]),
        id: ApiKey::generate().unwrap().id(),
        name: "billing".into(),
        networks: vec![net("192.0.2.0/24"), net("2001:db8::/32")],
        note: Some("note".into()),
        owner: Some("finance".into()),
        rate: None,
        scopes: vec!["read".into(), "write".into()],
    }
}

fn kinds(store: &Store) -> Vec<String> {
    store.changes(0, 1000).unwrap().into_iter().map(|change| change.kind).collect()
}

#[test]
fn limits_are_there_after_a_restart_as_they_were_set_last() {
    let (directory, store) = open();
    let limit = |network, burst, created| Limit {
        created,
        limits: Overrides {
            packets: Some(RateOverride { burst: Some(burst), rate: None }),
            ..Overrides::default()
        },
        network: net(network),
        reason: Some("partner".into()),
    };
    store.set_limit(&limit("192.0.2.0/24", 1, NOW), None).unwrap();
    store.set_limit(&limit("192.0.2.0/24", 2, later(1)), None).unwrap();
    store.set_limit(&limit("2001:db8::/48", 3, NOW), None).unwrap();
    assert!(store.remove_limit(net("2001:db8::/48"), later(2)).unwrap());
    assert!(!store.remove_limit(net("2001:db8::/49"), later(2)).unwrap());
    drop(store);
    let store = Store::open(directory.path(), later(3)).unwrap();
    assert_eq!(store.limits().unwrap(), [limit("192.0.2.0/24", 2, later(1))]);
    assert_eq!(kinds(&store), ["limit.set", "limit.set", "limit.set", "limit.remove"]);
}

#[test]
fn a_missing_directory_is_made_for_its_owner_alone() {
    let parent = tempdir().unwrap();
    let directory = parent.path().join("a/b");
    let _store = Store::open(&directory, NOW).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory), 0o700);
    for entry in fs::read_dir(&directory).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

#[test]
fn what_is_acknowledged_is_there_after_a_restart() {
    let (directory, store) = open();
    let key = store.create_key(new_key(1), NOW).unwrap();
    let revoked = store.create_key(new_key(2), later(1)).unwrap();
    revoke_key(&store, revoked.id, later(2));
    store.touch_keys([(key.id, later(3))]).unwrap();
    let ban = store.add_ban(net("203.0.113.0/24"), Some(later(600)), Some("scan"), NOW).unwrap();
    let changes = store.changes(0, 100).unwrap();
    drop(store);

    let store = Store::open(directory.path(), later(10)).unwrap();
    let keys = store.keys_after(None, 100).unwrap();
    assert_eq!(keys[0], crate::api_key::StoredKey { last_used: Some(later(3)), ..key });
    assert_eq!(keys[1], crate::api_key::StoredKey { revoked: Some(later(2)), ..revoked });
    assert_eq!(store.bans(later(10)).unwrap(), [ban]);
    assert_eq!(store.changes(0, 100).unwrap(), changes);
    store.remove_ban(net("203.0.113.0/24"), later(11)).unwrap();
    let last = store.changes(changes.last().unwrap().seq, 100).unwrap();
    assert_eq!(last[0].origin, changes[0].origin, "the host keeps its name");
}

/// Kill -9 and power cuts: what another process sees in the files is what was acknowledged.
#[test]
fn a_change_is_on_disk_before_it_is_acknowledged() {
    let (directory, store) = open();
    store.add_ban(net("192.0.2.1/32"), None, None, NOW).unwrap();
    let copy = tempdir().unwrap();
    for entry in fs::read_dir(directory.path()).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    assert_eq!(Store::open(copy.path(), NOW).unwrap().bans(NOW).unwrap().len(), 1);
    let synchronous: i64 =
        store.connection().pragma_query_value(None, "synchronous", |row| row.get(0)).unwrap();
    assert_eq!(synchronous, 2, "FULL");
}

/// Each row spoils a good, closed store.
#[test]
fn a_store_that_can_not_be_trusted_is_refused_in_one_line_with_path_and_cure() {
    type Spoil = fn(&Path);
    let table: [(&str, Spoil, &str); 10] = [
        ("garbage", |dir| fs::write(dir.join(DATABASE), [b'x'; 8192]).unwrap(), "damaged"),
        (
            "one overwritten page that the start itself does not read",
            |dir| {
                let page = "SELECT rootpage FROM sqlite_schema WHERE name = 'bans'";
                let connection = Connection::open(dir.join(DATABASE)).unwrap();
                let page: usize =
                    connection.query_row(page, [], |row| row.get::<_, u32>(0)).unwrap() as usize;
                drop(connection);
                let mut bytes = fs::read(dir.join(DATABASE)).unwrap();
                bytes[(page - 1) * 4096..page * 4096].fill(0xa5);
                fs::write(dir.join(DATABASE), bytes).unwrap();
            },
            "damaged",
        ),
        (
            "cut off",
            |dir| {
                let file = fs::OpenOptions::new().write(true).open(dir.join(DATABASE)).unwrap();
                file.set_len(5000).unwrap();
            },
            "damaged",
        ),
        (
            "a directory in place of the database",
            |dir| {
                fs::remove_file(dir.join(DATABASE)).unwrap();
                fs::create_dir(dir.join(DATABASE)).unwrap();
            },
            "can't open the database",
        ),
        (
            "a directory in place of the lock",
            |dir| {
                fs::remove_file(dir.join("lock")).unwrap();
                fs::create_dir(dir.join("lock")).unwrap();
            },
            "can't open the lock file",
        ),
        (
            "a newer schema",
            |dir| {
                Connection::open(dir.join(DATABASE))
                    .unwrap()
                    .pragma_update(None, "user_version", open::KNOWN + 1)
                    .unwrap();
            },
            ": start the newer agent",
        ),
        (
            "another program's database",
            |dir| {
                fs::remove_file(dir.join(DATABASE)).unwrap();
                Connection::open(dir.join(DATABASE)).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
            },
            "not a database of this agent: move it away",
        ),
        (
            "another program's mark",
            |dir| {
                Connection::open(dir.join(DATABASE))
                    .unwrap()
                    .pragma_update(None, "application_id", 7)
                    .unwrap();
            },
            "not a database of this agent",
        ),
        (
            "an open directory",
            |dir| fs::set_permissions(dir, Permissions::from_mode(0o750)).unwrap(),
            "mode 0750, open to others than its owner: chmod 700 it",
        ),
        (
            "a file in place of the directory",
            |dir| {
                fs::remove_dir_all(dir).unwrap();
                fs::write(dir, "").unwrap();
            },
            "not a directory: move it away",
        ),
    ];
    for (what, spoil, cure) in table {
        let parent = tempdir().unwrap();
        let directory = parent.path().join("store");
        let store = Store::open(&directory, NOW).unwrap();
        store.add_ban(net("192.0.2.1/32"), None, None, NOW).unwrap();
        drop(store);
        spoil(&directory);
        let error = Store::open(&directory, NOW).err().expect(what).to_string();
        assert!(error.starts_with(&directory.display().to_string()), "{what}: {error}");
        assert!(error.contains(cure), "{what}: {error}");
        assert!(!error.contains('\n'), "{what}: {error}");
    }
}

#[test]
fn a_second_agent_on_the_same_directory_is_told_who_holds_it() {
    let (directory, store) = open();
    let error = Store::open(directory.path(), NOW).err().unwrap().to_string();
    assert!(error.contains(&format!("(pid {})", std::process::id())), "{error}");
    drop(store);
    assert!(Store::open(directory.path(), NOW).is_ok(), "the lock ends with its holder");
}

#[test]
fn a_database_that_can_not_be_written_changes_nothing_and_works_again_afterwards() {
    type Block = fn(&Store) -> Option<Connection>;
    type Unblock = fn(&Store);
    let table: [(&str, Block, Unblock, &str); 3] = [
        (
            "locked",
            |store| {
                store.connection().busy_timeout(Duration::ZERO).unwrap();
                let other = Connection::open(&store.path).unwrap();
                other.execute_batch("BEGIN IMMEDIATE").unwrap();
                Some(other)
            },
            |_| {},
            "locked by another program",
        ),
        (
            "read-only",
            |store| {
                store.connection().pragma_update(None, "query_only", true).unwrap();
                None
            },
            |store| store.connection().pragma_update(None, "query_only", false).unwrap(),
            "read-only",
        ),
        (
            "full",
            |store| {
                store.connection().execute_batch("PRAGMA max_page_count = 1").unwrap();
                None
            },
            |store| store.connection().execute_batch("PRAGMA max_page_count = 100000").unwrap(),
            "no space left",
        ),
    ];
    // Longer than what is free in a page.
    let reason = "x".repeat(20_000);
    for (what, block, unblock, expected) in table {
        let (_directory, store) = open();
        store.add_ban(net("192.0.2.1/32"), None, None, NOW).unwrap();
        let blocker = block(&store);
        let error = store.add_ban(net("192.0.2.2/32"), None, Some(&reason), NOW).unwrap_err().to_string();
        assert!(error.contains(expected), "{what}: {error}");
        assert_eq!(store.bans(NOW).unwrap().len(), 1, "{what}");
        assert_eq!(kinds(&store), ["ban.add"], "{what}");
        drop(blocker);
        unblock(&store);
        store.add_ban(net("192.0.2.2/32"), None, Some(&reason), NOW).unwrap();
        assert_eq!(store.bans(NOW).unwrap().len(), 2, "{what}");
    }
}

#[test]
fn a_row_that_can_not_be_read_is_damage_and_not_skipped() {
    let spoils = [
        "UPDATE bans SET network = 'everything'",
        "UPDATE bans SET created = -1",
        "UPDATE api_keys SET networks = '[\"everything\"]'",
        "UPDATE api_keys SET networks = '{}'",
        "UPDATE api_keys SET scopes = '[7]'",
        "UPDATE api_keys SET id = 'x'",
    ];
    for spoil in spoils {
        let (_directory, store) = open();
        store.add_ban(net("192.0.2.1/32"), None, None, NOW).unwrap();
        store.create_key(new_key(1), NOW).unwrap();
        store.connection().execute(spoil, []).unwrap();
        let results = [store.bans(NOW).map(|_| ()), store.keys_after(None, 100).map(|_| ())];
        let damage = |result| matches!(result, Err(StoreError { problem: Problem::Corrupt(_), .. }));
        assert!(results.into_iter().any(damage), "{spoil}");
    }
}

#[test]
fn banning_again_replaces_deadline_and_reason() {
    let (_directory, store) = open();
    store.add_ban(net("192.0.2.0/24"), Some(later(10)), Some("first"), NOW).unwrap();
    store.add_ban(net("192.0.2.0/24"), None, None, later(1)).unwrap();
    store.add_ban(net("192.0.2.7/24"), Some(later(5)), Some("second"), later(2)).unwrap();
    let bans = store.bans(later(2)).unwrap();
    let expected = Ban {
        automatic: None,
        created: later(2),
        network: net("192.0.2.0/24"),
        reason: Some("second".into()),
        until: Some(later(5)),
    };
    assert_eq!(bans, [expected]);
    assert_eq!(kinds(&store), ["ban.add"; 3]);
}

#[test]
fn a_ban_holds_until_its_deadline_second_and_is_then_purged() {
    let (_directory, store) = open();
    store.add_ban(net("192.0.2.1/32"), Some(later(10)), None, NOW).unwrap();
    store.add_ban(net("192.0.2.2/32"), None, None, NOW).unwrap();
    assert_eq!(store.bans(later(9)).unwrap().len(), 2);
    assert_eq!(store.bans(later(10)).unwrap().len(), 1);
    assert!(!store.remove_ban(net("192.0.2.1/32"), later(10)).unwrap(), "it is over already");
    assert_eq!(store.purge_expired(later(9)).unwrap(), 0);
    assert_eq!(store.purge_expired(later(10)).unwrap(), 1);
    assert_eq!(store.bans(NOW).unwrap().len(), 1);
}

#[test]
fn the_log_forgets_a_change_long_after_it_lost_its_effect_and_never_reuses_its_number() {
    let (_directory, store) = open();
    store.add_ban(net("192.0.2.1/32"), None, None, NOW).unwrap();
    store.add_ban(net("192.0.2.2/32"), Some(later(10)), None, NOW).unwrap();
    let days = |days: u64| later(10 + days * 86_400);
    store.purge_expired(days(90)).unwrap();
    assert_eq!(kinds(&store).len(), 2);
    store.purge_expired(UnixTime(days(90).0 + 1)).unwrap();
    assert_eq!(kinds(&store).len(), 1);
    store.add_ban(net("192.0.2.3/32"), None, None, NOW).unwrap();
    assert_eq!(store.changes(1, 10).unwrap()[0].seq, 3);
}

#[test]
fn the_log_holds_every_change_once_with_what_it_takes_to_repeat_it() {
    let (_directory, store) = open();
    let key = store.create_key(new_key(1), NOW).unwrap();
    revoke_key(&store, key.id, later(1));
    store.add_ban(net("192.0.2.0/24"), Some(later(60)), Some("scan"), later(3)).unwrap();
    store.remove_ban(net("192.0.2.0/24"), later(4)).unwrap();
    store.remove_ban(net("192.0.2.0/24"), later(5)).unwrap();
    let changes = store.changes(0, 100).unwrap();
    let seen: Vec<_> =
        changes.iter().map(|change| (change.seq, &*change.kind, change.time, change.expires)).collect();
    assert_eq!(
        seen,
        [
            (1, "key.create", NOW, key.expires),
            (2, "key.revoke", later(1), None),
            (3, "ban.add", later(3), Some(later(60))),
            (4, "ban.remove", later(4), Some(later(60))),
        ]
    );
    let payload = &changes[0].payload;
    assert_eq!(payload["id"], key.id.to_string());
    assert_eq!(payload["networks"], serde_json::json!(["192.0.2.0/24", "2001:db8::/32"]));
    assert_eq!(changes[2].payload["network"], "192.0.2.0/24");
    assert_eq!(store.changes(2, 1).unwrap(), [changes[2].clone()]);
}

#[test]
fn a_failed_change_leaves_no_trace_in_the_log() {
    let (_directory, store) = open();
    let key = new_key(1);
    store.create_key(key.clone(), NOW).unwrap();
    assert!(store.create_key(key, NOW).is_err(), "the id is taken");
    assert!(store.create_key(new_key(1), NOW).is_err(), "the hash is taken");
    assert_eq!(store.keys_after(None, 100).unwrap().len(), 1);
    assert_eq!(kinds(&store), ["key.create"]);
}

#[test]
fn revoking_is_for_good_and_keeps_its_first_time() {
    let (_directory, store) = open();
    let key = store.create_key(new_key(1), NOW).unwrap();
    for now in [later(5), later(9)] {
        revoke_key(&store, key.id, now);
        assert_eq!(store.key_revoked(key.id).unwrap(), Some(later(5)));
    }
    assert_eq!(store.key_revoked(new_key(2).id).unwrap(), None);
}

#[test]
fn last_use_never_goes_back() {
    let (_directory, store) = open();
    let key = store.create_key(new_key(1), NOW).unwrap();
    store.touch_keys([(key.id, later(5)), (new_key(2).id, later(5))]).unwrap();
    store.touch_keys([(key.id, later(3))]).unwrap();
    store.touch_keys([]).unwrap();
    assert_eq!(store.keys_after(None, 100).unwrap()[0].last_used, Some(later(5)));
    assert_eq!(kinds(&store), ["key.create"]);
}

#[test]
fn the_limit_of_bans_refuses_one_more_but_not_a_new_deadline() {
    let (_directory, store) = open();
    let fill = format!(
        "INSERT INTO bans (network, until, reason, created)
         WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {MAX_BANS})
         SELECT '10.' || (i >> 16) || '.' || ((i >> 8) & 255) || '.' || (i & 255) || '/32', NULL, NULL, 0 FROM n"
    );
    store.connection().execute(&fill, []).unwrap();
    let error = store.add_ban(net("192.0.2.1/32"), None, None, NOW).unwrap_err();
    assert!(matches!(error.problem, Problem::TooMany { most: MAX_BANS, .. }), "{error}");
    store.add_ban(net("10.0.0.1/32"), Some(later(60)), None, NOW).unwrap();
    assert_eq!(store.bans(NOW).unwrap().len(), MAX_BANS);
}
