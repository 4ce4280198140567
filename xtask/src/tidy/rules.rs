//! The rules. Each is a function from the tree to what breaks it.

use super::Finding;
use super::source::{Source, Tree, has_word};

/// Where `unsafe` may stand; a folder ends with `/`.
const UNSAFE: [&str; 7] = [
    "auth-agent/src/clock.rs",
    "auth-agent/src/doctor/system.rs",
    "auth-agent/src/kernel/",
    "auth-common/src/packet/cursor.rs",
    "auth-ebpf/src/",
    "tests/src/bench/system.rs",
    "tests/src/system.rs",
];

/// Which packages a package may depend on outside its tests. A name ending in `*` is a prefix.
const EDGES: [(&str, Edges); 4] = [
    ("auth-agent", Edges::NoneOf(&["auth-ebpf", "tests", "xtask"])),
    ("auth-common", Edges::Only(&[])),
    ("auth-ebpf", Edges::Only(&["auth-common", "aya-ebpf*"])),
    ("xtask", Edges::Only(&["anyhow", "clap"])),
];

enum Edges {
    NoneOf(&'static [&'static str]),
    Only(&'static [&'static str]),
}

/// Where statuses are chosen: for clients in the one file, for the operator in the other.
const STATUSES: [&str; 2] = ["auth-agent/src/control", "auth-agent/src/refusal"];

/// Lines of the longest file that needs no reason.
const LONG: usize = 500;
/// Longer ones, each with its reason.
const LONG_FILES: [(&str, &str); 0] = [];

/// What says that work is unfinished. Split, so that this file passes its own rule.
const MARKS: [&str; 3] = [concat!("FIX", "ME"), concat!("TO", "DO"), concat!("XX", "X")];
const UNFINISHED: [&str; 3] = ["#[ignore", "todo!", "unimplemented!"];

const TOP: [&str; 15] = [
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "auth-agent",
    "auth-common",
    "auth-ebpf",
    "clippy.toml",
    "deny.toml",
    "rustfmt.toml",
    "target",
    "tests",
    "xtask",
];

/// Where the packet reasons are declared, and the packet table.
const REASONS: &str = "auth-common/src/verdict.rs";
const PACKET_TABLES: [&str; 3] =
    ["tests/tests/all/filter/packets", "tests/tests/all/heartbeat.rs", "tests/tests/all/reset.rs"];
/// Reasons that no packet can have, each with its reason.
const WITHOUT_PACKET: [(&str, &str); 1] =
    [("Internal", "says that a map is missing, which loading rules out")];

/// Everything that breaks a rule.
pub fn check(tree: &Tree) -> Vec<Finding> {
    const RULES: [fn(&Tree) -> Vec<Finding>; 8] = [
        unsafe_is_in_named_files,
        dependencies_go_one_way,
        statuses_are_in_one_place,
        files_are_short,
        nothing_is_unfinished,
        members_share_the_lints,
        the_top_level_is_known,
        every_reason_has_a_packet,
    ];
    RULES.iter().flat_map(|rule| rule(tree)).collect()
}

pub fn unsafe_is_in_named_files(tree: &Tree) -> Vec<Finding> {
    let allowed = |path: &str| {
        UNSAFE.iter().any(|named| path == *named || named.ends_with('/') && path.starts_with(named))
    };
    let stray = tree.rust().filter(|source| !allowed(&source.path)).flat_map(|source| {
        lines(&source.code())
            .filter(|(_, line)| has_word(line, "unsafe") || allows_unsafe(line))
            .map(|(line, _)| {
                finding(
                    source,
                    line,
                    "`unsafe` outside the named files",
                    "move it there, or name the file in xtask/src/tidy/rules.rs",
                )
            })
            .collect::<Vec<_>>()
    });
    let gone =
        UNSAFE.iter().filter(|named| !tree.sources.iter().any(|source| source.path.starts_with(*named)));
    let gone = gone.map(|named| missing(named, "named as a place of `unsafe`, but not there"));
    stray.chain(gone).collect()
}

fn allows_unsafe(line: &str) -> bool {
    has_word(line, "unsafe_code") && ["allow", "expect", "warn"].iter().any(|level| has_word(line, level))
}

pub fn dependencies_go_one_way(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (package, edges) in EDGES {
        let Some(manifest) = tree.source(&format!("{package}/Cargo.toml")) else {
            findings.push(missing(package, "package without a Cargo.toml"));
            continue;
        };
        for (line, name) in dependencies(&manifest.text) {
            let matches = |names: &[&str]| {
                names.iter().any(|allowed| match allowed.strip_suffix('*') {
                    Some(prefix) => name.starts_with(prefix),
                    None => name == *allowed,
                })
            };
            let allowed = match edges {
                Edges::NoneOf(names) => !matches(names),
                Edges::Only(names) => matches(names),
            };
            if !allowed {
                let what = format!("{package} depends on {name}");
                findings.push(finding(
                    manifest,
                    line,
                    what,
                    "do without it, or change the edges in xtask/src/tidy/rules.rs",
                ));
            }
        }
    }
    findings
}

/// Line and name of each dependency that isn't for tests.
fn dependencies(manifest: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut inside = false;
    for (number, line) in lines(manifest) {
        if let Some(header) = line.trim().strip_prefix('[') {
            let header = header.trim_end_matches(']');
            // `[dependencies]`, `[build-dependencies]`, `[target.….dependencies]`, `[dependencies.name]`
            let (section, name) = match header.split_once("dependencies.") {
                Some((before, name)) => (format!("{before}dependencies"), Some(name)),
                None => (header.to_owned(), None),
            };
            let ours = section.ends_with("dependencies") && !section.ends_with("dev-dependencies");
            inside = ours && name.is_none();
            found.extend(name.filter(|_| ours).map(|name| (number, name)));
        } else if inside {
            let name = line.split(['=', '.', '#']).next().unwrap_or_default().trim();
            found.extend((!name.is_empty()).then_some((number, name)));
        }
    }
    found
}

