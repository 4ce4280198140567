//! Limits by network, from the configuration and the command line to requests and packets (promises P5, P7 and P10).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use http::StatusCode;
use ipnet::IpNet;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value;
use tests::agent::{Agent, Setup};
use tests::client::{Client, inside};
use tests::frames::{ACK, Ip, tcp};
use tests::kernel::{Program, attached};
use tests::netns::Namespace;
use tests::privilege;
use tests::stage::Stage;

/// So many requests in a row are let through; then comes 429.
fn admitted(stage: &Stage, client: &Client) -> Result<u32> {
    inside(&stage.crowd, async || {
        let mut session = client.connect().await?;
        for admitted in 0..500 {
            let answer = session.get(client, "/open", &[]).await?;
            if answer.status == StatusCode::TOO_MANY_REQUESTS {
                return Ok(admitted);
            }
            ensure!(answer.status == StatusCode::OK, "{answer:?}");
        }
        Ok(500)
    })
}

const PARTNERS: &str = r#"
[limits.requests]
rate = "20/h"
drop_after = 1000
[[class]]
name = "partners"
networks = ["10.77.0.4/31", "fd77::/64"]
requests = { rate = "40/h" }
"#;

#[test]
fn each_client_has_the_requests_of_its_class_by_configuration_and_by_command_and_after_a_restart() {
    if !privilege::kernel_usable("classes on the wire") {
        return;
    }
    let mut stage = Stage::new(PARTNERS).unwrap();
    let [everyone, partner] = [3, 4].map(|number| stage.client(number).unwrap());
    assert_eq!(admitted(&stage, &everyone).unwrap(), 20);
    assert_eq!(admitted(&stage, &partner).unwrap(), 40);
    assert_eq!(admitted(&stage, &stage.client6(0, 3).unwrap()).unwrap(), 40);
    assert_eq!(admitted(&stage, &stage.client6(1, 3).unwrap()).unwrap(), 20);

    let set = ["limit", "set", "10.77.0.6", "--requests", "60/h", "--requests-drop-after", "1000"];
    stage.setup.json(&set).unwrap();
    // Wins over the configuration, which comes back when it is removed.
    stage
        .setup
        .json(&["limit", "set", "10.77.0.4/31", "--requests", "30/h", "--requests-burst", "50"])
        .unwrap();
    stage.setup.json(&["limit", "set", "10.77.0.0/24", "--requests", "25/h"]).unwrap();
    stage.restart().unwrap();
    for (number, requests, class) in
        [(6, 60, "10.77.0.6/32"), (5, 50, "10.77.0.4/31"), (7, 25, "10.77.0.0/24")]
    {
        let client = stage.client(number).unwrap();
        assert_eq!(admitted(&stage, &client).unwrap(), requests, "{class}");
        let shown = stage.setup.json(&["source", "show", &client.source().to_string()]).unwrap();
        assert_eq!(shown["class"], class);
        assert_eq!(shown["debts"]["requests"]["burst"], requests, "{shown}");
        let shown = stage.setup.json(&["limit", "show", &client.source().to_string()]).unwrap();
        assert_eq!(shown["limits"][0]["class"], class, "{shown}");
    }
    // The class and the debt are two things: who is put into another class owes what it owed.
    stage.setup.json(&["limit", "remove", "10.77.0.6"]).unwrap();
    assert_eq!(admitted(&stage, &stage.client(6).unwrap()).unwrap(), 0);
}

#[test]
fn who_goes_on_beyond_the_limits_of_its_class_is_dropped_at_the_nic_and_others_are_not() {
    if !privilege::kernel_usable("escalation by class on the wire") {
        return;
    }
    let stage = Stage::new("").unwrap();
    let set = ["--requests", "5/h", "--requests-drop-after", "5", "--requests-drop-for", "1h"];
    stage.setup.json(&[&["limit", "set", "10.77.0.4"], &set[..]].concat()).unwrap();
    let [everyone, limited] = [3, 4].map(|number| stage.client(number).unwrap());
    let persist = |client: &Client| {
        inside(&stage.crowd, async || {
            let mut session = client.connect().await?;
            for _ in 0..20 {
                session.get(client, "/open", &[]).await?;
            }
            Ok(())
        })
    };
    persist(&everyone).unwrap();
    persist(&limited).unwrap_err();
    assert!(stage.setup.counter("request-debt").unwrap() > 0);
    everyone.get_from(&stage.crowd, "/open", &[]).unwrap();
}

