//! The guest: an emulated machine with a Debian kernel, for what this kernel is too new or too small to show.
//!
//! The kernel is unpacked into the cache, never installed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use super::apt;
use crate::process;

/// Debian's newest kernel of the release that this is.
const KERNEL: &str = "linux-image-amd64";
/// Whose one program is the guest's init, until the host's own files are there.
const BUSYBOX: &str = "busybox-static";
const QEMU: (&str, &str) = ("qemu-system-x86_64", "qemu-system-x86");

/// What the guest reads the host's files through, and what its tests make interfaces of. The modules that these
/// need come with them.
const MODULES: [&str; 6] = ["8021q", "9p", "9pnet_virtio", "bonding", "veth", "virtio_pci"];

/// Kernels are large, and mirrors slow.
const LIMIT: Duration = Duration::from_secs(15 * 60);

/// A folder with `vmlinuz`, `busybox`, `release`, and the modules in `modules`, in the order in which they load.
///
/// # Errors
/// Where the guest can't be had: on other systems and machines, without root or a network.
pub fn find() -> Result<PathBuf> {
    ensure!(cfg!(target_arch = "x86_64"), "the guest is an x86-64 machine, this one is not");
    if process::on_path(QEMU.0).is_none() {
        apt::install(&[QEMU.1])?;
    }
    let guest = process::cache()?.join("guest");
    if fs::read_to_string(guest.join("made-of")).ok() != Some(MODULES.join(" ")) {
        fetch(&guest).context("no kernel for the guest")?;
    }
    let release = fs::read_to_string(guest.join("release"))?;
    eprintln!("guest:      Linux {release} in {}", guest.display());
    Ok(guest)
}

fn fetch(guest: &Path) -> Result<()> {
    for program in ["apt-get", "dpkg-deb", "xz"] {
        ensure!(process::on_path(program).is_some(), "it is taken from Debian's packages, with {program}");
    }
    eprintln!("fetching:   {KERNEL} and {BUSYBOX}, about 75 MB, to unpack them into {}", guest.display());
    let partial = guest.with_extension("partial");
    for old in [&partial, guest] {
        if old.exists() {
            fs::remove_dir_all(old)?;
        }
    }
    let tree = partial.join("tree");
    fs::create_dir_all(&tree)?;
    download(&partial)?;
    for package in files(&partial)?.iter().filter(|file| has_extension(file, "deb")) {
        process::run(Command::new("dpkg-deb").arg("--extract").arg(package).arg(&tree))?;
        fs::remove_file(package)?;
    }
    pick(&tree, &partial)?;
    fs::remove_dir_all(&tree)?;
    fs::write(partial.join("made-of"), MODULES.join(" "))?;
    fs::rename(&partial, guest).with_context(|| format!("create {}", guest.display()))
}

/// Puts both packages into a folder.
fn download(folder: &Path) -> Result<()> {
    if apt::is_root() {
        apt::update()?;
    }
    let kernel = process::output(Command::new("apt-cache").args(["depends", KERNEL]))?;
    let kernel = dependency(&kernel).with_context(|| format!("the package sources have no {KERNEL}"))?;
    let mut command = Command::new("apt-get");
    command.args(["-q", "download", kernel, BUSYBOX]).current_dir(folder);
    process::run_logged(&mut command, &process::cache()?.join("apt-get.log"), LIMIT)
        .context("check the network and the package sources")
}

/// The kernel's package, which the name without a version depends on.
fn dependency(depends: &str) -> Option<&str> {
    depends.lines().find_map(|line| line.trim().strip_prefix("Depends: "))
}

/// Takes out of the unpacked packages what the guest needs.
fn pick(tree: &Path, to: &Path) -> Result<()> {
    let busybox = ["bin/busybox", "usr/bin/busybox"]
        .map(|path| tree.join(path))
        .into_iter()
        .find(|path| path.is_file());
    fs::copy(busybox.with_context(|| format!("no program in {BUSYBOX}"))?, to.join("busybox"))?;

    let modules = ["lib/modules", "usr/lib/modules"].map(|path| tree.join(path));
    let modules = modules.into_iter().find(|path| path.is_dir()).context("a kernel without modules")?;
    let [release] = files(&modules)?.try_into().ok().context("more than one kernel")?;
    let release =
        release.file_name().and_then(|name| name.to_str()).context("a kernel without a name")?.to_owned();
    fs::copy(tree.join("boot").join(format!("vmlinuz-{release}")), to.join("vmlinuz"))?;
    fs::write(to.join("release"), &release)?;

    let folder = to.join("modules");
    fs::create_dir(&folder)?;
    let modules = Modules::new(&modules.join(&release))?;
    for (index, (name, code)) in modules.in_order(&MODULES)?.into_iter().enumerate() {
        fs::write(folder.join(format!("{index:02}-{name}.ko")), code)?;
    }
    Ok(())
}

