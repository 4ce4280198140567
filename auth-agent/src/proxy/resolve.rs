//! Names of endpoints: looked up again and again, each of their addresses an endpoint of its own. While a name can't be
//! looked up, the addresses that it had last stay.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

/// An answer that is on its way.
pub(super) type Lookup<'r> = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'r>>;

/// Tells the addresses of a name.
pub(super) trait Resolve: fmt::Debug + Send + Sync {
    /// All of them, IPv4 and IPv6.
    fn resolve<'r>(&'r self, name: &'r str, port: u16) -> Lookup<'r>;
}

/// As this host looks names up.
#[derive(Debug)]
pub(super) struct System;

impl Resolve for System {
    fn resolve<'r>(&'r self, name: &'r str, port: u16) -> Lookup<'r> {
        Box::pin(async move { Ok(tokio::net::lookup_host((name, port)).await?.collect()) })
    }
}

/// No answer takes longer.
const LONGEST: Duration = Duration::from_secs(10);
/// More addresses of a name are left out.
const MOST: usize = 64;

/// The addresses of a name, each once, in an order that does not depend on the answer's.
pub(super) async fn addresses(
    resolver: &Arc<dyn Resolve>,
    name: &str,
    port: u16,
) -> Result<Vec<SocketAddr>, String> {
    let answer = timeout(LONGEST, resolver.resolve(name, port)).await;
    let mut addresses = match answer {
        Ok(Ok(addresses)) => addresses,
        Ok(Err(error)) => return Err(format!("can't look up {name}: {error}")),
        Err(_) => return Err(format!("can't look up {name}: no answer within {} s", LONGEST.as_secs())),
    };
    addresses.sort_unstable();
    addresses.dedup();
    addresses.truncate(MOST);
    if addresses.is_empty() { Err(format!("{name} has no address")) } else { Ok(addresses) }
}
