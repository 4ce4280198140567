//! One order: from the account to a certificate (RFC 8555 7).

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, ChallengeType, Error, Identifier, NewAccount, NewOrder,
    Order, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use serde::{Deserialize, Serialize};

use super::challenge::{Answering, ChallengeError, Challenges};
use super::http::Client;
use super::vault::{Vault, VaultError};
use crate::config::Acme;
use crate::tls::Pair;

/// How long a server may take to look at the challenges, or to sign.
const PATIENCE: Duration = Duration::from_secs(90);

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum AcmeError {
    /// The server refuses, or can't be reached.
    #[error("{0}")]
    Acme(#[from] Error),
    /// It does not believe that the name is ours.
    #[error("{name} was not validated: {reason}; it must lead to this host, port 443, from the internet")]
    Authorization {
        /// The name.
        name: String,
        /// What the server says.
        reason: String,
    },
    /// A challenge can't be answered.
    #[error(transparent)]
    Challenge(#[from] ChallengeError),
    /// What came is no certificate for the key.
    #[error("the server's certificate can't be used: {0}")]
    Certificate(String),
    /// The server offers no way that goes without port 80 and DNS records.
    #[error("the server offers no tls-alpn-01 challenge for {name}; choose another directory")]
    NoChallenge {
        /// The name.
        name: String,
    },
    /// No request for a certificate.
    #[error("can't make a certificate request: {0}")]
    Request(#[from] rcgen::Error),
    /// The disk.
    #[error(transparent)]
    Vault(#[from] VaultError),
}

/// A certificate as it is kept.
#[derive(Deserialize, Serialize)]
pub(super) struct Issued {
    /// PEM, leaf first.
    chain: String,
    /// PKCS#8, base64.
    key: String,
}

impl Issued {
    /// As it can be shown.
    pub fn pair(&self) -> Result<Pair, AcmeError> {
        let key = STANDARD.decode(&self.key).map_err(|error| AcmeError::Certificate(error.to_string()))?;
        Pair::parse(&self.chain, key).map_err(AcmeError::Certificate)
    }
}

/// Gets a certificate for these names, with a key of its own.
pub(super) async fn order(
    settings: &Acme,
    names: &[String],
    vault: &Vault,
    challenges: &Arc<Challenges>,
) -> Result<Issued, AcmeError> {
    let account = account(settings, vault).await?;
    let identifiers: Vec<_> = names.iter().cloned().map(Identifier::Dns).collect();
    let mut order = account.new_order(&NewOrder::new(&identifiers)).await?;
    let answering = answer(&mut order, challenges).await?;
    let status = order.poll_ready(&RetryPolicy::new().timeout(PATIENCE)).await;
    drop(answering);
    if !matches!(status, Ok(OrderStatus::Ready)) {
        return Err(reason(&mut order).await.unwrap_or_else(|| match status {
            Ok(status) => AcmeError::Certificate(format!("the order is {status:?}")),
            Err(error) => error.into(),
        }));
    }
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(names)?;
    // The names are all that counts.
    params.distinguished_name = DistinguishedName::new();
    order.finalize_csr(params.serialize_request(&key)?.der()).await?;
    let chain = order.poll_certificate(&RetryPolicy::new().timeout(PATIENCE)).await?;
    Ok(Issued { chain, key: STANDARD.encode(key.serialize_der()) })
}

/// The account with this directory, made where there is none yet.
async fn account(settings: &Acme, vault: &Vault) -> Result<Account, AcmeError> {
    let directory = settings.directory.uri().to_string();
    let http = || Account::builder_with_http(Box::new(Client { ca: settings.ca.clone() }));
    let name = Vault::name("account", &[&directory]);
    if let Some(known) = vault.read::<AccountCredentials>(&name)? {
        return Ok(http().from_credentials(known).await?);
    }
    let contact: Vec<_> = settings.contact.iter().map(String::as_str).collect();
    // The configuration is not read without the operator's consent.
    let new = NewAccount { contact: &contact, only_return_existing: false, terms_of_service_agreed: true };
    let (account, credentials) = http().create(&new, directory, None).await?;
    vault.write(&name, &credentials)?;
    Ok(account)
}

/// Answers every challenge that is open, and tells the server so.
async fn answer(order: &mut Order, challenges: &Arc<Challenges>) -> Result<Vec<Answering>, AcmeError> {
    let mut answering = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        if authorization.status == AuthorizationStatus::Valid {
            continue;
        }
        let name = authorization.identifier().to_string();
        let Some(mut challenge) = authorization.challenge(ChallengeType::TlsAlpn01) else {
            return Err(AcmeError::NoChallenge { name });
        };
        let digest = challenge.key_authorization().digest();
        answering.push(challenges.answer(&name, digest.as_ref())?);
        challenge.set_ready().await?;
    }
    Ok(answering)
}

/// What the server has against one of the names.
async fn reason(order: &mut Order) -> Option<AcmeError> {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let name = authorization.identifier().to_string();
        let state = authorization.refresh().await.ok()?;
        let problem = state.challenges.iter().find_map(|challenge| challenge.error.as_ref());
        if let Some(problem) = problem {
            return Some(AcmeError::Authorization { name, reason: problem.to_string() });
        }
    }
    None
}
