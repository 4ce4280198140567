//! What the guest does: load modules, make the host's files its own, do the job, say how it went, power off.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::INSIDE;

/// Begins the last line that the guest prints; the exit status follows.
pub(super) const STATUS: &str = "guest-status: ";

/// A program of the host's, to run in the guest.
pub struct Job {
    /// Its arguments.
    pub arguments: Vec<String>,
    /// What it finds in its environment.
    pub environment: Vec<(String, String)>,
    /// Where it runs.
    pub folder: PathBuf,
    /// Which it is.
    pub program: PathBuf,
}

/// The host's root is read only: what changes lies in memory, below `/run`.
const BEFORE: &str = "\
#!/bin/busybox sh
busybox=/bin/busybox
end() {
    echo \"guest-status: $1\" > /host/dev/ttyS1 || echo \"guest: $1\"
    $busybox poweroff -f
}
$busybox mount -t proc proc /proc
for module in /modules/*; do
    $busybox insmod $module || echo \"guest: $module does not load\"
done
$busybox mount -t 9p -o ro,trans=virtio,version=9p2000.L,cache=loose,msize=512000 host /host || end none
$busybox mount -t proc proc /host/proc
$busybox mount -t sysfs sys /host/sys
$busybox mount -t bpf bpf /host/sys/fs/bpf
$busybox mount -t devtmpfs dev /host/dev
$busybox mount -t tmpfs -o mode=755 run /host/run
$busybox mkdir /host/run/tmp
$busybox cat > /host/run/job <<'END-OF-JOB'
";

const AFTER: &str = "\
END-OF-JOB
$busybox chroot /host /bin/sh /run/job > /host/dev/ttyS1 2>&1
end $?
";

impl Job {
    /// The guest's `/init`.
    pub(super) fn script(&self) -> String {
        let mut job = format!(
            "export HOME=/run/tmp TMPDIR=/run/tmp {INSIDE}=1 PATH=/usr/sbin:/usr/bin:/sbin:/bin\nip link set lo up\n"
        );
        for (name, value) in &self.environment {
            let _ = writeln!(job, "export {name}={}", quoted(value));
        }
        let _ = writeln!(job, "cd {}", quoted(&self.folder.to_string_lossy()));
        let words = [self.program.to_string_lossy().into_owned()];
        let words: Vec<_> = words.iter().chain(&self.arguments).map(|word| quoted(word)).collect();
        let _ = writeln!(job, "exec {}", words.join(" "));
        [BEFORE, &job, AFTER].concat()
    }
}

/// A word as the shell reads it back.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn the_shell_reads_quoted_words_back_as_they_were() {
        for word in ["plain", "two words", "it's", "$HOME `id` \\ \"x\"", ""] {
            let printed = Command::new("sh").args(["-c", &format!("printf %s {}", quoted(word))]).output();
            assert_eq!(String::from_utf8(printed.unwrap().stdout).unwrap(), word);
        }
    }

    #[test]
    fn the_status_line_is_the_one_that_the_host_looks_for() {
        assert!(BEFORE.contains(STATUS));
    }
}
