//! `cargo xtask run`: the agent with a development setup, or with the operator's own configuration.

use std::path::PathBuf;

use anyhow::Result;

use crate::{build, process, setup};

#[derive(clap::Args)]
pub struct Args {
    /// Configuration file to use in place of the development setup
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Interface to attach the filter to in place of lo
    #[arg(long, value_name = "IF")]
    interface: Option<String>,
    /// Build the agent optimised
    #[arg(long)]
    release: bool,
}

pub fn run(args: &Args) -> Result<()> {
    let toolchain = setup::toolchain()?;
    setup::tools()?;
    let (dev, agent) = build::driver(&toolchain, "dev", args.release)?;
    let mut dev = process::clean(dev);
    dev.arg("--agent").arg(agent);
    if let Some(interface) = &args.interface {
        dev.arg("--interface").arg(interface);
    }
    if let Some(config) = &args.config {
        dev.arg("--config").arg(config);
    }
    process::exec(&mut dev)
}
