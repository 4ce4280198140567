//! How much a test does.

/// How many cases a generated test runs: a few seconds' worth, or with `cargo xtask test --long` many more.
pub fn cases(bounded: u32, long: u32) -> u32 {
    if std::env::var_os("AUTH_TEST_LONG").is_some() { long } else { bounded }
}
