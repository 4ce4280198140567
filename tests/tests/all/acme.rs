//! Certificates from a real ACME server, validated over the agent's own listener.

use std::fs;
use std::os::unix::fs::MetadataExt;

use serde_json::Value;
use tests::agent::until;
use tests::pebble::{DIRECTORY, Pebble};
use tests::privilege;
use tests::stage::Stage;

const PORT: u16 = 9_443;
const NAME: &str = "api.edge.test";

fn configuration() -> String {
    format!(
        r#"
[[listener]]
address = "[::]:{PORT}"
acme = ["{NAME}", "www.edge.test"]

[acme]
directory = "{DIRECTORY}"
terms_of_service_agreed = true
contact = ["mailto:ops@edge.test"]
ca = "acme-ca.pem"
"#
    )
}

/// How it goes with the one certificate.
fn status(stage: &Stage) -> Value {
    stage.setup.json(&["status"]).unwrap()["acme"][0].clone()
}

/// The status of a request to the open route, under a name, by a client that trusts `root.pem`; 0: no connection.
fn get(stage: &Stage, name: &str) -> u32 {
    let mut curl = stage.edge.command("curl");
    curl.args(["--silent", "--output", "/dev/null", "--write-out", "%{http_code}"]);
    curl.arg("--cacert").arg(stage.setup.path("root.pem"));
    curl.args(["--resolve", &format!("{name}:{PORT}:127.0.0.1"), &format!("https://{name}:{PORT}/open")]);
    let output = curl.output().unwrap();
    String::from_utf8(output.stdout).unwrap().parse().unwrap()
}

#[test]
fn a_certificate_is_got_shown_and_kept_and_a_server_that_is_away_changes_nothing() {
    const TEST: &str = "certificates from an ACME server";
    if !privilege::kernel_usable(TEST) {
        return;
    }
    if !Pebble::is_here() {
        privilege::skip(TEST, "pebble is not installed: `apt-get install pebble`");
        return;
    }
    let mut stage = Stage::without_agent(&configuration()).unwrap();
    stage.setup.write("acme-ca.pem", stage.setup.authority.pem()).unwrap();
    stage.setup.write("root.pem", stage.setup.authority.pem()).unwrap();

    // The server is away: there is no certificate, and everything else works.
    stage.restart().unwrap();
    until("a failure", || Ok(status(&stage)["failures"] == 1)).unwrap();
    let error = status(&stage)["error"].to_string();
    assert!(error.contains("can't be reached"), "{error}");
    let shown = String::from_utf8(stage.setup.cli(&["status"]).unwrap().stdout).unwrap();
    assert!(shown.contains(&format!("warning    {NAME}, www.edge.test: no certificate yet")), "{shown}");
    assert_eq!(get(&stage, NAME), 0);

    let folder = stage.setup.path("");
    let pebble = Pebble::start(&stage.edge, &stage.setup.authority, &folder, PORT).unwrap();
    stage.restart().unwrap();
    until("a certificate", || Ok(!status(&stage)["not_after"].is_null()))
        .unwrap_or_else(|error| panic!("{error}: {} {}", status(&stage), pebble.log()));
    stage.setup.write("root.pem", &pebble.root(&stage.edge).unwrap()).unwrap();
    for name in [NAME, "www.edge.test"] {
        assert_eq!(get(&stage, name), 200, "{name}");
    }
    assert_eq!(get(&stage, "other.edge.test"), 0);
    let whole = stage.setup.json(&["status"]).unwrap();
    // Pebble looks from more than one place.
    assert!(whole["http"]["closed"]["acme-challenge"].as_u64().unwrap() >= 2, "{}", whole["http"]);
    let got = whole["acme"][0].clone();
    assert!(got["error"].is_null() && got["next"].as_u64() < got["not_after"].as_u64(), "{got}");

    // It lies sealed on disk, and is shown after a restart without the server.
    drop(pebble);
    let kept: Vec<_> = fs::read_dir(stage.setup.path("store/acme")).unwrap().map(Result::unwrap).collect();
    assert_eq!(kept.len(), 2, "an account and a certificate: {kept:?}");
    for file in kept {
        assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o600);
        let bytes = fs::read(file.path()).unwrap();
        assert!(!bytes.windows(5).any(|window| window == b"chain" || window == b"-----"));
    }
    stage.restart().unwrap();
    until("the kept certificate", || Ok(get(&stage, NAME) == 200)).unwrap();
    assert_eq!(status(&stage)["not_after"], got["not_after"]);
    assert_eq!(status(&stage)["failures"], 0);
}
