mod authorization_server;
mod classes;
mod key_sources;
mod routes;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::path::canonical;
use crate::routes::RouteTable;

/// The shortest right configuration; tests add to it or replace parts of it.
pub(crate) const MINIMAL: &str = r#"
[kernel]
interfaces = ["eth0"]

[[listener]]
address = "[::]:443"
certificate = "edge.crt"
key = "/keys/edge.key"

[[upstream]]
name = "app"
endpoints = ["http://127.0.0.1:8080"]

[[route]]
path = "/"
auth = "none"
upstream = "app"
"#;

pub(crate) fn parse(text: &str) -> Result<Config, ConfigErrors> {
    Config::parse(text, Path::new("/etc/auth-agent/edge.toml"))
}

fn minimal_with(addition: &str) -> Result<Config, ConfigErrors> {
    parse(&format!("{MINIMAL}{addition}"))
}

/// What is wrong, without the file's name and the lines.
fn problems(text: &str) -> Vec<String> {
    let errors = parse(text).expect_err("the text is refused");
    errors.iter().map(|error| format!("{}: {}; {}", error.field, error.what, error.cure)).collect()
}

/// The example with every default written out.
fn example_with_defaults() -> String {
    let shown = |line: &str| match line.strip_prefix('#') {
        Some(default) if default.starts_with(|c: char| c.is_ascii_lowercase()) => default.to_owned(),
        _ => line.to_owned(),
    };
    EXAMPLE.lines().map(shown).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_example_says_what_the_defaults_are() {
    let example = parse(EXAMPLE).unwrap();
    assert_eq!(parse(&example_with_defaults()).unwrap(), example);
    assert_eq!(example.limits, Limits::default());
    assert_eq!(example.ladder, Ladder::default());
    let [class] = &example.classes[..] else { panic!("one class") };
    assert_eq!(class.limits.packets, SourceLimits::default().packets);
    assert_eq!(example.sizes, Sizes::default());
    assert_eq!(example.timeouts, Timeouts::default());
}

#[test]
fn the_example_names_every_field() {
    let example = example_with_defaults();
    let headers: BTreeSet<_> = example.lines().filter(|line| line.starts_with('[')).collect();
    // Every table says which fields it has when it is asked for one that it hasn't.
    for header in headers {
        let text = example.replacen(header, &format!("{header}\nno-such-field = 1"), 1);
        let problem = problems(&text).remove(0);
        let (_, fields) = problem.split_once("the fields here are ").unwrap();
        // A list of tables may show some fields in one of them, and some in another.
        let mut inside = false;
        let table: Vec<_> = example
            .lines()
            .filter(|line| {
                inside = if line.starts_with('[') { *line == header } else { inside };
                inside
            })
            .collect();
        for field in fields.split(", ") {
            let named = table.iter().any(|line| line.starts_with(&format!("{field} = ")));
            assert!(named, "{header} has {field}, which the example does not show");
        }
    }
    let root = problems(&format!("no-such-section = 1\n{example}")).remove(0);
    let (_, sections) = root.split_once("the fields here are ").unwrap();
    for section in sections.split(", ") {
        assert!(
            [format!("[{section}"), format!("[[{section}")].iter().any(|start| example.contains(start)),
            "{section}"
        );
    }
}

#[test]
fn relative_paths_start_at_the_folder_of_the_file() {
    let config = minimal_with("[control]\nsocket = \"a.sock\"\n[store]\ndirectory = \"state\"").unwrap();
    assert_eq!(config.listeners[0].certificates[0].certificate, Path::new("/etc/auth-agent/edge.crt"));
    assert_eq!(config.listeners[0].certificates[0].key, Path::new("/keys/edge.key"));
    assert_eq!(config.control.socket, Path::new("/etc/auth-agent/a.sock"));
    assert_eq!(config.store.directory, Path::new("/etc/auth-agent/state"));
    let beside = Config::parse(MINIMAL, Path::new("edge.toml")).unwrap();
    assert_eq!(beside.listeners[0].certificates[0].certificate, Path::new("edge.crt"));
}

#[test]
fn values_mean_what_their_units_say() {
    let config = minimal_with(
        r#"
        [timeouts]
        body_idle = "250ms"
        connect = "2s"
        drain = "5m"
        response = "1h"
        handshake = "23h30m"
        [sizes]
        body_bytes = "1GiB"
        uri_bytes = 0x200
        header_bytes = "9000B"
        token_bytes = "64KiB"
        [limits.requests]
        rate = "7/h"
        [limits.packets]
        rate = "3/s"
        burst = 5
        [limits.auth_failures]
        burst = 4
        drop_for = "7d"
        "#,
    )
    .unwrap();
    let Config { limits, sizes, timeouts, .. } = config;
    assert_eq!(timeouts.body_idle, Duration::from_millis(250));
    assert_eq!(timeouts.connect, Duration::from_secs(2));
    assert_eq!(timeouts.drain, Duration::from_secs(300));
    assert_eq!(timeouts.response, Duration::from_secs(3600));
    assert_eq!(timeouts.handshake, Duration::from_secs(84_600));
    assert_eq!(sizes.body_bytes, 1 << 30);
    assert_eq!(sizes.uri_bytes.get(), 512);
    assert_eq!(sizes.header_bytes.get(), 9000);
    assert_eq!(sizes.token_bytes.get(), 65_536);
    let requests = limits.source.requests.rate;
    assert_eq!(
        (requests.events.get(), requests.period, requests.burst.get()),
        (7, Duration::from_secs(3600), 7)
    );
    assert_eq!(limits.source.requests.drop_after.get(), 7);
    assert_eq!((limits.source.packets.events.get(), limits.source.packets.burst.get()), (3, 5));
    assert_eq!(
        (limits.source.auth_failures.rate.events.get(), limits.source.auth_failures.drop_after.get()),
        (10, 4)
    );
    assert_eq!(limits.source.auth_failures.drop_for, Duration::from_secs(7 * 86_400));
}

#[test]
fn single_addresses_are_networks_and_header_names_are_lower_case() {
    let config = parse(&MINIMAL.replace(
        "interfaces",
        "allow = [\"10.1.2.3\", \"10.0.0.0/8\", \"2001:db8::1\", \"2001:db8::/32\"]\ninterfaces",
    ))
    .unwrap();
    let allow: Vec<_> = config.kernel.allow.iter().map(ToString::to_string).collect();
    assert_eq!(allow, ["10.1.2.3/32", "10.0.0.0/8", "2001:db8::1/128", "2001:db8::/32"]);
    let config = minimal_with("[api_keys]\nheader = \"X-My-Key\"").unwrap();
    assert_eq!(config.api_keys.header, "x-my-key");
}

#[test]
fn no_spelling_of_a_path_gets_past_its_route() {
    for byte in (b'a'..=b'z').chain(b'A'..=b'Z').chain(b'0'..=b'9').chain(*b"-._~!$&'()*,=:@") {
        let plain = format!("/x{}y", char::from(byte));
        let config = parse(&MINIMAL.replace("path = \"/\"", &format!("path = \"{plain}\""))).unwrap();
        for spelling in [format!("/x%{byte:02x}y"), format!("/x%{byte:02X}y"), plain] {
            let canonical = canonical(&spelling).unwrap();
            let found = RouteTable::new(&config.routes).find("h", &http::Method::GET, &canonical).is_ok();
            assert!(found, "{spelling}");
        }
    }
}

#[test]
fn all_problems_are_told_at_once_in_the_order_of_the_file() {
    let text = "\
[kernel]
interfaces = []
sources = 1000

[[listener]]
addres = \"0.0.0.0:443\"
key = 7

[timeouts]
drain = 30
";
    let shown = parse(text).unwrap_err().to_string();
    let expected = r#"/etc/auth-agent/edge.toml:1: upstream: missing; write [[upstream]] with name and endpoints
/etc/auth-agent/edge.toml:1: route: missing; write [[route]] with path, auth and upstream
/etc/auth-agent/edge.toml:2: kernel.interfaces: empty; write interfaces = ["eth0"]
/etc/auth-agent/edge.toml:3: kernel.sources: 1000 is not a number in range; write 1024 to 16777216
/etc/auth-agent/edge.toml:5: listener[1].address: missing; write address = "[::]:443"
/etc/auth-agent/edge.toml:5: listener[1].certificate: missing; write certificate = "edge.crt"
/etc/auth-agent/edge.toml:6: listener[1].addres: unknown field; did you mean address?
/etc/auth-agent/edge.toml:7: listener[1].key: 7 is not a string; write a path in quotes
/etc/auth-agent/edge.toml:10: timeouts.drain: 30 has no unit; write a number and ms, s, m, h or d, such as "10s""#;
    assert_eq!(shown, expected);
}

#[test]
fn every_wrong_addition_is_refused_with_its_cure() {
    let blocks = include_str!("tests/refused.txt").split("\n\n").skip(1);
    let mut wrong = Vec::new();
    for block in blocks {
        let (expected, lines): (Vec<_>, Vec<_>) = block.lines().partition(|line| line.starts_with("=> "));
        let addition = lines.join("\n");
        let text = match addition.strip_prefix("[kernel]") {
            Some(fields) => MINIMAL.replace("[kernel]", &format!("[kernel]{fields}")),
            None => format!("{MINIMAL}{addition}\n"),
        };
        let problems: Vec<_> = problems(&text).into_iter().map(|problem| format!("=> {problem}")).collect();
        if problems != expected {
            wrong.push(format!("{addition}\n{problems:#?}\nin place of\n{expected:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn listeners_that_can_stand_side_by_side_are_accepted() {
    let listener =
        |address: &str| format!("[[listener]]\naddress = \"{address}\"\ncertificate = \"a\"\nkey = \"b\"\n");
    for (first, second, accepted) in [
        ("10.0.0.1:443", "10.0.0.2:443", true),
        ("10.0.0.1:443", "10.0.0.1:8443", true),
        ("0.0.0.0:443", "[::1]:443", true),
        ("[::1]:443", "10.0.0.1:443", true),
        ("[::]:443", "10.0.0.1:443", false),
        ("10.0.0.1:443", "0.0.0.0:443", false),
        ("[::1]:443", "[::]:443", false),
    ] {
        let text = format!("{}{}", MINIMAL.replace("[::]:443", first), listener(second));
        assert_eq!(parse(&text).is_ok(), accepted, "{first} and {second}");
    }
}

#[test]
fn every_name_that_is_no_interface_is_refused() {
    for interface in ["", "a/b", "a b", "..", "0123456789abcdef", "é"] {
        let text = MINIMAL.replace("eth0", interface);
        assert!(problems(&text)[0].contains("is not an interface name"), "{interface:?}");
    }
}

#[test]
fn endpoints_and_route_paths_in_any_other_form_are_refused() {
    for endpoint in [
        "",
        "a:1",
        "http://",
        "http://:1",
        "http://a",
        "http://a:",
        "http://a:0",
        "http://a:70000",
        "http://a:1/",
        "http://a:1/x",
        "http://a:1?x",
        "http://a:1#x",
        "http://a b:1",
        "HTTP://a:1",
        "ftp://a:1",
        "http://[::1]",
        "http://[zz]:1",
        "http://-:1",
        "http://a..b:1",
        "http://é:1",
        "http://a%41:1",
        "http://1.2.3:1",
        "http://a:+1",
        "https://a",
        "https://a:1/",
        "h2://a:1",
        "h2c://a",
        "unix:",
        "unix:app.sock",
        "unix://app.sock/../\\u0000",
    ] {
        let text = MINIMAL.replace("http://127.0.0.1:8080", endpoint);
        assert!(problems(&text)[0].starts_with("upstream[1].endpoints[1]: "), "{endpoint}");
    }
    for endpoint in [
        "http://[::1]:1",
        "http://app.internal:8080",
        "http://app_1:65535",
        "https://[::1]:1",
        "https://app:1",
        "h2c://10.0.0.1:1",
        "unix:/run/app.sock",
    ] {
        assert!(parse(&MINIMAL.replace("http://127.0.0.1:8080", endpoint)).is_ok(), "{endpoint}");
    }
    for path in [
        "",
        "a",
        "//",
        "/a/",
        "/a//b",
        "/./a",
        "/a/..",
        "/a%2fb",
        "/a?b",
        "/a#b",
        "/a;b",
        "/a+b",
        "/a b",
        "/a\\\\b",
        "/é",
        "/caf%c3%a9",
        "/a%2Bb",
        "/{a}",
        "/a\\u0000",
    ] {
        let text = MINIMAL.replace("path = \"/\"", &format!("path = \"{path}\""));
        assert!(problems(&text)[0].starts_with("route[1].path: "), "{path}");
    }
    for path in ["/a", "/a/b.c/d-e_f~g", "/@me", "/..a", "/caf%C3%A9", "/a%20b"] {
        assert!(parse(&MINIMAL.replace("path = \"/\"", &format!("path = \"{path}\""))).is_ok(), "{path}");
    }
}

#[test]
fn broken_toml_is_told_by_line_and_nothing_else_is_guessed() {
    let shown = parse("[kernel]\ninterfaces = eth0\n[[listener]\n").unwrap_err().to_string();
    let expected = "\
/etc/auth-agent/edge.toml:2: not TOML: string values must be quoted, expected literal string; see https://toml.io for the syntax
/etc/auth-agent/edge.toml:3: not TOML: unclosed array table, expected `]`; see https://toml.io for the syntax";
    assert_eq!(shown, expected);
}

#[test]
fn an_empty_file_lacks_what_has_no_default() {
    let fields: Vec<_> = parse("").unwrap_err().iter().map(|error| error.field.clone()).collect();
    assert_eq!(fields, ["kernel.interfaces", "listener", "upstream", "route"]);
}

#[test]
fn a_file_that_is_no_configuration_is_refused_in_few_lines() {
    let shown = parse(&"key = \"value\"\n".repeat(1000)).unwrap_err().to_string();
    assert!(shown.lines().count() <= 31 && shown.ends_with(" more"), "{shown}");
}

#[test]
fn depth_and_repetition_cost_neither_the_stack_nor_minutes() {
    let parts = [
        "[",
        "a = [",
        "a = {",
        "a.",
        "[a.",
        "[[a]]\n",
        "[[listener]]\n",
        "\"",
        "'",
        "a = 1\n",
        "a = \"\n",
        "\n[x\n",
    ];
    for part in parts {
        let text = part.repeat((1 << 18) / part.len());
        for text in [format!("[{text}b]\nb = 1"), format!("{text}b = 1"), format!("a = {text}"), text] {
            assert!(parse(&text).is_err(), "{part:?}");
        }
    }
}

#[test]
fn a_file_that_cannot_be_read_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("edge.toml");
    let refused = || Config::load(&path).unwrap_err().to_string();
    assert!(refused().contains("edge.toml: can't be read: No such file"), "{}", refused());
    fs::write(&path, b"# fine\n\xff").unwrap();
    assert!(refused().contains("edge.toml:2: not UTF-8 text; save"), "{}", refused());
    fs::write(&path, vec![b'#'; (1 << 20) + 1]).unwrap();
    assert!(refused().contains("longer than 1048576 bytes"), "{}", refused());
    fs::write(&path, MINIMAL).unwrap();
    assert_eq!(
        Config::load(&path).unwrap().listeners[0].certificates[0].certificate,
        folder.path().join("edge.crt")
    );
    assert!(Config::load(folder.path()).unwrap_err().to_string().contains("can't be read: Is a directory"));
}

#[test]
fn long_and_hostile_text_is_cut_and_escaped_in_messages() {
    let text = format!(
        "{MINIMAL}[store]\ndirectory = {}\n[limits.packets]\nrate = \"\\u001b[2J{}\"\n",
        1,
        "9".repeat(500)
    );
    let shown = parse(&text).unwrap_err().to_string();
    assert!(shown.contains("\\u{1b}[2J999") && !shown.contains('\u{1b}'), "{shown}");
    assert!(shown.lines().all(|line| line.len() < 300), "{shown}");
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,200}|[\\[\\]{}=\"'.,#a-z0-9\\n -]{0,200}") {
        let _ = parse(&text);
    }

    #[test]
    fn a_mutated_example_never_panics_and_every_problem_has_a_line(
        at in any::<prop::sample::Index>(),
        length in 0_usize..40,
        replacement in "\\PC{0,8}|[\\[\\]{}=\"'.,#a-z0-9\\n -]{0,8}",
    ) {
        let mut text = example_with_defaults();
        let boundary = |mut at: usize| { while !text.is_char_boundary(at) { at -= 1; } at };
        let start = boundary(at.index(text.len()));
        let end = boundary((start + length).min(text.len()));
        text.replace_range(start..end, &replacement);
        if let Err(errors) = parse(&text) {
            let lines = text.lines().count().max(1) + 1;
            prop_assert!(errors.iter().all(|error| error.line.is_some_and(|line| (1..=lines).contains(&line))));
        }
    }

    #[test]
    fn a_wrong_value_anywhere_is_refused_in_its_line(
        index in any::<prop::sample::Index>(),
        value in prop::sample::select(vec!["\"\\u0000\"", "[[]]", "1979-05-27", "inf", "{ a = {} }", "-1"]),
    ) {
        let example = example_with_defaults();
        let fields: Vec<_> = example.lines().enumerate().filter(|(_, line)| !line.starts_with('#') && line.contains(" = ")).collect();
        let (number, line) = fields[index.index(fields.len())];
        let (field, _) = line.split_once(" = ").unwrap();
        let mut lines: Vec<_> = example.lines().map(str::to_owned).collect();
        lines[number] = format!("{field} = {value}");
        let Err(errors) = parse(&lines.join("\n")) else {
            return Err(TestCaseError::fail("no field takes such a value"));
        };
        prop_assert!(errors.iter().any(|error| error.line == Some(number + 1)), "{errors}");
    }
}
