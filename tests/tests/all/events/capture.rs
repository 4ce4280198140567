//! The pcap that `auth-agent events` writes, read by others.

use std::io::Write;
use std::process::{Command, Stdio};

use tests::listener::Listener;
use tests::privilege;
use tests::stage::Stage;

use super::knock;

/// A packet of a file: time in nanoseconds, length on the wire, what was captured.
pub type Packet = (u64, u32, Vec<u8>);

/// A reader of nothing but what is written here: little-endian, nanoseconds, Ethernet.
pub fn read(file: &[u8]) -> Vec<Packet> {
    let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
    assert_eq!((word(0), word(4), word(20)), (0xa1b2_3c4d, 4 << 16 | 2, 1));
    let mut packets = Vec::new();
    let mut at = 24;
    while at < file.len() {
        let [seconds, nanoseconds, captured, length] = [0, 4, 8, 12].map(|field| word(at + field));
        let bytes = file[at + 16..at + 16 + captured as usize].to_vec();
        assert!(captured <= length && captured <= word(16));
        packets.push((u64::from(seconds) * 1_000_000_000 + u64::from(nanoseconds), length, bytes));
        at += 16 + captured as usize;
    }
    packets
}

/// What a program prints of the file on its standard input; `None` where it is not installed.
fn shown(program: &[&str], file: &[u8]) -> Option<String> {
    let mut command = Command::new(program[0]);
    command.args(&program[1..]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut child) = command.spawn() else {
        eprintln!("skipped: reading the pcap with {}: it is not installed", program[0]);
        return None;
    };
    child.stdin.take().unwrap().write_all(file).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn a_capture_is_read_by_tcpdump_and_tshark_as_what_was_on_the_wire() {
    if !privilege::kernel_usable("a capture end to end") {
        return;
    }
    let stage = Stage::new("").unwrap();
    let before = auth_agent::clock::since_epoch();
    let arguments = ["--count", "2", "--reason", "plaintext-port", "--pcap", "-"];
    let mut listener = Listener::start(&stage.setup, &arguments).unwrap();
    knock(&stage, &mut listener);
    let (status, file, said) = listener.finish().unwrap();
    assert!(status.success(), "{said}");
    let after = auth_agent::clock::since_epoch();

    let packets = read(&file);
    assert_eq!(packets.len(), 2);
    for (time, length, bytes) in &packets {
        // Both clocks are read one after the other, and may be adjusted in between.
        let slack = 1_000_000_000;
        assert!((before.as_nanos() as u64 - slack..=after.as_nanos() as u64 + slack).contains(time));
        // A SYN is nothing but headers: Ethernet, IPv4, TCP with 20 bytes of options.
        assert_eq!((*length, bytes.len()), (74, 74));
        assert_eq!(bytes[36..38], [0, 80]);
    }

    if let Some(text) = shown(&["tcpdump", "-n", "-t", "-r", "-"], &file) {
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        for line in lines {
            assert!(line.starts_with("IP 10.77.0.") && line.contains(" > 10.77.0.1.80: Flags [S]"), "{line}");
        }
    }
    let fields = ["-T", "fields", "-e", "ip.dst", "-e", "tcp.dstport", "-e", "frame.len"];
    if let Some(text) = shown(&[&["tshark", "-n", "-r", "-"][..], &fields].concat(), &file) {
        assert_eq!(text, "10.77.0.1\t80\t74\n".repeat(2));
    }
}
