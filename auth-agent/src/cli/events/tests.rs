use std::fs;
use std::io::Read;
use std::os::unix::net::UnixListener;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use auth_common::verdict::Reason;
use tempfile::tempdir;

use super::*;
use crate::cli::execute;
use crate::control::testing::Desk;
use crate::events::testing::sample;

/// Runs `events` while samples are published; its exit code, standard output and standard error.
fn run(desk: &Desk, args: &[&str]) -> (u8, Vec<u8>, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let ended = Mutex::new(false);
    let code = std::thread::scope(|scope| {
        scope.spawn(|| {
            let deadline = Instant::now() + Duration::from_secs(20);
            while desk.edge.switch.reasons() == 0 && !*ended.lock().unwrap() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(2));
            }
            for reason in [Reason::PlaintextPort, Reason::WithinBudget, Reason::Banned] {
                desk.edge.hub.publish(sample(reason), reason, 1_000_000_000);
            }
            desk.edge.hub.close();
        });
        let socket = desk.socket.to_str().unwrap();
        let code =
            execute(["auth-agent", "--socket", socket, "events"].iter().chain(args), &mut out, &mut err);
        *ended.lock().unwrap() = true;
        code
    });
    (code, out, String::from_utf8(err).unwrap())
}

fn text_of(desk: &Desk, args: &[&str]) -> (u8, String, String) {
    let (code, out, err) = run(desk, args);
    (code, String::from_utf8(out).unwrap(), err)
}

#[test]
fn samples_are_lines_until_the_count_is_reached() {
    let desk = Desk::open(&[]);
    let plain = "12:01:02.345 eth0 drop plaintext-port 203.0.113.9:41000 -> 10.0.0.1:80 tcp 58 bytes\n";
    let within = "12:01:02.345 eth0 pass within-budget 203.0.113.9:41000 -> 10.0.0.1:80 tcp 58 bytes\n";
    let banned = "12:01:02.345 eth0 drop banned 203.0.113.9:41000 -> 10.0.0.1:80 tcp 58 bytes\n";
    let all = ["--reason", "pass", "--reason", "drop"];
    let table: [(&[&str], String); 5] = [
        (&["--count", "2"], [plain, banned].concat()),
        (&["--count", "1", "--reason", "banned"], banned.to_owned()),
        (&["--count", "1", "--reason", "pass"], within.to_owned()),
        (&["--count", "3", all[0], all[1], all[2], all[3]], [plain, within, banned].concat()),
        (&["--count", "2", "--source", "203.0.113.0/24", "--source", "::/0"], [plain, banned].concat()),
    ];
    for (args, expected) in table {
        let (code, out, err) = text_of(&desk, args);
        assert_eq!((code, out), (0, expected), "{args:?}: {err}");
        assert_eq!(err, "sampling up to 100 packets a second; Ctrl-C ends it\n");
    }
}

#[test]
fn json_is_the_agents_lines_as_they_are() {
    let desk = Desk::open(&[]);
    let (code, out, _) = text_of(&desk, &["--json", "--count", "1"]);
    assert_eq!(code, 0);
    assert_eq!(out, serde_json::to_string(&sample(Reason::PlaintextPort)).unwrap() + "\n");
}

#[test]
fn a_stream_that_the_agent_ends_is_a_failure_that_says_so() {
    let desk = Desk::open(&[]);
    let (code, out, err) = text_of(&desk, &[]);
    assert_eq!((code, out.lines().count()), (1, 2));
    assert!(err.ends_with("has ended the stream: it is stopping\n"), "{err}");
}

#[test]
fn a_wrong_command_line_exits_64_before_anything_is_asked() {
    let desk = Desk::open(&[]);
    let table: [(&[&str], &str); 5] = [
        (&["--reason", "plain-port"], "write drop, pass, reset or a name like"),
        (&["--source", "10.0.0.1/8"], "write 10.0.0.0/8"),
        (&["--count", "0"], "0 is not in 1.."),
        (&["--rate", "1001"], "1001 is not in 1..=1000"),
        (&["--rate", "0"], "0 is not in 1..=1000"),
    ];
    for (args, words) in table {
        let (code, out, err) = text_of(&desk, args);
        assert_eq!((code, &*out), (64, ""), "{args:?}: {err}");
        assert!(err.contains(words), "{args:?}: {err}");
    }
}

