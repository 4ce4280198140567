//! Names that change, and configurations that do.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{HeaderValue, Request};
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};

use super::resolve::{Lookup, Resolve};
use super::*;
use crate::config::tests::MINIMAL;
use crate::config::{Auth, Route};
use crate::explain::Trail;
use crate::request;

pub(super) const PATIENCE: Duration = Duration::from_secs(20);
const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Knows what it is told; nothing: it knows no name.
#[derive(Debug, Default)]
struct Fake(Mutex<Option<Vec<SocketAddr>>>);

impl Resolve for Fake {
    fn resolve<'r>(&'r self, name: &'r str, port: u16) -> Lookup<'r> {
        assert_eq!((name, port), ("app.internal", 80));
        let known = self.0.lock().unwrap().clone();
        Box::pin(async { known.ok_or(io::ErrorKind::NotFound.into()) })
    }
}

/// An upstream that says its number in each answer.
async fn numbered(number: u8) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                while stream.read(&mut buffer).await.is_ok_and(|length| length > 0) {
                    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{number}");
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            });
        }
    });
    address
}

/// A configuration whose endpoints are these.
pub(super) fn config(endpoints: &[&str], more: &str) -> Config {
    let endpoints = endpoints.iter().map(|endpoint| format!("{endpoint:?}")).collect::<Vec<_>>().join(", ");
    let text = MINIMAL
        .replace("\"http://127.0.0.1:8080\"", &endpoints)
        .replace("[[route]]", &format!("{more}\n[[route]]"));
    Config::parse(&text, Path::new("/edge.toml")).unwrap()
}

