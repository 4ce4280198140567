use serde_json::Value;

use super::run;
use crate::trial::POSTAL_SERVICE;

/// The postal service in a folder: its configuration with `change`, and a table.
fn folder(change: impl Fn(&str) -> String, table: &str) -> (tempfile::TempDir, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (config, tests) = (path("edge.toml"), path("edge.test.toml"));
    std::fs::write(&config, change(POSTAL_SERVICE.0)).unwrap();
    std::fs::write(&tests, table).unwrap();
    (folder, config, tests)
}

#[test]
fn the_example_passes_its_tests_and_a_hole_in_it_does_not() {
    let (_folder, config, tests) = folder(str::to_owned, POSTAL_SERVICE.1);
    let (code, out, err) = run(&["--config", &config, "policy", "test", &tests]);
    assert_eq!((code, out.as_str(), err.as_str()), (0, "all 15 as expected\n", ""));

    let open = |text: &str| {
        text.replace("bind = { user_id = \"sub\" }\nunless_scope = [\"mail:support\"]\nobject", "object")
    };
    let (_folder, config, tests) = folder(open, POSTAL_SERVICE.1);
    let (code, out, err) = run(&["--config", &config, "policy", "test", &tests]);
    assert_eq!(code, 1);
    let diff = "test 4: GET /users/bob/messages/17 as alice\n  expected object-foreign by route messages\n  got      \
                allow by route messages\ntest 5: ";
    assert!(out.starts_with(diff), "{out}");
    assert_eq!(err, "auth-agent: 2 of 15 are not as expected\n");

    let (code, out, _) = run(&["--json", "--config", &config, "policy", "test", &tests]);
    let answer: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (code, &answer["ok"], &answer["tests"][3]["got"]["decision"]),
        (1, &false.into(), &"allow".into())
    );
}

#[test]
fn a_table_that_can_not_be_read_is_named() {
    let (folder, config, _) = folder(str::to_owned, "");
    let missing = folder.path().join("missing.toml").to_str().unwrap().to_owned();
    let (code, _, err) = run(&["--config", &config, "policy", "test", &missing]);
    assert!(code == 1 && err.contains("missing.toml: can't be read: No such file"), "{err}");
}

#[test]
fn a_hole_is_warned_of_and_what_is_open_on_purpose_noted() {
    let (_folder, config, _) = folder(str::to_owned, "");
    let (code, out, err) = run(&["--config", &config, "policy", "check"]);
    let notes = [
        "note: route track: auth = \"none\": anyone may use it [open-route]; write auth = \"required\" if that is not meant",
        "note: route messages: objects are bound to \"sub\", which those of issuer main and the names of API keys can be \
         [shared-subject]; ",
        "note: route inbox: objects are bound to \"sub\", which those of issuer main and the names of API keys can be \
         [shared-subject]; ",
        "note: route messages: whoever may use it may use every {message} [unchecked-object]; ",
    ];
    let lines: Vec<_> = out.lines().collect();
    let are_these = lines.iter().zip(notes).all(|(line, note)| line.starts_with(note));
    assert!(code == 0 && err.is_empty() && lines.len() == notes.len() && are_these, "{out}{err}");

    let hole =
        |text: &str| format!("{text}[[route]]\npath = \"/\"\nauth = \"required\"\nupstream = \"mail\"\n");
    let (_folder, config, _) = folder(hole, "");
    let (code, out, err) = run(&["--config", &config, "policy", "check"]);
    let warning = "warning: route messages: /users/~any~/messages/~any~/ goes to route /, which binds no object to a claim";
    assert!(code == 1 && out.starts_with(warning), "{out}");
    assert_eq!(err, "auth-agent: 3 of these can hardly be meant\n");
    let (code, out, _) = run(&["--json", "--config", &config, "policy", "check"]);
    let answer: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (code, &answer["ok"], &answer["lints"][0]["name"]),
        (1, &false.into(), &"trailing-slash".into())
    );
}

#[test]
fn the_example_and_the_schema_are_printed() {
    let (code, out, _) = run(&["policy", "example", "config"]);
    assert_eq!((code, out.as_str()), (0, POSTAL_SERVICE.0));
    let (code, out, _) = run(&["policy", "example", "test"]);
    assert_eq!((code, out.as_str()), (0, POSTAL_SERVICE.1));
    let policy = |text: &str| {
        let text = text.replace(
            "object = \"unchecked\"\nupstream = \"mail\"\n\n[[route]]\nname = \"inbox\"",
            "policy = \"mail\"\nupstream = \"mail\"\n\n[[route]]\nname = \"inbox\"",
        );
        format!("{text}[[policy]]\nname = \"mail\"\nfiles = [\"mail.cedar\"]\n")
    };
    let (folder, config, _) = folder(policy, "");
    let (code, out, err) = run(&["--config", &config, "policy", "schema", "mail"]);
    assert!(code == 0 && out.contains("action \"DELETE messages\""), "{out}{err}");
    let (code, _, err) = run(&["--config", &config, "policy", "schema", "post"]);
    assert_eq!(
        (code, err.as_str()),
        (1, "auth-agent: there is no policy post; the configuration has mail\n")
    );
    std::fs::write(
        folder.path().join("mail.cedar"),
        "permit(principal, action, resource) when { resource.message == 1 };",
    )
    .unwrap();
    for verb in ["check", "test"] {
        let mut arguments = vec!["--config", config.as_str(), "policy", verb];
        let tests = folder.path().join("edge.test.toml").to_str().unwrap().to_owned();
        std::fs::write(&tests, POSTAL_SERVICE.1).unwrap();
        arguments.extend((verb == "test").then_some(tests.as_str()));
        let (code, _, err) = run(&arguments);
        assert!(
            code == 1 && err.contains("policy `mail`:") && err.contains("mail.cedar: line 1:"),
            "{verb}: {err}"
        );
    }
}
