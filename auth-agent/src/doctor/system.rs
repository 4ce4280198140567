//! System calls that std has no name for. None of them changes anything.

#![allow(unsafe_code, reason = "ioctl, adjtimex, bpf and sysconf")]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;

use socket2::{Domain, Socket, Type};

use super::facts::BpfCall;

/// Bytes for an answer of ethtool. The longest that is asked for here, the names of the features, takes
/// 32 bytes for each of at most a few hundred.
const ANSWER_BYTES: usize = 64 * 1024;

/// Questions to ethtool (linux/ethtool.h).
#[derive(Clone, Copy, Debug)]
pub enum Question {
    /// `ETHTOOL_GCHANNELS`
    Channels,
    /// `ETHTOOL_GDRVINFO`
    Driver,
    /// `ETHTOOL_GFEATURES`
    Features,
    /// `ETHTOOL_GSTRINGS` of `ETH_SS_FEATURES`
    FeatureNames,
    /// `ETHTOOL_GRXFHINDIR` for so many entries; 0 asks for their number.
    Indirection(u16),
}

impl Question {
    /// The command and its first argument.
    fn words(self) -> [u32; 2] {
        match self {
            Self::Channels => [0x3c, 0],
            Self::Driver => [0x03, 0],
            // Room for so many blocks of 32 features; the kernel fills in those that it has.
            Self::Features => [0x3a, 64],
            Self::FeatureNames => [0x1b, 4],
            Self::Indirection(entries) => [0x38, entries.into()],
        }
    }
}

/// Asks the driver of an interface of this network namespace.
///
/// # Errors
/// What the kernel says; `EOPNOTSUPP` where the driver has no answer.
pub fn ethtool(interface: &str, question: Question) -> io::Result<Vec<u8>> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    let mut answer = vec![0_u8; ANSWER_BYTES];
    for (slot, word) in answer.chunks_exact_mut(4).zip(question.words()) {
        slot.copy_from_slice(&word.to_ne_bytes());
    }
    let mut name = [0; libc::IFNAMSIZ];
    if interface.len() >= name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (slot, byte) in name.iter_mut().zip(interface.bytes()) {
        *slot = byte as libc::c_char;
    }
    let mut request = libc::ifreq {
        ifr_name: name,
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_data: answer.as_mut_ptr().cast() },
    };
    // SAFETY: the name ends with a NUL, the socket is open, and `answer` is writable, outlives the call and is
    // larger than the answer to any of the questions, of which the caller can choose no other.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

/// Whether somebody keeps the wall clock in step (adjtimex(2)).
///
/// # Errors
/// What the kernel says.
pub fn synchronised() -> io::Result<bool> {
    let mut clock = MaybeUninit::<libc::timex>::zeroed();
    // SAFETY: an all-zero timex is valid, and asks for nothing to be changed.
    let state = unsafe { libc::adjtimex(clock.as_mut_ptr()) };
    if state < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: initialised above, and filled in by the kernel.
    let clock = unsafe { clock.assume_init() };
    Ok(state != libc::TIME_ERROR && clock.status & libc::STA_UNSYNC == 0)
}

/// How the `bpf` system call answers a command that does not exist.
pub fn bpf() -> BpfCall {
    // SAFETY: no command has this number, and no memory is passed.
    let result = unsafe { libc::syscall(libc::SYS_bpf, -1_i64, std::ptr::null::<u8>(), 0_usize) };
    match io::Error::last_os_error().raw_os_error() {
        Some(libc::ENOSYS) if result < 0 => BpfCall::Missing,
        Some(libc::EPERM | libc::EACCES) if result < 0 => BpfCall::Denied,
        _ => BpfCall::Available,
    }
}

/// Bytes of a memory page.
pub fn page() -> usize {
    // SAFETY: the call touches no memory.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(page).unwrap_or(4096)
}
