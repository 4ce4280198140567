use super::{Desk, at};

#[test]
fn limits_of_requests_are_listed_set_and_reset() {
    let desk = Desk::open(&[]);
    let (code, listed, err) = at(&desk, &["limit", "list"]);
    assert!(code == 0, "{err}");
    let lines: Vec<_> =
        listed.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        lines,
        [
            "NAME ALLOWS BY COUNTS SET",
            "per-user 60/h (2) principal requests -",
            "monthly 1000 per month tenant requests -",
        ]
    );
    let (_, out, err) = at(&desk, &["limit", "set", "per-user", "--rate", "5/s", "--durable"]);
    assert!(out.starts_with("set per-user\n") && out.contains("durable, in place of 60/h (2)"), "{out}{err}");
    let (_, out, _) = at(&desk, &["limit", "show", "--principal", "alice"]);
    assert_eq!(out, "nothing is owed\n");
    let (_, out, _) = at(&desk, &["limit", "reset", "per-user", "--principal", "alice & co"]);
    assert_eq!(out, "per-user: nothing was owed\n");
    let (_, out, _) = at(&desk, &["limit", "reset", "requests", "--source", "203.0.113.9", "--json"]);
    assert_eq!(out, "{\"budgets\":1,\"name\":\"requests\"}\n");
    let (_, out, _) = at(&desk, &["limit", "remove", "per-user"]);
    assert!(out.starts_with("per-user is as the configuration says\n"), "{out}");
    for (args, said) in [
        (&["limit", "set", "per-user"][..], "name what per-user is to allow"),
        (&["limit", "set", "10.0.0.0/8", "--rate", "1/s"], "--rate, --amount and --durable are for"),
        (&["limit", "remove", "per-user", "--confirm-within", "1m"], "--confirm-within is for networks"),
        (&["limit", "remove", "per-user"], "nothing was set for a limit \"per-user\""),
    ] {
        let (code, _, err) = at(&desk, args);
        assert!(code == 1 && err.contains(said), "{args:?}: {err}");
    }
}

#[test]
fn limits_are_set_shown_and_removed_in_the_words_of_the_configuration() {
    let desk = Desk::open(&[]);
    let (code, out, err) = at(
        &desk,
        &[
            "limit",
            "set",
            "203.0.113.0/24",
            "--requests",
            "1000/min",
            "--requests-burst",
            "200",
            "--connections",
            "10/s",
            "--bytes",
            "1MiB",
            "--auth-failures-drop-for",
            "5m",
            "--reason",
            "partner",
        ],
    );
    assert!(code == 0 && out.starts_with("set the limits of 203.0.113.0/24\n"), "{out}{err}");
    let row = "1000/min (200), 200 > 10s  10/min (20), 20 > 5m  10/s (10)    20000/s (40000)  1MiB/s (128MiB)  partner";
    assert!(out.contains(row), "{out}");
    let (_, shown, _) = at(&desk, &["limit", "show"]);
    let lines: Vec<_> = shown.lines().collect();
    assert!(lines[1].starts_with("everyone else   default "), "{shown}");
    assert!(
        lines[2].starts_with("192.0.2.0/24    partners ") && lines[3].starts_with("203.0.113.0/24  set "),
        "{shown}"
    );

    let (_, shown, _) = at(&desk, &["limit", "show", "203.0.113.9"]);
    assert!(shown.starts_with("it is held to the limits of 203.0.113.0/24, the longest network"), "{shown}");
    let (_, shown, _) = at(&desk, &["limit", "show", "198.51.100.1"]);
    assert!(shown.starts_with("it is on the allowlist: no limit holds for it\n"), "{shown}");
    let (_, shown, _) = at(&desk, &["limit", "show", "2001:db8::1"]);
    assert!(shown.starts_with("no network with limits of its own covers it\n"), "{shown}");

    let (code, out, _) = at(&desk, &["limit", "remove", "203.0.113.0/24", "--json"]);
    assert_eq!((code, &*out), (0, "{\"network\":\"203.0.113.0/24\"}\n"));
    at(&desk, &["limit", "set", "192.0.2.0/24", "--packets", "9/s"]);
    let (_, shown, _) = at(&desk, &["limit", "show"]);
    let last = shown.lines().last().unwrap();
    assert_eq!(last, "not in force: partners for 192.0.2.0/24: replaced by the limits that were set for it");
    for (args, words) in [
        (&["limit", "set", "10.0.0.0/8"][..], "limits: name at least one limit"),
        (
            &["limit", "set", "10.0.0.0/8", "--packets", "fast"],
            "limits: packets.rate: \"fast\" is not a rate above 0",
        ),
        (&["limit", "remove", "10.0.0.0/8"], "`auth-agent limit show` shows them"),
    ] {
        let (code, _, err) = at(&desk, args);
        assert!(code == 1 && err.contains(words), "{args:?}: {err}");
    }
}

#[test]
fn a_change_to_be_confirmed_says_how_and_is_kept_by_confirm() {
    let desk = Desk::open(&[]);
    let (code, out, err) = at(&desk, &["ban", "add", "203.0.113.0/24", "--confirm-within", "2m"]);
    let (banned, notice) = out.split_once('\n').unwrap();
    assert_eq!((code, banned), (0, "banned 203.0.113.0/24 until it is removed"), "{err}");
    assert!(
        notice.starts_with("undone in ") && notice.ends_with(" unless you run: auth-agent confirm 1\n"),
        "{out}"
    );
    let (_, listed, _) = at(&desk, &["pending"]);
    assert!(listed.lines().nth(1).unwrap().starts_with("1   ban.add  203.0.113.0/24  "), "{listed}");
    let (_, status, _) = at(&desk, &["status"]);
    assert!(status.contains("pending    ban.add 203.0.113.0/24: undone in "), "{status}");

    at(&desk, &["allow", "remove", "10.0.0.1", "--confirm-within", "2m"]);
    at(&desk, &["limit", "set", "10.0.0.0/8", "--packets", "5/s", "--confirm-within", "1h"]);
    let (code, _, err) = at(&desk, &["confirm"]);
    assert_eq!(
        (code, &*err),
        (1, "auth-agent: changes 1, 2 wait to be confirmed: name one (`auth-agent pending` shows them)\n")
    );
    assert_eq!(at(&desk, &["confirm", "1"]), (0, "confirmed change 1\n".into(), String::new()));
    assert_eq!(at(&desk, &["confirm"]), (0, "confirmed change 2\n".into(), String::new()));
    assert_eq!(at(&desk, &["pending"]), (0, "no change waits to be confirmed\n".into(), String::new()));
    assert_eq!(
        at(&desk, &["confirm"]),
        (1, String::new(), "auth-agent: no change waits to be confirmed\n".into())
    );
}
