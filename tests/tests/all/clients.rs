//! Other people's clients, through the real agent: a WebSocket library, gRPC, curl, and nghttp2's tools.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tests::libraries::{self, Server};
use tests::netns::Namespace;
use tests::privilege;
use tests::stage::{EDGE, Stage};

use crate::http2::UNLIMITED;

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/all/clients").join(name)
}

/// An agent with another upstream, for one path.
fn stage(endpoint: &str, path: &str) -> Stage {
    let more = format!(
        "[[upstream]]\nname = \"other\"\nendpoints = [\"{endpoint}\"]\n\n\
         [[route]]\npath = \"{path}\"\nupstream = \"other\"\nauth = \"required\"\n"
    );
    let stage = Stage::new(&format!("{UNLIMITED}{more}")).unwrap();
    stage.setup.write("ca.pem", stage.setup.authority.pem()).unwrap();
    stage
}

/// What a client script sees, with a token, from among the crowd.
fn seen(stage: &Stage, folder: &Path, name: &str) -> Value {
    let token = stage.setup.issuer.token("alice", "", 300).unwrap();
    let authority = stage.setup.path("ca.pem");
    let arguments = [&EDGE.to_string(), &*authority.to_string_lossy(), &token];
    libraries::call(&stage.crowd, folder, &script(name), &arguments).unwrap()
}

#[test]
fn a_websocket_library_talks_through_the_edge() {
    let test = "WebSocket clients";
    let Some(folder) = libraries::folder(test).filter(|_| privilege::kernel_usable(test)) else { return };
    let stage = stage("http://127.0.0.1:9002", "/ws");
    let _server = Server::start(&stage.edge, &folder, &script("websocket_server.py"), &["9002"]).unwrap();
    let expected = json!({
        "without_token": 401,
        "hello": "hello alice",
        "subprotocol": "echo.v1",
        "extensions": ["permessage-deflate"],
        "text": true,
        "empty": true,
        "large": true,
        "fragments": true,
        "in_order": true,
        "pong": true,
        "close": [4001, "as you wish"],
        "own_close": [4002, "enough"],
    });
    assert_eq!(seen(&stage, &folder, "websocket_client.py"), expected);
}

#[test]
fn websockets_share_a_connection_of_http2() {
    let test = "WebSocket clients over HTTP/2";
    let Some(folder) = libraries::folder(test).filter(|_| privilege::kernel_usable(test)) else { return };
    let stage = stage("http://127.0.0.1:9002", "/ws");
    let _server = Server::start(&stage.edge, &folder, &script("websocket_server.py"), &["9002"]).unwrap();
    let expected = json!({
        "without_token": "401",
        "status": "200",
        "subprotocol": "echo.v1",
        "accept": null,
        "hello": ["hello alice", "hello alice"],
        "beside_it": true,
        "large": true,
        "pong": true,
        "close": [4001, "as you wish"],
        "own_close": 4002,
    });
    assert_eq!(seen(&stage, &folder, "websocket_http2_client.py"), expected);
}

#[test]
fn grpc_calls_of_every_kind_go_through_the_edge_with_their_statuses() {
    let test = "gRPC";
    let Some(folder) = libraries::folder(test).filter(|_| privilege::kernel_usable(test)) else { return };
    let stage = stage("h2c://127.0.0.1:9003", "/test.Echo");
    let _server = Server::start(&stage.edge, &folder, &script("grpc_server.py"), &["9003"]).unwrap();
    let expected = json!({
        "unary": "hello for alice",
        "unary_trailer": "unary",
        "large": true,
        "server_stream": true,
        "client_stream": 1_000_000,
        "bidi": ["ONE", "TWO", "THREE"],
        "fail": ["FAILED_PRECONDITION", "not now \u{2603}", "fail"],
        "first": "first",
        "fail_late": ["DATA_LOSS", "half way", null],
        "unknown": ["UNIMPLEMENTED", "Method not found!", null],
        "without_token": "UNAUTHENTICATED",
    });
    assert_eq!(seen(&stage, &folder, "grpc_client.py"), expected);
}