/// The number of the upstream that answered.
async fn ask(proxy: &Proxy) -> Result<String, Refusal> {
    let route = Route::under("/", Auth::None, &[], 0);
    let mut request = Request::new(RequestBody::empty());
    request.headers_mut().insert("host", HeaderValue::from_static("localhost"));
    let (parts, body) = request.into_parts();
    let canonical = request::canonicalise(&parts, None, &Sizes::default()).unwrap();
    let permit = Permit::of(&route, None);
    let response = proxy
        .forward(&permit, &canonical, (SOURCE, &Trail::default()), Request::from_parts(parts, body))
        .await?;
    let body = response.into_body().collect().await.unwrap().to_bytes();
    Ok(String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn a_name_has_the_endpoints_that_it_has_now() {
    let (one, two) = (numbered(1).await, numbered(2).await);
    let resolver = Arc::new(Fake::default());
    let config = config(&["http://app.internal:80"], "resolve_every = \"1s\"");
    let proxy = Proxy::build(&config, &[], Arc::default(), Arc::clone(&resolver) as _).unwrap();
    proxy.show();
    let tell = |addresses: Option<Vec<SocketAddr>>| *resolver.0.lock().unwrap() = addresses;
    let has = async |count: usize| {
        let reached = async {
            while proxy.board().upstreams()[0].endpoints.len() != count {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, reached).await.expect("the name is not looked up again");
    };
    let answers = async || {
        let mut answers = [ask(&proxy).await.unwrap(), ask(&proxy).await.unwrap()];
        answers.sort_unstable();
        answers
    };
    // Not known at the start: requests wait for the first answer only.
    let refused = ask(&proxy).await.unwrap_err();
    assert_eq!(refused, Refusal::UpstreamDown { retry_after: Duration::from_secs(1) });
    let unresolved = proxy.board().upstreams()[0].unresolved.clone().unwrap();
    assert!(unresolved.starts_with("can't look up app.internal"), "{unresolved}");
    tell(Some(vec![one]));
    has(1).await;
    assert_eq!(answers().await, ["1", "1"]);
    tell(Some(vec![two, one, two]));
    has(2).await;
    assert_eq!(answers().await, ["1", "2"]);
    let endpoints = proxy.board().upstreams()[0].endpoints.clone();
    let kept = endpoints.iter().find(|endpoint| endpoint.endpoint.ends_with(&format!("({one})"))).unwrap();
    assert_eq!((kept.requests, kept.connects), (3, 1), "who stays keeps its connections");
    assert_eq!((kept.connections, &*kept.name), (1, "http://app.internal:80"));
    // While a name can't be looked up, it is as it was.
    tell(None);
    let noticed = async {
        while proxy.board().upstreams()[0].unresolved.is_none() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, noticed).await.expect("nobody says that the name is gone");
    assert_eq!(answers().await, ["1", "2"]);
    tell(Some(vec![two]));
    has(1).await;
    assert_eq!(answers().await, ["2", "2"]);
    let upstream = proxy.board().upstreams().swap_remove(0);
    assert_eq!(upstream.unresolved, None);
    let former = upstream.former["http://app.internal:80"];
    assert_eq!((former.requests, former.connects), (4, 1), "what is counted of a name only grows");
}

#[tokio::test]
async fn an_upstream_that_stays_as_it_is_keeps_its_connections() {
    let (one, two) = (numbered(1).await, numbered(2).await);
    let (first, second) = (format!("http://{one}"), format!("http://{two}"));
    let proxy = Proxy::new(&config(&[&first], "")).unwrap();
    assert_eq!(ask(&proxy).await.unwrap(), "1");
    let same = proxy.next(&config(&[&first], "")).unwrap();
    assert_eq!(ask(&same).await.unwrap(), "1");
    let counts = |proxy: &Proxy| {
        let upstream = proxy.board().upstreams().swap_remove(0);
        (
            upstream.endpoints[0].endpoint.clone(),
            upstream.endpoints[0].connects,
            upstream.endpoints[0].requests,
        )
    };
    assert_eq!(counts(&proxy), (first.clone(), 1, 2));
    let other = same.next(&config(&[&second], "")).unwrap();
    assert_eq!(counts(&proxy).0, first, "what is not used yet is not shown");
    other.show();
    assert_eq!(ask(&other).await.unwrap(), "2");
    assert_eq!(counts(&proxy), (second, 1, 1), "one board for all of them");
    assert_eq!(ask(&same).await.unwrap(), "1", "a request that still has the old one");
    let upstream = Arc::downgrade(&same.upstreams[0].group);
    drop((proxy, same));
    // The tasks of what is no longer configured end.
    let gone = async {
        while upstream.strong_count() > 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, gone).await.expect("something looks after it still");
}

#[tokio::test]
async fn a_next_proxy_that_cannot_be_made_changes_nothing() {
    let one = numbered(1).await;
    let first = format!("http://{one}");
    let proxy = Proxy::new(&config(&[&first], "")).unwrap();
    let refused = proxy.next(&config(&["https://127.0.0.1:1"], "ca = \"/no/such/bundle.pem\"")).unwrap_err();
    assert!(refused.to_string().contains("/no/such/bundle.pem"), "{refused}");
    assert_eq!(proxy.board().upstreams()[0].endpoints[0].endpoint, first);
    assert_eq!(ask(&proxy).await.unwrap(), "1");
}

#[tokio::test]
async fn a_request_on_its_way_takes_little_room() {
    let proxy = Proxy::new(&config(&["https://127.0.0.1:1", "unix:/none"], "")).unwrap();
    let route = Route::under("/", Auth::None, &[], 0);
    let permit = Permit::of(&route, None);
    let (parts, ()) = Request::get("/").header("host", "a").body(()).unwrap().into_parts();
    let canonical = request::canonicalise(&parts, None, &Sizes::default()).unwrap();
    let trail = Trail::default();
    let forward = proxy.forward(
        &permit,
        &canonical,
        (SOURCE, &trail),
        Request::from_parts(parts, RequestBody::empty()),
    );
    assert!(size_of_val(&forward) <= 4 << 10, "{}", size_of_val(&forward));
}
