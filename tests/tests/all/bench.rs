//! The benchmark runs. What it measures is for people to judge: no time is asserted.

use std::path::PathBuf;

use tests::bench::kernel::{self, Scale};
use tests::privilege;

/// What whoever reads the JSON relies on; xdp-filter need not be installed.
const COLUMNS: [&str; 13] = [
    "empty",
    "parse",
    "plaintext_drop",
    "hot",
    "sources_1k",
    "sources_64k",
    "sources_1m",
    "spoofed",
    "banned",
    "blocklist_100k",
    "lru_hot",
    "lru_1m",
    "lru_spoofed",
];
const XDP_FILTER: [&str; 2] = ["xdp_filter_pass", "xdp_filter_drop"];

fn object() -> Vec<u8> {
    let built = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/bpf/bench"));
    let path = std::env::var_os("AUTH_BENCH_OBJECT").map_or(built, PathBuf::from);
    std::fs::read(&path).unwrap_or_else(|error| {
        panic!("{}: {error}: `cargo xtask test` builds it", path.display());
    })
}

#[test]
fn every_column_of_the_kernel_benchmark_is_measured_and_its_packets_get_their_verdict() {
    if !privilege::kernel_usable("the kernel benchmark") {
        return;
    }
    let scale = Scale { block_list: 1_024, packets: 1_024, rounds: 1, sources: 8_192 };
    let report = kernel::run(&scale, &object()).unwrap();
    let json = report.json();
    let table = report.to_string();
    let skipped = !report.skipped.is_empty();
    for name in COLUMNS.iter().chain(XDP_FILTER.iter().filter(|_| !skipped)) {
        let column = &json["columns"][name];
        let [min, median, max] = ["ns_min", "ns_median", "ns_max"].map(|key| column[key].as_f64().unwrap());
        assert!(0.0 < min && min <= median && median <= max, "{name}: {column}");
        assert!(table.contains(name), "{name} is not in the table");
    }
    for reason in &report.skipped {
        assert!(reason.starts_with("xdp_filter_*: "), "{reason}");
    }
    assert!(json["object"]["instructions"].as_u64() < json["object"]["verified_instructions"].as_u64());
    assert_eq!(json["memory"]["source_line_bytes"], 64);
    assert!(json["memory"]["source_table_bytes"].as_u64() >= Some(8_192 * 64));
    assert_eq!(json["memory"]["block_list_entries"], 1_024);
}
