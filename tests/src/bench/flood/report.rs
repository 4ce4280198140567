//! What was found, as a table and as JSON.

use std::fmt;

use serde_json::{Map, Value, json};

use super::attack::{ATTACKS, UNDISTURBED, Variant};
use super::{Sample, Scale};
use crate::bench::machine;
use crate::bench::spread::Spread;

/// The samples of each cell.
#[derive(Default)]
pub struct Cells(Vec<Measured>);

struct Measured {
    flood: &'static str,
    variant: Variant,
    sample: Sample,
    share: Option<f64>,
}

impl Cells {
    /// Adds a measurement, with its share of what is undisturbed.
    pub fn add(&mut self, flood: &'static str, variant: Variant, sample: Sample, share: Option<f64>) {
        self.0.push(Measured { flood, variant, sample, share });
    }

    fn cell(&self, flood: &'static str, variant: Variant) -> Option<Cell> {
        let measured: Vec<_> =
            self.0.iter().filter(|cell| cell.flood == flood && cell.variant == variant).collect();
        let spread =
            |of: fn(&Sample) -> f64| Spread::of(measured.iter().map(|cell| of(&cell.sample)).collect());
        let median = |of| spread(of).median;
        let requests = spread(|sample| sample.requests);
        // Without a flood: by how much measurements differ for no reason.
        let shares = measured.iter().map(|cell| cell.share.unwrap_or(cell.sample.requests / requests.median));
        (!measured.is_empty()).then(|| Cell {
            agent: median(|sample| sample.agent),
            dropped: median(|sample| sample.dropped),
            failed: measured.iter().map(|cell| cell.sample.failed).sum(),
            flood,
            nanoseconds: median(|sample| sample.receive * 1e9 / sample.received),
            offered: median(|sample| sample.offered),
            receive: median(|sample| sample.receive),
            received: median(|sample| sample.received),
            requests,
            share: Spread::of(shares.collect()),
            variant,
        })
    }
}

/// A flood and what stands against it; medians.
struct Cell {
    agent: f64,
    dropped: f64,
    failed: u64,
    flood: &'static str,
    /// CPU time of receiving a packet of the flood; not a number without one.
    nanoseconds: f64,
    offered: f64,
    receive: f64,
    received: f64,
    requests: Spread,
    share: Spread,
    variant: Variant,
}

/// Everything that was found.
pub struct Report {
    cells: Vec<Cell>,
    scale: Scale,
    /// Why a variant could not be measured.
    pub skipped: Option<String>,
}

impl Report {
    pub(super) fn new(scale: &Scale, cells: Cells, skipped: Option<String>) -> Self {
        let floods = || [UNDISTURBED].into_iter().chain(ATTACKS.iter().map(|attack| attack.name));
        let all = floods().flat_map(|flood| Variant::ALL.map(|variant| cells.cell(flood, variant)));
        Self { cells: all.flatten().collect(), scale: *scale, skipped }
    }

    /// As JSON: rates per second, CPU as a part of one.
    pub fn json(&self) -> Value {
        let mut floods = Map::new();
        for cell in &self.cells {
            let variants = floods.entry(cell.flood).or_insert_with(|| json!({}));
            variants[cell.variant.name()] = cell.json();
        }
        json!({
            "cells": floods,
            "cpu": machine::cpu(),
            "kernel": machine::kernel(),
            "rate": self.scale.rate,
            "rounds": self.scale.rounds,
            "seconds": self.scale.time.as_secs_f64(),
            "skipped": self.skipped.iter().collect::<Vec<_>>(),
        })
    }
}

impl Cell {
    fn json(&self) -> Value {
        let nanoseconds = if self.nanoseconds.is_finite() { rounded(self.nanoseconds) } else { Value::Null };
        json!({
            "agent_cpu": rounded(self.agent),
            "dropped_per_second": rounded(self.dropped),
            "packets_per_second": rounded(self.offered),
            "receive_cpu": rounded(self.receive),
            "receive_ns_per_packet": nanoseconds,
            "received_per_second": rounded(self.received),
            "requests_failed": self.failed,
            "requests_per_second": rounded(self.requests.median),
            "requests_per_second_max": rounded(self.requests.max),
            "requests_per_second_min": rounded(self.requests.min),
            "share_max": rounded(self.share.max),
            "share_min": rounded(self.share.min),
            "share_of_undisturbed": rounded(self.share.median),
        })
    }
}

fn rounded(number: f64) -> Value {
    json!((number * 1_000.0).round() / 1_000.0)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Scale { rate, rounds, time } = self.scale;
        writeln!(f, "Linux {}, {}", machine::kernel(), machine::cpu())?;
        writeln!(f, "{rounds} rounds of {} s, {rate} packets/s; medians\n", time.as_secs_f64())?;
        writeln!(
            f,
            "{:<16}{:<12}{:>11}{:>9}{:>9}{:>9}{:>12}{:>12}{:>12}{:>9}{:>9}{:>9}",
            "flood",
            "variant",
            "requests/s",
            "share",
            "least",
            "most",
            "offered/s",
            "received/s",
            "dropped/s",
            "agent",
            "receive",
            "ns each"
        )?;
        for cell in &self.cells {
            writeln!(f, "{cell}")?;
        }
        if let Some(reason) = &self.skipped {
            writeln!(f, "skipped: {reason}")?;
        }
        write!(
            f,
            "\nshare: of the requests just before and after without a flood; the line `{UNDISTURBED}` shows the noise\n\
             agent, receive: CPU of the agent, and of receiving from the attacker; ns each: of receiving one packet"
        )
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |part: f64| format!("{:.1} %", part * 100.0);
        write!(
            f,
            "{:<16}{:<12}{:>11.0}{:>9}{:>9}{:>9}{:>12.0}{:>12.0}{:>12.0}{:>9}{:>9}",
            self.flood,
            self.variant.name(),
            self.requests.median,
            percent(self.share.median),
            percent(self.share.min),
            percent(self.share.max),
            self.offered,
            self.received,
            self.dropped,
            percent(self.agent),
            percent(self.receive),
        )?;
        match self.nanoseconds.is_finite() && self.offered > 0.0 {
            true => write!(f, "{:>9.0}", self.nanoseconds),
            false => write!(f, "{:>9}", "-"),
        }
    }
}
