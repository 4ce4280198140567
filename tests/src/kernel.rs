//! The real BPF object under `BPF_PROG_TEST_RUN`, beside a real [`Filter`] that shares its maps.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use auth_agent::config::{Kernel, Limits};
use auth_agent::edge::Rule;
use auth_agent::kernel::samples::{self, Ring, SampleSwitch};
use auth_agent::kernel::{Filter, OBJECT};
use auth_common::layout;
use auth_common::verdict::{Reason, Verdict};
use aya::maps::{Array, Map, MapData};
use aya::programs::{TestRun, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};

use crate::netns::{Namespace, unique};

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;

/// A pin directory that goes away with its guard.
pub struct PinDirectory(PathBuf);

impl PinDirectory {
    /// Names one; it is made by whoever pins there.
    pub fn new() -> Self {
        Self(Path::new("/sys/fs/bpf").join(unique("auth-agent-test")))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Default for PinDirectory {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for PinDirectory {
    fn drop(&mut self) {
        if let Err(error) = auth_agent::kernel::detach(&self.0) {
            eprintln!("left behind: {error}");
        }
    }
}

/// A filter on the loopback of its own namespace, and its program to run packets through.
pub struct FilterUnderTest {
    ebpf: Ebpf,
    /// The agent's side.
    pub filter: Filter,
    /// Where sampled packets come out.
    pub ring: Ring,
    /// What turns sampling on.
    pub switch: SampleSwitch,
    // Dropped after the filter: the pins, then the namespace.
    _pins: PinDirectory,
    _namespace: Namespace,
}

impl FilterUnderTest {
    /// Starts one.
    ///
    /// # Errors
    /// What the filter says.
    pub fn start(kernel: Kernel, limits: &Limits, protected: &[u16], rules: &[Rule]) -> Result<Self> {
        let namespace = Namespace::new()?;
        let pins = PinDirectory::new();
        let kernel =
            Kernel { interfaces: vec!["lo".to_owned()], pin_directory: pins.path().to_owned(), ..kernel };
        let filter = namespace.run(|| {
            let (filter, unattached) = Filter::open(&kernel, limits, protected)?;
            filter.apply_rules(rules)?;
            unattached.attach()?;
            Ok(filter)
        })?;
        let mut ebpf = load(pins.path())?;
        let (switch, ring) = samples::take(&mut ebpf)?;
        Ok(Self { ebpf, filter, ring, switch, _namespace: namespace, _pins: pins })
    }

    /// Runs one frame, and returns the reason whose counter moved.
    ///
    /// # Errors
    /// If the kernel refuses to run it, the verdict is not that of the reason, or not one counter moved by one.
    pub fn run(&mut self, frame: &[u8]) -> Result<Reason> {
        let before = self.counts()?;
        let verdict = self.verdict(frame, 1)?;
        let moved: Vec<_> = self
            .counts()?
            .into_iter()
            .filter(|(reason, packets)| *packets != before[reason])
            .map(|(reason, packets)| (reason, packets - before[&reason]))
            .collect();
        let [(index, 1)] = moved.as_slice() else {
            return Err(anyhow!("one packet moved these counters: {moved:?}"));
        };
        let reason = Reason::ALL[*index];
        let expected = match reason.verdict() {
            Verdict::Drop => XDP_DROP,
            Verdict::Pass => XDP_PASS,
        };
        if verdict != expected {
            return Err(anyhow!("{} was counted, and the verdict was {verdict}", reason.name()));
        }
        Ok(reason)
    }

    /// Runs one frame `repeat` times, and returns the last verdict.
    ///
    /// # Errors
    /// If the kernel refuses to run it.
    pub fn verdict(&mut self, frame: &[u8], repeat: u32) -> Result<u32> {
        let program: &mut Xdp = self.ebpf.program_mut(layout::PROGRAM).context("no program")?.try_into()?;
        let options = TestRunOptions { data_in: Some(frame), repeat, ..TestRunOptions::default() };
        Ok(program.test_run(options)?.return_value)
    }

    /// Packets counted, by the reason's index.
    ///
    /// # Errors
    /// If a counter can't be read.
    pub fn counts(&self) -> Result<BTreeMap<usize, u64>> {
        Ok(self.filter.counters()?.into_iter().map(|(reason, packets)| (reason as usize, packets)).collect())
    }
}

/// Loads the object a second time, over the same maps.
fn load(pins: &Path) -> Result<Ebpf> {
    let [_, shape @ ..] = meta(pins)?.get(&0, 0)?;
    let mut ebpf = EbpfLoader::new()
        .default_map_pin_directory(pins.join("maps"))
        .override_global(layout::SHAPE, &shape, true)
        .load(OBJECT)?;
    let program: &mut Xdp = ebpf.program_mut(layout::PROGRAM).context("no program")?.try_into()?;
    program.load()?;
    Ok(ebpf)
}

/// Makes the pinned maps look like those of another version of the agent.
///
/// # Errors
/// If they are not there.
pub fn set_layout_version(pins: &Path, version: u32) -> Result<()> {
    let mut meta = meta(pins)?;
    let mut value = meta.get(&0, 0)?;
    value[0] = u64::from(version);
    Ok(meta.set(0, value, 0)?)
}

/// [`layout::META`] as words: the version (its upper half is padding), then the shape.
fn meta(pins: &Path) -> Result<Array<MapData, [u64; 5]>> {
    let data = MapData::from_pin(pins.join("maps").join(layout::META))?;
    Ok(Array::try_from(Map::Array(data))?)
}
