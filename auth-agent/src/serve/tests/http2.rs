//! HTTP/2 connections that end for what the client did.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::edge::{Edge, PATIENCE};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

fn data(stream: u32) -> Vec<u8> {
    frame(0, 0, stream, b"")
}

/// GET https://?/ by HPACK's static table; the stream ends with it or not.
fn headers(stream: u32, ends: bool) -> Vec<u8> {
    frame(1, if ends { 5 } else { 4 }, stream, &[0x82, 0x84, 0x87])
}

fn reset(stream: u32) -> Vec<u8> {
    frame(3, 0, stream, &8u32.to_be_bytes())
}

fn settings() -> Vec<u8> {
    frame(4, 0, 0, b"")
}

fn continuation(stream: u32) -> Vec<u8> {
    frame(9, 0, stream, b"")
}

#[tokio::test]
async fn floods_and_broken_framing_end_the_connection_by_name() {
    let edge = Edge::start().await;
    let streams = || (0..1000).map(|number| 2 * number + 1);
    let rapid_resets = streams().flat_map(|stream| [headers(stream, true), reset(stream)].concat());
    let floods = [
        rapid_resets.collect::<Vec<_>>(),
        [headers(1, false), data(1).repeat(10_000)].concat(),
        [frame(1, 0, 1, &[0x82]), continuation(1).repeat(1000)].concat(),
    ];
    let broken = [data(5), frame(1, 5, 2, &[0x82]), frame(4, 0, 1, b""), frame(6, 0, 0, b"short")];
    let cases = floods.iter().map(|bytes| ("http2-flood", bytes));
    let cases = cases.chain(broken.iter().map(|bytes| ("http-invalid", bytes)));
    for (number, (reason, bytes)) in cases.enumerate() {
        let mut stream = edge.connect(Some("localhost"), &["h2"]).await.unwrap();
        // The edge may close before it has read everything.
        let _ = stream.write_all(&[PREFACE, &settings(), bytes].concat()).await;
        let mut answer = Vec::new();
        let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the edge does not close");
        let of_its_kind = if number < floods.len() { number + 1 } else { number + 1 - floods.len() };
        edge.closed(reason, of_its_kind as u64).await;
    }
}
