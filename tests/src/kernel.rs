//! The real BPF object under `BPF_PROG_TEST_RUN`, beside a real [`Filter`] that shares its maps.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow};
use auth_agent::config::{Kernel, Limits};
use auth_agent::edge::Rule;
use auth_agent::kernel::samples::{self, Ring, SampleSwitch};
use auth_agent::kernel::{Filter, OBJECT, resets, verify};
use auth_common::gcra::Limit;
use auth_common::layout;
use auth_common::verdict::{Reason, Verdict};
use aya::maps::{Array, Map, MapData};
use aya::programs::{ProgramInfo, TestRun, TestRunOptions, Xdp, loaded_programs};
use aya::{Ebpf, EbpfLoader};
use aya_obj::programs::xdp::XdpAttachType;

use crate::netns::{Namespace, unique};

/// The frame ends here.
pub const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
/// The frame goes back to where it came from.
pub const XDP_TX: u32 = 3;

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

/// The program, to run packets through; several threads can at once.
pub struct Program(Xdp);

impl From<Xdp> for Program {
    fn from(program: Xdp) -> Self {
        Self(program)
    }
}

impl Program {
    /// Runs one frame `repeat` times, and returns the last verdict.
    ///
    /// # Errors
    /// If the kernel refuses to run it.
    pub fn run(&self, frame: &[u8], repeat: u32) -> Result<u32> {
        let options = TestRunOptions { data_in: Some(frame), repeat, ..TestRunOptions::default() };
        Ok(self.0.test_run(options)?.return_value)
    }
}

/// A filter on the loopback of its own namespace, and its program to run packets through.
pub struct FilterUnderTest {
    /// The agent's side.
    pub filter: Filter,
    program: Program,
    /// Where sampled packets come out.
    pub ring: Ring,
    /// What turns sampling on.
    pub switch: SampleSwitch,
    // Dropped after the filter: the pins, then the namespace.
    pins: PinDirectory,
    namespace: Namespace,
}

impl FilterUnderTest {
    /// Starts one.
    ///
    /// # Errors
    /// What the filter says.
    pub fn start(kernel: Kernel, limits: &Limits, protected: &[u16], rules: &[Rule]) -> Result<Self> {
        Self::open(Namespace::new()?, PinDirectory::new(), kernel, limits, protected, rules)
    }

    /// Another agent in its place, which adopts what is there.
    ///
    /// # Errors
    /// What the filter says.
    pub fn restart(self, kernel: Kernel, limits: &Limits, protected: &[u16], rules: &[Rule]) -> Result<Self> {
        let Self { filter, pins, namespace, .. } = self;
        drop(filter);
        Self::open(namespace, pins, kernel, limits, protected, rules)
    }

    fn open(
        namespace: Namespace,
        pins: PinDirectory,
        kernel: Kernel,
        limits: &Limits,
        protected: &[u16],
        rules: &[Rule],
    ) -> Result<Self> {
        let kernel =
            Kernel { interfaces: vec!["lo".to_owned()], pin_directory: pins.path().to_owned(), ..kernel };
        let filter = namespace.run(|| {
            let (filter, unattached) = Filter::open(&kernel, limits, protected)?;
            filter.apply_rules(rules)?;
            drop(unattached.attach()?);
            Ok(filter)
        })?;
        let mut ebpf = load(pins.path(), OBJECT, resets(&kernel, limits), &[layout::PROGRAM], [])?;
        let (switch, ring) = samples::take(&mut ebpf)?;
        let program = ebpf.program(layout::PROGRAM).context("no program")?.info()?;
        let program = Program(of(program)?);
        Ok(Self { filter, program, ring, switch, pins, namespace })
    }

