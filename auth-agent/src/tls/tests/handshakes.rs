//! What is negotiated, and what a handshake may take.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use rcgen::{PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256};
use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue,
    Tls13ClientSessionValue,
};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{CipherSuite, ClientConfig, HandshakeKind, NamedGroup, ProtocolVersion};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::authority::{Authority, NOW, PATIENCE, Shown, listener};
use crate::config::{Listener, TlsVersion};
use crate::tls::Failure;

async fn shown(change: impl FnOnce(&mut Listener), places: usize) -> (Authority, Shown) {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let names = ["a.example"];
    let ecdsa = authority.write(folder.path(), "ecdsa", &names, &PKCS_ECDSA_P256_SHA256);
    let rsa = authority.write(folder.path(), "rsa", &names, &PKCS_RSA_SHA256);
    let mut listener = listener(vec![ecdsa, rsa]);
    change(&mut listener);
    let shown = Shown::with_places(folder, &listener, places).await;
    (authority, shown)
}

#[tokio::test]
async fn every_suite_is_ecdhe_with_aead_and_each_is_negotiated() {
    use CipherSuite::*;
    let (authority, shown) = shown(|_| (), 100).await;
    let mut negotiated = Vec::new();
    for suite in aws_lc_rs::ALL_CIPHER_SUITES {
        let provider = CryptoProvider { cipher_suites: vec![*suite], ..aws_lc_rs::default_provider() };
        let client = Arc::new(authority.client_with(provider, &[suite.version()]));
        let met = shown.meet(&client, "a.example").await;
        let client = met.client.unwrap();
        let session = client.get_ref().1;
        assert_eq!(session.protocol_version(), Some(suite.version().version));
        negotiated.push(session.negotiated_cipher_suite().unwrap().suite());
    }
    assert_eq!(
        negotiated,
        [
            TLS13_AES_256_GCM_SHA384,
            TLS13_AES_128_GCM_SHA256,
            TLS13_CHACHA20_POLY1305_SHA256,
            TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
            TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
            TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
            TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        ]
    );
}

#[tokio::test]
async fn post_quantum_key_exchange_is_what_willing_clients_get() {
    let (authority, shown) = shown(|_| (), 100).await;
    let group = async |client: ClientConfig| {
        let met = shown.meet(&Arc::new(client), "a.example").await;
        met.client.unwrap().get_ref().1.negotiated_key_exchange_group().unwrap().name()
    };
    assert_eq!(group(authority.client()).await, NamedGroup::X25519MLKEM768);
    for kx in [aws_lc_rs::kx_group::X25519, aws_lc_rs::kx_group::SECP256R1] {
        let provider = CryptoProvider { kx_groups: vec![kx], ..aws_lc_rs::default_provider() };
        assert_eq!(group(authority.client_with(provider, &[&TLS13])).await, kx.name());
    }
}

#[tokio::test]
async fn sessions_resume_by_ticket_also_after_the_certificate_changed() {
    for version in [&TLS12, &TLS13] {
        let (authority, shown) = shown(|_| (), 100).await;
        let client = Arc::new(authority.client_with(aws_lc_rs::default_provider(), &[version]));
        let kind = async || {
            let met = shown.meet(&client, "a.example").await;
            let (client, server) = (met.client.unwrap(), met.server.unwrap());
            assert_eq!(client.get_ref().1.handshake_kind(), server.get_ref().1.handshake_kind());
            server.get_ref().1.handshake_kind().unwrap()
        };
        assert_eq!(kind().await, HandshakeKind::Full);
        assert_eq!(kind().await, HandshakeKind::Resumed, "{version:?}");
        authority.write(shown.folder.path(), "ecdsa", &["a.example"], &PKCS_ECDSA_P256_SHA256);
        shown.tls.look(NOW);
        assert_eq!(kind().await, HandshakeKind::Resumed, "{version:?}");
    }
}

