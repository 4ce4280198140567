//! An initramfs: a cpio archive of the kind that the kernel unpacks (`buffer-format.rst` of its documentation).

const FOLDER: u32 = 0o040_755;
const FILE: u32 = 0o100_644;
const PROGRAM: u32 = 0o100_755;
const TRAILER: &str = "TRAILER!!!";

/// An archive that grows.
#[derive(Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// Adds an empty folder.
    pub fn folder(&mut self, name: &str) {
        self.add(name, FOLDER, &[]);
    }

    /// Adds a file; its folder has been added before.
    pub fn file(&mut self, name: &str, content: &[u8]) {
        self.add(name, FILE, content);
    }

    /// Adds a file that can be run.
    pub fn program(&mut self, name: &str, content: &[u8]) {
        self.add(name, PROGRAM, content);
    }

    /// The archive as bytes.
    pub fn finish(mut self) -> Vec<u8> {
        self.add(TRAILER, 0, &[]);
        self.bytes
    }

    fn add(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let (length, name_length) = (content.len() as u32, name.len() as u32 + 1);
        // Inode, mode, uid, gid, links, mtime, size, device and what the device stands for, name, checksum.
        let fields = [self.entries, mode, 0, 0, 1, 0, length, 0, 0, 0, 0, name_length, 0];
        self.bytes.extend(b"070701");
        self.bytes.extend(fields.iter().flat_map(|field| format!("{field:08x}").into_bytes()));
        self.bytes.extend(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_a_header_a_name_and_a_content_each_padded_to_four_bytes() {
        let mut archive = Archive::default();
        archive.program("init", b"hello");
        let bytes = archive.finish();
        let field = |index: usize| std::str::from_utf8(&bytes[6 + index * 8..][..8]).unwrap();
        assert_eq!(&bytes[..6], b"070701");
        assert_eq!([field(1), field(6), field(11)], ["000081ed", "00000005", "00000005"]);
        assert_eq!(&bytes[110..124], b"init\0\0hello\0\0\0");
        assert!(bytes.len().is_multiple_of(4));
    }
}
