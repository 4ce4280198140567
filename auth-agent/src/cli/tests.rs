mod audit;
mod issuers;
mod keys;
mod lists;
mod own_issuer;
mod policy;
mod revocation;
mod tokens;
mod upstreams;

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::Value;
use tempfile::tempdir;

use super::table::table;
use super::{check, execute, render};
use crate::clock::UnixTime;
use crate::config::CertificateFiles;
use crate::connections::Protocol;
use crate::control::messages::{BanEntry, Bans};
use crate::control::testing::{Desk, used_by};
use crate::duration;
use crate::identity::Method;
use crate::store::Automatic;

/// Exit code, standard output, standard error.
fn run(args: &[&str]) -> (u8, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = execute(["auth-agent"].iter().chain(args), &mut out, &mut err);
    (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

fn at(desk: &Desk, args: &[&str]) -> (u8, String, String) {
    run(&[&["--socket", desk.socket.to_str().unwrap()], args].concat())
}

#[test]
fn a_wrong_command_line_exits_64_with_the_cure_and_help_exits_0() {
    let table: &[(&[&str], u8, &str)] = &[
        (&[], 64, "Usage"),
        (&["--help"], 0, "revoke API keys"),
        (&["key", "import", "--help"], 0, "one JSON object per line"),
        (&["key", "rotate", "0123456789AB", "--overlap", "0s"], 64, "above zero"),
        (&["key", "create", "--name", "a", "--burst", "5"], 64, "--rate <RATE>"),
        (&["ban", "add", "--help"], 0, "--for <TIME>"),
        (&["--version"], 0, env!("CARGO_PKG_VERSION")),
        (&["forward-auth", "example", "nginx"], 0, "auth_request /_auth_agent;"),
        (&["forward-auth", "example", "caddy", "--json"], 0, "\"proxy\":\"caddy\""),
        (
            &["forward-auth", "example", "apache"],
            64,
            "possible values: caddy, envoy, envoy-grpc, nginx, traefik",
        ),
        (&["nonsense"], 64, "unrecognized subcommand"),
        (&["ban"], 64, "Usage"),
        (&["status", "extra"], 64, "unexpected argument"),
        (&["status", "--sokcet", "x"], 64, "--socket"),
        (&["key", "create"], 64, "--name <NAME>"),
        (&["key", "create", "--name", "a", "--expires", "90"], 64, "like 90s, 10m"),
        (&["key", "create", "--name", "a", "--allow-net", "10.0.0.1/8"], 64, "write 10.0.0.0/8"),
        (&["key", "revoke", "short"], 64, "12 letters and digits"),
        (&["ban", "add", "nonsense"], 64, "write it like 192.0.2.7"),
        (&["ban", "add", "192.0.2.7", "--for", "0s"], 64, "above zero"),
        (&["ban", "remove", "192.0.2.7/24"], 64, "write 192.0.2.0/24"),
        (&["source", "show", "192.0.2.0/24"], 64, "invalid IP address"),
        (&["connection", "end"], 64, "<ID|--source <CIDR>>"),
        (&["connection", "end", "1", "--source", "192.0.2.7"], 64, "cannot be used with"),
        (&["connection", "end", "x"], 64, "invalid digit"),
        (&["connection", "end", "--help"], 0, "--drop-for <TIME>"),
        (&["connection", "list", "--source", "192.0.2.7/24"], 64, "write 192.0.2.0/24"),
        (&["limit", "set", "192.0.2.7/24", "--packets", "1/s"], 64, "write 192.0.2.0/24"),
        (&["allow", "add", "192.0.2.7", "--confirm-within", "2"], 64, "like 90s, 10m"),
        (&["limit", "set", "--help"], 0, "--requests-drop-after <N>"),
        (&["limit", "set", "--help"], 0, "--durable"),
        (&["limit", "set", "per-user", "--rate", "1/s", "--packets", "1/s"], 64, "cannot be used with"),
        (&["limit", "set", "per-user", "--burst", "1"], 64, "--rate <RATE>"),
        (&["limit", "set", "10.0.0.0/8", "--rate", "1/s", "--reason", "x"], 64, "cannot be used with"),
        (&["limit", "show", "192.0.2.7", "--principal", "alice"], 64, "cannot be used with"),
        (&["limit", "show", "--all", "--principal", "alice"], 64, "cannot be used with"),
        (&["limit", "reset", "per-user"], 64, "--principal <NAME>"),
        (&["limit", "reset", "per-user", "--key", "x"], 64, "12 letters and digits"),
        (&["issuer"], 64, "Usage"),
        (&["issuer", "refresh"], 64, "<NAME>"),
        (&["issuer", "list", "--help"], 0, "age of their keys"),
        (&["events", "--help"], 0, "--pcap <FILE>"),
        (&["token", "inspect"], 64, "<TOKEN>"),
        (&["token", "verify"], 64, "<TOKEN>"),
        (&["token", "issue"], 64, "--subject <NAME>"),
        (&["token", "issue", "--help"], 0, "an hour at most"),
        (&["signing-key", "rotate", "--help"], 0, "for a leaked key"),
        (&["config", "nonsense"], 64, "unrecognized subcommand"),
        (&["doctor", "--help"], 0, "Changes nothing"),
        (&["upgrade", "--help"], 0, "finishes what is open"),
        (&["upgrade", "--within", "1"], 64, "like 90s, 10m"),
        (&["service", "--help"], 0, "--sockets"),
        (&["doctor", "eth0"], 64, "unexpected argument"),
    ];
    for (args, code, words) in table {
        let (exit, out, err) = run(args);
        assert_eq!(exit, *code, "{args:?}: {out}{err}");
        let (said, silent) = if *code == 0 { (out, err) } else { (err, out) };
        assert!(said.contains(words), "{args:?}: {said}");
        assert_eq!(silent, "", "{args:?}");
    }
}

#[test]
fn without_an_agent_the_verbs_that_need_one_exit_1_and_say_how_to_start_it() {
    let directory = tempdir().unwrap();
    let absent = directory.path().join("absent.sock");
    let stale = directory.path().join("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    let verbs: &[&[&str]] = &[
        &["status"],
        &["key", "create", "--name", "a"],
        &["key", "list"],
        &["key", "rotate", "0123456789AB"],
        &["key", "show", "0123456789AB"],
        &["signing-key", "list"],
        &["signing-key", "rotate"],
        &["token", "issue", "--subject", "a"],
        &["key", "revoke", "0123456789AB"],
        &["ban", "add", "192.0.2.7"],
        &["ban", "list"],
        &["ban", "remove", "192.0.2.7"],
        &["confirm"],
        &["issuer", "list"],
        &["issuer", "refresh", "main"],
        &["limit", "show"],
        &["pending"],
        &["limit", "remove", "192.0.2.7"],
        &["source", "show", "192.0.2.7"],
        &["connection", "list"],
        &["connection", "end", "1"],
        &["events"],
        &["upgrade", "--binary", "agent"],
    ];
    for socket in [&absent, &stale] {
        let socket = socket.to_str().unwrap();
        for verb in verbs {
            let expected = format!(
                "auth-agent: no agent is listening on {socket}: start it with `auth-agent run`, or name its socket \
                 with --socket\n"
            );
            assert_eq!(
                run(&[verb, &["--socket", socket][..]].concat()),
                (1, String::new(), expected),
                "{verb:?}"
            );
        }
    }
}

#[test]
fn a_missing_configuration_that_is_named_exits_1_and_names_it() {
    let verbs: &[&[&str]] = &[
        &["run"],
        &["config", "check"],
        &["status"],
        &["token", "inspect", "x.y.z"],
        &["token", "verify", "x.y.z"],
    ];
    for verb in verbs {
        let (code, out, err) = run(&[&["--config", "/absent/config.toml"], *verb].concat());
        assert_eq!((code, &*out), (1, ""), "{verb:?}");
        assert!(err.contains("/absent/config.toml"), "{verb:?}: {err}");
    }
    let (code, out, _) = run(&["--config", "/absent/config.toml", "--json", "config", "check"]);
    let checked: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, checked["ok"].as_bool()), (1, Some(false)));
    assert_eq!(checked["problems"].as_array().unwrap().len(), 1);
}

