//! What was found, as a table and as JSON.

use std::fmt;

use serde_json::{Map, Value, json};

use super::Scale;
use crate::bench::machine;
use crate::bench::spread::Spread;

/// What everything is compared with.
const UNIT: &str = "verify_es256";

/// Everything that was found.
pub struct Report {
    /// By cell, nanoseconds each time.
    cells: Vec<(String, Spread)>,
    /// Revocations, and the bytes that they take.
    memory: Vec<(usize, usize)>,
    scale: Scale,
}

impl Report {
    pub(super) fn new(scale: &Scale, cells: Vec<(String, Spread)>, memory: Vec<(usize, usize)>) -> Self {
        Self { cells, memory, scale: scale.clone() }
    }

    /// As JSON: times in nanoseconds, ratios to an uncached ES256 verification of the same run.
    pub fn json(&self) -> Value {
        let unit = self.unit();
        let cells: Map<_, _> = self
            .cells
            .iter()
            .map(|(name, spread)| {
                let cell = json!({
                    "ns_max": rounded(spread.max),
                    "ns_median": rounded(spread.median),
                    "ns_min": rounded(spread.min),
                    "of_verify_es256": spread.median / unit,
                });
                (name.clone(), cell)
            })
            .collect();
        let memory: Map<_, _> =
            self.memory.iter().map(|(count, bytes)| (count.to_string(), json!(bytes))).collect();
        json!({
            "cells": cells,
            "cpu": machine::cpu(),
            "kernel": machine::kernel(),
            "revocation_bytes": memory,
            "rounds": self.scale.rounds,
            "seconds": self.scale.time.as_secs_f64(),
        })
    }

    fn unit(&self) -> f64 {
        let unit = self.cells.iter().find(|(name, _)| name == UNIT);
        unit.map_or(f64::NAN, |(_, spread)| spread.median)
    }
}

fn rounded(nanoseconds: f64) -> Value {
    json!((nanoseconds * 10.0).round() / 10.0)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Scale { rounds, time, .. } = &self.scale;
        writeln!(f, "Linux {}, {}", machine::kernel(), machine::cpu())?;
        writeln!(f, "{rounds} rounds of {} s, tokens of about 500 bytes\n", time.as_secs_f64())?;
        writeln!(f, "{:<20}{:>12}{:>12}{:>12}{:>16}", "", "median ns", "least", "most", UNIT)?;
        let unit = self.unit();
        for (name, Spread { max, median, min, .. }) in &self.cells {
            let ratio = unit / median;
            writeln!(f, "{name:<20}{median:>12.0}{min:>12.0}{max:>12.0}{:>16}", format!("1/{ratio:.1}"))?;
        }
        for (count, bytes) in &self.memory {
            writeln!(f, "{count} revocations: {} KiB", bytes.div_ceil(1 << 10))?;
        }
        write!(
            f,
            "\ncached_*: hash, look-up, time, keys and revocation; revocation_*: of an identity for the first time since \
             a change\nprecheck_1k: of a token of 1 KiB, all but the signature; authorise_*: route, scopes, claims, two \
             bindings or five policies\n{UNIT}: the part of it that this takes"
        )
    }
}
