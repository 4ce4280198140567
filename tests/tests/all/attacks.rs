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
use tokio::task::JoinSet;
use tokio::time::sleep;

use self::kinds::{KINDS, Kind};
use crate::http2::UNLIMITED;

/// Connections of one kind at a time.
const CONNECTIONS: u64 = 24;
const PATIENCE: Duration = Duration::from_secs(30);

/// Short, so that the test need not wait.
const DEADLINES: &str = r#"
[timeouts]
handshake = "4s"
headers = "2s"
body_idle = "2s"
idle = "2s"
"#;

/// Bytes that each connection took, at the most, of an agent that has had no others.
fn attack(stage: &mut Stage, kind: &Kind) -> Result<u64> {
    stage.restart()?;
    inside(&stage.crowd, async || {
        is_served(stage).await?;
        let agent = stage.agent.as_ref().map(Agent::id).context("no agent")?;
        let (client, before) = (stage.client(2)?, resident(agent)?);
        let strikes: JoinSet<_> = (0..CONNECTIONS).map(|_| (kind.strike)(client.clone())).collect();
        let _held = strikes.join_all().await.into_iter().collect::<Result<Vec<_>>>()?;
        let most = until_counted(stage, kind, agent).await?;
        is_served(stage).await?;
        Ok(most.saturating_sub(before) / CONNECTIONS)
    })
}

/// The most memory that the agent has meanwhile.
async fn until_counted(stage: &Stage, kind: &Kind, agent: u32) -> Result<u64> {
    let (deadline, mut most) = (Instant::now() + PATIENCE, 0);
    loop {
        most = most.max(resident(agent)?);
        let status = stage.setup.json(&["status"])?;
        let (http, reason) = (&status["http"], kind.reason);
        let counted = http[kind.counter][reason].as_u64().unwrap_or(0);
        if counted >= CONNECTIONS {
            return Ok(most);
        }
        ensure!(Instant::now() < deadline, "{counted} of {CONNECTIONS} are counted as {reason}: {http}");
        // What goes on by itself does so meanwhile.
        sleep(Duration::from_millis(50)).await;
    }
}

/// Someone else, who asks for little.
async fn is_served(stage: &Stage) -> Result<()> {
    let answer = stage.client(3)?.get("/open/x", &[]).await?;
    ensure!(answer.status == 200, "someone else is answered {}", answer.status);
    Ok(())
}

#[test]
fn whoever_takes_without_end_is_ended_by_name_and_costs_little() {
    if !privilege::kernel_usable("attacks") {
        return;
    }
    let mut stage = Stage::without_agent(&format!("{UNLIMITED}{DEADLINES}")).unwrap();
    let mut failures = Vec::new();
    for kind in &KINDS {
        match attack(&mut stage, kind) {
            Ok(bytes) => {
                println!("{:<44} {:>6} KiB a connection", kind.what, bytes >> 10);
                if bytes > kind.most_kib << 10 {
                    failures.push(format!("{}: {bytes} bytes a connection", kind.what));
                }
            }
            Err(error) => failures.push(format!("{}: {error:#}", kind.what)),
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}