#[test]
fn a_ban_is_added_listed_and_removed() {
    let desk = Desk::open(&[]);
    assert_eq!(at(&desk, &["ban", "list"]), (0, "no bans\n".into(), String::new()));
    let (code, out, err) = at(&desk, &["ban", "add", "198.51.100.7", "--for", "10m", "--reason", "scan"]);
    assert!(code == 0 && out.starts_with("banned 198.51.100.7/32, ends in "), "{out}{err}");
    assert!(err.starts_with("note: it has no effect"), "{err}");
    let (_, list, _) = at(&desk, &["ban", "list"]);
    assert!(list.contains("198.51.100.7/32") && list.trim_end().ends_with("scan"), "{list}");
    let removed = (0, "removed the ban on 198.51.100.7/32\n".into(), String::new());
    assert_eq!(at(&desk, &["ban", "remove", "198.51.100.7"]), removed);
    let (code, out, err) = at(&desk, &["ban", "add", "0.0.0.0/0"]);
    assert_eq!((code, &*out), (1, ""));
    assert!(err.contains("repeat with --force"), "{err}");
    assert_eq!(at(&desk, &["ban", "add", "0.0.0.0/0", "--force", "--for", "1s"]).0, 0);
}

#[test]
fn connections_are_listed_and_ended() {
    let desk = Desk::open(&[]);
    assert_eq!(at(&desk, &["connection", "list"]), (0, "no open connections\n".into(), String::new()));
    let enter = |peer: &str| {
        desk.connections.enter("10.0.0.1:443".parse().unwrap(), peer.parse().unwrap(), UnixTime::now())
    };
    let (first, second) = (enter("192.0.2.7:5000"), enter("[2001:db8::7]:5001"));
    second.connection().speaks(Protocol::Http1);
    drop(used_by(&second, Method::ApiKey, "ci"));
    let head = "ID  SOURCE              LISTENER      PROTOCOL   ACCEPTED  REQUESTS  OPEN  SUBJECT\n";
    let line = "2   [2001:db8::7]:5001  10.0.0.1:443  http/1.1   0s ago    1         0     ci\n";
    let (_, list, _) = at(&desk, &["connection", "list"]);
    assert!(list.starts_with(head) && list.ends_with(line), "{list}");
    let (_, list, _) = at(&desk, &["connection", "list", "--source", "192.0.2.0/24"]);
    assert!(list.contains("192.0.2.7:5000") && list.lines().count() == 2, "{list}");
    let (_, list, _) = at(&desk, &["connection", "list", "--subject", "ci"]);
    assert!(list.contains("[2001:db8::7]:5001") && list.lines().count() == 2, "{list}");

    let (code, out, err) = at(&desk, &["connection", "end", "1", "--drop-for", "60s"]);
    let ended = "\nended 1 connection; the kernel drops what still comes of them; that ends in ";
    assert!(code == 0 && out.contains("192.0.2.7:5000") && out.contains(ended), "{out}{err}");
    assert!(first.connection().is_ended() && !second.connection().is_ended());
    let (code, _, err) = at(&desk, &["connection", "end", "1"]);
    assert!(code == 1 && err.contains("there is no open connection 1"), "{err}");
    let (_, out, _) = at(&desk, &["ban", "add", "2001:db8::/32"]);
    assert!(out.ends_with("until it is removed\nended 1 live connection\n"), "{out}");
    assert!(second.connection().is_ended());
    let none = (0, "no connection to end\n".into(), String::new());
    assert_eq!(at(&desk, &["connection", "end", "--source", "::/0"]), none);
}

