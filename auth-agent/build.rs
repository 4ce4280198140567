//! Makes the BPF object available to `include_bytes!` as `$OUT_DIR/auth-ebpf`.
//!
//! The object has its own toolchain and its own build: `cargo xtask build` puts it where it is read here.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() {
    let object = object();
    println!("cargo::rerun-if-changed={}", object.display());
    if let Err(error) = copy(&object) {
        let object = object.display();
        println!("cargo::error=can't copy the BPF object {object} ({error}): run `cargo xtask build`");
    }
}

/// Asked for now, not when this was compiled: a build folder may have been copied from another checkout.
fn object() -> PathBuf {
    let package = env::var_os("CARGO_MANIFEST_DIR").map_or_else(PathBuf::new, PathBuf::from);
    package.join("../target/bpf/auth-ebpf")
}

fn copy(object: &Path) -> io::Result<u64> {
    let out = env::var_os("OUT_DIR").ok_or(io::ErrorKind::NotFound)?;
    fs::copy(object, Path::new(&out).join("auth-ebpf"))
}
