//! HTTP/2 against RFC 9113, frame by frame over TLS to the real agent: what is malformed ends its stream or its
//! connection with the right code, a connection that may go on does, and the upstream sees none of it.

mod cases;

use tests::client::inside;
use tests::http2::{Http2, Outcome, block, flag, frame, kind};
use tests::privilege;
use tests::stage::Stage;

use self::cases::{Case, cases};

/// A stream that no case uses.
const LATER: u32 = 1_001;

/// One client makes all these connections and requests.
pub const UNLIMITED: &str = r#"
[sizes]
connections = 5000
connections_per_source = 5000

[limits.connections]
rate = "100000/s"

[limits.packets]
rate = "1000000/s"

[limits.bytes]
per_second = "10GiB"
burst = "10GiB"

[limits.requests]
rate = "1000000/s"

[limits.breaker]
rate = "100000/s"
"#;

/// GET of what needs no credential.
pub const GOOD: [(&[u8], &[u8]); 4] = [
    (b":method", b"GET"),
    (b":scheme", b"https"),
    (b":authority", b"localhost:8443"),
    (b":path", b"/open/x"),
];

async fn judge(stage: &Stage, case: &Case) -> anyhow::Result<Option<String>> {
    let seen = stage.upstream.requests();
    let stream = stage.client(2)?.handshake(b"h2").await?;
    let mut connection = Http2::begin(stream, b"").await?;
    // The edge may end before it has read everything.
    let _ = connection.send(&case.bytes).await;
    let outcome = match case.expected.contains(&Outcome::Nothing) {
        true => connection.outcome(case.stream).await?,
        false => connection.fate(case.stream).await?,
    };
    let mut wrong = Vec::new();
    if !case.expected.contains(&outcome) {
        wrong.push(format!("{outcome:?}, not {:?}", case.expected));
    }
    let mut answered = usize::from(outcome == Outcome::Answered(200));
    if !matches!(outcome, Outcome::Ended(_)) {
        connection.send(&frame(kind::HEADERS, flag::WHOLE, LATER, &block(&GOOD))).await?;
        match connection.fate(LATER).await? {
            Outcome::Answered(200) => answered += 1,
            later => wrong.push(format!("then a good request is {later:?}")),
        }
    }
    let reached = stage.upstream.requests() - seen;
    if reached != answered && !(case.streams && reached == answered + 1) {
        wrong.push(format!("{reached} requests reached the upstream, and {answered} were answered"));
    }
    Ok((!wrong.is_empty()).then(|| format!("{}: {}", case.what, wrong.join("; "))))
}

#[test]
fn what_breaks_http2_ends_its_stream_or_its_connection_and_reaches_nobody() {
    if !privilege::kernel_usable("HTTP/2 frame by frame") {
        return;
    }
    let stage = Stage::new(UNLIMITED).unwrap();
    let failures = inside(&stage.crowd, async || {
        let mut failures = Vec::new();
        for case in cases() {
            match judge(&stage, &case).await {
                Ok(None) => {}
                Ok(Some(wrong)) => failures.push(wrong),
                Err(error) => failures.push(format!("{}: {error:#}", case.what)),
            }
        }
        Ok(failures)
    });
    let failures = failures.unwrap();
    assert!(failures.is_empty(), "{failures:#?}");
}