pub fn statuses_are_in_one_place(tree: &Tree) -> Vec<Finding> {
    let subject = |source: &&Source| {
        source.path.starts_with("auth-agent/src/")
            && !source.is_test()
            && !STATUSES.iter().any(|place| source.path.starts_with(place))
    };
    let chooses = |line: &str| {
        line.contains("StatusCode::")
            || line
                .split("status(")
                .skip(1)
                .any(|argument| argument.starts_with(|c: char| c.is_ascii_digit()))
    };
    let mut findings = Vec::new();
    for source in tree.rust().filter(subject) {
        for (line, _) in lines(&source.product_code()).filter(|(_, line)| chooses(line)) {
            findings.push(finding(
                source,
                line,
                "a status is chosen here",
                "add a reason to auth-agent/src/refusal.rs",
            ));
        }
    }
    findings
}

pub fn files_are_short(tree: &Tree) -> Vec<Finding> {
    let is_long = |source: &Source| source.text.lines().count() > LONG;
    let listed = |path: &str| LONG_FILES.iter().any(|(long, _)| *long == path);
    let long = tree.rust().filter(|source| is_long(source) && !listed(&source.path));
    let long = long.map(|source| {
        finding(source, LONG, format!("longer than {LONG} lines"), "split it where the second noun appears")
    });
    let stale = LONG_FILES.iter().filter(|(path, _)| !tree.source(path).is_some_and(is_long));
    long.chain(stale.map(|(path, _)| missing(path, "listed as a long file, but is none"))).collect()
}

pub fn nothing_is_unfinished(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in &tree.sources {
        let code = if source.path.ends_with(".rs") { source.code() } else { String::new() };
        let marks = lines(&source.text).filter(|(_, line)| MARKS.iter().any(|mark| has_word(line, mark)));
        let stubs = lines(&code).filter(|(_, line)| UNFINISHED.iter().any(|stub| line.contains(stub)));
        for (line, _) in marks.chain(stubs) {
            findings.push(finding(source, line, "unfinished work", "finish it, or take it out"));
        }
    }
    findings
}

pub fn members_share_the_lints(tree: &Tree) -> Vec<Finding> {
    let is_member =
        |source: &&Source| source.path.strip_suffix("/Cargo.toml").is_some_and(|name| !name.contains('/'));
    let members = tree.sources.iter().filter(is_member);
    let without = members.filter(|source| !source.text.contains("[lints]\nworkspace = true"));
    without
        .map(|source| {
            finding(source, 1, "the lint table is not used", "add `[lints]` with `workspace = true`")
        })
        .collect()
}

pub fn the_top_level_is_known(tree: &Tree) -> Vec<Finding> {
    let unknown = tree.top.iter().filter(|name| !TOP.contains(&name.as_str()));
    let at_top = |name: &String| Finding {
        cure: "move it into a package, or name it in xtask/src/tidy/rules.rs",
        line: 1,
        path: name.clone(),
        what: "unknown at the top level".to_owned(),
    };
    unknown.map(at_top).collect()
}

pub fn every_reason_has_a_packet(tree: &Tree) -> Vec<Finding> {
    let Some(source) = tree.source(REASONS) else {
        return vec![missing(REASONS, "the file of the packet reasons, but not there")];
    };
    let code = source.code();
    let reasons = variants(&code, "Reason");
    if reasons.is_empty() {
        return vec![finding(
            source,
            1,
            "no `enum Reason` here",
            "correct the path in xtask/src/tidy/rules.rs",
        )];
    }
    let is_table = |source: &&Source| PACKET_TABLES.iter().any(|table| source.path.starts_with(table));
    let tables: Vec<_> = tree.rust().filter(is_table).map(Source::code).collect();
    let untested = reasons.into_iter().filter(|(_, name)| {
        let path = format!("Reason::{name}");
        let exempt = WITHOUT_PACKET.iter().any(|(exempt, _)| exempt == name);
        !exempt && !tables.iter().any(|table| has_word(table, &path))
    });
    let untested = untested.map(|(line, name)| {
        finding(
            source,
            line,
            format!("no packet in the tests has the outcome Reason::{name}"),
            "add a row to the packet table",
        )
    });
    untested.collect()
}

/// Line and name of each variant of an enum without nested braces, formatted by rustfmt.
fn variants<'a>(code: &'a str, name: &str) -> Vec<(usize, &'a str)> {
    let start = format!("enum {name} {{");
    let body = lines(code).skip_while(|(_, line)| !line.contains(&start)).skip(1);
    let body = body.take_while(|(_, line)| !line.starts_with('}'));
    body.filter_map(|(number, line)| {
        let name = line.trim().split(|c: char| !c.is_alphanumeric()).next()?;
        name.starts_with(|c: char| c.is_ascii_uppercase()).then_some((number, name))
    })
    .collect()
}

/// Lines with their numbers, from 1.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(text.lines())
}

fn finding(source: &Source, line: usize, what: impl Into<String>, cure: &'static str) -> Finding {
    Finding { cure, line, path: source.path.clone(), what: what.into() }
}

fn missing(path: &str, what: &str) -> Finding {
    Finding {
        cure: "correct the list in xtask/src/tidy/rules.rs",
        line: 1,
        path: path.to_owned(),
        what: what.to_owned(),
    }
}
