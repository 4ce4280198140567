//! What all products stand in front of: it costs as little as can be, so that it limits none of them.

use std::convert::Infallible;
use std::rc::Rc;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_local;

/// Where it listens.
pub const ADDRESS: &str = "127.0.0.1:9000";
/// The last part of paths that are answered with 1 MiB.
pub const LARGE: &str = "1m";

const BODY: usize = 1 << 20;
const SMALL: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 16\r\n\r\n{\"answer\": \"ok\"}";
/// More than a request here has.
const REQUEST: usize = 16 << 10;

/// Answers until it is dropped. A request must have no body.
pub async fn serve() -> Result<Infallible> {
    let listener = TcpListener::bind(ADDRESS).await.with_context(|| format!("upstream on {ADDRESS}"))?;
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\n";
    let mut large = format!("{head}content-length: {BODY}\r\n\r\n").into_bytes();
    large.resize(large.len() + BODY, b'x');
    let large: Rc<[u8]> = large.into();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        spawn_local(answer(stream, Rc::clone(&large)));
    }
}

/// Whoever has the other end may go at any time.
async fn answer(mut stream: TcpStream, large: Rc<[u8]>) -> Result<()> {
    let mut request = vec![0; REQUEST];
    let mut filled = 0;
    loop {
        let read = stream.read(&mut request[filled..]).await?;
        if read == 0 {
            return Ok(());
        }
        filled += read;
        if request[..filled].ends_with(b"\r\n\r\n") {
            let line = request[..filled].split(|byte| *byte == b' ').nth(1).unwrap_or_default();
            let response = if line.ends_with(LARGE.as_bytes()) { &*large } else { SMALL };
            stream.write_all(response).await?;
            filled = 0;
        }
    }
}
