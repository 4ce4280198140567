//! An issuer's HTTPS server, which publishes one text at every path.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};
use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

use crate::netns::Namespace;
use crate::pki::Identity;

/// A running server; it stops with its guard.
pub struct KeyServer {
    stop: Option<oneshot::Sender<()>>,
    text: Arc<Mutex<String>>,
    thread: Option<JoinHandle<()>>,
}

impl KeyServer {
    /// Starts one inside `namespace` that publishes `text`.
    ///
    /// # Errors
    /// If the address can't be had, or the identity is none.
    pub fn start(
        namespace: &Namespace,
        address: SocketAddr,
        identity: &Identity,
        text: &str,
    ) -> Result<Self> {
        let bind =
            || std::net::TcpListener::bind(address).with_context(|| format!("key server on {address}"));
        let listener = namespace.run(bind)?;
        listener.set_nonblocking(true)?;
        let chain =
            CertificateDer::pem_slice_iter(identity.certificate.as_bytes()).collect::<Result<_, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes())?;
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let text = Arc::new(Mutex::new(text.to_owned()));
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let published = Arc::clone(&text);
        let thread = thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = stopped => {}
                    result = serve(listener, acceptor, published) => eprintln!("key server: {result:?}"),
                }
            });
        });
        Ok(Self { stop: Some(stop), text, thread: Some(thread) })
    }

    /// Publishes this from now on.
    pub fn publish(&self, text: &str) {
        text.clone_into(&mut self.text.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Drop for KeyServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            eprintln!("key server: its thread panicked");
        }
    }
}

async fn serve(
    listener: std::net::TcpListener,
    acceptor: TlsAcceptor,
    text: Arc<Mutex<String>>,
) -> Result<Infallible> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        let (acceptor, text) = (acceptor.clone(), Arc::clone(&text));
        tokio::spawn(async move {
            let service = service_fn(move |_| {
                let text = text.lock().unwrap_or_else(PoisonError::into_inner).clone();
                async { Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(text)))) }
            });
            let stream = TokioIo::new(acceptor.accept(stream).await?);
            hyper::server::conn::http1::Builder::new().serve_connection(stream, service).await?;
            anyhow::Ok(())
        });
    }
}