/// Counts the tickets of TLS 1.3.
#[derive(Debug)]
struct Tickets(ClientSessionMemoryCache, AtomicUsize);

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, name: ServerName<'static>, group: NamedGroup) {
        self.0.set_kx_hint(name, group);
    }

    fn kx_hint(&self, name: &ServerName<'_>) -> Option<NamedGroup> {
        self.0.kx_hint(name)
    }

    fn set_tls12_session(&self, name: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.0.set_tls12_session(name, value);
    }

    fn tls12_session(&self, name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.0.tls12_session(name)
    }

    fn remove_tls12_session(&self, name: &ServerName<'static>) {
        self.0.remove_tls12_session(name);
    }

    fn insert_tls13_ticket(&self, name: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.1.fetch_add(1, Relaxed);
        self.0.insert_tls13_ticket(name, value);
    }

    fn take_tls13_ticket(&self, name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.take_tls13_ticket(name)
    }
}

#[tokio::test]
async fn a_connection_brings_one_ticket_and_no_early_data() {
    let (authority, shown) = shown(|_| (), 100).await;
    let tickets = Arc::new(Tickets(ClientSessionMemoryCache::new(8), Default::default()));
    let mut client = authority.client();
    client.resumption = Resumption::store(Arc::clone(&tickets) as _);
    client.enable_early_data = true;
    let client = Arc::new(client);
    for count in 1..=3 {
        let met = shown.meet(&client, "a.example").await;
        assert_eq!(tickets.1.load(Relaxed), count);
        assert!(!met.client.unwrap().get_ref().1.is_early_data_accepted());
    }
}

#[tokio::test]
async fn tls_1_2_can_be_turned_off() {
    let (authority, shown) = shown(|listener| listener.tls_min = TlsVersion::Tls13, 100).await;
    let old = Arc::new(authority.client_with(aws_lc_rs::default_provider(), &[&TLS12]));
    let met = shown.meet(&old, "a.example").await;
    assert!(met.refusal().contains("ProtocolVersion"), "{}", met.refusal());
    let met = shown.meet(&Arc::new(authority.client()), "a.example").await;
    assert_eq!(met.client.unwrap().get_ref().1.protocol_version(), Some(ProtocolVersion::TLSv1_3));
}

#[tokio::test]
async fn a_handshake_over_the_cap_waits_for_its_turn_within_its_deadline() {
    let (authority, shown) = shown(|_| (), 1).await;
    let client = Arc::new(authority.client());
    // It has sent its hello and does not go on: its place is taken.
    let mut hello = Vec::new();
    let name = ServerName::try_from("a.example").unwrap();
    let mut stalled = rustls::ClientConnection::new(Arc::clone(&client), name).unwrap();
    stalled.write_tls(&mut hello).unwrap();
    let mut slow = TcpStream::connect(shown.address()).await.unwrap();
    slow.write_all(&hello).await.unwrap();
    let first = shown.accept(PATIENCE);
    tokio::pin!(first);
    assert!(timeout(Duration::from_millis(300), &mut first).await.is_err());

    // Who has not sent its hello takes none.
    let mut silent = TcpStream::connect(shown.address()).await.unwrap();
    let outcome = shown.accept(Duration::from_millis(50)).await;
    assert!(matches!(outcome, Err(Failure::Timeout)), "{outcome:?}");
    silent.shutdown().await.unwrap();
    assert_eq!(shown.counters.handshakes_delayed.load(Relaxed), 0);

    let mut late = TcpStream::connect(shown.address()).await.unwrap();
    late.write_all(&hello).await.unwrap();
    let outcome = shown.accept(Duration::from_millis(50)).await;
    assert!(matches!(outcome, Err(Failure::NoPlace)), "{outcome:?}");
    assert_eq!(outcome.unwrap_err().name(), "handshakes");

    // The place comes free while one waits.
    let ((), met) = tokio::join!(
        async {
            drop(slow);
            assert!(first.await.is_err());
        },
        shown.meet(&client, "a.example")
    );
    assert!(met.client.is_ok());
    assert!(shown.counters.handshakes_delayed.load(Relaxed) >= 1);
}
