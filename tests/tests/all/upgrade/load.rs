//! Clients that loop, as real ones do: they keep connections, close and open them, and try again what was surely not
//! begun.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::Response;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use tests::agent::until;
use tests::client::{Client, Session};
use tokio::time::timeout;

use super::PATIENCE;

/// Requests at once on an HTTP/2 connection.
const STREAMS: usize = 4;

/// The load, and what came of it.
#[derive(Clone, Default)]
pub struct Load(Arc<State>);

#[derive(Default)]
struct State {
    answered: AtomicUsize,
    connections: AtomicUsize,
    ended: AtomicBool,
    failures: Mutex<Vec<String>>,
    /// Refused before they were begun, which a client may rely on (RFC 9113, 6.8), or never sent.
    retried: AtomicUsize,
}

impl fmt::Debug for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let State { answered, connections, retried, .. } = &*self.0;
        let [answered, connections, retried] =
            [answered, connections, retried].map(|count| count.load(SeqCst));
        write!(f, "{answered} requests on {connections} connections, {retried} tried again, ")?;
        write!(f, "{} failed", self.failures().len())
    }
}

/// What a request came to.
enum Outcome {
    Answered,
    Failed(String),
    /// It was not begun.
    Again,
}

/// Ends the load with itself.
pub struct Ends(Load);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Load {
    /// Loads until it is ended: HTTP/1.1, HTTP/2 and connections of one request, by turns.
    pub async fn run(&self, clients: &[Client]) -> Result<()> {
        let mut tasks = Vec::new();
        for (client, kind) in clients.iter().zip((0..3).cycle()) {
            let (load, client) = (self.clone(), client.clone());
            tasks.push(match kind {
                0 => tokio::spawn(async move { load.http1(&client).await }),
                1 => tokio::spawn(async move { load.http2(&client).await }),
                _ => tokio::spawn(async move { load.short(&client).await }),
            });
        }
        for task in tasks {
            task.await?;
        }
        Ok(())
    }

    /// Waits for so many more answers.
    pub fn go_on(&self, answers: usize) -> Result<()> {
        let wanted = self.0.answered.load(SeqCst) + answers;
        until("the load goes on", || {
            let failures = self.failures();
            ensure!(failures.is_empty(), "{failures:?}");
            Ok(self.0.answered.load(SeqCst) >= wanted)
        })
    }

    pub fn end(&self) {
        self.0.ended.store(true, SeqCst);
    }

    pub fn end_when_dropped(&self) -> Ends {
        Ends(self.clone())
    }

    pub fn failures(&self) -> Vec<String> {
        self.0.failures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn http1(&self, client: &Client) {
        while let Some(Session::Http1(mut sender)) = self.connect(client, false).await {
            // A connection that the server said it closes, or closed, is left alone.
            while !self.has_ended() && sender.ready().await.is_ok() {
                self.note(one(http1_answer(&mut sender)).await);
            }
        }
    }

    async fn short(&self, client: &Client) {
        while let Some(Session::Http1(mut sender)) = self.connect(client, false).await {
            self.note(one(http1_answer(&mut sender)).await);
        }
    }

    async fn http2(&self, client: &Client) {
        while let Some(Session::Http2(sender)) = self.connect(client, true).await {
            let streams = (0..STREAMS).map(|_| {
                let (load, mut sender) = (self.clone(), sender.clone());
                tokio::spawn(async move {
                    while !load.has_ended() && sender.ready().await.is_ok() {
                        load.note(one(http2_answer(&mut sender)).await);
                    }
                })
            });
            for stream in streams.collect::<Vec<_>>() {
                if let Err(error) = stream.await {
                    self.note(Outcome::Failed(error.to_string()));
                }
            }
        }
    }

    /// A new connection; nothing once the load is to end.
    async fn connect(&self, client: &Client, http2: bool) -> Option<Session> {
        while !self.has_ended() {
            let session = if http2 { client.connect_http2().await } else { client.connect().await };
            match session {
                Ok(session) => {
                    self.0.connections.fetch_add(1, SeqCst);
                    return Some(session);
                }
                Err(error) => self.note(Outcome::Failed(format!("connecting: {error:#}"))),
            }
        }
        None
    }

    fn has_ended(&self) -> bool {
        self.0.ended.load(SeqCst)
    }

    fn note(&self, outcome: Outcome) {
        match outcome {
            Outcome::Again => drop(self.0.retried.fetch_add(1, SeqCst)),
            Outcome::Answered => drop(self.0.answered.fetch_add(1, SeqCst)),
            Outcome::Failed(why) => {
                self.0.failures.lock().unwrap_or_else(PoisonError::into_inner).push(why);
            }
        }
    }
}

async fn one(answer: impl Future<Output = hyper::Result<Response<Incoming>>>) -> Outcome {
    let done = timeout(PATIENCE, async {
        match answer.await {
            Ok(response) => {
                let status = response.status();
                let body = response.into_body().collect().await.context("the body broke off")?;
                ensure!(status == 200 && !body.to_bytes().is_empty(), "answered {status}");
                Ok(Outcome::Answered)
            }
            Err(error) if was_not_begun(&error) => Ok(Outcome::Again),
            Err(error) => Err(anyhow::Error::from(error)),
        }
    });
    match done.await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(error)) => Outcome::Failed(format!("{error:?}")),
        Err(_) => Outcome::Failed("no answer".to_owned()),
    }
}

/// It never left, or the server's GOAWAY in good order says so.
fn was_not_begun(error: &hyper::Error) -> bool {
    let text = format!("{error:?}");
    error.is_canceled() || text.contains("GoAway") && text.contains("NO_ERROR") && text.contains("Remote")
}

async fn http1_answer(sender: &mut http1::SendRequest<Full<Bytes>>) -> hyper::Result<Response<Incoming>> {
    let request = Request::get("/open").header("host", "localhost:8443").body(Full::default());
    sender.send_request(request.unwrap()).await
}

async fn http2_answer(sender: &mut http2::SendRequest<Full<Bytes>>) -> hyper::Result<Response<Incoming>> {
    let request = Request::get("https://localhost:8443/open").body(Full::default());
    sender.send_request(request.unwrap()).await
}