/// Runs a command that must succeed, and returns what it printed.
fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}: {said}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// curl, which asks the edge by its name.
fn curl(stage: &Stage, protocol: &str, arguments: &[&str]) -> Command {
    let mut command = stage.crowd.command("curl");
    command
        .args(["--silent", "--show-error", "--max-time", "20", protocol, "--cacert"])
        .arg(stage.setup.path("ca.pem"))
        .args(["--resolve", &format!("localhost:8443:{EDGE}")])
        .args(arguments);
    command
}

fn runs(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}

#[test]
fn curl_speaks_every_version_with_bodies_of_either_framing() {
    if !privilege::kernel_usable("curl") {
        return;
    }
    let stage = stage("http://127.0.0.1:9000", "/unused");
    let bearer = format!("authorization: Bearer {}", stage.setup.issuer.token("alice", "", 300).unwrap());
    let body = vec![b'x'; 3 << 20];
    let file = stage.setup.path("body");
    std::fs::write(&file, &body).unwrap();
    let file = format!("@{}", file.display());
    for (protocol, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
        for framing in ["expect: 100-continue", "transfer-encoding: chunked"] {
            // HTTP/2 has no codings: curl leaves the field out there.
            let arguments = ["-H", &bearer, "-H", framing, "--data-binary", &file, "-w", "\n%{http_version}"];
            let printed = output(curl(&stage, protocol, &arguments).arg("https://localhost:8443/a%20b?c=d"));
            let (json, used) = printed.rsplit_once('\n').unwrap();
            let seen: Value = serde_json::from_str(json).unwrap();
            let seen = json!([used, seen["body_bytes"], seen["path"], seen["headers"]["x-auth-subject"]]);
            assert_eq!(seen, json!([version, body.len(), "/a%20b?c=d", ["alice"]]), "{protocol}, {framing}");
        }
        let head = output(curl(&stage, protocol, &["--head", "-H", &bearer]).arg("https://localhost:8443/"));
        assert!(head.starts_with(&format!("HTTP/{version} 200")), "{head}");
        let large = ["-o", "/dev/null", "-w", "%{size_download}"];
        let printed = output(curl(&stage, protocol, &large).arg("https://localhost:8443/open/large"));
        assert_eq!(printed, (16 << 20).to_string(), "{protocol}");
        let refused = output(curl(&stage, protocol, &["-w", "%{http_code}"]).arg("https://localhost:8443/"));
        assert!(refused.ends_with("401"), "{refused}");
    }
}

/// One of nghttp2's tools; they have no way to name the edge's address, so they run beside the agent.
fn nghttp2(edge: &Namespace, program: &str, arguments: &[&str]) -> String {
    output(edge.command(program).args(arguments))
}

#[test]
fn nghttp2_multiplexes_and_uploads() {
    if !privilege::kernel_usable("nghttp2") {
        return;
    }
    if !runs("nghttp") || !runs("h2load") {
        privilege::skip("nghttp2", "there is no nghttp: `apt-get install nghttp2-client`");
        return;
    }
    let stage = stage("http://127.0.0.1:9000", "/unused");
    let bearer = format!("authorization: Bearer {}", stage.setup.issuer.token("alice", "", 300).unwrap());
    let file = stage.setup.path("body");
    std::fs::write(&file, vec![b'x'; 1 << 20]).unwrap();
    let file = file.to_string_lossy();
    let url = "https://localhost:8443/x";
    let printed = nghttp2(&stage.edge, "nghttp", &["-H", &bearer, "-d", &file, url]);
    let seen: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!((&seen["body_bytes"], &seen["method"]), (&json!(1 << 20), &json!("POST")));
    // With padding, and a small window that has to be opened again and again.
    let small = ["-w", "10", "-W", "12", "--padding", "100", "--no-push", "-n", "-s"];
    let printed =
        nghttp2(&stage.edge, "nghttp", &[&small[..], &["https://localhost:8443/open/large"]].concat());
    assert!(printed.contains(" 200 ") && printed.contains("16M /open/large"), "{printed}");
    let load = ["-n", "3000", "-c", "5", "-m", "20", "-H", &bearer, url];
    let printed = nghttp2(&stage.edge, "h2load", &load);
    assert!(printed.contains("3000 succeeded, 0 failed, 0 errored, 0 timeout"), "{printed}");
    assert!(printed.contains("status codes: 3000 2xx"), "{printed}");
}
