//! The benchmarks run. What they measure is for people to judge: no time is asserted.

use std::path::PathBuf;
use std::time::Duration;

use tests::bench::{auth, flood, gateway, kernel, revocation};
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
    let scale = kernel::Scale { block_list: 1_024, packets: 1_024, rounds: 1, sources: 8_192 };
    let report = kernel::run(&scale, &object()).unwrap();
    let json = report.json();
    let table = report.to_string();
    let skipped = |what: &str| report.skipped.iter().any(|reason| reason.starts_with(what));
    let counted = !skipped("instructions, cache misses: ");
    for name in COLUMNS.iter().chain(XDP_FILTER.iter().filter(|_| !skipped("xdp_filter_*: "))) {
        let column = &json["columns"][name];
        assert_eq!(column["net_instructions"].is_f64(), counted, "{name}: {column}");
        assert_eq!(column["net_cache_misses"].is_f64(), counted, "{name}: {column}");
        let [min, median, max] = ["ns_min", "ns_median", "ns_max"].map(|key| column[key].as_f64().unwrap());
        assert!(0.0 < min && min <= median && median <= max, "{name}: {column}");
        assert!(table.contains(name), "{name} is not in the table");
    }
    let known = ["instructions, cache misses: ", "xdp_filter_*: "];
    for reason in &report.skipped {
        assert!(known.iter().any(|start| reason.starts_with(start)), "{reason}");
    }
    assert!(json["object"]["instructions"].as_u64() < json["object"]["verified_instructions"].as_u64());
    assert_eq!(json["memory"]["source_line_bytes"], 64);
    assert!(json["memory"]["source_table_bytes"].as_u64() >= Some(8_192 * 64));
    assert_eq!(json["memory"]["block_list_entries"], 1_024);
}

/// What whoever reads the JSON of floods relies on.
const FLOODS: [&str; 4] = ["one_80", "one_443_syn", "spoofed_80", "spoofed_443_syn"];
const CELL: [&str; 10] = [
    "agent_cpu",
    "dropped_per_second",
    "packets_per_second",
    "receive_cpu",
    "received_per_second",
    "requests_failed",
    "requests_per_second",
    "share_max",
    "share_min",
    "share_of_undisturbed",
];

#[test]
fn every_cell_of_the_flood_benchmark_is_measured_and_floods_are_dropped() {
    if !privilege::kernel_usable("the flood benchmark") {
        return;
    }
    let cpus = std::thread::available_parallelism().unwrap().get();
    if cpus < 2 {
        eprintln!("skipped: the flood benchmark: one CPU");
        return;
    }
    let scale = flood::Scale { rate: 20_000, rounds: 1, time: Duration::from_millis(50) };
    let report = flood::run(&scale, &object()).unwrap();
    let (json, table) = (report.json(), report.to_string());
    if let Some(reason) = &report.skipped {
        assert!(reason.starts_with("nftables: "), "{reason}");
        assert_eq!(json["skipped"][0], *reason);
    }
    let variants = ["xdp", "nftables", "unfiltered"];
    for variant in variants.iter().filter(|variant| **variant != "nftables" || report.skipped.is_none()) {
        for flood in FLOODS.iter().chain(&["none"]) {
            let cell = &json["cells"][flood][variant];
            for field in CELL {
                assert!(cell[field].is_number(), "{flood}, {variant}: no {field} in {cell}");
            }
            assert!(table.contains(flood) && table.contains(variant), "{table}");
            let [sent, received, dropped] =
                ["packets_per_second", "received_per_second", "dropped_per_second"]
                    .map(|field| cell[field].as_f64().unwrap());
            match (*flood, *variant) {
                ("none", _) => assert_eq!(sent, 0.0, "{variant}: {cell}"),
                (_, "unfiltered") => {
                    assert!(received > 0.0, "{flood}: {cell}");
                    assert_eq!(dropped, 0.0, "{flood}: {cell}");
                }
                // All but what hosts tell each other by themselves; both are counts over the same span.
                ("one_80" | "spoofed_80", _) => {
                    assert!(received > 0.0 && dropped > 0.9 * received, "{flood}, {variant}: {cell}");
                }
                ("one_443_syn", _) => assert!(dropped > 0.0, "{flood}, {variant}: {cell}"),
                // The budget of all strangers may last that long.
                _ => assert!(received > 0.0 && dropped <= received, "{flood}, {variant}: {cell}"),
            }
        }
    }
}

