//! `cargo xtask <verb>`: builds, runs and tests the project.
fn main() {}