/// What one step of an operator's day is.
#[derive(Clone, Debug)]
enum Step {
    Allow(IpNet),
    Ban(IpNet),
    BanThatIsOver(IpNet),
    Limit(IpNet),
    Remove(usize),
    Restart,
}

fn networks() -> impl Strategy<Value = IpNet> {
    prop_oneof![
        (0u32..4, 12u8..=32)
            .prop_map(|(bits, length)| IpNet::new(IpAddr::V4((10 << 24 | bits << 16 | bits).into()), length)),
        (0u128..4, 32u8..=64).prop_map(|(bits, length)| {
            IpNet::new(IpAddr::V6((0x2001 << 112 | bits << 80 | bits << 64).into()), length)
        }),
    ]
    .prop_map(|network| network.unwrap().trunc())
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => networks().prop_map(Step::Allow),
        3 => networks().prop_map(Step::Ban),
        1 => networks().prop_map(Step::BanThatIsOver),
        3 => networks().prop_map(Step::Limit),
        3 => any::<usize>().prop_map(Step::Remove),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 4..12)
}

/// More than the test sends. At the rate of [`Step::Limit`], since a debt is time and stays when a limit goes.
const GENEROUS: &str = "[limits.packets]\nrate = \"1/h\"\nburst = 700\n";

/// An agent on the loopback of its own namespace, and its program to run packets through.
struct Host {
    agent: Option<Agent>,
    namespace: Namespace,
    program: Program,
    setup: Setup,
}

impl Host {
    fn start() -> Result<Self> {
        let (namespace, setup) = (Namespace::new()?, Setup::new(&["localhost"])?);
        setup.configure("lo", "generic", "http://127.0.0.1:9000", GENEROUS)?;
        let agent = setup.start(&namespace)?;
        let program = Program::from(attached(&namespace)?);
        Ok(Self { agent: Some(agent), namespace, program, setup })
    }

    fn take(&mut self, step: &Step) -> Result<()> {
        let json = |arguments: &[&str]| self.setup.json(arguments).map(drop);
        match step {
            Step::Allow(network) => json(&["allow", "add", &network.to_string()]),
            Step::Ban(network) => json(&["ban", "add", &network.to_string(), "--force"]),
            Step::BanThatIsOver(network) => {
                json(&["ban", "add", &network.to_string(), "--force", "--for", "1s"])?;
                self.until_over()
            }
            Step::Limit(network) => json(&["limit", "set", &network.to_string(), "--packets-burst", "1"]),
            Step::Remove(which) => self.remove(*which),
            Step::Restart => {
                self.agent.take().context("no agent")?.kill()?;
                self.agent = Some(self.setup.start(&self.namespace)?);
                self.program = Program::from(attached(&self.namespace)?);
                Ok(())
            }
        }
    }

    fn listed(&self, verb: &str) -> Result<Vec<(IpNet, Value)>> {
        let (list, field) = match verb {
            "limit" => ("show", "limits".to_owned()),
            verb => ("list", format!("{verb}s")),
        };
        let answer = self.setup.json(&[verb, list])?;
        let rows = answer[&field].as_array().context("no list")?.iter();
        rows.filter_map(|row| Some((row["network"].as_str()?, row)))
            .map(|(network, row)| Ok((network.parse()?, row.clone())))
            .collect()
    }

