//! The generator: `BPF_PROG_TEST_RUN` with live frames, whose program paces itself and writes each packet's source.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use aya::maps::{Array, MapData};
use aya::programs::{TestRun, TestRunAttrs, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};

use super::attack::Attack;
use super::field::{ADDRESS, Field};
use crate::bench::system;
use crate::kernel::PinDirectory;

const PROGRAM: &str = "bench_flood";

/// Runs of the program for one flood. The first lasts as long as the flood should; others follow if its runner is late,
/// and nothing lasts longer than these, whatever becomes of the runner.
const RUNS: u32 = 20;
/// Packets that leave at once, and cost the receiver one wake-up, as with a network card that coalesces interrupts.
const BATCH: u32 = 64;

/// Sends floods.
pub struct Generator {
    cpu: usize,
    ebpf: Ebpf,
    flood: Array<MapData, [u64; 9]>,
    next: u64,
    per_second: u32,
    _pins: PinDirectory,
}

/// Where the number of the next packet is among a flood's words.
const NEXT: usize = 2;

impl Generator {
    /// Loads its program from the benchmark's object; it will keep to `cpu`.
    pub fn new(object: &[u8], cpu: usize, per_second: u32) -> Result<Self> {
        // The object's programs share the filter's maps, which are pinned; these are nobody else's.
        let pins = PinDirectory::new();
        let maps = pins.path().join("maps");
        fs::create_dir_all(&maps).with_context(|| maps.display().to_string())?;
        let loaded = EbpfLoader::new().default_map_pin_directory(&maps).load(object);
        let mut ebpf = loaded.context("the benchmark's object")?;
        let program = ebpf.program_mut(PROGRAM).with_context(|| format!("no program {PROGRAM}"))?;
        <&mut Xdp>::try_from(program)?.load()?;
        let flood = ebpf.take_map("FLOOD").context("the object has no map FLOOD")?.try_into()?;
        Ok(Self { cpu, ebpf, flood, next: 0, per_second, _pins: pins })
    }

    /// Packets so far.
    pub fn sent(&self) -> Result<u64> {
        Ok(self.flood.get(&0, 0)?[NEXT])
    }

    /// Floods while `work` works, which should take `time`. Unless they are `sent`, packets are made all the same and
    /// go nowhere, so that what making them costs the machine is part of what is undisturbed.
    pub fn during<T>(
        &mut self,
        attack: &Attack,
        field: &Field,
        sent: bool,
        time: Duration,
        work: impl FnOnce(&Self) -> Result<T>,
    ) -> Result<T> {
        let frame = attack.frame(ADDRESS);
        let interface = if sent { field.exit()? } else { 0 };
        let flood = attack.flood(&frame, interface, self.per_second, self.next);
        self.flood.set(0, flood.words(), 0)?;
        let program: &Xdp = self.ebpf.program(PROGRAM).context("no program")?.try_into()?;
        let stop = AtomicBool::new(false);
        // Before and after a run, the kernel waits for all CPUs to have left an old dispatcher of XDP programs: many
        // short runs would be pauses for the most part.
        let packets = (f64::from(self.per_second) * time.as_secs_f64()) as u32;
        let send = || {
            system::keep_on(0, self.cpu)?;
            // Or it would be late whenever anything else runs there.
            system::run_first(0)?;
            for _ in (0..RUNS).take_while(|_| !stop.load(Ordering::Relaxed)) {
                run(program, &frame, packets)?;
            }
            Ok(())
        };
        let done = thread::scope(|scope| {
            let sender = scope.spawn(|| field.attacker.run(send));
            let done = work(self);
            stop.store(true, Ordering::Relaxed);
            let sent = sender.join().map_err(|_| anyhow!("the generator panicked"))?;
            sent.context("the generator").and(done)
        })?;
        self.next = self.sent()?;
        Ok(done)
    }
}

fn run(program: &Xdp, frame: &[u8], packets: u32) -> Result<()> {
    let attrs = TestRunAttrs::new().xdp_live_frames(BATCH);
    let options =
        TestRunOptions { attrs, data_in: Some(frame), repeat: packets, ..TestRunOptions::default() };
    program.test_run(options).context("live frames need Linux 5.18 or later")?;
    Ok(())
}
