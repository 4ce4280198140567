//! What was found, as a table and as JSON.

use std::fmt;

use serde_json::{Map, Value, json};

use super::Scale;
use super::cell::{Cell, Goal, Product};
use super::load::Sample;
use crate::bench::machine;
use crate::bench::spread::Spread;

/// What a known credential may add to a request, in microseconds.
const ADDS: f64 = 2.0;
const KIB: f64 = 1_024.0;

/// The samples of all cells.
#[derive(Default)]
pub struct Found {
    memory: Vec<(Product, f64)>,
    samples: Vec<Measured>,
    skipped: Vec<String>,
}

struct Measured {
    cell: Cell,
    product: Product,
    round: u32,
    sample: Sample,
}

impl Found {
    /// Adds a measurement.
    pub fn add(&mut self, cell: Cell, product: Product, round: u32, sample: Sample) {
        self.samples.push(Measured { cell, product, round, sample });
    }

    /// Adds bytes of an idle connection.
    pub fn remember(&mut self, product: Product, bytes: f64) {
        self.memory.push((product, bytes));
    }

    /// Says, and writes down, what there is not.
    pub fn skip(&mut self, reason: String) {
        eprintln!("left out: {reason}");
        if !self.skipped.contains(&reason) {
            self.skipped.push(reason);
        }
    }

    fn spread(&self, cell: Cell, product: Product, of: fn(&Sample) -> f64) -> Option<Spread> {
        let of_cell = |measured: &&Measured| measured.cell == cell && measured.product == product;
        let samples: Vec<_> =
            self.samples.iter().filter(of_cell).map(|measured| of(&measured.sample)).collect();
        (!samples.is_empty()).then(|| Spread::of(samples))
    }

    fn bytes(&self, product: Product) -> Option<Spread> {
        let of_product = self.memory.iter().filter(|(of, _)| *of == product);
        let samples: Vec<_> = of_product.map(|(_, bytes)| *bytes).collect();
        (!samples.is_empty()).then(|| Spread::of(samples))
    }

    /// CPU time of a request, in one round.
    fn cost(&self, cell: Cell, product: Product, round: u32) -> Option<f64> {
        let is_it = |one: &&Measured| (one.cell, one.product, one.round) == (cell, product, round);
        self.samples.iter().find(is_it).map(|measured| measured.sample.cpu_us)
    }

    fn rounds(&self) -> std::ops::RangeInclusive<u32> {
        1..=self.samples.iter().map(|measured| measured.round).max().unwrap_or(0)
    }

    /// The median of a product's cost, as a part of what the best of the others took in the same round.
    fn ratio(&self, cell: Cell, product: Product, others: &[Product]) -> Option<f64> {
        let ratios = self.rounds().filter_map(|round| {
            let best =
                others.iter().filter_map(|other| self.cost(cell, *other, round)).min_by(f64::total_cmp);
            Some(self.cost(cell, product, round)? / best?)
        });
        median(ratios.collect())
    }

    /// What one cell of auth-agent costs more than without a credential.
    fn adds(&self, cell: Cell) -> Option<f64> {
        let differences = self.rounds().filter_map(|round| {
            let cost = |cell| self.cost(cell, Product::AuthAgent, round);
            Some(cost(cell)? - cost(Cell::Keepalive)?)
        });
        median(differences.collect())
    }
}

fn median(samples: Vec<f64>) -> Option<f64> {
    (!samples.is_empty()).then(|| Spread::of(samples).median)
}

/// Everything that was found.
pub struct Report {
    found: Found,
    scale: Scale,
}

impl Report {
    pub(super) fn new(scale: &Scale, found: Found) -> Self {
        Self { found, scale: scale.clone() }
    }

    /// Who or what was left out, and why.
    pub fn skipped(&self) -> &[String] {
        &self.found.skipped
    }

    /// As JSON: medians.
    pub fn json(&self) -> Value {
        let mut cells = Map::new();
        for cell in Cell::ALL {
            let products = Product::ALL.into_iter().filter_map(|product| {
                let value =
                    if cell == Cell::Memory { self.memory(product) } else { self.timed(cell, product) };
                Some((product.name().to_owned(), value?))
            });
            let products: Map<_, _> = products.collect();
            if !products.is_empty() {
                cells.insert(cell.name().to_owned(), products.into());
            }
        }
        json!({
            "cells": cells,
            "cpu": machine::cpu(),
            "kernel": machine::kernel(),
            "rounds": self.scale.rounds,
            "seconds": self.scale.time.as_secs_f64(),
            "skipped": self.found.skipped,
        })
    }

