//! Real proxies, set up as the examples say.

use std::convert::Infallible;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

use super::super::EXAMPLES;
use super::desk::{Desk, GOOD, send};
use crate::limits::tests::Fake;
use crate::skipped;

/// Long enough that only a proxy that does not start reaches it.
const PATIENCE: Duration = Duration::from_secs(60);

type Seen = Arc<Mutex<Vec<(String, HeaderMap, Bytes)>>>;

/// An application that keeps what it was asked.
async fn application() -> (SocketAddr, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, seen) = (listener.local_addr().unwrap(), Seen::default());
    let kept = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let kept = Arc::clone(&kept);
            let service = service_fn(move |request: Request<Incoming>| {
                let kept = Arc::clone(&kept);
                async move {
                    let (parts, body) = request.into_parts();
                    let body = body.collect().await.unwrap().to_bytes();
                    let target = parts.uri.path_and_query().unwrap().to_string();
                    kept.lock().unwrap().push((target, parts.headers, body));
                    Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"application"))))
                }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    (address, seen)
}

struct Proxy {
    address: SocketAddr,
    child: Child,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Proxy {
    /// A proxy that is to listen at `address`; ready when it does.
    async fn start(mut command: Command, address: SocketAddr) -> Self {
        let child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut proxy = Self { address, child };
        let start = Instant::now();
        while TcpStream::connect(address).await.is_err() {
            let ended = proxy.child.try_wait().unwrap().is_some();
            if ended || start.elapsed() > PATIENCE {
                let _ = proxy.child.kill();
                let mut said = String::new();
                proxy.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
                panic!("the proxy does not start: {said}");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        proxy
    }

    async fn send(
        &self,
        method: &str,
        target: &str,
        fields: &[(&str, &str)],
        body: &'static str,
    ) -> (u16, HeaderMap, String) {
        let mut request = Request::builder().method(method).uri(target).header("host", "api.example.com");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from_static(body.as_bytes()))).unwrap();
        send(TokioIo::new(TcpStream::connect(self.address).await.unwrap()), request).await
    }
}

/// A port that is free, at a loopback address that no other test process uses.
async fn free(number: u8) -> SocketAddr {
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let listener = TcpListener::bind(SocketAddr::from(([127, 100 + number, high, low], 0))).await.unwrap();
    listener.local_addr().unwrap()
}

/// The example for a proxy, in this laboratory.
fn example(name: &str, desk: &Desk, application: SocketAddr) -> String {
    let (_, example) = EXAMPLES.iter().find(|(known, _)| *known == name).unwrap();
    let asked = desk.address.unwrap();
    let changed = example
        .replace("127.0.0.1:9180", &asked.to_string())
        .replace("127.0.0.1:8080", &application.to_string())
        .replace("port_value: 9180", &format!("port_value: {}", asked.port()))
        .replace("port_value: 8080", &format!("port_value: {}", application.port()));
    assert_ne!(changed, **example);
    changed
}

fn found(program: &str) -> bool {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).is_file()));
    if !found {
        skipped::say(program, "it is not on PATH; `cargo xtask setup` says why");
    }
    found
}

async fn nginx(folder: &Path, desk: &Desk, application: SocketAddr) -> Proxy {
    let address = free(1).await;
    let example =
        example("nginx", desk, application).replace("listen 443 ssl;", &format!("listen {address};"));
    let plain: Vec<_> = example.lines().filter(|line| !line.trim().starts_with("ssl_")).collect();
    let folders = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {}/{kind};\n", folder.display()));
    let whole = format!(
        "daemon off;\nmaster_process off;\npid {0}/pid;\nerror_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n{1}{2}\n}}\n",
        folder.display(),
        folders.concat(),
        plain.join("\n"),
    );
    let file = folder.join("nginx.conf");
    std::fs::write(&file, whole).unwrap();
    let mut command = Command::new("nginx");
    command.arg("-p").arg(folder).arg("-c").arg(file);
    Proxy::start(command, address).await
}