#[test]
fn json_is_the_agents_answer_as_it_is_refusals_too() {
    let desk = Desk::open(&[]);
    at(&desk, &["ban", "add", "192.0.2.7"]);
    at(&desk, &["key", "create", "--name", "a"]);
    for (verb, target) in [("ban", "/v1/bans"), ("key", "/v1/keys")] {
        let (code, out, err) = at(&desk, &["--json", verb, "list"]);
        assert_eq!((code, &*err), (0, ""));
        assert_eq!(serde_json::from_str::<Value>(&out).unwrap(), desk.ask("GET", target, "").1);
    }
    let (code, out, err) = at(&desk, &["ban", "remove", "203.0.113.7", "--json"]);
    let problem: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &problem["reason"]), (1, &Value::from("ban-missing")));
    assert_eq!(err, format!("auth-agent: {}\n", problem["detail"].as_str().unwrap()));
    let (_, created, err) = at(&desk, &["--json", "key", "create", "--name", "b"]);
    assert!(serde_json::from_str::<Value>(&created).unwrap()["key"].is_string() && err.is_empty());
}

#[test]
fn status_source_and_detach_are_readable() {
    let desk = Desk::open(&[]);
    let (_, status, _) = at(&desk, &["status"]);
    for words in [
        "filter     eth0 (index 2), native, program 31\n",
        "warning    eth1 is absent\n",
        "rules      0 banned, 1 allowed\n",
        "sources    3 of 1024 lines used\n",
        "flows      2 revoked; 1 had no room among 8, or made some",
        "PACKETS         VERDICT  COUNT\nplaintext-port  drop     12\n",
        "requests         -        0\n",
    ] {
        assert!(status.contains(words), "{status}");
    }
    let (_, source, _) = at(&desk, &["source", "show", "192.0.2.7"]);
    for words in [
        "source     192.0.2.7/32\n",
        "banned     no\n",
        "requests       7       5      5s       over budget\n",
    ] {
        assert!(source.contains(words), "{source}");
    }
    let (_, detached, _) = at(&desk, &["detach"]);
    assert_eq!(detached, "detached from eth0: packets reach the host unfiltered\n");
    let (code, _, err) = at(&desk, &["detach", "--pin-directory", "/absent"]);
    assert!(code == 1 && err.contains("leave out --pin-directory"), "{err}");
}

