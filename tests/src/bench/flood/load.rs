//! The client: requests with a valid token over connections that stay open, one after the other on each.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use http::StatusCode;
use tokio::sync::oneshot;

use crate::client::{Client, inside};
use crate::netns::Namespace;

const CONNECTIONS: u64 = 4;
/// Answers before anything is measured.
const WARM_UP: u64 = 50 * CONNECTIONS;
const PATIENCE: Duration = Duration::from_secs(20);
/// Before a client that was not answered tries again.
const PAUSE: Duration = Duration::from_millis(10);

/// What became of requests.
#[derive(Default)]
pub struct Load {
    answered: AtomicU64,
    failed: AtomicU64,
}

impl Load {
    /// Requests answered 200 so far.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Requests and connections that were not.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }
}

/// Asks from inside `namespace`, on a thread of its own, while `work` works.
pub fn during<T>(
    namespace: &Namespace,
    client: &Client,
    token: &str,
    work: impl FnOnce(&Load) -> Result<T>,
) -> Result<T> {
    let load = Arc::new(Load::default());
    let (stop, stopped) = oneshot::channel::<()>();
    thread::scope(|scope| {
        let asking = scope.spawn(|| {
            inside(namespace, async || {
                for _ in 0..CONNECTIONS {
                    tokio::spawn(ask(client.clone(), format!("Bearer {token}"), Arc::clone(&load)));
                }
                // Its end ends the tasks.
                let _ = stopped.await;
                Ok(())
            })
        });
        let done = warm(&load).and_then(|()| work(&load));
        drop(stop);
        asking.join().map_err(|_| anyhow!("the client panicked"))?.and(done)
    })
}

fn warm(load: &Load) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while load.answered() < WARM_UP {
        let (answered, failed) = (load.answered(), load.failed());
        ensure!(Instant::now() < deadline, "the client got {answered} answers, and {failed} times none");
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

async fn ask(client: Client, authorization: String, load: Arc<Load>) {
    loop {
        if let Ok(mut session) = client.connect().await {
            let headers = [("authorization", authorization.as_str())];
            while let Ok(answer) = session.get(&client, "/", &headers).await
                && answer.status == StatusCode::OK
            {
                load.answered.fetch_add(1, Ordering::Relaxed);
            }
        }
        load.failed.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(PAUSE).await;
    }
}