/// What must hold of any proxy: who it lets through, what the application sees then, and what the client is told else.
async fn check(proxy: &Proxy, desk: &Desk, seen: &Seen, dots: u16) {
    let take = || std::mem::take(&mut *seen.lock().unwrap());
    let claims = [
        GOOD,
        ("x-auth-subject", "root"),
        ("x-auth-tenant", "t"),
        ("x-auth-token", "mine"),
        ("x-forwarded-for", "192.0.2.1"),
    ];
    let (status, _, body) = proxy.send("POST", "/x/%C3%A9?q=1", &claims, "hello").await;
    assert_eq!((status, &*body), (200, "application"));
    let (target, headers, body) = take().pop().unwrap();
    assert_eq!((&*target, &body[..]), ("/x/%C3%A9?q=1", &b"hello"[..]));
    assert_eq!(headers.get_all("x-auth-subject").iter().collect::<Vec<_>>(), ["alice"]);
    assert_eq!(headers["x-auth-method"], "jwt");
    assert_eq!(headers["x-auth-token"].to_str().unwrap().split('.').count(), 3);
    assert!(headers.get_all("x-auth-tenant").iter().all(http::HeaderValue::is_empty), "{headers:?}");
    assert!(!headers.contains_key("authorization") && !headers.contains_key("x-api-key"), "{headers:?}");

    let key = [("x-api-key", "ak_good")];
    assert_eq!(proxy.send("GET", "/x", &key, "").await.0, 200);
    let (_, headers, _) = take().pop().unwrap();
    assert!(headers["x-auth-subject"] == "ci" && !headers.contains_key("x-api-key"), "{headers:?}");

    let (status, _, _) = proxy.send("GET", "/open", &[("x-auth-subject", "root")], "").await;
    let (_, headers, _) = take().pop().unwrap();
    assert!(headers.get_all("x-auth-subject").iter().all(http::HeaderValue::is_empty), "{headers:?}");
    assert_eq!(status, 200);

    for (method, target, fields, status) in [
        ("GET", "/x", &[][..], 401),
        ("GET", "/x", &[("authorization", "Bearer bad")], 401),
        ("GET", "/admin", &[GOOD], 403),
        ("GET", "/%61dmin", &[GOOD], 403),
        ("POST", "/users/7", &[GOOD], 405),
        ("GET", "//x", &[GOOD], 400),
        ("GET", "/open/..%2fadmin", &[GOOD], 400),
        ("GET", "/open/../admin", &[GOOD], dots),
    ] {
        let (found, headers, body) = proxy.send(method, target, fields, "").await;
        assert_eq!(found, status, "{method} {target} {fields:?}: {body}");
        assert!(status != 401 || headers.contains_key("www-authenticate"), "{method} {target} {headers:?}");
        assert!(take().is_empty(), "{method} {target}");
    }
    // The client's own word about its address is worth nothing: all were charged to where they came from.
    let charged = desk.debts.charged.lock().unwrap();
    assert_eq!(charged.keys().map(ToString::to_string).collect::<Vec<_>>(), ["127.0.0.1"]);
}

#[tokio::test]
async fn nginx_lets_through_what_the_agent_permits_and_nothing_else() {
    if !found("nginx") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let desk = Desk::start(Fake::new(1000, 1000)).await;
    let (address, seen) = application().await;
    let proxy = nginx(folder.path(), &desk, address).await;
    check(&proxy, &desk, &seen, 400).await;

    let desk = Desk::start(Fake::new(1, 1000)).await;
    let folder = tempfile::tempdir().unwrap();
    let proxy = nginx(folder.path(), &desk, address).await;
    assert_eq!(proxy.send("GET", "/open", &[], "").await.0, 200);
    let (status, headers, _) = proxy.send("GET", "/open", &[], "").await;
    assert_eq!((status, &headers["retry-after"]), (429, &"2".parse().unwrap()));
    assert_eq!(headers["x-auth-reason"], "request-limit");
    desk.stop().await;
    // Without an agent nothing gets through.
    assert_eq!(proxy.send("GET", "/open", &[], "").await.0, 500);
}

#[tokio::test]
async fn envoy_lets_through_what_the_agent_permits_and_nothing_else() {
    envoy("envoy", 2).await;
}

#[tokio::test]
async fn envoy_by_grpc_lets_through_what_the_agent_permits_and_nothing_else() {
    envoy("envoy-grpc", 4).await;
}

async fn envoy(name: &str, number: u8) {
    if !found("envoy") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let desk = Desk::start(Fake::new(1000, 1000)).await;
    let (address, seen) = application().await;
    let at = free(number).await;
    let listening = format!("address: {}, port_value: {}", at.ip(), at.port());
    let example = example(name, &desk, address).replace("address: 0.0.0.0, port_value: 8443", &listening);
    let file = folder.path().join("envoy.yaml");
    std::fs::write(&file, example).unwrap();
    let mut command = Command::new("envoy");
    command.args(["--disable-hot-restart", "--concurrency", "1", "--log-level", "error", "-c"]).arg(file);
    let proxy = Proxy::start(command, at).await;
    check(&proxy, &desk, &seen, 403).await;
    desk.stop().await;
    assert_eq!(proxy.send("GET", "/open", &[], "").await.0, 403);
}

#[tokio::test]
async fn caddy_lets_through_what_the_agent_permits_and_nothing_else() {
    if !found("caddy") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let desk = Desk::start(Fake::new(1000, 1000)).await;
    let (address, seen) = application().await;
    let at = free(3).await;
    let site = format!("http://:{} {{\n\tbind {}", at.port(), at.ip());
    let example = example("caddy", &desk, address).replace("api.example.com {", &site);
    let file = folder.path().join("Caddyfile");
    std::fs::write(&file, format!("{{\n\tadmin off\n\tauto_https off\n}}\n{example}")).unwrap();
    let mut command = Command::new("caddy");
    command.args(["run", "--adapter", "caddyfile", "--config"]).arg(file);
    // What it remembers goes with the folder.
    command.envs(["HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"].map(|name| (name, folder.path())));
    let proxy = Proxy::start(command, at).await;
    check(&proxy, &desk, &seen, 400).await;
    desk.stop().await;
    assert_eq!(proxy.send("GET", "/open", &[], "").await.0, 502);
}
