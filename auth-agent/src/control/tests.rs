mod audit;
mod confirm;
mod keys;
mod ladder;
mod limits;
pub(crate) mod request_limits;

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use tokio::runtime::Builder;

use super::testing::Desk;
use super::*;
use crate::network::{NetworkError, parse_network};
use crate::skipped;

const SOURCE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

#[test]
fn bad_requests_get_a_problem_with_a_reason_and_a_cure() {
    let desk = Desk::open(&[]);
    let long = "x".repeat(70_000);
    let long_name = json!({ "name": "x".repeat(65) }).to_string();
    let table: &[(&str, &str, &str, u16, &str, &str)] = &[
        ("GET", "/", "", 404, "path-missing", "/v1/"),
        ("GET", "/v1/nothing", "", 404, "path-missing", "/v1/"),
        ("PUT", "/v1/keys", "{}", 405, "method-not-allowed", "method"),
        ("POST", "/v1/status", "", 405, "method-not-allowed", "method"),
        ("POST", "/v1/keys", "", 400, "body-invalid", "EOF"),
        ("POST", "/v1/keys", "[]", 400, "body-invalid", "CreateKey"),
        ("POST", "/v1/keys", "{}", 400, "body-invalid", "missing field `name`"),
        ("POST", "/v1/keys", r#"{"name":"a","name":"b"}"#, 400, "body-invalid", "duplicate field"),
        ("POST", "/v1/keys", r#"{"name":"a","scope":["b"]}"#, 400, "body-invalid", "unknown field `scope`"),
        ("POST", "/v1/keys", &long, 413, "body-unread", "too long"),
        ("POST", "/v1/keys", r#"{"name":""}"#, 400, "field-invalid", "name: write 1 to 64"),
        ("POST", "/v1/keys", r#"{"name":" a"}"#, 400, "field-invalid", "spaces only between"),
        ("POST", "/v1/keys", r#"{"name":"a\r\nX-Admin: 1"}"#, 400, "field-invalid", "name"),
        ("POST", "/v1/keys", r#"{"name":"é"}"#, 400, "field-invalid", "ASCII"),
        ("POST", "/v1/keys", &long_name, 400, "field-invalid", "64"),
        ("POST", "/v1/keys", r#"{"name":"a","scopes":["a b"]}"#, 400, "field-invalid", "scopes"),
        ("POST", "/v1/keys", r#"{"name":"a","scopes":[""]}"#, 400, "field-invalid", "scopes"),
        ("POST", "/v1/keys", r#"{"name":"a","scopes":["a\"b"]}"#, 400, "field-invalid", "scopes"),
        ("POST", "/v1/keys", r#"{"name":"a","networks":["x"]}"#, 400, "network-invalid", "192.0.2.0/24"),
        ("POST", "/v1/keys", r#"{"name":"a","note":"\u001b[2J"}"#, 400, "field-invalid", "note"),
        ("POST", "/v1/keys", r#"{"name":"a","note":"\u202e"}"#, 400, "field-invalid", "note"),
        ("POST", "/v1/keys", r#"{"name":"a","expires_in_seconds":0}"#, 400, "field-invalid", "no end"),
        ("POST", "/v1/keys", r#"{"name":"a","expires_in_seconds":-1}"#, 400, "body-invalid", "u64"),
        (
            "POST",
            "/v1/keys",
            r#"{"name":"a","expires_in_seconds":18446744073709551615}"#,
            400,
            "field-invalid",
            "ten years",
        ),
        ("POST", "/v1/keys", r#"{"name":"a","owner":"\u0007"}"#, 400, "field-invalid", "owner"),
        (
            "POST",
            "/v1/keys",
            r#"{"name":"a","rate":"5/m"}"#,
            400,
            "field-invalid",
            "rate: \"5/m\" is not a rate",
        ),
        ("POST", "/v1/keys", r#"{"name":"a","burst":5}"#, 400, "field-invalid", "rate: missing"),
        (
            "POST",
            "/v1/keys",
            r#"{"name":"a","rate":"1/h","burst":9999}"#,
            400,
            "field-invalid",
            "days to pay off",
        ),
        ("GET", "/v1/keys/0123456789AB", "", 404, "key-missing", "key list"),
        ("GET", "/v1/keys?after=x", "", 400, "key-id-invalid", "12 letters"),
        ("GET", "/v1/keys?after=0123456789AB", "", 404, "key-missing", "key list"),
        ("GET", "/v1/keys?limit=0", "", 400, "field-invalid", "write 1 to 10000"),
        ("GET", "/v1/keys?page=1", "", 400, "field-invalid", "query"),
        ("POST", "/v1/keys/0123456789AB/rotate", "{}", 404, "key-missing", "key list"),
        ("POST", "/v1/keys/import", r#"{"keys":[]}"#, 400, "field-invalid", "1 to 100000"),
        ("POST", "/v1/keys/0123456789AB/revoke", "", 404, "key-missing", "key list"),
        ("POST", "/v1/keys/..%2f..%2fx/revoke", "", 400, "key-id-invalid", "12 letters"),
        ("POST", "/v1/bans", r#"{"network":"10.0.0.1/8"}"#, 400, "network-invalid", "write 10.0.0.0/8"),
        ("POST", "/v1/bans", r#"{"network":"::/0"}"#, 400, "ban-too-wide", "--force"),
        ("POST", "/v1/bans", r#"{"network":"0.0.0.0/0"}"#, 400, "ban-too-wide", "--force"),
        ("POST", "/v1/bans", r#"{"network":"192.0.0.0/7"}"#, 400, "ban-too-wide", "--force"),
        ("POST", "/v1/bans", r#"{"network":"::ffff:0:0/96"}"#, 400, "ban-too-wide", "0.0.0.0/0"),
        ("POST", "/v1/bans", r#"{"network":"2000::/15"}"#, 400, "ban-too-wide", "--force"),
        (
            "POST",
            "/v1/bans",
            r#"{"network":"10.0.0.1","for_seconds":0}"#,
            400,
            "field-invalid",
            "for_seconds",
        ),
        ("POST", "/v1/bans", r#"{"network":"10.0.0.1","reason":"a\nb"}"#, 400, "field-invalid", "reason"),
        ("DELETE", "/v1/bans/10.0.0.1", "", 404, "ban-missing", "ban list"),
        ("DELETE", "/v1/bans/nonsense", "", 400, "network-invalid", "192.0.2.7"),
        ("GET", "/v1/sources/nonsense", "", 400, "source-invalid", "192.0.2.7"),
        ("POST", "/v1/pending/7/confirm", "", 404, "pending-missing", "auth-agent pending"),
        ("POST", "/v1/pending/x/confirm", "", 404, "pending-missing", "auth-agent pending"),
        (
            "POST",
            "/v1/bans?confirm_within_seconds=0",
            r#"{"network":"10.0.0.1"}"#,
            400,
            "field-invalid",
            "between a second and a day",
        ),
        (
            "DELETE",
            "/v1/bans/10.0.0.1?confirm_within_seconds=86401",
            "",
            400,
            "field-invalid",
            "between a second and a day",
        ),
        (
            "POST",
            "/v1/allows?confirm=1",
            r#"{"network":"10.0.0.1"}"#,
            400,
            "field-invalid",
            "unknown field `confirm`",
        ),
        ("GET", "/v1/limits/10.0.0.0%2F8", "", 400, "source-invalid", "192.0.2.7"),
        ("DELETE", "/v1/limits/10.0.0.1", "", 404, "limit-missing", "limit show"),
        ("DELETE", "/v1/limits/192.0.2.0%2F24", "", 404, "limit-missing", "[[class]]"),
        ("POST", "/v1/limits", r#"{"network":"10.0.0.0/8"}"#, 400, "body-invalid", "missing field `limits`"),
        ("POST", "/v1/limits", r#"{"network":"10.0.0.0/8","limits":{}}"#, 400, "field-invalid", "--requests"),
        (
            "POST",
            "/v1/limits",
            r#"{"network":"10.0.0.0/8","limits":{"requests":{"burst":0}}}"#,
            400,
            "field-invalid",
            "requests.burst: 0 is not a number in range",
        ),
        (
            "POST",
            "/v1/limits",
            r#"{"network":"10.0.0.0/8","limits":{"packets":{"rate":"5/m"}}}"#,
            400,
            "field-invalid",
            "write a number per s, min or h",
        ),
        (
            "POST",
            "/v1/limits",
            r#"{"network":"2001:db8::/65","limits":{"packets":{"rate":"5/s"}}}"#,
            400,
            "field-invalid",
            "/64 by which IPv6 sources are told apart",
        ),
    ];
    for (method, target, body, status, reason, cure) in table {
        let (answered, problem) = desk.ask(method, target, body);
        let what = format!("{method} {target} {}: {problem}", &body[..body.len().min(80)]);
        assert_eq!((answered, problem["reason"].as_str()), (*status, Some(*reason)), "{what}");
        assert_eq!(problem["status"], *status, "{what}");
        assert!(problem["detail"].as_str().unwrap().contains(cure), "{what}");
    }
    assert_eq!(desk.ask("GET", "/v1/keys", "").1, json!({ "keys": [] }));
    assert_eq!(desk.ask("GET", "/v1/bans", "").1, json!({ "bans": [] }));
    assert_eq!(desk.edge.told(), []);
}

#[test]
fn what_is_listed_is_what_the_kernel_was_told() {
    let desk = Desk::open(&[]);
    let table = [
        ("203.0.113.7", "203.0.113.7/32"),
        ("203.0.113.0/24", "203.0.113.0/24"),
        ("::ffff:203.0.113.9", "203.0.113.9/32"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2:3:4:5:6/128"),
        ("2001:db8::/32", "2001:db8::/32"),
    ];
    for (asked, banned) in table {
        let (status, ban) = desk.ask("POST", "/v1/bans", &json!({ "network": asked }).to_string());
        assert_eq!((status, ban["network"].as_str()), (201, Some(banned)), "{ban}");
    }
    let (_, bans) = desk.ask("GET", "/v1/bans", "");
    let listed: Vec<_> = bans["bans"].as_array().unwrap().iter().map(|ban| ban["network"].clone()).collect();
    let rules = desk.edge.told();
    let (allow, enforced) = rules.split_first().unwrap();
    assert_eq!(*allow, Rule { action: Action::Allow, network: "198.51.100.0/24".parse().unwrap() });
    let enforced: Vec<_> = enforced.iter().map(|rule| json!(rule.network.to_string())).collect();
    assert_eq!(listed, enforced);
    assert_eq!(listed.len(), table.len());

    for (asked, _) in table {
        let (status, removed) = desk.ask("DELETE", &format!("/v1/bans/{}", asked.replace('/', "%2F")), "");
        assert_eq!(status, 200, "{removed}");
    }
    assert_eq!(desk.edge.told(), *std::slice::from_ref(allow));
}

#[test]
fn a_ban_says_what_it_does_otherwise_than_its_words() {
    let desk = Desk::open(&[]);
    let table: [(&str, &[&str]); 4] = [
        ("203.0.113.7", &[]),
        ("198.51.100.7", &["it has no effect: 198.51.100.0/24 is on the allowlist, which wins"]),
        ("198.0.0.0/8", &["198.51.100.0/24 stays allowed: it is on the allowlist, which wins"]),
        ("2001:db8::1", &["an IPv6 client can change its address within its /64: ban that to be sure of it"]),
    ];
    for (network, notes) in table {
        let (_, ban) = desk.ask("POST", "/v1/bans", &json!({ "network": network }).to_string());
        assert_eq!(ban["notes"], json!(notes), "{network}");
    }
    let (status, _) = desk.ask("POST", "/v1/bans", r#"{"network":"0.0.0.0/0","force":true,"for_seconds":1}"#);
    assert_eq!(status, 201);
}

#[test]
fn the_allowlist_is_what_is_configured_and_what_was_added_and_the_kernel_is_told() {
    let desk = Desk::open(&[]);
    let (status, added) =
        desk.ask("POST", "/v1/allows", r#"{"network":"203.0.113.7","reason":"monitoring"}"#);
    assert_eq!((status, &added["network"]), (201, &json!("203.0.113.7/32")));
    let (_, listed) = desk.ask("GET", "/v1/allows", "");
    let listed: Vec<_> =
        listed["allows"].as_array().unwrap().iter().map(|allow| allow["network"].clone()).collect();
    assert_eq!(listed, [json!("198.51.100.0/24"), json!("203.0.113.7/32")]);
    let rules: Vec<_> = desk.edge.told().iter().map(|rule| rule.network.to_string()).collect();
    assert_eq!(rules, ["198.51.100.0/24", "203.0.113.7/32"]);

    let (status, problem) = desk.ask("DELETE", "/v1/allows/198.51.100.0%2F24", "");
    assert_eq!((status, &problem["reason"]), (404, &json!("allow-missing")));
    assert!(problem["detail"].as_str().unwrap().contains("kernel.allow"), "{problem}");
    assert_eq!(desk.ask("DELETE", "/v1/allows/203.0.113.7", "").0, 200);
    assert_eq!(desk.edge.told().len(), 1);
    assert_eq!(desk.ask("POST", "/v1/allows", r#"{"network":"0.0.0.0/0"}"#).1["reason"], "allow-everyone");
}

#[test]
fn a_block_list_of_a_hundred_thousand_is_taken_whole_or_not_at_all() {
    let desk = Desk::open(&[]);
    let networks: Vec<_> =
        (0..100_000_u32).map(|index| std::net::Ipv4Addr::from(0x0b00_0000 + index * 7)).collect();
    let (status, answer) = desk.ask("POST", "/v1/bans/import", &json!({ "networks": networks }).to_string());
    assert_eq!((status, &answer["imported"]), (201, &json!(100_000)), "{answer}");
    assert_eq!(desk.edge.told().len(), 100_001);

    let wrong = r#"{"networks":["203.0.113.7","10.0.0.1/8"]}"#;
    assert_eq!(desk.ask("POST", "/v1/bans/import", wrong).1["reason"], "network-invalid");
    let wide = r#"{"networks":["203.0.113.7","0.0.0.0/0"]}"#;
    assert_eq!(desk.ask("POST", "/v1/bans/import", wide).1["reason"], "ban-too-wide");
    let many: Vec<_> = (0..30_000_u32).map(|index| std::net::Ipv4Addr::from(0x2000_0000 + index)).collect();
    let many = json!({ "networks": many }).to_string();
    assert_eq!(desk.ask("POST", "/v1/bans/import", &many).1["reason"], "store-failed");
    assert_eq!(desk.ask("GET", "/v1/status", "").1["rules"]["banned"], 100_000);
}

#[test]
fn removing_a_part_of_a_ban_names_the_whole() {
    let desk = Desk::open(&[]);
    desk.ask("POST", "/v1/bans", r#"{"network":"203.0.113.0/24"}"#);
    let (status, problem) = desk.ask("DELETE", "/v1/bans/203.0.113.7", "");
    assert_eq!(status, 404);
    assert!(problem["detail"].as_str().unwrap().ends_with("it is covered by the ban on 203.0.113.0/24"));
}

#[test]
fn a_ban_that_the_kernel_did_not_take_is_stored_told_and_retried() {
    let desk = Desk::open(&[]);
    *desk.edge.broken.lock().unwrap() = true;
    let (status, problem) = desk.ask("POST", "/v1/bans", r#"{"network":"203.0.113.7"}"#);
    assert_eq!((status, &problem["reason"]), (500, &json!("rules-pending")));
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.starts_with("the change is stored and will be retried"), "{detail}");
    assert_eq!(desk.ask("GET", "/v1/bans", "").1["bans"][0]["network"], "203.0.113.7/32");
    assert_eq!(desk.ask("GET", "/v1/status", "").1["rules"]["error"], "the rule map is full");

    assert!(desk.control.upkeep(UnixTime::now()).is_err());
    *desk.edge.broken.lock().unwrap() = false;
    desk.control.upkeep(UnixTime::now()).unwrap();
    assert_eq!(desk.edge.told().len(), 2);
    assert_eq!(
        desk.ask("GET", "/v1/status", "").1["rules"],
        json!({ "allowed": 1, "banned": 1, "error": null })
    );
}

#[test]
fn a_chore_that_fails_keeps_no_ban_in_force_and_is_told() {
    let desk = Desk::open(&[]);
    desk.ask("POST", "/v1/bans", r#"{"network":"203.0.113.7","for_seconds":60}"#);
    assert_eq!(desk.edge.told().len(), 2);
    let database = rusqlite::Connection::open(desk.directory.path().join("store/auth-agent.db")).unwrap();
    database.execute_batch("ALTER TABLE signing_keys RENAME TO elsewhere").unwrap();
    let error = desk.control.upkeep(UnixTime(UnixTime::now().0 + 400 * 86_400)).unwrap_err().to_string();
    assert!(error.contains("signing_keys"), "{error}");
    assert_eq!(desk.edge.told().len(), 1, "the ban is over");
}

#[test]
fn upkeep_takes_a_ban_that_is_over_out_of_the_kernel() {
    let desk = Desk::open(&[]);
    desk.ask("POST", "/v1/bans", r#"{"network":"203.0.113.7","for_seconds":60}"#);
    desk.control.upkeep(UnixTime::now()).unwrap();
    assert_eq!(desk.edge.told().len(), 2);
    desk.control.upkeep(UnixTime(UnixTime::now().0 + 61)).unwrap();
    assert_eq!(desk.edge.told().len(), 1);
}

#[test]
fn status_source_and_detach_answer_what_the_kernel_half_says() {
    let desk = Desk::open(&[]);
    let (_, status) = desk.ask("GET", "/v1/status", "");
    assert_eq!(status["filter"]["interfaces"][0]["mode"], "native");
    assert_eq!(
        status["filter"]["counters"][0],
        json!({ "packets": 12, "reason": "plaintext-port", "verdict": "drop" })
    );
    assert_eq!(status["pid"], std::process::id());
    let (_, source) = desk.ask("GET", "/v1/sources/::ffff:192.0.2.1", "");
    assert_eq!(source["source"], "192.0.2.1/32");
    assert_eq!(
        source["debts"]["requests"],
        json!({ "burst": 5, "debt_events": 7, "debt_ns": 4_000_000_001_u64, "dropped": false, "over": true })
    );
    assert_eq!(desk.ask("POST", "/v1/detach", ""), (200, json!({ "interfaces": ["eth0"] })));
    *desk.edge.broken.lock().unwrap() = true;
    assert_eq!(desk.ask("POST", "/v1/detach", "").0, 500);
}

/// Attack 32.
#[test]
fn another_user_is_refused_with_403_and_left_alone_after_it() {
    const STRANGER: u32 = 65_534;
    // (allowed, exit code of curl, its output)
    let table: [(&[u32], i32, &str); 3] = [
        (&[], 7, "000"),
        (&[1], 0, "user id 65534 may not use this socket: run as root, or add the id to control.allow_uids"),
        (&[1, STRANGER], 0, "{\"keys\":[]}"),
    ];
    for (allowed, code, output) in table {
        let desk = Desk::open(allowed);
        let mut curl = Command::new("curl");
        curl.args(["-sS", "-m", "10", "--unix-socket"]).arg(&desk.socket);
        curl.args(["-w", "%{http_code}", "http://localhost/v1/keys"]);
        let Ok(done) = curl.uid(STRANGER).gid(STRANGER).current_dir("/").output() else {
            return skipped::say("who may use the socket", "it takes root and curl to be another user");
        };
        let text = String::from_utf8(done.stdout).unwrap();
        assert_eq!(done.status.code(), Some(code), "{allowed:?}: {text}");
        assert!(text.contains(output), "{allowed:?}: {text}");
        assert_eq!(text.ends_with("403"), allowed == [1], "{text}");
        assert_eq!(desk.ask("GET", "/v1/keys", "").0, 200, "root still gets through");
    }
}

#[test]
fn the_socket_is_its_owners_unless_others_are_named() {
    for (allowed, socket_mode, directory_mode) in [(&[][..], 0o600, 0o750), (&[1][..], 0o666, 0o755)] {
        let desk = Desk::open(allowed);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&desk.socket), socket_mode, "{allowed:?}");
        assert_eq!(mode(desk.socket.parent().unwrap()), directory_mode, "{allowed:?}");
    }
}

#[test]
fn only_the_socket_of_an_agent_that_is_gone_is_replaced() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let bind = |path: &Path| runtime.block_on(ControlSocket::bind(path, &[]));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.sock");

    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "stale");
    let live = bind(&path).unwrap();
    let error = bind(&path).err().unwrap().to_string();
    let pid = std::process::id();
    assert!(error.contains(&format!("another agent is running (pid {pid}): stop it first")), "{error}");
    drop(live);
    assert!(!path.exists(), "removed by its owner");

    fs::write(&path, "precious").unwrap();
    let error = bind(&path).err().unwrap().to_string();
    assert!(error.contains("is not a socket"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"precious");

    let long = directory.path().join("x".repeat(120));
    assert!(bind(&long).err().unwrap().to_string().contains("can't make the control socket"));
}

#[test]
fn a_shutdown_answers_what_is_under_way_and_removes_the_socket() {
    let desk = Desk::open(&[]);
    let path = desk.directory.path().join("other.sock");
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let ended = runtime.block_on(async {
        let socket = ControlSocket::bind(&path, &[]).await.unwrap();
        // Idle, as a client that keeps its connection: it must not hold the agent back.
        let _idle = tokio::net::UnixStream::connect(&path).await.unwrap();
        let served = serve(socket, Arc::clone(&desk.control), None, std::future::ready(()));
        tokio::time::timeout(Duration::from_secs(10), served).await
    });
    assert!(ended.is_ok_and(|served| served.is_ok()) && !path.exists());
}

#[test]
fn an_agent_leaves_the_socket_of_its_successor_alone() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.sock");
    let old = runtime.block_on(ControlSocket::bind(&path, &[])).unwrap();
    // Kept under another name, so that its inode is not given to the successor.
    fs::rename(&path, directory.path().join("old.sock")).unwrap();
    let _new = UnixListener::bind(&path).unwrap();
    drop(old);
    assert!(path.exists());
}

#[test]
fn a_successors_socket_lies_beside_the_old_one_until_it_takes_its_place() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.sock");
    let beside = directory.path().join("control.sock.next");
    let inode = |path: &Path| fs::symlink_metadata(path).unwrap().ino();
    let succeed = |old| runtime.block_on(ControlSocket::succeed(&path, &[], old));
    let old = runtime.block_on(ControlSocket::bind(&path, &[])).unwrap();
    let old_inode = inode(&path);
    assert!(succeed(None).is_err() && succeed(Some(old_inode + 1)).is_err(), "somebody else's, who lives");

    drop(succeed(Some(old_inode)).unwrap());
    assert!(inode(&path) == old_inode && !beside.exists(), "a new agent that failed leaves nothing");
    // One that was killed leaves its file.
    drop(UnixListener::bind(&beside).unwrap());
    let mut new = succeed(Some(old_inode)).unwrap();
    assert_eq!(inode(&path), old_inode);
    new.take_place().unwrap();
    assert!(inode(&path) != old_inode && !beside.exists());
    drop(old);
    assert!(path.exists(), "the old agent leaves it alone");
    drop(new);
    assert!(!path.exists());
    let mut first = succeed(None).unwrap();
    first.take_place().unwrap();
    assert!(path.exists(), "where there was none, at once in place");
}

#[test]
fn a_network_has_one_meaning_or_is_refused() {
    let table = [
        ("192.0.2.7", Some("192.0.2.7/32")),
        ("192.0.2.0/24", Some("192.0.2.0/24")),
        ("0.0.0.0/0", Some("0.0.0.0/0")),
        ("2001:db8::1", Some("2001:db8::1/128")),
        ("::ffff:192.0.2.7", Some("192.0.2.7/32")),
        ("::ffff:192.0.2.0/120", Some("192.0.2.0/24")),
        ("::ffff:0:0/96", Some("0.0.0.0/0")),
        ("::/0", Some("::/0")),
        ("::/80", Some("::/80")),
        ("::fffe:0:0/95", Some("::fffe:0:0/95")),
        ("::ffff:0:0/95", None),
        ("192.0.2.7/24", None),
        ("192.0.2.0/33", None),
        ("192.0.2.0/", None),
        ("192.0.2", None),
        ("0300.0.2.1", None),
        ("192.0.2.1:80", None),
        ("fe80::1%eth0", None),
        ("localhost", None),
        ("", None),
        (" 192.0.2.7", None),
    ];
    for (text, expected) in table {
        let parsed = parse_network(text).map(|network| network.to_string());
        assert_eq!(parsed.as_deref().ok(), expected, "{text:?}: {parsed:?}");
    }
    let error = parse_network("10.1.2.3/8").unwrap_err();
    assert!(matches!(error, NetworkError::HostBits { .. }));
    assert!(error.to_string().ends_with("write 10.0.0.0/8 for the network, or 10.1.2.3 for the address"));
}
