//! An HTTPS server that does as it is told, on 127.0.0.1.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// What comes of a request.
#[derive(Clone)]
pub enum Answer {
    /// The head of a long body and its start; then the connection is gone.
    Cut,
    /// A byte now and then, for ever, behind this.
    Drip(String),
    /// This, once it may go.
    Held(Arc<Semaphore>, String),
    /// No word.
    Silent,
    /// This, and an orderly end.
    Text(String),
}

/// 200 with a JSON body.
pub fn good(body: &str) -> Answer {
    with("", body)
}

/// The same with more header lines, each with its line end.
pub fn with(headers: &str, body: &str) -> Answer {
    let length = body.len();
    let head =
        format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{headers}");
    Answer::Text(format!("{head}\r\n{body}"))
}

/// An empty answer with this status line and header lines.
pub fn bare(status: &str, headers: &str) -> Answer {
    Answer::Text(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n{headers}\r\n"))
}

/// An authority and what it signs.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for `name`, valid or expired.
    pub fn identity(&self, name: &str, expired: bool) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        if expired {
            (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2020, 2, 1));
        }
        Identity { chain: params.signed_by(&key, &self.0).unwrap().pem(), key: key.serialize_pem() }
    }
}

pub struct Identity {
    chain: String,
    key: String,
}

impl Identity {
    pub fn self_signed(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&key).unwrap();
        Self { chain: certificate.pem(), key: key.serialize_pem() }
    }
}

#[derive(Default)]
struct Script {
    answers: HashMap<String, Answer>,
    requests: Vec<String>,
}

/// Ends with what it holds.
pub struct Server {
    address: SocketAddr,
    script: Arc<Mutex<Script>>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub async fn start(identity: &Identity) -> Self {
        let chain = CertificateDer::pem_slice_iter(identity.chain.as_bytes()).map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, script) = (listener.local_addr().unwrap(), Arc::<Mutex<Script>>::default());
        let task = tokio::spawn(serve(listener, acceptor, Arc::clone(&script)));
        Self { address, script, task }
    }

    /// Requests for `path` are answered so from now on.
    pub fn answer(&self, path: &str, answer: Answer) {
        self.script.lock().unwrap().answers.insert(path.to_owned(), answer);
    }

    /// The paths that were asked for so far.
    pub fn requests(&self) -> Vec<String> {
        self.script.lock().unwrap().requests.clone()
    }

    pub fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.address.port())
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, script: Arc<Mutex<Script>>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (acceptor, script) = (acceptor.clone(), Arc::clone(&script));
        connections.spawn(async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                // The client may be gone: that is the point of some tests.
                let _ = converse(stream, script).await;
            }
        });
    }
}

async fn converse(mut stream: TlsStream<TcpStream>, script: Arc<Mutex<Script>>) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(stream.read_u8().await?);
    }
    let request = String::from_utf8(request).unwrap();
    assert!(request.starts_with("GET /") && request.to_ascii_lowercase().contains("\r\nhost: localhost:"));
    let path = request.split(' ').nth(1).unwrap().to_owned();
    let answer = {
        let mut script = script.lock().unwrap();
        script.requests.push(path.clone());
        script.answers.get(&path).cloned().unwrap_or_else(|| bare("404 Not Found", ""))
    };
    match answer {
        Answer::Cut => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{\"keys\":[").await?;
            stream.flush().await?;
            // Not the TLS way to end, which a man in the middle can't feign.
            stream.into_inner().0.shutdown().await
        }
        Answer::Drip(text) => {
            stream.write_all(text.as_bytes()).await?;
            loop {
                stream.write_all(b" ").await?;
                stream.flush().await?;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Answer::Held(gate, body) => {
            gate.acquire().await.unwrap().forget();
            let Answer::Text(text) = good(&body) else { unreachable!() };
            stream.write_all(text.as_bytes()).await?;
            stream.shutdown().await
        }
        Answer::Silent => std::future::pending().await,
        Answer::Text(text) => {
            stream.write_all(text.as_bytes()).await?;
            stream.shutdown().await
        }
    }
}