    /// The program, for another thread.
    ///
    /// # Errors
    /// If it is gone.
    pub fn another_program(&self) -> Result<Program> {
        Ok(Program(attached(&self.namespace)?))
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
            Verdict::Reset => XDP_TX,
        };
        if verdict != expected {
            return Err(anyhow!("{} was counted, and the verdict was {verdict}", reason.name()));
        }
        Ok(reason)
    }

    /// Runs one frame, and returns the verdict with what the program made of the frame.
    ///
    /// # Errors
    /// If the kernel refuses to run it.
    pub fn transform(&mut self, frame: &[u8]) -> Result<(u32, Vec<u8>)> {
        let mut made = vec![0; frame.len()];
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut made),
            repeat: 1,
            ..TestRunOptions::default()
        };
        let result = self.program.0.test_run(options)?;
        made.truncate(result.data_size_out as usize);
        Ok((result.return_value, made))
    }

    /// Runs one frame `repeat` times, and returns the last verdict.
    ///
    /// # Errors
    /// If the kernel refuses to run it.
    pub fn verdict(&mut self, frame: &[u8], repeat: u32) -> Result<u32> {
        self.program.run(frame, repeat)
    }

    /// The program.
    pub fn program(&self) -> &Xdp {
        &self.program.0
    }

    /// Loads programs of another object over the same maps; `sizes` are entries of that object's own maps.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn load_beside<'a>(
        &self,
        object: &[u8],
        programs: &[&str],
        sizes: impl IntoIterator<Item = (&'a str, u32)>,
    ) -> Result<Ebpf> {
        load(self.pins.path(), object, NO_RESETS, programs, sizes)
    }

    /// A map of the filter's.
    ///
    /// # Errors
    /// If it has none of that name.
    pub fn map(&self, name: &str) -> Result<MapData> {
        Ok(MapData::from_pin(self.pins.path().join("maps").join(name))?)
    }

    /// Instructions of the program as the kernel runs it, and as many as the verifier looked at to accept it.
    ///
    /// # Errors
    /// If the kernel does not tell.
    pub fn instructions(&self) -> Result<(u32, u32)> {
        let info = self.program.0.info()?;
        let size = info.size_translated().context("no size")?;
        Ok((size / 8, info.verified_instruction_count().context("no count")?))
    }

    /// Packets counted, by the reason's index.
    ///
    /// # Errors
    /// If a counter can't be read.
    pub fn counts(&self) -> Result<BTreeMap<usize, u64>> {
        Ok(self.filter.counters()?.into_iter().map(|(reason, packets)| (reason as usize, packets)).collect())
    }
}

const NO_RESETS: Limit = Limit { increment: 0, tolerance: 0 };

fn load<'a>(
    pins: &Path,
    object: &[u8],
    resets: Limit,
    programs: &[&str],
    sizes: impl IntoIterator<Item = (&'a str, u32)>,
) -> Result<Ebpf> {
    let resets = [resets.increment, resets.tolerance];
    let [_, shape @ ..] = meta(pins)?.get(&0, 0)?;
    let mut loader = EbpfLoader::new();
    for (map, entries) in sizes {
        loader.map_max_entries(map, entries);
    }
    let mut ebpf = loader
        .default_map_pin_directory(pins.join("maps"))
        // Another object need not answer anything.
        .override_global(layout::RESETS, &resets, false)
        .override_global(layout::SHAPE, &shape, true)
        .load(object)?;
    for name in programs {
        let program = ebpf.program_mut(name).with_context(|| format!("no program {name}"))?;
        verify(program.try_into()?)?;
    }
    Ok(ebpf)
}

/// The XDP program on a namespace's loopback.
///
/// # Errors
/// If there is none.
pub fn attached(namespace: &Namespace) -> Result<Xdp> {
    let output = Command::new("ip").args(["-n", namespace.name(), "-json", "link", "show", "lo"]).output()?;
    let links: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let id = links[0]["xdp"]["prog"]["id"].as_u64().context("no XDP program on lo")?;
    let program = loaded_programs()
        .filter_map(Result::ok)
        .find(|program| u64::from(program.id()) == id)
        .with_context(|| format!("program {id} is gone"))?;
    of(program)
}

fn of(program: ProgramInfo) -> Result<Xdp> {
    let name = Cow::Owned(program.name_as_str().unwrap_or_default().to_owned());
    Ok(Xdp::from_program_info(program, name, XdpAttachType::Interface)?)
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
fn meta(pins: &Path) -> Result<Array<MapData, [u64; 6]>> {
    let data = MapData::from_pin(pins.join("maps").join(layout::META))?;
    Ok(Array::try_from(Map::Array(data))?)
}
