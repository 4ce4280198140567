//! The table: what is sent, and what may become of it.
//!
//! Any error of a stream may be one of its connection (RFC 9113, 5.4.1), and our library makes use of that. It also says
//! PROTOCOL_ERROR where the RFC has a code that tells more; the connection ends all the same.

use tests::http2::Outcome::{self, Answered, Ended, Nothing, Reset};
use tests::http2::{block, code, flag, frame, integer, kind};

use super::GOOD;

/// One line of the table.
pub struct Case {
    /// What follows the preface and the settings.
    pub bytes: Vec<u8>,
    /// Any of these may become of it.
    pub expected: &'static [Outcome],
    /// The stream that it is about.
    pub stream: u32,
    /// The request's head is good and may have been forwarded before its body was found to be wrong.
    pub streams: bool,
    /// In words.
    pub what: String,
}

/// RFC 9113, 8.1.1: a stream error, perhaps behind an answer.
const MALFORMED: &[Outcome] =
    &[Reset(code::PROTOCOL_ERROR), Answered(400), Ended(Some(code::PROTOCOL_ERROR))];
const PROTOCOL: &[Outcome] = &[Ended(Some(code::PROTOCOL_ERROR))];
const FRAME_SIZE: &[Outcome] = &[Ended(Some(code::FRAME_SIZE_ERROR)), Ended(Some(code::PROTOCOL_ERROR))];
const FLOW_CONTROL: &[Outcome] = &[Ended(Some(code::FLOW_CONTROL_ERROR)), Ended(Some(code::PROTOCOL_ERROR))];
const COMPRESSION: &[Outcome] = &[Ended(Some(code::COMPRESSION_ERROR)), Ended(Some(code::PROTOCOL_ERROR))];
const IGNORED: &[Outcome] = &[Nothing];
const FINE: &[Outcome] = &[Answered(200)];

type Fields<'f> = &'f [(&'f [u8], &'f [u8])];

fn case(what: impl Into<String>, bytes: Vec<u8>, expected: &'static [Outcome]) -> Case {
    Case { bytes, expected, stream: 1, streams: false, what: what.into() }
}

/// A request on the first stream that is only its header fields.
fn head(fields: Fields<'_>) -> Vec<u8> {
    frame(kind::HEADERS, flag::WHOLE, 1, &block(fields))
}

/// One with a body to come.
fn open(fields: Fields<'_>) -> Vec<u8> {
    frame(kind::HEADERS, flag::END_HEADERS, 1, &block(fields))
}

/// The good request with more fields.
fn with<'f>(fields: Fields<'f>) -> Vec<(&'f [u8], &'f [u8])> {
    [&GOOD, fields].concat()
}

/// The good request with one field changed, or taken away.
fn changed<'f>(name: &[u8], value: Option<&'f [u8]>) -> Vec<(&'f [u8], &'f [u8])> {
    let fields = GOOD.iter().filter_map(|(own, was)| match (*own == name, value) {
        (true, value) => value.map(|value| (*own, value)),
        (false, _) => Some((*own, *was)),
    });
    fields.collect()
}

fn data(flags: u8, stream: u32, bytes: &[u8]) -> Vec<u8> {
    frame(kind::DATA, flags, stream, bytes)
}

fn settings(identifier: u16, value: u32) -> Vec<u8> {
    let payload = [&identifier.to_be_bytes()[..], &value.to_be_bytes()].concat();
    frame(kind::SETTINGS, 0, 0, &payload)
}

fn window(stream: u32, by: u32) -> Vec<u8> {
    frame(kind::WINDOW_UPDATE, 0, stream, &by.to_be_bytes())
}

/// All.
pub fn cases() -> Vec<Case> {
    [fields(), pseudo_fields(), lengths(), streams(), frames(), settings_and_windows(), compression()]
        .into_iter()
        .flatten()
        .collect()
}

