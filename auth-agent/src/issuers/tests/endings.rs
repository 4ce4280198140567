//! How a fetch can end: in each way but one, the keys that were there stay.

use jsonwebtoken::Algorithm;

use super::lab::{Agent, KEYS, Lab, set};
use super::server::{Answer, Authority, Identity, Server, bare, good, with};
use crate::token::TokenError;
use crate::token::tests::mint::Signer;

/// With a good set in use: `old`.
async fn with_keys(lab: &Lab) -> (Agent, Signer) {
    let signer = Signer::of(Algorithm::ES256);
    lab.server.answer(KEYS, good(&set(&[("old", &signer)])));
    let agent = lab.agent(lab.at_keys()).running();
    agent.refresh().await.unwrap();
    assert_eq!(agent.refusal(&signer, "old"), None);
    (agent, signer)
}

/// A refresh with such an answer fails with these words, and changes nothing.
async fn assert_refused(agent: &Agent, signer: &Signer, words: &str) {
    let before = agent.status();
    let error = agent.refresh().await.expect_err(words);
    assert!(error.contains(words), "{error}\nlacks: {words}");
    assert!(error.contains("those in use stay"), "{error}");
    assert_eq!(agent.refusal(signer, "old"), None, "{words}");
    let after = agent.status();
    assert!(after.error.as_ref().is_some_and(|error| error.contains(words)), "{:?}", after.error);
    assert_eq!((after.fetched, after.keys), (before.fetched, before.keys), "{words}");
    assert_eq!((after.fetches, after.failures), (before.fetches, before.failures + 1), "{words}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_answer_changes_nothing_and_is_named() {
    let lab = Lab::new().await;
    let other = Server::start(&lab.authority.identity("localhost", false)).await;
    let (agent, signer) = with_keys(&lab).await;
    let keys = set(&[("old", &signer)]);
    let many: Vec<_> = (0..101).map(|id| id.to_string()).collect();
    let many: Vec<_> = many.iter().map(|id| (&**id, &signer)).collect();
    let secret = Signer::of(Algorithm::HS256);
    let to = |status: &str, location: &str| bare(status, &format!("Location: {location}\r\n"));
    let chunk = "a".repeat(0xffff);
    let endless_chunks = format!("ffff\r\n{chunk}\r\n").repeat(5);
    for (answer, words) in [
        (bare("500 Internal Server Error", ""), "answered with status 500"),
        (bare("503 Service Unavailable", "Retry-After: 1\r\n"), "answered with status 503"),
        (bare("404 Not Found", ""), "answered with status 404"),
        (bare("401 Unauthorized", ""), "answered with status 401"),
        (bare("204 No Content", ""), "answered with status 204"),
        (bare("206 Partial Content", ""), "answered with status 206"),
        (bare("304 Not Modified", ""), "redirects are not followed"),
        (to("301 Moved Permanently", &other.url("/keys")), "redirects are not followed"),
        (to("302 Found", "http://localhost/keys"), "redirects to \"http://localhost/keys\""),
        (to("307 Temporary Redirect", &lab.server.url(KEYS)), "redirects are not followed"),
        (to("308 Permanent Redirect", KEYS), "redirects to \"/keys\""),
        (good(&set(&[])), "no usable key"),
        (good(&set(&[("old", &secret)])), "is a shared secret"),
        (good(&set(&many)), "more than 100 keys"),
        (good("<html>moved</html>"), "one JSON object"),
        (good("[]"), "one JSON object"),
        (good(""), "one JSON object"),
        (good("{\"keys\":null}"), "not a JWK set"),
        (good(&keys[..keys.len() - 1]), "one JSON object"),
        (good(&format!("{keys}{keys}")), "one JSON object"),
        (good(&format!("{keys}{}", " ".repeat(256 << 10))), "longer than 262144 bytes"),
        (
            Answer::Text(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{endless_chunks}")),
            "longer than 262144 bytes",
        ),
        (with("Content-Encoding: gzip\r\n", &keys), "is encoded (gzip)"),
        (with(&format!("X: {}\r\n", "a".repeat(1 << 20)), &keys), "is not HTTP"),
        (with(&"X: y\r\n".repeat(200), &keys), "broke off or is not HTTP"),
        (Answer::Cut, "broke off"),
        (Answer::Text("HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n{".to_owned()), "broke off"),
        (Answer::Text("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{".to_owned()), "broke off"),
        (Answer::Text(String::new()), "broke off"),
        (Answer::Text("SSH-2.0-OpenSSH\r\n".to_owned()), "is not HTTP"),
    ] {
        lab.server.answer(KEYS, answer);
        assert_refused(&agent, &signer, words).await;
    }
    assert_eq!(other.requests(), [] as [&str; 0], "no redirect was followed");
    lab.server.answer(KEYS, with("Content-Encoding: identity\r\n", &keys));
    agent.refresh().await.unwrap();
    assert_eq!(agent.status().error, None);
}

/// Each takes as long as an exchange may: so all at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_keeps_us_waiting_is_given_up() {
    let dripping_head = Answer::Drip("HTTP/1.1 200 OK\r\nX: ".to_owned());
    let dripping_body = Answer::Drip("HTTP/1.1 200 OK\r\n\r\n{\"keys\":[".to_owned());
    let cases = [
        (Answer::Silent, "no response head within 5 s"),
        (dripping_head, "no response head within 5 s"),
        (dripping_body, "no end of the response within 5 s"),
    ];
    let mut waiting = tokio::task::JoinSet::new();
    for (answer, words) in cases {
        waiting.spawn(async move {
            let lab = Lab::new().await;
            let (agent, signer) = with_keys(&lab).await;
            lab.server.answer(KEYS, answer);
            assert_refused(&agent, &signer, words).await;
        });
    }
    waiting.spawn(async {
        // Takes connections, and says nothing, not even in TLS.
        let deaf = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let lab = Lab::new().await;
        let mut keys = lab.at_keys();
        let url = format!("https://localhost:{}/keys", deaf.local_addr().unwrap().port());
        keys.source = crate::config::RemoteSource::Jwks(crate::https_url::HttpsUrl::parse(&url).unwrap());
        let agent = lab.agent(keys).running();
        let error = agent.refresh().await.unwrap_err();
        assert!(error.contains("no TLS handshake within 5 s"), "{error}");
    });
    waiting.join_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_prove_its_name_is_not_listened_to() {
    let signer = Signer::of(Algorithm::ES256);
    let stranger = Authority::new();
    let authority = Authority::new();
    let cases = [
        (Identity::self_signed("localhost"), "TLS failed: invalid peer certificate"),
        (stranger.identity("localhost", false), "TLS failed: invalid peer certificate"),
        (
            authority.identity("other.example", false),
            "TLS failed: invalid peer certificate: certificate not valid for name",
        ),
        (authority.identity("localhost", true), "TLS failed: invalid peer certificate: certificate expired"),
    ];
    for (identity, words) in cases {
        let lab = Lab::with(Authority::new(), &identity).await;
        std::fs::write(lab.directory.path().join("ca.pem"), authority.pem()).unwrap();
        lab.server.answer(KEYS, good(&set(&[("k", &signer)])));
        let agent = lab.agent(lab.at_keys()).running();
        let error = agent.refresh().await.unwrap_err();
        assert!(error.contains(words), "{error}\nlacks: {words}");
        assert_eq!(lab.server.requests(), [] as [&str; 0], "{words}");
        assert_eq!(agent.refusal(&signer, "k"), Some(TokenError::KeysUnavailable));
    }
}

/// The `ca` of an issuer takes the place of the host's own authorities, and those don't know the test's.
#[tokio::test(flavor = "multi_thread")]
async fn the_hosts_authorities_vouch_only_for_whom_they_signed() {
    let lab = Lab::new().await;
    let agent = lab.agent(crate::config::RemoteKeys { ca: None, ..lab.at_keys() }).running();
    let error = agent.refresh().await.unwrap_err();
    let refused = error.contains("UnknownIssuer") || error.contains("no trusted certificate authorities");
    assert!(refused, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_listens_or_speaks_tls_it_says_so() {
    let lab = Lab::new().await;
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let plain = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plain_address = plain.local_addr().unwrap();
    tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        while let Ok((mut stream, _)) = plain.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    for (url, words) in [
        (format!("https://{closed}/keys"), "can't be reached"),
        ("https://no-such-host.invalid/keys".to_owned(), "can't be reached"),
        (format!("https://{plain_address}/keys"), "TLS failed"),
    ] {
        let source = crate::config::RemoteSource::Jwks(crate::https_url::HttpsUrl::parse(&url).unwrap());
        let agent = lab.agent(lab.remote(source)).running();
        let error = agent.refresh().await.unwrap_err();
        assert!(error.contains(words) && error.contains(&url), "{error}\nlacks: {words}");
    }
}