#[test]
fn every_cell_of_the_credential_benchmark_is_measured_without_root() {
    let scale = auth::Scale {
        api_keys: vec![10, 1_000],
        principals: vec![100],
        revocations: vec![0, 1_000],
        rounds: 2,
        time: Duration::from_micros(1),
    };
    let report = auth::run(&scale).unwrap();
    let (json, table) = (report.json(), report.to_string());
    let cells = json["cells"].as_object().unwrap();
    let algorithms = [
        "es256", "es384", "eddsa", "hs256", "hs384", "hs512", "ps256", "ps384", "ps512", "rs256", "rs384",
        "rs512",
    ];
    let expected =
        algorithms.iter().flat_map(|name| [format!("verify_{name}"), format!("cached_{name}")]).chain(
            [
                "precheck_1k",
                "refuse_garbage",
                "refuse_expired",
                "refuse_issuer",
                "refuse_audience",
                "forged_uncached",
                "forged_cached",
                "api_key_10",
                "api_key_1k",
                "limits_100",
                "limits_100_cold",
                "authorise_plain",
                "authorise_bindings",
                "authorise_cedar",
                "revocation_0",
                "revocation_1k",
            ]
            .map(str::to_owned),
        );
    let mut count = 0;
    for name in expected {
        let cell = &json["cells"][&name];
        let [min, median, max] = ["ns_min", "ns_median", "ns_max"].map(|key| cell[key].as_f64().unwrap());
        assert!(0.0 < min && min <= median && median <= max, "{name}: {cell}");
        assert!(cell["of_verify_es256"].as_f64().unwrap() > 0.0, "{name}: {cell}");
        assert!(table.contains(&name), "{table}");
        count += 1;
    }
    assert_eq!(cells.len(), count, "{cells:?}");
    assert_eq!(json["cells"]["verify_es256"]["of_verify_es256"], 1.0);
}

#[test]
fn every_cell_of_the_gateway_benchmark_is_measured() {
    if !privilege::kernel_usable("the gateway benchmark") {
        return;
    }
    if std::thread::available_parallelism().unwrap().get() < 2 {
        eprintln!("skipped: the gateway benchmark: one CPU");
        return;
    }
    let scale = gateway::Scale {
        distinct: 500,
        idle: 20,
        idle_time: Duration::ZERO,
        products: vec![gateway::Product::AuthAgent],
        rounds: 1,
        time: Duration::from_millis(40),
        ..gateway::Scale::default()
    };
    let report = gateway::run(&scale).unwrap();
    let (json, table) = (report.json(), report.to_string());
    assert_eq!(report.skipped(), [] as [String; 0]);
    for cell in gateway::Cell::ALL.map(gateway::Cell::name) {
        assert!(table.contains(cell), "{table}");
        let found = &json["cells"][cell]["auth-agent"];
        if cell == "memory" {
            assert!(found["bytes_per_connection"].as_f64() >= Some(0.0), "{json}");
            continue;
        }
        let [cpu, rps, p50, p99] = ["cpu_us_per_request", "rps", "p50_us", "p99_us"]
            .map(|field| found[field].as_f64().unwrap_or_else(|| panic!("{cell}: no {field} in {found}")));
        assert!(0.0 < cpu && 0.0 < rps && 0.0 < p50 && p50 <= p99, "{cell}: {found}");
    }
    assert_eq!(json["cells"].as_object().unwrap().len(), gateway::Cell::ALL.len());
}

#[test]
fn every_cell_of_the_revocation_benchmark_is_measured() {
    if !privilege::kernel_usable("the revocation benchmark") {
        return;
    }
    let report = revocation::run(&revocation::Scale { connections: 8, rounds: 2 }).unwrap();
    let (json, table) = (report.json(), report.to_string());
    assert_eq!(json["connections"], 8);
    for name in ["http1", "http2", "http2_shared", "websocket"] {
        let cell = &json["cells"][name];
        assert_eq!(cell["rounds"], 2, "{json}");
        for what in ["after_acknowledgement_ms", "in_all_ms"] {
            let [median, p99, max] = ["median", "p99", "max"].map(|key| cell[what][key].as_f64().unwrap());
            assert!(0.0 <= median && median <= p99 && p99 <= max, "{cell}");
        }
        assert!(table.contains(name), "{table}");
    }
}