#[test]
fn doctor_exits_1_where_there_is_a_problem_and_prints_it_last_with_its_fix() {
    let found = |code, err: &str| {
        assert_eq!(code, 1);
        assert!(err.starts_with("auth-agent: ") && err.ends_with(" found\n"), "{err}");
    };
    let (code, out, err) = run(&["doctor", "--interface", "absent0"]);
    found(code, &err);
    let lines: Vec<_> = out.lines().collect();
    let at = lines.iter().position(|line| line.starts_with("problem  absent0 interface  ")).unwrap();
    let fix = lines[at + 1];
    assert_eq!(fix.trim_start(), "fix: ip -br link");
    assert_eq!(fix.find("fix:"), lines[at].find("no such"), "{out}");
    let harmless =
        |line: &&str| ["ok ", "note ", "warning "].iter().any(|severity| line.starts_with(severity));
    assert!(!lines[at..].iter().any(harmless), "{out}");

    let (code, out, err) = run(&["--json", "doctor", "--interface", "absent0"]);
    found(code, &err);
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["ok"], false);
    let findings = report["findings"].as_array().unwrap();
    let absent = findings.iter().find(|finding| finding["interface"] == "absent0").unwrap();
    assert_eq!(
        (&absent["area"], &absent["fix"], &absent["severity"]),
        (&Value::from("interface"), &Value::from("ip -br link"), &Value::from("problem"))
    );
}

struct Failing(io::ErrorKind);

