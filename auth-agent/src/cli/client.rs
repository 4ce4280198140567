//! Requests to the running agent.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::{runtime, time};

use crate::control::messages::ProblemDetails;

/// Longer than the store waits for a lock.
pub(super) const TIMEOUT: Duration = Duration::from_secs(30);
/// Above the longest list of bans and keys.
const ANSWER_BYTES: usize = 256 * 1024 * 1024;

/// Why there is no good answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    #[error("the agent at {} gave no answer that can be understood: {detail}", path.display())]
    Broken { detail: String, path: PathBuf },
    #[error("{}: can't use the control socket: {source}", path.display())]
    Connect { path: PathBuf, source: io::Error },
    #[error("{}: this user may not use the control socket: run as root, or add the user's id to control.allow_uids", path.display())]
    Denied { path: PathBuf },
    #[error(
        "no agent is listening on {}: start it with `auth-agent run`, or name its socket with --socket",
        path.display()
    )]
    NotListening { path: PathBuf },
    /// The agent says no.
    #[error("{detail}")]
    Refused { body: Bytes, detail: String },
    #[error("can't start the client: {0}")]
    Runtime(io::Error),
    #[error("the agent at {} did not answer within {} s: look at its log", path.display(), patience.as_secs())]
    Timeout { path: PathBuf, patience: Duration },
}

/// Sends one request and returns the body of a good answer.
pub(super) fn call(socket: &Path, method: Method, target: &str, body: Vec<u8>) -> Result<Bytes, ClientError> {
    call_within(socket, method, target, body, TIMEOUT)
}

/// The same, where the answer may take that long.
pub(super) fn call_within(
    socket: &Path,
    method: Method,
    target: &str,
    body: Vec<u8>,
    patience: Duration,
) -> Result<Bytes, ClientError> {
    let runtime =
        runtime::Builder::new_current_thread().enable_all().build().map_err(ClientError::Runtime)?;
    runtime.block_on(async {
        in_time(socket, patience, async {
            let response = exchange(socket, method, target, body).await?;
            whole(socket, response).await
        })
        .await
    })
}

/// Sends one request and returns a good answer as soon as it begins.
pub(super) async fn open(
    socket: &Path,
    method: Method,
    target: &str,
    body: Vec<u8>,
) -> Result<Response<Incoming>, ClientError> {
    in_time(socket, TIMEOUT, exchange(socket, method, target, body)).await
}

async fn in_time<T>(
    socket: &Path,
    patience: Duration,
    answer: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, ClientError> {
    let answer = time::timeout(patience, answer).await;
    answer.unwrap_or_else(|_| Err(ClientError::Timeout { path: socket.to_owned(), patience }))
}

/// A good answer, its body not yet read.
async fn exchange(
    socket: &Path,
    method: Method,
    target: &str,
    body: Vec<u8>,
) -> Result<Response<Incoming>, ClientError> {
    let path = || socket.to_owned();
    let stream = UnixStream::connect(socket).await.map_err(|source| match source.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => {
            ClientError::NotListening { path: path() }
        }
        io::ErrorKind::PermissionDenied => ClientError::Denied { path: path() },
        _ => ClientError::Connect { path: path(), source },
    })?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(socket, &error))?;
    // An error of the connection reaches us through the request as well.
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(target)
        .header(header::HOST, "localhost")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| broken(socket, &error))?;
    let response = sender.send_request(request).await.map_err(|error| broken(socket, &error))?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let body = whole(socket, response).await?;
    match serde_json::from_slice(&body) {
        Ok(ProblemDetails { detail, .. }) => Err(ClientError::Refused { body, detail }),
        Err(_) => Err(ClientError::Broken { detail: format!("status {status}"), path: path() }),
    }
}

async fn whole(socket: &Path, response: Response<Incoming>) -> Result<Bytes, ClientError> {
    let body = Limited::new(response.into_body(), ANSWER_BYTES).collect().await;
    Ok(body.map_err(|error| broken(socket, &*error))?.to_bytes())
}

fn broken(socket: &Path, error: &dyn std::error::Error) -> ClientError {
    ClientError::Broken { detail: error.to_string(), path: socket.to_owned() }
}
