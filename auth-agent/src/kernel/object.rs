//! The BPF object that this binary carries, and loading it into the kernel.

use std::io::ErrorKind;
use std::path::Path;

use auth_common::gcra::Limit;
use auth_common::layout::{self, Meta};
use auth_common::source::ipv6_mask;
use auth_common::table::{LINES_PER_GROUP, Shape};
use aya::maps::{Array, Map, MapData};
use aya::programs::{ProgramError, Xdp};
use aya::{Ebpf, EbpfError, EbpfLoader};

use super::error::FilterError;
use super::pins::Pins;
use super::values::Value;
use crate::config::Kernel;

/// The object, as `cargo xtask build` made it.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/auth-ebpf"));

/// A loaded program and the shape of its source table.
pub struct Loaded {
    /// aya's handle on the maps and the program.
    pub ebpf: Ebpf,
    /// The shape: that of the pinned table, if there was one.
    pub shape: Shape,
}

/// Loads the program over the pinned maps, making them where they are missing. `resets` limits what plaintext ports
/// answer; an increment of 0: nothing.
///
/// # Errors
/// Layout, rights, and whatever the kernel refuses.
pub fn load(pins: &Pins, kernel: &Kernel, resets: Limit) -> Result<Loaded, FilterError> {
    let shape = match pinned_shape(pins)? {
        Some(shape) => shape,
        None => shape(kernel, new_secret()?),
    };
    let mut ebpf = EbpfLoader::new()
        .default_map_pin_directory(pins.maps())
        .override_global(layout::RESETS, &Value(resets), true)
        .override_global(layout::SHAPE, &Value(shape), true)
        .map_max_entries(layout::SOURCES, shape.group_mask as u32 + 1)
        .load(OBJECT)
        .map_err(|error| refused(&error))?;
    verify(program(&mut ebpf)?).map_err(|error| program_refused(&error))?;

    // Last: maps without it are taken for the remains of a start that was cut short.
    let mut meta = array::<Meta>(&mut ebpf, layout::META)?;
    let value = Meta { version: layout::VERSION, reserved: 0, shape };
    meta.set(0, Value(value), 0).map_err(|error| FilterError::map(layout::META, error))?;
    Ok(Loaded { ebpf, shape })
}

/// How often the verifier may be interrupted; libbpf gives it as many tries.
const ATTEMPTS: usize = 5;

/// Loads a program. The verifier takes a good part of a second, and gives up with EAGAIN if a signal comes meanwhile
/// (kernel/bpf/verifier.c, `do_check`).
///
/// # Errors
/// What the kernel says.
pub fn verify(program: &mut Xdp) -> Result<(), ProgramError> {
    let mut result = program.load();
    for _ in 1..ATTEMPTS {
        match result {
            Err(ProgramError::LoadError { ref io_error, .. }) if io_error.kind() == ErrorKind::WouldBlock => {
                result = program.load();
            }
            _ => break,
        }
    }
    result
}

/// The XDP program of a loaded object.
///
/// # Errors
/// [`FilterError::Load`] if the object has none; that would be a broken build.
pub fn program(ebpf: &mut Ebpf) -> Result<&mut Xdp, FilterError> {
    ebpf.program_mut(layout::PROGRAM)
        .and_then(|program| program.try_into().ok())
        .ok_or_else(|| broken(format!("the object has no program {}", layout::PROGRAM)))
}

