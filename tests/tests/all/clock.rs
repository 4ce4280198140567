//! Deadlines and debts, when the agent starts anew and when the host does (promises P7, P9 and P10).

use std::net::IpAddr;
use std::time::{Duration, Instant};

use auth_agent::clock::UnixTime;
use auth_agent::edge::{Action, Rule};
use auth_common::verdict::Reason;
use http::StatusCode;
use serde_json::Value;
use tests::client::inside;
use tests::frames::{ACK, Ip, tcp};
use tests::kernel::FilterUnderTest;
use tests::privilege;
use tests::stage::Stage;

use super::filter::{kernel, limits};

const CLIENT: u8 = 3;
const CLIENT_ADDRESS: &str = "10.77.0.3";
const BANNED: &str = "203.0.113.9";
const REQUESTS: usize = 90;
const PATIENCE: Duration = Duration::from_secs(20);

fn show(stage: &Stage, source: &str) -> Value {
    stage.setup.json(&["source", "show", source]).unwrap()
}

/// When the kernel lets go of a source, in seconds since 1970.
fn until(stage: &Stage, source: &str) -> Option<u64> {
    show(stage, source)["banned_until"].as_u64()
}

/// A debt of requests, and between which two moments it was read.
struct Reading {
    after: Instant,
    before: Instant,
    debt: Duration,
}

impl Reading {
    fn take(stage: &Stage) -> Self {
        let before = Instant::now();
        let shown = show(stage, CLIENT_ADDRESS);
        let debt = shown["debts"]["requests"]["debt_ns"].as_u64().unwrap();
        Self { after: Instant::now(), before, debt: Duration::from_nanos(debt) }
    }

    /// What time pays is all that is missing since.
    fn assert_only_time_has_paid_since(&self, earlier: &Self, what: &str) {
        let paid = earlier.debt.checked_sub(self.debt).unwrap();
        let least = self.before - earlier.after;
        let most = self.after - earlier.before;
        assert!(
            self.debt > Duration::ZERO && (least..=most).contains(&paid),
            "{what}: {paid:?}, not {least:?}..={most:?}"
        );
    }
}

fn owe_requests(stage: &Stage) {
    let client = stage.client(CLIENT).unwrap();
    inside(&stage.crowd, async || {
        let mut session = client.connect().await?;
        for _ in 0..REQUESTS {
            session.get(&client, "/open", &[]).await?;
        }
        Ok(())
    })
    .unwrap();
}

fn wait_until(time: u64) {
    let deadline = Instant::now() + PATIENCE;
    while UnixTime::now().0 < time {
        assert!(Instant::now() < deadline, "the clock stands still");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn deadlines_and_debts_are_the_same_after_the_agent_ends_or_is_killed_and_starts_again() {
    if !privilege::kernel_usable("deadlines across restarts") {
        return;
    }
    let mut stage = Stage::new("").unwrap();
    stage.setup.json(&["ban", "add", BANNED, "--for", "1h"]).unwrap();
    let banned = until(&stage, BANNED).unwrap();
    owe_requests(&stage);
    let mut earlier = Reading::take(&stage);
    for way in ["ended", "killed"] {
        let mut agent = stage.agent.take().unwrap();
        if way == "ended" {
            agent.terminate().unwrap();
            assert!(agent.wait().unwrap().success());
        } else {
            agent.kill().unwrap();
        }
        stage.restart().unwrap();
        let reading = Reading::take(&stage);
        reading.assert_only_time_has_paid_since(&earlier, way);
        earlier = reading;
        let now = until(&stage, BANNED).unwrap();
        assert!(now.abs_diff(banned) <= 1, "{way}: banned until {banned}, then {now}");
    }
}

/// A reboot takes the maps and their pins away, and nothing else.
#[test]
fn after_a_reboot_bans_go_on_from_the_wall_clock_and_debts_are_forgotten() {
    if !privilege::kernel_usable("deadlines across a reboot") {
        return;
    }
    let mut stage = Stage::new("").unwrap();
    let ban = |source: &str, length: &str| {
        let added = stage.setup.json(&["ban", "add", source, "--for", length]).unwrap();
        added["until"].as_u64().unwrap()
    };
    let short = ban("10.77.0.5", "2s");
    let long = ban("10.77.0.6", "1h");
    owe_requests(&stage);
    stage.kill().unwrap();
    stage.setup.json(&["detach"]).unwrap();
    wait_until(short + 1);
    stage.restart().unwrap();

    assert_eq!(until(&stage, "10.77.0.5"), None);
    let now = until(&stage, "10.77.0.6").unwrap();
    assert!(now.abs_diff(long) <= 1, "banned until {long}, then {now}");
    let debt = &show(&stage, CLIENT_ADDRESS)["debts"]["requests"]["debt_ns"];
    assert_eq!(debt, 0);
    let answer = stage.client(5).unwrap().get_from(&stage.crowd, "/open", &[]).unwrap();
    assert_eq!(answer.status, StatusCode::OK);
    stage.client(6).unwrap().get_from(&stage.crowd, "/open", &[]).unwrap_err();
}

/// Nobody tells the kernel that a ban is over.
#[test]
fn a_ban_ends_in_the_kernel_in_the_second_of_its_deadline_or_the_next() {
    if !privilege::kernel_usable("the end of a ban") {
        return;
    }
    let mut filter = FilterUnderTest::start(kernel(), &limits(), &[], &[]).unwrap();
    let source: IpAddr = BANNED.parse().unwrap();
    let frame = Ip::new(BANNED, "10.0.0.1", 6, tcp(40_000, 9_000, ACK)).frame();
    let until = UnixTime(UnixTime::now().0 + 2);
    let rule = Rule { action: Action::Ban { until: Some(until) }, network: source.into() };
    filter.filter.apply_rules(&[rule]).unwrap();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let before = UnixTime::now();
        let reason = filter.run(&frame).unwrap();
        if reason == Reason::WithinBudget {
            assert!(UnixTime::now() >= until, "let go too early");
            return;
        }
        assert_eq!(reason, Reason::Banned);
        assert!(before.0 <= until.0 + 1, "still banned");
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(50));
    }
}