/// Names and values that HTTP/1.1 behind the edge could read differently (8.2.1, 8.2.2).
fn fields() -> Vec<Case> {
    let mut cases = Vec::new();
    let names: [&[u8]; 12] = [
        b"X-Upper", b"", b"x a", b"x:a", b"x\0a", b"x\ra", b"x\na", b"x\x7fa", b"x\xe9a", b" x", b"x\t",
        b"x(a)",
    ];
    for name in names {
        let what = format!("a field named {:?}", name.escape_ascii().to_string());
        cases.push(case(what, head(&with(&[(name, b"1")])), MALFORMED));
    }
    for value in [&b"a\0b"[..], b"a\rb", b"a\nb", b"a\r\nx-smuggled: 1", b"a\x7fb", b"a\x01b"] {
        let what = format!("the value {:?}", value.escape_ascii().to_string());
        cases.push(case(what, head(&with(&[(b"x-a", value)])), MALFORMED));
    }
    for (name, value) in [
        ("connection", "close"),
        ("connection", "x-auth-subject"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "close"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "websocket"),
        ("te", "gzip"),
        ("te", "trailers, deflate"),
    ] {
        let fields = [(name.as_bytes(), value.as_bytes())];
        cases.push(case(format!("{name}: {value}"), head(&with(&fields)), MALFORMED));
    }
    cases.push(case("te: trailers", head(&with(&[(b"te", b"trailers")])), FINE));
    cases.push(case("cookies in two fields", head(&with(&[(b"cookie", b"a=1"), (b"cookie", b"b=2")])), FINE));
    cases
}

/// Which there must be, once, and first (8.3).
fn pseudo_fields() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, value) in GOOD {
        let shown = String::from_utf8_lossy(name);
        cases.push(case(format!("two {shown}"), head(&with(&[(name, value)])), MALFORMED));
        let mut late = changed(name, None);
        late.extend([(&b"x-a"[..], &b"1"[..]), (name, value)]);
        cases.push(case(format!("{shown} behind other fields"), head(&late), MALFORMED));
        cases.push(case(format!("an empty {shown}"), head(&changed(name, Some(b""))), MALFORMED));
        cases.push(case(format!("no {shown}"), head(&changed(name, None)), MALFORMED));
    }
    for path in ["open/x", "*", "/open/x y", "/open/\u{e9}", "https://localhost/open/x", "/open/../open/x"] {
        let what = format!("the path {path:?}");
        cases.push(case(what, head(&changed(b":path", Some(path.as_bytes()))), MALFORMED));
    }
    // Our library takes the fragment off, so that nobody sees it.
    cases.push(case("a path with a fragment", head(&changed(b":path", Some(b"/open/x#f"))), FINE));
    for path in [&b"/open/x\0"[..], b"/open/x\r\nx: y", b"/open/%00", b"/open/%2e%2e/x"] {
        let what = format!("the path {:?}", path.escape_ascii().to_string());
        cases.push(case(what, head(&changed(b":path", Some(path))), MALFORMED));
    }
    for authority in
        ["user@localhost:8443", "localhost:8443/x", "localhost:x", "local host", "localhost:8443, other"]
    {
        let what = format!("the authority {authority:?}");
        cases.push(case(what, head(&changed(b":authority", Some(authority.as_bytes()))), MALFORMED));
    }
    const MISDIRECTED: &[Outcome] = &[Answered(421)];
    let other = head(&changed(b":authority", Some(b"other:8443")));
    cases.push(case("the authority of another host", other, MISDIRECTED));
    for host in [&b"other"[..], b"localhost:1", b""] {
        let what = format!("a host field {:?} beside the authority", String::from_utf8_lossy(host));
        cases.push(case(what, head(&with(&[(b"host", host)])), MALFORMED));
    }
    cases.push(case("the same host field", head(&with(&[(b"host", b"localhost:8443")])), FINE));
    let hosts: [(&[u8], &[u8]); 2] = [(b"host", b"localhost:8443"), (b"host", b"localhost:8443")];
    cases.push(case("two host fields", head(&with(&hosts)), MALFORMED));
    cases.push(case("the scheme http", head(&changed(b":scheme", Some(b"http"))), MALFORMED));
    cases.push(case("a pseudo-field that there is not", head(&with(&[(b":x", b"1")])), MALFORMED));
    cases.push(case("a response's pseudo-field", head(&with(&[(b":status", b"200")])), MALFORMED));
    for method in [&b"G ET"[..], b"GET\r\n", b"G\0ET", b"G(T"] {
        let what = format!("the method {:?}", method.escape_ascii().to_string());
        cases.push(case(what, head(&changed(b":method", Some(method))), MALFORMED));
    }
    const NOT_ALLOWED: &[Outcome] = &[Answered(405), Reset(code::PROTOCOL_ERROR)];
    let connect: [(&[u8], &[u8]); 2] = [(b":method", b"CONNECT"), (b":authority", b"localhost:8443")];
    cases.push(case("CONNECT", head(&connect), NOT_ALLOWED));
    cases.push(case("CONNECT with a path", head(&changed(b":method", Some(b"CONNECT"))), MALFORMED));
    let to = |protocol| {
        let mut extended = changed(b":method", Some(b"CONNECT"));
        extended.push((b":protocol", protocol));
        extended
    };
    for protocol in [&b"connect-udp"[..], b"WebSocket", b"h2c", b""] {
        let what = format!("CONNECT to the protocol {:?}", String::from_utf8_lossy(protocol));
        cases.push(case(what, head(&to(protocol)), NOT_ALLOWED));
    }
    // The upstream here does not switch.
    let refused = case("CONNECT to a WebSocket", head(&to(b"websocket")), &[Answered(502)]);
    cases.push(Case { streams: true, ..refused });
    let without: Vec<_> = to(b"websocket").into_iter().filter(|(name, _)| *name != b":path").collect();
    cases.push(case("CONNECT to a WebSocket without a path", head(&without), MALFORMED));
    let lengthy = [to(b"websocket"), vec![(&b"content-length"[..], &b"5"[..])]].concat();
    cases.push(case("CONNECT to a WebSocket with a length", head(&lengthy), MALFORMED));
    for method in [&b"GET"[..], b"POST"] {
        let mut other = changed(b":method", Some(method));
        other.push((b":protocol", b"websocket"));
        let what = format!("{} with a protocol", String::from_utf8_lossy(method));
        cases.push(case(what, head(&other), MALFORMED));
    }
    cases.push(case("TRACE", head(&changed(b":method", Some(b"TRACE"))), NOT_ALLOWED));
    cases
}

