//! What the maps take.

use std::fs;
use std::os::fd::{AsFd, AsRawFd};

use anyhow::{Context, Result, bail};
use auth_common::layout;
use auth_common::table::{LINES_PER_GROUP, Line};
use aya::maps::{LpmTrie, Map, MapData};

use super::subject::{BUCKETS, Subjects};

/// Bytes, as the kernel states them.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Of a source.
    pub source_line: usize,
    /// Lines of the table.
    pub source_lines: usize,
    /// Of the whole table.
    pub source_table: u64,
    /// Entries of the block list.
    pub block_list_entries: usize,
    /// Of an entry of the block list.
    pub block_list_entry: f64,
    /// Of an entry of the baseline's map.
    pub lru_entry: f64,
}

impl Memory {
    /// Reads it from the kernel.
    pub fn of(subjects: &Subjects) -> Result<Self> {
        let table = subjects.plain.filter.map(layout::SOURCES)?;
        let rules = subjects.listed.filter.map(layout::RULES)?;
        let rules_bytes = locked(&rules)?;
        let rules = LpmTrie::<_, [u8; 16], [u64; 2]>::try_from(Map::LpmTrie(rules))?;
        let entries = rules.iter().count();
        let buckets = subjects.plain.bench.map(BUCKETS).context("the object has no map BUCKETS")?;
        let Map::LruHashMap(buckets) = buckets else { bail!("{BUCKETS} is no LRU hash") };
        Ok(Self {
            source_line: size_of::<Line<u64>>(),
            source_lines: table.info()?.max_entries() as usize * LINES_PER_GROUP,
            source_table: locked(&table)?,
            block_list_entries: entries,
            block_list_entry: rules_bytes as f64 / entries.max(1) as f64,
            lru_entry: locked(buckets)? as f64 / f64::from(buckets.info()?.max_entries()),
        })
    }
}

/// Bytes of a map (`memlock` of Documentation/bpf/map usage in fdinfo).
fn locked(map: &MapData) -> Result<u64> {
    let descriptor = map.fd().as_fd().as_raw_fd();
    let facts = fs::read_to_string(format!("/proc/self/fdinfo/{descriptor}"))?;
    let bytes = facts.lines().find_map(|line| line.strip_prefix("memlock:"));
    Ok(bytes.context("the kernel does not say how large a map is")?.trim().parse()?)
}
