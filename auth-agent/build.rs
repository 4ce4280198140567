//! Makes the BPF object available to `include_bytes!` as `$OUT_DIR/auth-ebpf`.
//!
//! The object has its own toolchain and its own build: `cargo xtask build` puts it where it is read here.

use std::path::Path;
use std::{env, fs, io};

const OBJECT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/bpf/auth-ebpf");

fn main() {
    println!("cargo::rerun-if-changed={OBJECT}");
    if let Err(error) = copy() {
        println!("cargo::error=can't copy the BPF object {OBJECT} ({error}): run `cargo xtask build`");
    }
}

fn copy() -> io::Result<u64> {
    let out = env::var_os("OUT_DIR").ok_or(io::ErrorKind::NotFound)?;
    fs::copy(OBJECT, Path::new(&out).join("auth-ebpf"))
}
