//! The kinds of attack, each on one connection.

use std::pin::Pin;
use std::time::Duration;

use anyhow::Result;
use tests::client::Client;
use tests::http2::{PREFACE, block, flag, frame, integer, kind};
use tests::stage::{EDGE, HTTPS};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_rustls::client::TlsStream;

use crate::http2::GOOD;

/// What is left open, or goes on, after an attack has begun.
pub enum Side {
    /// Nobody reads or writes any more.
    Silent(#[expect(dead_code, reason = "held open")] Box<dyn AsyncWrite + Send>),
    /// Something is written time and again.
    Trickling(JoinHandle<()>),
}

impl Drop for Side {
    fn drop(&mut self) {
        if let Self::Trickling(task) = self {
            task.abort();
        }
    }
}

type Strike = fn(Client) -> Pin<Box<dyn Future<Output = Result<Side>> + Send>>;

/// One kind.
pub struct Kind {
    /// What of `status` counts it.
    pub counter: &'static str,
    /// What one connection may take, what the kernel keeps for its socket not counted.
    pub most_kib: u64,
    /// Under this name.
    pub reason: &'static str,
    /// Begins it.
    pub strike: Strike,
    /// In words.
    pub what: &'static str,
}

const fn of(
    what: &'static str,
    most_kib: u64,
    counter: &'static str,
    reason: &'static str,
    strike: Strike,
) -> Kind {
    Kind { counter, most_kib, reason, strike, what }
}

/// All.
pub const KINDS: [Kind; 19] = [
    of("nothing, not even a handshake", 160, "closed", "handshake-timeout", |client| {
        Box::pin(stalled(client, b""))
    }),
    of("half a handshake", 160, "closed", "handshake-timeout", |client| Box::pin(stalled(client, HELLO))),
    of("a handshake, then nothing", 160, "closed", "headers-timeout", |client| Box::pin(http1(client, b""))),
    of("half a request", 160, "closed", "headers-timeout", |client| Box::pin(http1(client, HALF))),
    of("a request that trickles", 160, "closed", "headers-timeout", |client| Box::pin(trickle(client, HALF))),
    of("a body that stalls", 192, "refusals", "body-timeout", |client| Box::pin(http1(client, POST))),
    of("an answer that nobody reads", 1_024, "closed", "unread", |client| Box::pin(http1(client, LARGE))),
    of("HTTP/2, then nothing", 160, "closed", "headers-timeout", |client| {
        Box::pin(http2(client, Vec::new()))
    }),
    of("HTTP/2, half a field block", 160, "closed", "headers-timeout", |client| {
        Box::pin(http2(client, half_block()))
    }),
    of("HTTP/2, a body that stalls", 192, "refusals", "body-timeout", |client| {
        Box::pin(http2(client, post()))
    }),
    // Ten streams each.
    of("HTTP/2, answers that nobody reads", 2_048, "closed", "unread", |client| {
        Box::pin(http2(client, larges()))
    }),
    of("HTTP/2, windows that stay shut", 2_048, "closed", "unread", |client| {
        Box::pin(settled(client, &[0, 4, 0, 0, 0, 0], larges()))
    }),
    of("rapid reset", 160, "closed", "http2-flood", |client| Box::pin(http2(client, rapid_reset()))),
    of("CONTINUATION without end", 160, "closed", "http2-flood", |client| {
        Box::pin(http2(client, continuation(0)))
    }),
    of("CONTINUATION of large fields", 160, "closed", "http2-flood", |client| {
        Box::pin(http2(client, continuation(8_192)))
    }),
    of("empty DATA without end", 160, "closed", "http2-flood", |client| {
        Box::pin(http2(client, empty_data()))
    }),
    of("fields that unpack to a lot", 160, "closed", "http2-flood", |client| Box::pin(http2(client, bomb()))),
    of("PING without end, unread", 512, "closed", "headers-timeout", |client| {
        Box::pin(http2(client, pings()))
    }),
    of("SETTINGS without end, unread", 512, "closed", "headers-timeout", |client| {
        Box::pin(http2(client, settings()))
    }),
];

const HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01";

const HALF: &[u8] = b"GET /open/x HTTP/1.1\r\nHost: localhost:8443\r\nX-A: ";
const POST: &[u8] = b"POST /open/x HTTP/1.1\r\nHost: localhost:8443\r\nContent-Length: 1000\r\n\r\nhalf";
const LARGE: &[u8] = b"GET /open/large HTTP/1.1\r\nHost: localhost:8443\r\n\r\n";

/// Nothing that the edge still reads takes this long to send.
const ENOUGH: Duration = Duration::from_secs(1);

/// A little at a time, more often than any deadline.
const STEP: Duration = Duration::from_millis(100);

async fn stalled(client: Client, bytes: &'static [u8]) -> Result<Side> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((client.source(), 0).into())?;
    let mut stream = socket.connect((EDGE, HTTPS).into()).await?;
    stream.write_all(bytes).await?;
    Ok(Side::Silent(Box::new(stream)))
}

async fn send(client: &Client, protocol: &str, bytes: &[u8]) -> Result<TlsStream<TcpStream>> {
    let mut stream = client.handshake(protocol.as_bytes()).await?;
    let sent = async {
        stream.write_all(bytes).await?;
        stream.flush().await
    };
    // The edge need not read all of it.
    let _ = timeout(ENOUGH, sent).await;
    Ok(stream)
}

async fn http1(client: Client, bytes: &'static [u8]) -> Result<Side> {
    Ok(Side::Silent(Box::new(send(&client, "http/1.1", bytes).await?)))
}

async fn http2(client: Client, bytes: Vec<u8>) -> Result<Side> {
    settled(client, b"", bytes).await
}

async fn settled(client: Client, settings: &[u8], bytes: Vec<u8>) -> Result<Side> {
    let settings = frame(kind::SETTINGS, 0, 0, settings);
    let bytes = [PREFACE, &settings, &bytes].concat();
    Ok(Side::Silent(Box::new(send(&client, "h2", &bytes).await?)))
}

async fn trickle(client: Client, bytes: &'static [u8]) -> Result<Side> {
    let mut stream = send(&client, "http/1.1", bytes).await?;
    Ok(Side::Trickling(tokio::spawn(async move {
        while stream.write_all(b"x").await.is_ok() && stream.flush().await.is_ok() {
            sleep(STEP).await;
        }
    })))
}

fn half_block() -> Vec<u8> {
    frame(kind::HEADERS, 0, 1, &block(&GOOD))
}

fn post() -> Vec<u8> {
    let mut fields = GOOD.to_vec();
    fields[0].1 = b"POST";
    fields.push((b"content-length", b"1000"));
    let head = frame(kind::HEADERS, flag::END_HEADERS, 1, &block(&fields));
    [head, frame(kind::DATA, 0, 1, b"half")].concat()
}

/// Requests for long answers.
fn larges() -> Vec<u8> {
    let mut fields = GOOD;
    fields[3].1 = b"/open/large";
    let block = block(&fields);
    (0..10).flat_map(|stream| frame(kind::HEADERS, flag::WHOLE, 2 * stream + 1, &block)).collect()
}

fn rapid_reset() -> Vec<u8> {
    let block = block(&GOOD);
    let pair = |stream| {
        let cancel = frame(kind::RST_STREAM, 0, stream, &8_u32.to_be_bytes());
        [frame(kind::HEADERS, flag::WHOLE, stream, &block), cancel].concat()
    };
    (0..10_000).flat_map(|stream| pair(2 * stream + 1)).collect()
}

/// Frames without end, with a field of so many bytes in each.
fn continuation(bytes: usize) -> Vec<u8> {
    let more = if bytes == 0 { Vec::new() } else { block(&[(b"x-a", &vec![b'x'; bytes])]) };
    let begin = frame(kind::HEADERS, flag::END_STREAM, 1, &block(&GOOD));
    [begin, frame(kind::CONTINUATION, 0, 1, &more).repeat(1_000)].concat()
}

fn empty_data() -> Vec<u8> {
    let mut fields = GOOD;
    fields[0].1 = b"POST";
    let head = frame(kind::HEADERS, flag::END_HEADERS, 1, &block(&fields));
    [head, frame(kind::DATA, 0, 1, b"").repeat(100_000)].concat()
}

/// A field of 4,000 bytes goes into the dynamic table, then thousands of references to it follow, a byte each; and all of
/// that again and again.
fn bomb() -> Vec<u8> {
    let mut first = block(&GOOD);
    first.extend([0x40, 3, b'x', b'-', b'a']);
    integer(&mut first, 0, 7, 4_000);
    first.extend([b'x'; 4_000]);
    let mut rest = block(&GOOD);
    rest.extend([0xbe; 12_000]);
    let one = |stream: u32| {
        frame(kind::HEADERS, flag::WHOLE, 2 * stream + 1, if stream == 0 { &first } else { &rest })
    };
    (0..1_000).flat_map(one).collect()
}

fn pings() -> Vec<u8> {
    frame(kind::PING, 0, 0, b"are you?").repeat(1_000_000)
}

fn settings() -> Vec<u8> {
    frame(kind::SETTINGS, 0, 0, &[0, 4, 0, 0, 0xff, 0xff]).repeat(1_000_000)
}
