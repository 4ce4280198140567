//! Clients that take what they can get (ATTACKS 24 and 25): each kind is ended under its name, or limited, and costs
//! the agent little memory while it lasts. Run with `--nocapture` to see how much.

mod kinds;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests::agent::Agent;
use tests::client::inside;
use tests::memory::resident;
use tests::privilege;
use tests::stage::Stage;
use tokio::time::sleep;

use self::kinds::{KINDS, Kind};
use crate::http2::UNLIMITED;

/// Connections of one kind at a time.
const CONNECTIONS: u64 = 48;
/// What one may take at most. What the kernel keeps for its socket is not in it.
const MOST_BYTES: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(30);

/// Short, so that the test need not wait.
const DEADLINES: &str = r#"
[timeouts]
handshake = "2s"
headers = "2s"
body_idle = "2s"
idle = "2s"
"#;

fn counted(stage: &Stage, kind: &Kind) -> Result<u64> {
    let status = stage.setup.json(&["status"])?;
    Ok(status["http"][kind.counter][kind.reason].as_u64().unwrap_or(0))
}

/// Bytes that each connection took, at the most.
async fn attack(stage: &Stage, kind: &Kind) -> Result<u64> {
    let agent = stage.agent.as_ref().map(Agent::id).context("no agent")?;
    let client = stage.client(2)?;
    let (already, before) = (counted(stage, kind)?, resident(agent)?);
    let (mut held, mut most) = (Vec::new(), 0);
    for _ in 0..CONNECTIONS {
        held.push((kind.strike)(client.clone()).await?);
        most = most.max(resident(agent)?);
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        most = most.max(resident(agent)?);
        let counted = counted(stage, kind)? - already;
        if counted >= CONNECTIONS {
            break;
        }
        ensure!(Instant::now() < deadline, "{counted} of {CONNECTIONS} were counted as {}", kind.reason);
        // What goes on by itself does so meanwhile.
        sleep(Duration::from_millis(50)).await;
    }
    let after = stage.client(3)?.get("/open/x", &[]).await?;
    ensure!(after.status == 200, "someone else is answered {}", after.status);
    Ok(most.saturating_sub(before) / CONNECTIONS)
}

#[test]
fn whoever_takes_without_end_is_ended_by_name_and_costs_little() {
    if !privilege::kernel_usable("attacks") {
        return;
    }
    let stage = Stage::new(&format!("{UNLIMITED}{DEADLINES}")).unwrap();
    let failures = inside(&stage.crowd, async || {
        let mut failures = Vec::new();
        for kind in &KINDS {
            match attack(&stage, kind).await {
                Ok(bytes) => {
                    println!("{:<44} {:>6} KiB a connection", kind.what, bytes >> 10);
                    if bytes > MOST_BYTES {
                        failures.push(format!("{}: {bytes} bytes a connection", kind.what));
                    }
                }
                Err(error) => failures.push(format!("{}: {error:#}", kind.what)),
            }
        }
        Ok(failures)
    });
    let failures = failures.unwrap();
    assert!(failures.is_empty(), "{failures:#?}");
}