/// A kernel's modules.
struct Modules {
    /// Names of those that are part of the kernel itself.
    builtin: String,
    paths: BTreeMap<String, PathBuf>,
}

impl Modules {
    fn new(folder: &Path) -> Result<Self> {
        let mut paths = BTreeMap::new();
        collect(&folder.join("kernel"), &mut paths)?;
        let builtin = fs::read_to_string(folder.join("modules.builtin")).unwrap_or_default();
        Ok(Self { builtin, paths })
    }

    /// These and what they need, each after what it needs.
    fn in_order(&self, names: &[&str]) -> Result<Vec<(String, Vec<u8>)>> {
        let mut found = Vec::new();
        for name in names {
            self.add(name, &mut found)?;
        }
        Ok(found)
    }

    fn add(&self, name: &str, found: &mut Vec<(String, Vec<u8>)>) -> Result<()> {
        if found.iter().any(|(known, _)| known == name) {
            return Ok(());
        }
        let Some(path) = self.paths.get(name) else {
            let is_builtin = |path: &str| module(Path::new(path)).is_some_and(|builtin| builtin == name);
            ensure!(self.builtin.lines().any(is_builtin), "the kernel has no module {name}");
            return Ok(());
        };
        let code = read(path)?;
        for needed in depends(&code) {
            self.add(&needed, found)?;
        }
        found.push((name.to_owned(), code));
        Ok(())
    }
}

fn collect(folder: &Path, paths: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for path in files(folder)? {
        if path.is_dir() {
            collect(&path, paths)?;
        } else if let Some(name) = module(&path) {
            paths.insert(name, path);
        }
    }
    Ok(())
}

/// A module's name, by its file's; dependencies are stated with underscores alone.
fn module(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let stem = name.strip_suffix(".xz").unwrap_or(name).strip_suffix(".ko")?;
    Some(stem.replace('-', "_"))
}

fn read(module: &Path) -> Result<Vec<u8>> {
    if !has_extension(module, "xz") {
        return Ok(fs::read(module)?);
    }
    let output =
        Command::new("xz").args(["--decompress", "--stdout"]).arg(module).output().context("run xz")?;
    if !output.status.success() {
        bail!("xz: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(output.stdout)
}

/// What a module's `.modinfo` section says that it needs.
fn depends(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(start) = module.windows(KEY.len()).position(|window| window == KEY) else {
        return Vec::new();
    };
    let value = module[start + KEY.len()..].split(|byte| *byte == 0).next().unwrap_or_default();
    let value = String::from_utf8_lossy(value);
    value.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found == extension)
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    Ok(entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_says_what_it_needs() {
        let modinfo = |text: &str| depends(text.as_bytes());
        assert_eq!(modinfo("\x7fELF\0license=GPL\0depends=mrp,garp\0name=8021q\0"), ["mrp", "garp"]);
        assert!(modinfo("\x7fELF\0license=GPL\0depends=\0name=veth\0").is_empty());
        assert!(modinfo("\x7fELF").is_empty());
    }

    #[test]
    fn a_module_is_known_by_one_name_however_its_file_is_written() {
        for (path, name) in [
            ("kernel/drivers/net/veth.ko", Some("veth")),
            ("kernel/drivers/net/virtio-net.ko.xz", Some("virtio_net")),
            ("modules.dep", None),
        ] {
            assert_eq!(module(Path::new(path)).as_deref(), name);
        }
    }

    #[test]
    fn the_kernel_is_what_the_nameless_one_depends_on() {
        let text = "linux-image-amd64\n  Depends: linux-image-6.1.0-56-amd64\n  Conflicts: old\n";
        assert_eq!(dependency(text), Some("linux-image-6.1.0-56-amd64"));
        assert_eq!(dependency(""), None);
    }
}
