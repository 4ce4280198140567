//! An emulated machine with a Debian kernel, on which tests run that this kernel is too new or too small for.
//!
//! It reads the host's files as its own, so that it runs the programs that were built here; it can't write them.
//! Emulation alone, without KVM: a machine that offers KVM may be one itself, on which it hangs.

mod archive;
mod init;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use archive::Archive;
pub use init::Job;

/// Set inside the guest.
const INSIDE: &str = "AUTH_INSIDE_GUEST";
/// Names the folder that `cargo xtask setup` makes.
const FOLDER: &str = "AUTH_GUEST";
/// Mitigations are left out, since they cost an emulated machine the most.
const APPEND: &str = "console=ttyS0 quiet panic=-1 mitigations=off nowatchdog";
const QEMU: &str = "qemu-system-x86_64";

/// Whether this is the guest.
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// What the guest boots from.
pub struct Guest {
    folder: PathBuf,
    /// Its kernel's release.
    pub release: String,
}

impl Guest {
    /// The one that `cargo xtask test` has fetched.
    ///
    /// # Errors
    /// Where it has fetched none, with the cure.
    pub fn find() -> Result<Self> {
        let folder =
            std::env::var_os(FOLDER).context("needs the guest's kernel: `cargo xtask test` fetches it")?;
        let folder = PathBuf::from(folder);
        let release = fs::read_to_string(folder.join("release"))
            .with_context(|| format!("{FOLDER} names {}, which holds no guest", folder.display()))?;
        Ok(Self { folder, release })
    }

    /// Boots, runs the job, and returns what it printed and its exit status.
    ///
    /// # Errors
    /// If the machine does not come up, or is not done within `limit`: with the end of its console.
    pub fn run(&self, job: &Job, limit: Duration) -> Result<(String, i32)> {
        let desk = tempfile::Builder::new().prefix("auth-guest-").tempdir()?;
        fs::write(desk.path().join("initramfs"), self.initramfs(job)?)?;
        let mut machine = Machine::start(&self.folder.join("vmlinuz"), desk)?;
        let ended = machine.wait(limit)?;
        let output = machine.read("output");
        let status = output.lines().rev().find_map(|line| line.strip_prefix(init::STATUS)?.parse().ok());
        let fate = if ended { "ended early" } else { "took too long" };
        let (output, status) = (without_status(&output), status);
        let status = status.with_context(|| {
            format!("the guest {fate}: {}\n{}", tail(&machine.read("console")), tail(&output))
        })?;
        Ok((output, status))
    }

    fn initramfs(&self, job: &Job) -> Result<Vec<u8>> {
        let mut archive = Archive::default();
        for folder in ["bin", "host", "modules", "proc"] {
            archive.folder(folder);
        }
        archive.program("bin/busybox", &fs::read(self.folder.join("busybox"))?);
        archive.program("init", job.script().as_bytes());
        for module in fs::read_dir(self.folder.join("modules"))? {
            let module = module?;
            let name = module.file_name();
            archive.file(&format!("modules/{}", name.to_string_lossy()), &fs::read(module.path())?);
        }
        Ok(archive.finish())
    }
}

fn without_status(output: &str) -> String {
    let lines = output.lines().filter(|line| !line.starts_with(init::STATUS));
    lines.collect::<Vec<_>>().join("\n")
}

fn tail(text: &str) -> String {
    const LINES: usize = 15;
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

/// A running QEMU; killed with its guard.
struct Machine {
    child: Child,
    desk: TempDir,
}

impl Machine {
    fn start(kernel: &Path, desk: TempDir) -> Result<Self> {
        let serial = |name: &str| format!("file:{}", desk.path().join(name).display());
        let mut command = Command::new(QEMU);
        command
            .args(["-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", "1G"])
            .args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"])
            .args(["-serial", &serial("console"), "-serial", &serial("output")])
            .args(["-virtfs", "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap"])
            .args(["-append", APPEND])
            .arg("-kernel")
            .arg(kernel)
            .arg("-initrd")
            .arg(desk.path().join("initramfs"));
        let complaints = File::create(desk.path().join("complaints"))?;
        command.stdin(Stdio::null()).stdout(complaints.try_clone()?).stderr(complaints);
        let child = command.spawn().with_context(|| format!("{QEMU} is missing"))?;
        Ok(Self { child, desk })
    }

    /// Whether it ended in time.
    fn wait(&mut self, limit: Duration) -> Result<bool> {
        const POLL: Duration = Duration::from_millis(50);
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                ensure!(status.success(), "{QEMU}: {}", self.read("complaints").trim());
                return Ok(true);
            }
            std::thread::sleep(POLL);
        }
        Ok(false)
    }

    fn read(&self, name: &str) -> String {
        let bytes = fs::read(self.desk.path().join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).replace('\r', "")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let ended = self.child.kill().and_then(|()| self.child.wait());
            if let Err(error) = ended {
                eprintln!("left behind: {error}");
            }
        }
    }
}
