//! `cargo xtask demo`: one line per promise, observed on the real agent in network namespaces.

use anyhow::Result;

use crate::{build, process, setup};

pub fn run() -> Result<()> {
    let toolchain = setup::toolchain()?;
    setup::tools()?;
    let agent = build::agent(&toolchain, false)?;
    process::exec(process::clean(build::tests_binary("demo")?).env("AUTH_AGENT_BIN", agent))
}