impl Write for Failing {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(self.0.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_reader_that_is_gone_is_no_failure_but_a_full_disk_is() {
    let desk = Desk::open(&[]);
    let socket = desk.socket.to_str().unwrap();
    for (kind, code, words) in
        [(io::ErrorKind::BrokenPipe, 0, ""), (io::ErrorKind::StorageFull, 1, "can't write the answer")]
    {
        let mut err = Vec::new();
        let exit = execute(["auth-agent", "--socket", socket, "status"], &mut Failing(kind), &mut err);
        let err = String::from_utf8(err).unwrap();
        assert_eq!(exit, code, "{err}");
        assert!(err.contains(words) && err.is_empty() == words.is_empty(), "{err}");
    }
}

#[test]
fn an_answer_from_something_else_is_a_clear_failure() {
    let directory = tempdir().unwrap();
    let socket = directory.path().join("s");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let answers = [
        "",
        "SSH-2.0-OpenSSH\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]",
        "HTTP/1.1 500 Oops\r\ncontent-length: 2\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{",
    ];
    let server = std::thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = io::Read::read(&mut stream, &mut [0; 1024]);
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    for answer in answers {
        let (code, out, err) = run(&["--socket", socket.to_str().unwrap(), "ban", "list"]);
        assert_eq!((code, &*out), (1, ""), "{answer:?}");
        assert!(
            err.contains("can be understood") || err.contains("can't be understood"),
            "{answer:?}: {err}"
        );
        assert_eq!(err.lines().count(), 1, "{answer:?}: {err}");
    }
    server.join().unwrap();
}

#[test]
fn durations_are_read_with_units_and_in_order() {
    let table = [
        ("90s", Some(90)),
        ("10m", Some(600)),
        ("1h30m", Some(5400)),
        ("90d", Some(7_776_000)),
        ("2w1d", Some(1_296_000)),
        ("", None),
        ("0s", None),
        ("0h0s", None),
        ("10", None),
        ("m", None),
        ("-5m", None),
        ("1.5h", None),
        ("5 m", None),
        ("5M", None),
        ("30m1h", None),
        ("5m5m", None),
        ("18446744073709551615s", Some(u64::MAX)),
        ("18446744073709551616s", None),
        ("18446744073709551615m", None),
        ("1m18446744073709551615s", None),
        ("5µ", None),
        ("500ms", None),
        ("1s500ms", None),
        ("1m1000ms", Some(61)),
    ];
    for (text, seconds) in table {
        assert_eq!(duration::parse_seconds(text).ok(), seconds.map(Duration::from_secs), "{text:?}");
    }
}

#[test]
fn durations_are_written_with_their_two_largest_units() {
    let table = [
        (0, "0s"),
        (59, "59s"),
        (60, "1m"),
        (598, "9m 58s"),
        (3600, "1h"),
        (3659, "1h"),
        (3660, "1h 1m"),
        (90_000, "1d 1h"),
        (45 * 86_400, "45d"),
    ];
    for (seconds, text) in table {
        assert_eq!(duration::text(seconds), text, "{seconds}");
    }
    let (past, now) = (UnixTime(40), UnixTime(100));
    assert_eq!(duration::relative(past, now), "1m ago");
    assert_eq!(duration::relative(UnixTime(698), now), "in 9m 58s");
    assert_eq!(duration::relative_or("never", None, now), "never");
}

#[test]
fn columns_are_aligned_by_characters_and_empty_cells_are_marked() {
    let rows = [["é".to_owned(), String::new()], ["wider".to_owned(), "x".to_owned()]];
    assert_eq!(table(["A", "LAST"], &rows), "A      LAST\né      -\nwider  x\n");
}

#[test]
fn lists_say_what_is_over_and_what_never_ends() {
    let now = UnixTime(1000);
    let ban = |network: &str, until| BanEntry {
        automatic: None,
        created: UnixTime(940),
        network: network.parse().unwrap(),
        reason: None,
        until,
    };
    let automatic = Some(Automatic { offence: "forged".into(), times: 2 });
    let bans = vec![
        ban("192.0.2.0/24", Some(UnixTime(1598))),
        ban("10.0.0.0/8", None),
        BanEntry { automatic, ..ban("10.0.0.1/32", Some(UnixTime(1060))) },
    ];
    let bans = Bans { bans };
    assert_eq!(
        render::bans(&bans, now),
        "NETWORK       ENDS       CREATED  REASON\n\
         192.0.2.0/24  in 9m 58s  1m ago   -\n\
         10.0.0.0/8    never      1m ago   -\n\
         10.0.0.1/32   in 1m      1m ago   automatic: forged, ban 2 of this source\n"
    );
}

#[test]
fn a_certificate_that_does_not_fit_its_key_is_found_before_the_start() {
    let directory = tempdir().unwrap();
    let file = |name: &str, content: &str| {
        let path = directory.path().join(name);
        fs::write(&path, content).unwrap();
        path
    };
    let make = || generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let CertifiedKey { cert, signing_key } = make();
    let good = file("good.pem", &cert.pem());
    let key = file("key.pem", &signing_key.serialize_pem());
    let other = file("other.pem", &make().signing_key.serialize_pem());
    let garbage = file("garbage.pem", "-----BEGIN CERTIFICATE-----\n%%%\n-----END CERTIFICATE-----\n");
    let empty = file("empty.pem", "");
    let absent = directory.path().join("absent.pem");
    let table: [(&Path, &Path, &str); 8] = [
        (&good, &key, ""),
        (&good, &other, "other.pem does not belong to the certificate in"),
        (&absent, &key, "absent.pem: No such file"),
        (&good, &absent, "absent.pem: No such file"),
        (&garbage, &key, "garbage.pem is not valid PEM"),
        (&empty, &key, "empty.pem holds no certificate; it must be PEM"),
        (&key, &key, "key.pem holds no certificate"),
        (&good, &good, "good.pem holds no private key"),
    ];
    for (certificate, key, words) in table {
        let (certificate, key) = (certificate.to_owned(), key.to_owned());
        let error = check::certificate(&CertificateFiles { certificate, key }).err().unwrap_or_default();
        assert!(error.contains(words) && error.is_empty() == words.is_empty(), "{words}: {error}");
    }
}