/// content-length unlike DATA, and what follows it (8.1.1).
fn lengths() -> Vec<Case> {
    let post = |length: &'static [u8]| {
        let mut fields = changed(b":method", Some(b"POST"));
        fields.push((b"content-length", length));
        fields
    };
    let body = |fields: Fields<'_>, bytes: &[u8]| [open(fields), data(flag::END_STREAM, 1, bytes)].concat();
    let streaming =
        |what: &str, bytes: Vec<u8>, expected| Case { streams: true, ..case(what, bytes, expected) };
    let mut cases = vec![
        case("a body as long as stated", body(&post(b"2"), b"ab"), FINE),
        case("a length and no body", head(&post(b"5")), MALFORMED),
        streaming("a body shorter than stated", body(&post(b"5"), b"abc"), MALFORMED),
        streaming("a body longer than stated", body(&post(b"2"), b"abc"), MALFORMED),
        streaming("a body where none was stated", body(&post(b"0"), b"a"), MALFORMED),
    ];
    for length in [&b"-1"[..], b"+2", b"2, 2", b"0x2", b"2 ", b"", b"99999999999999999999", b"2.0"] {
        let what = format!("the length {:?}", String::from_utf8_lossy(length));
        cases.push(streaming(&what, body(&post(length), b"ab"), MALFORMED));
    }
    let mut two = post(b"2");
    two.push((b"content-length", b"3"));
    cases.push(streaming("two lengths", body(&two, b"ab"), MALFORMED));
    let trailers = |flags, fields: Fields<'_>| {
        let opened = [open(&post(b"2")), data(0, 1, b"ab")].concat();
        [opened, frame(kind::HEADERS, flags, 1, &block(fields))].concat()
    };
    let field: Fields<'_> = &[(b"x-a", b"1")];
    cases.push(case("trailers", trailers(flag::WHOLE, field), FINE));
    let pseudo: Fields<'_> = &[(b":path", b"/admin")];
    // Our library drops it from the trailers before anyone can see it.
    cases.push(case("trailers with a pseudo-field", trailers(flag::WHOLE, pseudo), FINE));
    cases.push(streaming(
        "trailers that do not end the stream",
        trailers(flag::END_HEADERS, field),
        MALFORMED,
    ));
    let upper: Fields<'_> = &[(b"X-A", b"1")];
    cases.push(streaming("trailers with an upper-case name", trailers(flag::WHOLE, upper), MALFORMED));
    cases
}