    fn timed(&self, cell: Cell, product: Product) -> Option<Value> {
        let median = |of| Some(rounded(self.found.spread(cell, product, of)?.median));
        Some(json!({
            "cpu_us_per_request": median(|sample| sample.cpu_us)?,
            "p50_us": median(|sample| sample.p50_us)?,
            "p99_us": median(|sample| sample.p99_us)?,
            "rps": median(|sample| sample.rps)?,
        }))
    }

    fn memory(&self, product: Product) -> Option<Value> {
        Some(json!({ "bytes_per_connection": rounded(self.found.bytes(product)?.median) }))
    }

    fn write_timed(&self, f: &mut fmt::Formatter<'_>, cell: Cell) -> fmt::Result {
        for product in Product::ALL {
            let spread = |of| self.found.spread(cell, product, of);
            let Some(cpu) = spread(|sample| sample.cpu_us) else { continue };
            let median = |of| spread(of).map_or(0.0, |spread| spread.median);
            write!(
                f,
                "{:<16}{:<12}{:>10.2}{:>9.2}{:>9.2}{:>10.0}{:>9.0}{:>9.0}",
                cell.name(),
                product.name(),
                cpu.median,
                cpu.min,
                cpu.max,
                median(|sample| sample.rps),
                median(|sample| sample.p50_us),
                median(|sample| sample.p99_us),
            )?;
            match self.found.ratio(cell, product, &[Product::Haproxy]) {
                Some(ratio) => write!(f, "{ratio:>9.2}x")?,
                None => write!(f, "{:>10}", "-")?,
            }
            self.write_goal(f, cell, product)?;
            writeln!(f)?;
        }
        Ok(())
    }

    fn write_goal(&self, f: &mut fmt::Formatter<'_>, cell: Cell, product: Product) -> fmt::Result {
        let Some(Goal::Of(part, others)) = cell.goal().filter(|_| product == Product::AuthAgent) else {
            return Ok(());
        };
        let names: Vec<_> = others.iter().map(|other| other.name()).collect();
        let names = names.join(" and ");
        match self.found.ratio(cell, product, others) {
            Some(ratio) => {
                let met = if ratio <= part { "met" } else { "missed" };
                write!(f, "   {ratio:.2} of {names}, goal {part}: {met}")
            }
            None => write!(f, "   goal: {part} of {names}"),
        }
    }

    fn write_memory(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for product in Product::ALL {
            let Some(bytes) = self.found.bytes(product) else { continue };
            let [median, min, max] = [bytes.median, bytes.min, bytes.max].map(|bytes| bytes / KIB);
            write!(f, "{:<16}{:<12}{median:>10.2}{min:>9.2}{max:>9.2}", Cell::Memory.name(), product.name())?;
            write!(f, "  KiB for each of {} idle connections", self.scale.idle)?;
            if let Some(Goal::Kib(goal)) = Cell::Memory.goal().filter(|_| product == Product::AuthAgent) {
                write!(f, ", goal {goal}: {}", if median <= goal { "met" } else { "missed" })?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

fn rounded(number: f64) -> Value {
    json!((number * 1_000.0).round() / 1_000.0)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Scale { rounds, time, .. } = &self.scale;
        writeln!(f, "Linux {}, {}", machine::kernel(), machine::cpu())?;
        writeln!(f, "{rounds} rounds of {} s; medians\n", time.as_secs_f64())?;
        writeln!(
            f,
            "{:<16}{:<12}{:>10}{:>9}{:>9}{:>10}{:>9}{:>9}{:>10}",
            "cell", "product", "CPU us", "least", "most", "answer/s", "p50 us", "p99 us", "haproxy"
        )?;
        for cell in Cell::ALL {
            self.write_timed(f, cell)?;
        }
        self.write_memory(f)?;
        for cell in [Cell::Es256Repeat, Cell::ApiKey] {
            if let Some(adds) = self.found.adds(cell) {
                let met = if adds <= ADDS { "met" } else { "missed" };
                writeln!(f, "{}: adds {adds:.2} us to keepalive, goal {ADDS}: {met}", cell.name())?;
            }
        }
        for reason in &self.found.skipped {
            writeln!(f, "left out: {reason}")?;
        }
        write!(
            f,
            "\nCPU us: of the product, for each answer; haproxy: that as a part of haproxy's, the median of the rounds"
        )
    }
}