/// Takes an array map out of a loaded object.
///
/// # Errors
/// [`FilterError::Map`].
pub fn array<T>(ebpf: &mut Ebpf, name: &'static str) -> Result<Array<MapData, Value<T>>, FilterError>
where
    Value<T>: aya::Pod,
{
    Array::try_from(take(ebpf, name)?).map_err(|error| FilterError::map(name, error))
}

/// Takes a map out of a loaded object.
///
/// # Errors
/// [`FilterError::Load`] if the object has none; that would be a broken build.
pub fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<Map, FilterError> {
    ebpf.take_map(name).ok_or_else(|| broken(format!("the object has no map {name}")))
}

fn broken(detail: String) -> FilterError {
    FilterError::Load { cure: "rebuild with `cargo xtask build`", detail }
}

/// The shape of the pinned table. Maps that no agent finished setting up are removed.
fn pinned_shape(pins: &Pins) -> Result<Option<Shape>, FilterError> {
    let path = pins.maps().join(layout::META);
    if !path.exists() {
        return start_afresh(pins);
    }
    match read_meta(&path) {
        Ok(Meta { version: layout::VERSION, shape, .. }) => Ok(Some(shape)),
        Ok(Meta { version: 0, .. }) => start_afresh(pins),
        Ok(Meta { version, .. }) => Err(FilterError::Layout { found: version, path }),
        Err(error @ FilterError::NotPermitted) => Err(error),
        // Another size: a layout so different that not even its version can be read.
        Err(_) => Err(FilterError::Layout { found: 0, path }),
    }
}

fn start_afresh(pins: &Pins) -> Result<Option<Shape>, FilterError> {
    // A start that was cut short has attached nothing yet.
    if !pins.links()?.is_empty() {
        tracing::warn!(
            path = %pins.maps().display(),
            "the filter is attached, but its pinned maps are damaged: every debt in them is forgotten"
        );
    }
    pins.remove_maps()?;
    Ok(None)
}

fn read_meta(path: &Path) -> Result<Meta, FilterError> {
    let data = MapData::from_pin(path).map_err(|error| match not_permitted(&error) {
        true => FilterError::NotPermitted,
        false => FilterError::map(layout::META, error),
    })?;
    let meta: Array<_, Value<Meta>> =
        Array::try_from(Map::Array(data)).map_err(|error| FilterError::map(layout::META, error))?;
    Ok(meta.get(&0, 0).map_err(|error| FilterError::map(layout::META, error))?.0)
}

/// The shape that the configuration asks for.
pub fn shape(kernel: &Kernel, secret: [u64; 2]) -> Shape {
    let groups = u64::from(kernel.sources.get()) / LINES_PER_GROUP as u64;
    Shape {
        group_mask: groups - 1,
        ipv6_mask: ipv6_mask(kernel.ipv6_prefix),
        ipv6_site_mask: ipv6_mask(kernel.ipv6_site),
        secret,
    }
}

fn new_secret() -> Result<[u64; 2], FilterError> {
    let mut secret = [[0; 8]; 2];
    for word in &mut secret {
        aws_lc_rs::rand::fill(word).map_err(|_| FilterError::Load {
            cure: "look at the host's entropy source",
            detail: "no random numbers to be had".to_owned(),
        })?;
    }
    Ok(secret.map(u64::from_ne_bytes))
}

/// Whether an error anywhere down the chain is EPERM.
fn not_permitted(error: &(dyn std::error::Error + 'static)) -> bool {
    let chain = std::iter::successors(Some(error), |error| error.source());
    chain
        .filter_map(|error| error.downcast_ref::<std::io::Error>())
        .any(|error| error.kind() == ErrorKind::PermissionDenied)
}

fn refused(error: &EbpfError) -> FilterError {
    if not_permitted(error) {
        return FilterError::NotPermitted;
    }
    FilterError::Load { cure: KERNEL_CURE, detail: one_line(error) }
}

fn program_refused(error: &ProgramError) -> FilterError {
    match error {
        // The log is pages long; its last lines say what the verifier did not accept.
        ProgramError::LoadError { io_error, verifier_log } => {
            if io_error.kind() == ErrorKind::PermissionDenied && verifier_log.to_string().is_empty() {
                return FilterError::NotPermitted;
            }
            let log = verifier_log.to_string();
            let statistics = ["verification time", "stack depth", "processed"];
            let telling = |line: &&str| !statistics.iter().any(|start| line.starts_with(start));
            let last: Vec<_> =
                log.lines().filter(telling).collect::<Vec<_>>().into_iter().rev().take(3).collect();
            let last: Vec<_> = last.into_iter().rev().collect();
            FilterError::Load { cure: KERNEL_CURE, detail: format!("{io_error}: {}", last.join(" | ")) }
        }
        error if not_permitted(error) => FilterError::NotPermitted,
        error => FilterError::Load { cure: KERNEL_CURE, detail: one_line(error) },
    }
}

const KERNEL_CURE: &str =
    "it needs Linux 5.15 or later with CONFIG_BPF_SYSCALL and BTF (`uname -r` shows yours)";

fn one_line(error: &dyn std::error::Error) -> String {
    let chain = std::iter::successors(Some(error), |error| error.source());
    chain.map(|error| error.to_string().replace('\n', " ")).collect::<Vec<_>>().join(": ")
}
