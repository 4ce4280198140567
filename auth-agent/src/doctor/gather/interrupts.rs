//! Where the interrupts of an interface's queues go.

use std::fs;
use std::path::{Path, PathBuf};

use crate::doctor::facts::Interrupts;

/// Words in the names of interrupts that are no queue's.
const NO_QUEUE: [&str; 6] = ["async", "config", "control", "fdir", "mgm", "misc"];

/// Those of the device behind an interface's folder in sysfs; nothing where it has none, or they can't be seen.
pub fn of(interface: &Path, proc: &Path) -> Option<Interrupts> {
    let device = fs::canonicalize(interface.join("device")).ok()?;
    let mut numbers = listed(&owner(&device)?.join("msi_irqs"))?;
    let table = fs::read_to_string(proc.join("interrupts")).ok()?;
    numbers.retain(|number| is_queue(&table, *number));
    let mut cpus: Vec<_> = numbers.iter().filter_map(|number| targets(proc, *number)).flatten().collect();
    cpus.sort_unstable();
    cpus.dedup();
    (!cpus.is_empty()).then_some(Interrupts { cpus, numbers })
}

/// A virtio device has its interrupts from the PCI device that it lies on.
fn owner(device: &Path) -> Option<PathBuf> {
    let virtio = device.file_name()?.to_string_lossy().starts_with("virtio");
    if virtio { device.parent().map(Path::to_owned) } else { Some(device.to_owned()) }
}

fn listed(folder: &Path) -> Option<Vec<u32>> {
    let entries = fs::read_dir(folder).ok()?.filter_map(Result::ok);
    let mut numbers: Vec<_> =
        entries.filter_map(|entry| entry.file_name().to_string_lossy().parse().ok()).collect();
    numbers.sort_unstable();
    Some(numbers)
}

/// `  25:  1021  0  PCI-MSIX-0000:00:03.0  1-edge  virtio0-input.0`; one that nobody asked for has no line.
fn is_queue(table: &str, number: u32) -> bool {
    let line = table.lines().find_map(|line| line.trim_start().strip_prefix(&format!("{number}:")));
    let name = line.and_then(|line| line.split_whitespace().next_back());
    name.is_some_and(|name| !NO_QUEUE.iter().any(|word| name.contains(word)))
}

/// Those that take it now; on kernels that don't tell, those that may.
fn targets(proc: &Path, number: u32) -> Option<Vec<usize>> {
    let folder = proc.join("irq").join(number.to_string());
    let read = |name| fs::read_to_string(folder.join(name)).ok().filter(|text| !text.trim().is_empty());
    list(read("effective_affinity_list").or_else(|| read("smp_affinity_list"))?.trim())
}

/// `0-3,8`
fn list(text: &str) -> Option<Vec<usize>> {
    let ranges = text.split(',').map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse().ok()?..=last.parse().ok()?)
    });
    Some(ranges.collect::<Option<Vec<_>>>()?.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn queues_are_told_from_other_interrupts_and_virtio_has_those_of_its_pci_device() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for (device, interface) in [("pci0", "eth0"), ("pci0/virtio0", "eth1")] {
            fs::create_dir_all(path(device)).unwrap();
            fs::create_dir_all(path(interface)).unwrap();
            symlink(path(device), path(interface).join("device")).unwrap();
        }
        fs::create_dir_all(path("pci0/msi_irqs")).unwrap();
        fs::create_dir_all(path("proc")).unwrap();
        let table = "           CPU0       CPU1\n\
                     24:          0          0   PCI-MSIX-0000:00:03.0   0-edge      virtio0-config\n \
                     25:       1021          0   PCI-MSIX-0000:00:03.0   1-edge      virtio0-input.0\n \
                     26:          7          0   PCI-MSIX-0000:00:03.0   2-edge      virtio0-input.1\n\
                     125:         7          0   PCI-MSIX-0000:00:04.0   2-edge      other\n";
        fs::write(path("proc/interrupts"), table).unwrap();
        for (number, effective) in [("24", "1"), ("25", "0"), ("26", ""), ("27", "1")] {
            fs::write(path("pci0/msi_irqs").join(number), "msix\n").unwrap();
            let folder = path("proc/irq").join(number);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("effective_affinity_list"), format!("{effective}\n")).unwrap();
            fs::write(folder.join("smp_affinity_list"), "2-3\n").unwrap();
        }
        let expected = Some(Interrupts { cpus: vec![0, 2, 3], numbers: vec![25, 26] });
        for interface in ["eth0", "eth1"] {
            assert_eq!(of(&path(interface), &path("proc")), expected, "{interface}");
        }
        assert_eq!(of(&path("veth"), &path("proc")), None);
    }

    #[test]
    fn lists_of_processors_are_read_as_the_kernel_writes_them() {
        assert_eq!(list("0-3,8"), Some(vec![0, 1, 2, 3, 8]));
        assert_eq!(list("7"), Some(vec![7]));
        assert_eq!(list("x"), None);
    }
}