    fn until_over(&self) -> Result<()> {
        let deadline = Instant::now() + LATENESS;
        while self.listed("ban")?.iter().any(|(_, ban)| !ban["until"].is_null()) {
            ensure!(Instant::now() < deadline, "a ban of a second is still listed");
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn remove(&self, which: usize) -> Result<()> {
        let mut all = Vec::new();
        for verb in ["allow", "ban", "limit"] {
            all.extend(self.listed(verb)?.into_iter().map(|(network, _)| (verb, network)));
        }
        if let Some((verb, network)) = all.get(which % all.len().max(1)) {
            self.setup.json(&[verb, "remove", &network.to_string()])?;
        }
        Ok(())
    }

    /// What the lists mean for an address, as the operator reads them.
    fn meant(&self) -> Result<impl Fn(IpAddr) -> &'static str> {
        let mut lists = BTreeMap::new();
        for verb in ["allow", "ban", "limit"] {
            lists.insert(verb, self.listed(verb)?);
        }
        Ok(move |address: IpAddr| {
            let covers = |verb| lists[verb].iter().any(|(network, _)| network.contains(&address));
            if covers("allow") {
                "allowed"
            } else if covers("ban") {
                "banned"
            } else if covers("limit") {
                "limited"
            } else {
                "free"
            }
        })
    }

    /// What the kernel does with packets of an address: enough of them for the limit of [`Step::Limit`].
    fn observed(&self, address: IpAddr) -> Result<&'static str> {
        const XDP_PASS: u32 = 2;
        let here = if address.is_ipv4() { "10.255.0.1" } else { "fd00::1" };
        let frame = Ip::new(&address.to_string(), here, 6, tcp(40_000, 9_000, ACK)).frame();
        let passes = self.program.run(&frame, 3)? == XDP_PASS;
        let rule = self.setup.json(&["source", "show", &address.to_string()])?["rule"].clone();
        Ok(match (rule.as_str(), passes) {
            (Some("allowed"), true) => "allowed",
            (Some("banned"), false) => "banned",
            (Some("none"), true) => "free",
            (Some("none"), false) => "limited",
            _ => "at odds with what the agent says",
        })
    }
}

/// How much later than the list a ban may end in the kernel, with some room for a slow machine.
const LATENESS: Duration = Duration::from_secs(10);

#[test]
fn what_the_lists_print_is_what_the_kernel_enforces_through_any_changes_and_restarts() {
    if !privilege::kernel_usable("lists and the kernel") {
        return;
    }
    let host = std::cell::RefCell::new(Host::start().unwrap());
    let addresses = prop::collection::vec((0u8..4, 0u8..4, any::<bool>()), 1..4);
    let steps = steps().prop_flat_map(move |steps| {
        let addresses = prop::collection::vec(addresses.clone(), steps.len());
        (Just(steps), addresses)
    });
    let config = Config { cases: 6, failure_persistence: None, max_shrink_iters: 0, ..Config::default() };
    let outcome = TestRunner::new(config).run(&steps, |(steps, addresses)| {
        let mut host = host.borrow_mut();
        for (step, addresses) in steps.iter().zip(addresses) {
            host.take(step).map_err(|error| TestCaseError::fail(format!("{step:?}: {error:#}")))?;
            let meant = host.meant().unwrap();
            for (high, low, v4) in addresses {
                let [high, low] = [high, low].map(u128::from);
                let address: IpAddr = match v4 {
                    true => IpAddr::V4(((10 << 24) | (high as u32) << 16 | low as u32).into()),
                    false => IpAddr::V6((0x2001 << 112 | high << 80 | low << 64 | 1).into()),
                };
                let deadline = Instant::now() + LATENESS;
                let mut observed = host.observed(address).unwrap();
                // A ban ends in the kernel up to a second later than by the store's clock, which counts seconds.
                while matches!(step, Step::BanThatIsOver(_))
                    && observed != meant(address)
                    && Instant::now() < deadline
                {
                    std::thread::sleep(Duration::from_millis(50));
                    observed = host.observed(address).unwrap();
                }
                prop_assert_eq!(observed, meant(address), "{} after {:?}", address, step);
            }
        }
        Ok(())
    });
    outcome.unwrap();
}
