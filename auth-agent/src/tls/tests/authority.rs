//! An authority of the tests' own, a listener with its certificates, and clients that trust it.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationList, CertificateRevocationListParams,
    CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, RevokedCertParams, SanType,
    SignatureAlgorithm, date_time_ymd,
};
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsConnector, client, server};

use crate::clock::UnixTime;
use crate::config::{CertificateFiles, Listener};
use crate::counters::Counters;
use crate::tls::handshake::Places;
use crate::tls::listener::Shared;
use crate::tls::{Accepted, Challenges, ClientCertificate, Failure, TlsListener};

pub const NOW: UnixTime = UnixTime(1_800_000_000);
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct ClientIdentity {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
}

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

    /// Its own certificate.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate of a client, by way of an authority in between that is good until the first day of that year.
    pub fn issue_by_another(&self, year: i32) -> ClientIdentity {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "between");
        params.not_after = date_time_ymd(year, 1, 1);
        let issuer = CertifiedIssuer::signed_by(params, KeyPair::generate().unwrap(), &self.issuer).unwrap();
        let between = issuer.der().clone();
        let ClientIdentity { mut chain, key } = Self { issuer }.issue(|params| {
            params.subject_alt_names = vec![SanType::URI("spiffe://a/b".try_into().unwrap())];
        });
        // Whatever else a client sends, and in whatever order.
        chain.extend([self.issuer.der().clone(), between]);
        ClientIdentity { chain, key }
    }

    /// A certificate of a client.
    pub fn issue(&self, change: impl FnOnce(&mut CertificateParams)) -> ClientIdentity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.serial_number = Some(7.into());
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let chain = vec![params.signed_by(&key, &self.issuer).unwrap().der().clone()];
        ClientIdentity { chain, key: PrivateKeyDer::try_from(key.serialize_der()).unwrap() }
    }

    /// A revocation list that is good until the first day of that year.
    pub fn list(&self, serials: &[u64], year: i32) -> CertificateRevocationList {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: (*serial).into(),
            revocation_time: date_time_ymd(2020, 1, 2),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(year, 1, 1),
            crl_number: 1.into(),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap()
    }

    /// A client that shows this certificate, and resumes.
    pub fn client_showing(&self, identity: &ClientIdentity) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())
            .unwrap()
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
    pub challenges: Arc<Challenges>,
    pub counters: Counters,
    pub folder: TempDir,
    pub tls: Arc<TlsListener>,
    socket: TcpListener,
}

impl Shown {
    pub async fn new(folder: TempDir, listener: &Listener) -> Self {
        Self::with_places(folder, listener, 100).await
    }

    pub async fn with_places(folder: TempDir, listener: &Listener, places: usize) -> Self {
        let challenges = Arc::<Challenges>::default();
        let places = Arc::new(Places::new(places));
        let shared = Shared { acme: None, challenges: Arc::clone(&challenges), places };
        Self {
            challenges,
            counters: Counters::default(),
            folder,
            tls: Arc::new(TlsListener::open(listener, None, &shared, NOW).unwrap()),
            socket: TcpListener::bind("127.0.0.1:0").await.unwrap(),
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    /// The next connection's handshake.
    pub async fn accept(&self, limit: Duration) -> Result<Box<server::TlsStream<TcpStream>>, Failure> {
        let (stream, _) = self.socket.accept().await.unwrap();
        self.shaken(stream, limit).await.map(|accepted| accepted.stream)
    }

    async fn shaken(&self, stream: TcpStream, limit: Duration) -> Result<Accepted<TcpStream>, Failure> {
        self.tls.accept(stream, limit, &self.counters).await
    }

    /// Both sides of a handshake, and no more.
    pub async fn look(&self, client: &Arc<ClientConfig>, name: &str) -> Met {
        let client = async {
            let stream = TcpStream::connect(self.address()).await.unwrap();
            let name = ServerName::try_from(name.to_owned()).unwrap();
            TlsConnector::from(Arc::clone(client)).connect(name, stream).await
        };
        let (client, server) = tokio::join!(client, self.accept(PATIENCE));
        Met { certificate: None, client, server }
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
            let (stream, _) = self.socket.accept().await.unwrap();
            let Accepted { certificate, mut stream } = self.shaken(stream, PATIENCE).await?;
            // What the client refuses is its to tell.
            if stream.read_exact(&mut [0]).await.is_ok() {
                stream.write_all(b"!").await.unwrap();
            }
            Ok((stream, certificate))
        };
        let (client, server) = tokio::join!(client, server);
        let (server, certificate) = match server {
            Ok((server, certificate)) => (Ok(server), certificate),
            Err(failure) => (Err(failure), None),
        };
        Met { certificate, client, server }
    }
}

pub struct Met {
    /// The client's.
    pub certificate: Option<Arc<ClientCertificate>>,
    pub client: std::io::Result<client::TlsStream<TcpStream>>,
    pub server: Result<Box<server::TlsStream<TcpStream>>, Failure>,
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
