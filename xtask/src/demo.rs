//! `cargo xtask demo`: one line per promise, observed on the real agent in network namespaces.

use anyhow::Result;

use crate::{build, process, setup};

pub fn run() -> Result<()> {
    let toolchain = setup::toolchain()?;
    setup::tools()?;
    let (demo, agent) = build::driver(&toolchain, "demo", false)?;
    process::exec(process::clean(demo).env("AUTH_AGENT_BIN", agent))
}