/// States of streams, and their numbers (5.1).
fn streams() -> Vec<Case> {
    let good = || head(&GOOD);
    let on = |stream: u32| frame(kind::HEADERS, flag::WHOLE, stream, &block(&GOOD));
    let after = |what: &str, bytes: Vec<u8>, expected| Case {
        stream: 1,
        ..case(what, [good(), bytes].concat(), expected)
    };
    const CLOSED: &[Outcome] = &[
        Answered(200),
        Reset(code::STREAM_CLOSED),
        Ended(Some(code::STREAM_CLOSED)),
        Ended(Some(code::PROTOCOL_ERROR)),
    ];
    let closed = |what: &str, bytes| Case { streams: true, ..after(what, bytes, CLOSED) };
    let push = [&3_u32.to_be_bytes()[..], &block(&GOOD)].concat();
    let on_itself = [&1_u32.to_be_bytes()[..], &[15], &block(&GOOD)].concat();
    vec![
        case("a good request", good(), FINE),
        case("a request on stream 0", on(0), PROTOCOL),
        case("a request on a stream of the server's", on(2), PROTOCOL),
        Case {
            stream: 5,
            ..case(
                "a request below one before",
                [on(7), on(5)].concat(),
                &[Ended(Some(code::PROTOCOL_ERROR)), Ended(Some(code::STREAM_CLOSED))],
            )
        }
        .streaming(),
        case("DATA on stream 0", data(0, 0, b"a"), PROTOCOL),
        case("DATA on an idle stream", data(0, 5, b"a"), PROTOCOL),
        case("RST_STREAM on stream 0", frame(kind::RST_STREAM, 0, 0, &[0; 4]), PROTOCOL),
        case("RST_STREAM on an idle stream", frame(kind::RST_STREAM, 0, 5, &[0; 4]), PROTOCOL),
        case("WINDOW_UPDATE on an idle stream", window(5, 1), PROTOCOL),
        case("PRIORITY on stream 0", frame(kind::PRIORITY, 0, 0, &[0; 5]), PROTOCOL),
        case("PRIORITY on an idle stream", frame(kind::PRIORITY, 0, 5, &[0, 0, 0, 3, 1]), IGNORED),
        case(
            "a request that depends on itself",
            frame(kind::HEADERS, flag::WHOLE | flag::PRIORITY, 1, &on_itself),
            &[Answered(200), Reset(code::PROTOCOL_ERROR)],
        )
        .streaming(),
        case("CONTINUATION on stream 0", frame(kind::CONTINUATION, flag::END_HEADERS, 0, b""), PROTOCOL),
        case("CONTINUATION of nothing", frame(kind::CONTINUATION, flag::END_HEADERS, 1, b""), PROTOCOL),
        case("PUSH_PROMISE from a client", frame(kind::PUSH_PROMISE, flag::END_HEADERS, 1, &push), PROTOCOL),
        closed("DATA behind the end of a request", data(0, 1, b"a")),
        closed("a second request on a stream", on(1)),
        case(
            "a field block that DATA breaks",
            [frame(kind::HEADERS, 0, 1, &block(&GOOD)), data(0, 1, b"a")].concat(),
            PROTOCOL,
        ),
        case(
            "a field block that another stream's CONTINUATION breaks",
            [frame(kind::HEADERS, 0, 1, &block(&GOOD)), frame(kind::CONTINUATION, flag::END_HEADERS, 3, b"")]
                .concat(),
            PROTOCOL,
        ),
        case(
            "a field block that an unknown frame breaks",
            [frame(kind::HEADERS, 0, 1, &block(&GOOD)), frame(0xfa, 0, 1, b"")].concat(),
            PROTOCOL,
        ),
        case(
            "a field block in two frames",
            {
                let block = block(&GOOD);
                let (first, second) = block.split_at(20);
                let first = frame(kind::HEADERS, flag::END_STREAM, 1, first);
                [first, frame(kind::CONTINUATION, flag::END_HEADERS, 1, second)].concat()
            },
            FINE,
        ),
    ]
}

impl Case {
    fn streaming(self) -> Self {
        Self { streams: true, ..self }
    }
}

