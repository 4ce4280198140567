//! A steady stream of packets while agents come and go: none gets past the filter (promise P9).

use std::fs::File;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tests::agent::Setup;
use tests::frames::{Ip, SYN, tcp};
use tests::wire::{NEAR, Wire};
use tests::{privilege, system};

const UPSTREAM: &str = "http://127.0.0.1:9000";
const HERE: &str = "10.255.0.1";
const HTTPS: u16 = 8_443;
/// Between two packets of one kind.
const PAUSE: Duration = Duration::from_micros(200);
/// Packets of each kind that come in each state of the agent, at least.
const ENOUGH: u64 = 300;
const PATIENCE: Duration = Duration::from_secs(20);

/// Packets to a plaintext port, and as many from a banned source, without end.
struct Stream {
    /// Of each kind.
    sent: AtomicU64,
    ended: AtomicBool,
}

impl Stream {
    fn flow(&self, mut wire: File) {
        let [plaintext, banned] = [plaintext(), banned()];
        while !self.ended.load(Ordering::Relaxed) {
            wire.write_all(&plaintext).unwrap();
            wire.write_all(&banned).unwrap();
            self.sent.fetch_add(1, Ordering::Relaxed);
            thread::sleep(PAUSE);
        }
    }

    /// Waits until many more have been sent.
    fn goes_on(&self) {
        let wanted = self.sent.load(Ordering::Relaxed) + ENOUGH;
        let deadline = Instant::now() + PATIENCE;
        while self.sent.load(Ordering::Relaxed) < wanted {
            assert!(Instant::now() < deadline, "the stream has stopped");
            thread::sleep(PAUSE);
        }
    }
}

fn plaintext() -> Vec<u8> {
    Ip::new("10.1.0.1", HERE, 6, tcp(40_000, 80, SYN)).summed().frame()
}

fn banned() -> Vec<u8> {
    Ip::new("10.2.0.1", HERE, 6, tcp(40_000, HTTPS, SYN)).summed().frame()
}

/// Ends the stream also when the test fails: its thread would be waited for without end.
struct End<'a>(&'a Stream);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::Relaxed);
    }
}

fn program(setup: &Setup) -> u64 {
    let status = setup.json(&["status"]).unwrap();
    status["filter"]["interfaces"][0]["program_id"].as_u64().unwrap()
}

/// Kills, ends and starts agents, under the stream; returns the programs that they put in place.
fn come_and_go(setup: &Setup, wire: &Wire, stream: &Stream) -> Vec<u64> {
    let mut programs = Vec::new();
    let mut start = |more: &str| {
        setup.configure(NEAR, "native", UPSTREAM, more).unwrap();
        let agent = setup.start(&wire.host).unwrap();
        programs.push(program(setup));
        stream.goes_on();
        agent
    };
    // Killed three times, so that one is killed at some other moment of its start.
    for _ in 0..3 {
        start("").kill().unwrap();
        stream.goes_on();
    }
    for more in ["", "[limits.packets]\nrate = \"9/s\"\n"] {
        let mut agent = start(more);
        agent.terminate().unwrap();
        assert!(agent.wait().unwrap().success());
        stream.goes_on();
    }
    start("").kill().unwrap();
    programs
}

#[test]
fn no_packet_of_a_steady_stream_gets_past_while_agents_are_killed_restarted_and_replaced() {
    if !privilege::kernel_usable("a steady stream") {
        return;
    }
    let mut wire = Wire::new().unwrap();
    let setup = Setup::new(&["localhost"]).unwrap();
    setup.configure(NEAR, "native", UPSTREAM, "").unwrap();
    let agent = setup.start(&wire.host).unwrap();
    setup.json(&["ban", "add", "10.2.0.0/16", "--for", "1h"]).unwrap();

    let stream = Stream { ended: AtomicBool::new(false), sent: AtomicU64::new(0) };
    let sender = wire.sender().unwrap();
    let programs = thread::scope(|scope| {
        let _end = End(&stream);
        scope.spawn(|| stream.flow(sender));
        stream.goes_on();
        agent.kill().unwrap();
        stream.goes_on();
        come_and_go(&setup, &wire, &stream)
    });
    assert!(
        programs.windows(2).all(|pair| pair[0] != pair[1]),
        "every agent brings its program: {programs:?}"
    );

    let sent = stream.sent.into_inner();
    let agent = setup.start(&wire.host).unwrap();
    assert_eq!(setup.counter("plaintext-port").unwrap(), sent);
    assert_eq!(setup.counter("banned").unwrap(), sent);
    // From here on, one CPU: what is sent first is seen first.
    system::stay_on_this_cpu().unwrap();
    let reached = wire.send(&[]).unwrap();
    assert_eq!(reached, [], "{} of {sent} packets of each kind reached the host", reached.len());
    println!("{sent} packets of each kind, none of which reached the host");

    // The stream would have been seen.
    agent.kill().unwrap();
    setup.json(&["detach"]).unwrap();
    let seen = wire.send(&[plaintext(), banned()]).unwrap();
    let ports: Vec<_> = seen.iter().map(|view| view.destination.port()).collect();
    assert_eq!(ports, [80, HTTPS]);
}
