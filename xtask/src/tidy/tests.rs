use super::Finding;
use super::rules;
use super::source::{Source, Tree};

fn tree(files: &[(&str, &str)]) -> Tree {
    let source = |&(path, text): &(&str, &str)| Source { path: path.to_owned(), text: text.to_owned() };
    Tree { sources: files.iter().map(source).collect(), top: Vec::new() }
}

fn code(text: &str) -> String {
    Source { path: "a.rs".to_owned(), text: text.to_owned() }.code()
}

/// Where the findings are, apart from those about files that these small trees lack.
fn places(findings: &[Finding]) -> Vec<String> {
    let real = findings.iter().filter(|finding| !finding.cure.starts_with("correct the list"));
    real.map(|finding| format!("{}:{}", finding.path, finding.line)).collect()
}

#[test]
fn comments_strings_and_characters_are_no_code() {
    for (text, expected) in [
        ("a // b\nc", "a     \nc"),
        ("a /* b /* c */ d */ e", "a                   e"),
        (r#"a("b \" c") d"#, "a(        ) d"),
        (r##"a(r#"b " c"#) d"##, "a(          ) d"),
        ("a('\"') b '\\'' c", "a(   ) b      c"),
        ("fn a<'b>(c: &'b str) {}", "fn a<'b>(c: &'b str) {}"),
        ("r#type; for\"x\"", "r#type; for   "),
        ("\"a\nb\" c", "  \n   c"),
        ("\"never closed", "             "),
        ("/* never closed", "               "),
    ] {
        assert_eq!(code(text), expected, "{text}");
    }
}

#[test]
fn unsafe_is_found_outside_the_named_files_and_not_in_words() {
    let tree = tree(&[
        ("auth-agent/src/clock.rs", "unsafe { x() }"),
        ("auth-agent/src/a.rs", "// unsafe\nlet x = \"unsafe\";\nunsafe { x() }"),
        ("auth-agent/src/b.rs", "#![forbid(unsafe_code)]\n#![allow(unsafe_code)]\nfn unsafe_name() {}"),
    ]);
    assert_eq!(
        places(&rules::unsafe_is_in_named_files(&tree)),
        ["auth-agent/src/a.rs:3", "auth-agent/src/b.rs:2"]
    );
}

#[test]
fn a_named_file_that_is_gone_is_a_finding() {
    let findings = rules::unsafe_is_in_named_files(&tree(&[("auth-ebpf/src/main.rs", "")]));
    let paths: Vec<_> = findings.iter().map(|finding| finding.path.as_str()).collect();
    assert!(paths.contains(&"auth-agent/src/clock.rs"));
    assert!(!paths.contains(&"auth-ebpf/src/"));
}

#[test]
fn forbidden_dependencies_are_found_in_every_way_to_write_them() {
    let tree = tree(&[
        (
            "auth-agent/Cargo.toml",
            "[dependencies]\nserde = \"1\"\n[dev-dependencies]\ntests.workspace = true",
        ),
        (
            "auth-common/Cargo.toml",
            "[dependencies]\n# none\nlibc = \"1\"\n[dev-dependencies]\nproptest = \"1\"",
        ),
        (
            "auth-ebpf/Cargo.toml",
            "[dependencies]\nauth-common.workspace = true\naya-ebpf = \"0.2\"\n[dependencies.log]\nversion = \"1\"",
        ),
        (
            "xtask/Cargo.toml",
            "[build-dependencies]\ncc = \"1\"\n[target.'cfg(unix)'.dependencies]\nlibc = \"1\"",
        ),
    ]);
    let expected =
        ["auth-common/Cargo.toml:3", "auth-ebpf/Cargo.toml:4", "xtask/Cargo.toml:2", "xtask/Cargo.toml:4"];
    assert_eq!(places(&rules::dependencies_go_one_way(&tree)), expected);
}

#[test]
fn statuses_are_found_outside_their_place_and_not_in_tests() {
    let tree = tree(&[
        ("auth-agent/src/control/server.rs", "StatusCode::OK"),
        (
            "auth-agent/src/proxy.rs",
            "a(StatusCode::OK);\nb.status(404);\nb.status(refusal.status());\n#[cfg(test)]\nmod tests {\nStatusCode::OK",
        ),
        ("auth-agent/src/proxy/tests.rs", "StatusCode::OK"),
        ("auth-agent/src/refusal.rs", "StatusCode::OK"),
        ("tests/src/echo.rs", "StatusCode::OK"),
    ]);
    assert_eq!(
        places(&rules::statuses_are_in_one_place(&tree)),
        ["auth-agent/src/proxy.rs:1", "auth-agent/src/proxy.rs:2"]
    );
}

#[test]
fn a_file_of_more_than_500_lines_is_found() {
    let tree = tree(&[("a.rs", &"\n".repeat(500)), ("b.rs", &"\n".repeat(501)), ("c.md", &"\n".repeat(501))]);
    assert_eq!(places(&rules::files_are_short(&tree)), ["b.rs:500"]);
}

#[test]
fn unfinished_work_is_found() {
    let mark = concat!("// TO", "DO: later");
    let tree = tree(&[("a.rs", "#[ignore]\n\"todo!\"\ntodo!()"), ("b.rs", mark), ("c.md", "mktemp XXXXXX")]);
    assert_eq!(places(&rules::nothing_is_unfinished(&tree)), ["a.rs:1", "a.rs:3", "b.rs:1"]);
}

#[test]
fn a_member_without_the_lint_table_is_found() {
    let tree =
        tree(&[("Cargo.toml", ""), ("a/Cargo.toml", ""), ("b/Cargo.toml", "[lints]\nworkspace = true\n")]);
    assert_eq!(places(&rules::members_share_the_lints(&tree)), ["a/Cargo.toml:1"]);
}

#[test]
fn an_unknown_name_at_the_top_is_found() {
    let tree = Tree { sources: Vec::new(), top: vec!["README.md".to_owned(), "notes.txt".to_owned()] };
    assert_eq!(places(&rules::the_top_level_is_known(&tree)), ["notes.txt:1"]);
}

#[test]
fn a_reason_without_a_packet_is_found() {
    let reasons = "pub enum Verdict {\n    Drop,\n}\n/// Why.\npub enum Reason {\n    /// One.\n    NonIp,\n    NonIpv4 = 3,\n}\n";
    let tree = tree(&[
        ("auth-common/src/verdict.rs", reasons),
        ("tests/tests/all/filter/packets.rs", "Reason::NonIpv4 // Reason::NonIp"),
    ]);
    assert_eq!(places(&rules::every_reason_has_a_packet(&tree)), ["auth-common/src/verdict.rs:7"]);
}

#[test]
fn a_finding_names_place_and_cure() {
    let tree = tree(&[("a/Cargo.toml", "")]);
    let findings = rules::members_share_the_lints(&tree);
    assert_eq!(
        findings[0].to_string(),
        "a/Cargo.toml:1: the lint table is not used; add `[lints]` with `workspace = true`"
    );
}