/// Their sizes, flags and padding (4, 6).
fn frames() -> Vec<Case> {
    let padded = |flags, payload: &[u8]| frame(kind::HEADERS, flags | flag::PADDED, 1, payload);
    let good = block(&GOOD);
    vec![
        case("a frame above the size that was allowed", data(0, 1, &[0; 16_385]), FRAME_SIZE),
        case("PING of 7 bytes", frame(kind::PING, 0, 0, &[0; 7]), FRAME_SIZE),
        case("PING on a stream", frame(kind::PING, 0, 1, &[0; 8]), PROTOCOL),
        case("an answer to no PING", frame(kind::PING, flag::ACK, 0, &[0; 8]), IGNORED),
        case("GOAWAY on a stream", frame(kind::GOAWAY, 0, 1, &[0; 8]), PROTOCOL),
        case("GOAWAY of 4 bytes", frame(kind::GOAWAY, 0, 0, &[0; 4]), FRAME_SIZE),
        case(
            "RST_STREAM of 3 bytes",
            [open(&GOOD), frame(kind::RST_STREAM, 0, 1, &[0; 3])].concat(),
            FRAME_SIZE,
        )
        .streaming(),
        case("WINDOW_UPDATE of 3 bytes", frame(kind::WINDOW_UPDATE, 0, 0, &[0; 3]), FRAME_SIZE),
        case(
            "PRIORITY of 4 bytes",
            frame(kind::PRIORITY, 0, 1, &[0; 4]),
            &[
                Reset(code::FRAME_SIZE_ERROR),
                Ended(Some(code::FRAME_SIZE_ERROR)),
                Ended(Some(code::PROTOCOL_ERROR)),
            ],
        ),
        case("an unknown frame", frame(0xfa, 0xff, 1, b"what"), IGNORED),
        case("flags that there are not", frame(kind::HEADERS, flag::WHOLE | 0x50, 1, &good), FINE),
        case("padding", padded(flag::WHOLE, &[&[3], &good[..], &[0; 3]].concat()), FINE),
        case("more padding than payload", padded(flag::WHOLE, &[&[200], &good[..]].concat()), PROTOCOL),
        case(
            "padding without its length",
            padded(flag::WHOLE, b""),
            &[Ended(Some(code::PROTOCOL_ERROR)), Ended(Some(code::FRAME_SIZE_ERROR))],
        ),
        case("a bit that is reserved", frame(kind::HEADERS, flag::WHOLE, 1 | 1 << 31, &good), FINE),
    ]
}

/// Values that there may not be, and windows that overflow (6.5.2, 6.9.1).
fn settings_and_windows() -> Vec<Case> {
    const MOST: u32 = 0x7fff_ffff;
    const OF_STREAM: &[Outcome] = &[Reset(code::FLOW_CONTROL_ERROR), Ended(Some(code::FLOW_CONTROL_ERROR))];
    const NO_STEP: &[Outcome] = &[Reset(code::PROTOCOL_ERROR), Ended(Some(code::PROTOCOL_ERROR))];
    let stays_open = |bytes: Vec<u8>| {
        let mut post = changed(b":method", Some(b"POST"));
        post.push((b"content-length", b"100"));
        [open(&post), bytes].concat()
    };
    vec![
        case("SETTINGS on a stream", frame(kind::SETTINGS, 0, 1, b""), PROTOCOL),
        case("SETTINGS of 5 bytes", frame(kind::SETTINGS, 0, 0, &[0; 5]), FRAME_SIZE),
        case("an acknowledgement with settings", frame(kind::SETTINGS, flag::ACK, 0, &[0; 6]), FRAME_SIZE),
        case("push neither on nor off", settings(2, 2), PROTOCOL),
        case("a window above the largest", settings(4, MOST + 1), FLOW_CONTROL),
        case("frames below the smallest size", settings(5, 16_383), PROTOCOL),
        case("frames above the largest size", settings(5, 1 << 24), PROTOCOL),
        case("a setting that there is not", settings(0xfafa, 1), IGNORED),
        case("a window opened by nothing", window(0, 0), PROTOCOL),
        case("a window that overflows", window(0, MOST), FLOW_CONTROL),
        case("a stream's window opened by nothing", stays_open(window(1, 0)), NO_STEP).streaming(),
        case("a stream's window that overflows", stays_open(window(1, MOST)), OF_STREAM).streaming(),
        case(
            "streams' windows that a setting overflows",
            stays_open([window(1, MOST - 65_535), settings(4, MOST)].concat()),
            OF_STREAM,
        )
        .streaming(),
    ]
}

/// Field blocks that are none (RFC 7541).
fn compression() -> Vec<Case> {
    let block = |bytes: &[u8]| frame(kind::HEADERS, flag::WHOLE, 1, bytes);
    let index = |number: usize| {
        let mut bytes = Vec::new();
        integer(&mut bytes, 0x80, 7, number);
        bytes
    };
    let resized = |bytes: usize| {
        let mut block = Vec::new();
        integer(&mut block, 0x20, 5, bytes);
        block
    };
    vec![
        case("the index 0", block(&index(0)), COMPRESSION),
        case("an index of the empty dynamic table", block(&index(62)), COMPRESSION),
        case("an index far out", block(&index(1 << 20)), COMPRESSION),
        case("an integer without end", block(&[0xff; 64]), COMPRESSION),
        case("a literal that breaks off", block(&[0x00, 0x05, b'x']), COMPRESSION),
        case("compressed text that is none", block(&[0x00, 0x81, 0xff, 0x81, 0xff]), COMPRESSION),
        case("a table above the size that was allowed", block(&resized(1 << 20)), COMPRESSION),
        case("a table resized behind a field", block(&[&index(2)[..], &resized(10)].concat()), COMPRESSION),
    ]
}
