//! An authority of the tests' own, a listener with its certificates, and clients that trust it.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SignatureAlgorithm,
};
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsConnector, client, server};

use crate::clock::UnixTime;
use crate::config::{CertificateFiles, Listener};
use crate::counters::Counters;
use crate::tls::handshake::Places;
use crate::tls::{Failure, TlsListener};

pub const NOW: UnixTime = UnixTime(1_800_000_000);
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "the tests' authority");
        Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() }
    }

    /// Writes a certificate for these names and its key.
    pub fn write(
        &self,
        folder: &Path,
        file: &str,
        names: &[&str],
        key: &'static SignatureAlgorithm,
    ) -> CertificateFiles {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let key = KeyPair::generate_for(key).unwrap();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.issuer).unwrap();
        let files = CertificateFiles {
            certificate: folder.join(format!("{file}.pem")),
            key: folder.join(format!("{file}.key")),
        };
        fs::write(&files.certificate, certificate.pem()).unwrap();
        fs::write(&files.key, key.serialize_pem()).unwrap();
        files
    }

    /// A client that trusts it, with these versions and this provider.
    pub fn client_with(
        &self,
        provider: CryptoProvider,
        versions: &[&'static SupportedProtocolVersion],
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth()
    }

    /// A client that begins each connection anew: who resumes is shown nothing.
    pub fn client(&self) -> ClientConfig {
        let mut config = self.client_with(aws_lc_rs::default_provider(), rustls::DEFAULT_VERSIONS);
        config.resumption = Resumption::disabled();
        config
    }
}

/// A listener on a socket of its own.
pub struct Shown {
    pub counters: Counters,
    pub folder: TempDir,
    pub tls: TlsListener,
    socket: TcpListener,
}

impl Shown {
    pub async fn new(folder: TempDir, listener: &Listener) -> Self {
        Self::with_places(folder, listener, 100).await
    }

    pub async fn with_places(folder: TempDir, listener: &Listener, places: usize) -> Self {
        let places = Arc::new(Places::new(places));
        Self {
            counters: Counters::default(),
            folder,
            tls: TlsListener::open(listener, places, NOW).unwrap(),
            socket: TcpListener::bind("127.0.0.1:0").await.unwrap(),
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    /// The next connection's handshake.
    pub async fn accept(&self, limit: Duration) -> Result<server::TlsStream<TcpStream>, Failure> {
        let (stream, _) = self.socket.accept().await.unwrap();
        self.tls.accept(stream, limit, &self.counters).await
    }

    /// Both sides of a handshake, after which a byte went each way.
    pub async fn meet(&self, client: &Arc<ClientConfig>, name: &str) -> Met {
        let client = async {
            let stream = TcpStream::connect(self.address()).await.unwrap();
            let name = ServerName::try_from(name.to_owned()).unwrap();
            let mut stream = TlsConnector::from(Arc::clone(client)).connect(name, stream).await?;
            stream.write_all(b"?").await?;
            stream.read_exact(&mut [0]).await?;
            std::io::Result::Ok(stream)
        };
        let server = async {
            let mut stream = self.accept(PATIENCE).await?;
            // What the client refuses is its to tell.
            if stream.read_exact(&mut [0]).await.is_ok() {
                stream.write_all(b"!").await.unwrap();
            }
            Ok(stream)
        };
        let (client, server) = tokio::join!(client, server);
        Met { client, server }
    }
}

pub struct Met {
    pub client: std::io::Result<client::TlsStream<TcpStream>>,
    pub server: Result<server::TlsStream<TcpStream>, Failure>,
}

impl Met {
    /// The certificate that the client was shown.
    pub fn shown(&self) -> &[u8] {
        let stream = self.client.as_ref().unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].as_ref()
    }

    /// What the client was told in place of a connection.
    pub fn refusal(&self) -> String {
        self.client.as_ref().unwrap_err().to_string()
    }
}

pub fn listener(certificates: Vec<CertificateFiles>) -> Listener {
    let mut certificates = certificates.into_iter();
    let first = certificates.next().unwrap();
    let mut listener = Listener::new(SocketAddr::from(([127, 0, 0, 1], 0)), first);
    listener.certificates.extend(certificates);
    listener
}