#[test]
fn a_capture_goes_to_a_file_beside_the_lines_or_to_standard_output_in_their_place() {
    let desk = Desk::open(&[]);
    let directory = tempdir().unwrap();
    let path = directory.path().join("drops.pcap");
    let file = path.to_str().unwrap();
    let (code, out, err) = text_of(&desk, &["--count", "2", "--pcap", file]);
    assert_eq!((code, out.lines().count()), (0, 2), "{err}");
    assert!(err.ends_with(&format!("2 packets written to {file}\n")), "{err}");
    let packets = [sample(Reason::PlaintextPort), sample(Reason::Banned)];
    let expected: Vec<u8> = [pcap::header(), pcap::record(&packets[0]), pcap::record(&packets[1])].concat();
    assert_eq!(fs::read(&path).unwrap(), expected);

    let (code, out, err) = run(&desk, &["--count", "2", "--pcap", "-", "--json"]);
    assert_eq!((code, out), (0, expected), "{err}");

    let (code, out, err) = text_of(&desk, &["--pcap", "/absent/x.pcap"]);
    assert_eq!((code, &*out), (1, ""));
    assert!(err.starts_with("auth-agent: /absent/x.pcap: can't write the capture: "), "{err}");
}

#[test]
fn a_line_says_what_is_known_and_no_more() {
    let whole = sample(Reason::Banned);
    let no_ports = Sample { source_port: None, destination_port: None, ..whole.clone() };
    let no_protocol = Sample { protocol: None, ..no_ports.clone() };
    let v6 = |address: &str| Some(address.parse().unwrap());
    let table = [
        (whole.clone(), "203.0.113.9:41000 -> 10.0.0.1:80 tcp 58 bytes"),
        (
            Sample { source: v6("2001:db8::1"), destination: v6("fd00::1"), ..whole.clone() },
            "[2001:db8::1]:41000 -> [fd00::1]:80 tcp 58 bytes",
        ),
        (
            Sample { protocol: Some("icmp".into()), ..no_ports.clone() },
            "203.0.113.9 -> 10.0.0.1 icmp 58 bytes",
        ),
        (
            Sample { protocol: Some("47".into()), ..no_ports.clone() },
            "203.0.113.9 -> 10.0.0.1 protocol 47 58 bytes",
        ),
        (no_protocol.clone(), "203.0.113.9 -> 10.0.0.1 58 bytes"),
        (Sample { source: None, destination: None, ..no_protocol }, "58 bytes"),
    ];
    for (sample, expected) in table {
        assert_eq!(text(&sample), format!("12:01:02.345 eth0 drop banned {expected}"));
    }
}

/// Runs `events` against something that answers with these lines and goes.
fn against(lines: &str, args: &[&str]) -> (u8, String, String) {
    let directory = tempdir().unwrap();
    let socket = directory.path().join("s");
    let listener = UnixListener::bind(&socket).unwrap();
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{lines}", lines.len());
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1_024]).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let command = ["auth-agent", "--socket", socket.to_str().unwrap(), "events"];
        execute(command.iter().chain(args), &mut out, &mut err)
    });
    (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

#[test]
fn lost_samples_are_told_and_count_for_nothing() {
    let banned = serde_json::to_string(&sample(Reason::Banned)).unwrap();
    let lines = format!("{{\"dropped\":7}}\n{banned}\n{banned}\n");
    let (code, out, err) = against(&lines, &["--count", "1"]);
    assert_eq!((code, out), (0, text(&sample(Reason::Banned)) + "\n"));
    assert!(err.ends_with("\ndropped: 7\n"), "{err}");
    let (code, out, _) = against(&lines, &["--count", "2", "--json"]);
    assert_eq!((code, out), (0, lines));
}

#[test]
fn lines_that_can_not_be_understood_are_a_clear_failure() {
    let long = "x".repeat(LINE_BYTES + 1);
    for (lines, words) in [("{}\n", "is it of another version?"), (&long, "a line of more than 65536 bytes")]
    {
        let (code, out, err) = against(lines, &[]);
        assert_eq!((code, &*out), (1, ""));
        assert!(err.contains(words), "{err}");
    }
}
