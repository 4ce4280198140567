//! Upstreams that are written byte by byte.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};

use crate::config::Address;

/// What an upstream does with a request: it has the number of the connection and of the request on it, and its head.
/// Nothing: it closes the connection.
pub type Answer = dyn Fn(usize, usize, &str) -> Option<String> + Send + Sync;

#[derive(Clone)]
pub struct Raw {
    pub address: Address,
    /// How many connections there have been.
    pub connections: Arc<AtomicUsize>,
    /// Each request: the number of its connection, and its head.
    pub seen: Arc<Mutex<Vec<(usize, String)>>>,
}

pub const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

impl Raw {
    pub async fn start(
        answer: impl Fn(usize, usize, &str) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let raw = Self::at(&format!("http://{address}"));
        let (answer, serving): (Arc<Answer>, _) = (Arc::new(answer), raw.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serving.clone().serve(stream, Arc::clone(&answer)));
            }
        });
        raw
    }

    /// The same on a Unix socket.
    pub fn unix(path: &std::path::Path, answer: &'static str) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        let raw = Self::at(&format!("unix:{}", path.display()));
        let serving = raw.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(
                    serving.clone().serve(stream, Arc::new(move |_, _, _: &str| Some(answer.into()))),
                );
            }
        });
        raw
    }

    fn at(address: &str) -> Self {
        Self { address: address.parse().unwrap(), connections: Arc::default(), seen: Arc::default() }
    }

    async fn serve<S: AsyncRead + AsyncWrite + Unpin>(self, mut stream: S, answer: Arc<Answer>) {
        let connection = self.connections.fetch_add(1, Relaxed);
        for number in 0.. {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                match stream.read_u8().await {
                    Ok(byte) => head.push(byte),
                    Err(_) => return,
                }
            }
            let head = String::from_utf8(head).unwrap();
            let answer = answer(connection, number, &head);
            self.seen.lock().unwrap().push((connection, head));
            let Some(answer) = answer else { return };
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }

    /// The connections that requests came over, in turn.
    pub fn used(&self) -> Vec<usize> {
        self.seen.lock().unwrap().iter().map(|(connection, _)| *connection).collect()
    }
}
