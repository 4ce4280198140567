//! System calls that std has no name for.

#![allow(unsafe_code, reason = "setns, kill, sched_setaffinity, clock_gettime, bpf, packet and raw sockets")]

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

/// Moves this thread into a network namespace.
///
/// # Errors
/// What the kernel says.
pub fn enter(namespace: &File) -> io::Result<()> {
    // SAFETY: the descriptor is open; the call changes this thread alone.
    check(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) })
}

/// Sends SIGINT, as Ctrl-C does, to a child that has not been waited for.
///
/// # Errors
/// What the kernel says.
pub fn interrupt(process: u32) -> io::Result<()> {
    signal(process, libc::SIGINT)
}

/// Sends SIGTERM to a child that has not been waited for.
///
/// # Errors
/// What the kernel says.
pub fn terminate(process: u32) -> io::Result<()> {
    signal(process, libc::SIGTERM)
}

/// Sends SIGKILL to a process.
///
/// # Errors
/// What the kernel says.
pub fn kill(process: u32) -> io::Result<()> {
    signal(process, libc::SIGKILL)
}

/// Sends SIGHUP to a child that has not been waited for.
///
/// # Errors
/// What the kernel says.
pub fn hang_up(process: u32) -> io::Result<()> {
    signal(process, libc::SIGHUP)
}

/// Stops a child that has not been waited for, until [`resume`].
///
/// # Errors
/// What the kernel says.
pub fn pause(process: u32) -> io::Result<()> {
    signal(process, libc::SIGSTOP)
}

/// Lets a child go on.
///
/// # Errors
/// What the kernel says.
pub fn resume(process: u32) -> io::Result<()> {
    signal(process, libc::SIGCONT)
}

/// Commands and constants of linux/bpf.h.
const PROG_LOAD: libc::c_int = 5;
const OBJ_PIN: libc::c_int = 6;
const OBJ_GET: libc::c_int = 7;
const LINK_CREATE: libc::c_int = 28;
const LINK_DETACH: libc::c_int = 34;
const PROG_TYPE_XDP: u32 = 6;
const ATTACH_XDP: u32 = 37;

/// Loads an XDP program of this name that passes every packet.
///
/// # Errors
/// What the kernel says.
pub fn load_xdp(name: &str) -> io::Result<OwnedFd> {
    // r0 = XDP_PASS; exit
    let instructions: [u64; 2] = [0x0000_0002_0000_00b7, 0x0000_0000_0000_0095];
    let mut attributes = [0; 8];
    attributes[0] = pair(PROG_TYPE_XDP, 2);
    attributes[1] = instructions.as_ptr() as u64;
    attributes[2] = c"GPL".as_ptr() as u64;
    // Byte 48: prog_name, 16 bytes with its NUL.
    let mut bytes = [0; 16];
    for (slot, byte) in bytes.iter_mut().take(15).zip(name.bytes()) {
        *slot = byte;
    }
    for (slot, half) in attributes[6..].iter_mut().zip(bytes.chunks_exact(8)) {
        *slot = u64::from_ne_bytes(half.try_into().map_err(io::Error::other)?);
    }
    bpf(PROG_LOAD, &attributes)?.ok_or_else(|| io::Error::other("no descriptor"))
}

/// Pins a program.
///
/// # Errors
/// What the kernel says.
pub fn pin(program: &OwnedFd, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    bpf(OBJ_PIN, &[path.as_ptr() as u64, pair(number(program)?, 0)]).map(drop)
}

/// Attaches an XDP program by a link, in native mode, for as long as that is open.
///
/// # Errors
/// What the kernel says.
pub fn link_xdp(program: &OwnedFd, interface: u32) -> io::Result<OwnedFd> {
    const NATIVE: u32 = 1 << 2;
    let attributes = [pair(number(program)?, interface), pair(ATTACH_XDP, NATIVE)];
    bpf(LINK_CREATE, &attributes)?.ok_or_else(|| io::Error::other("no descriptor"))
}

/// Takes the program of a pinned link off its interface, as `bpftool link detach` does.
///
/// # Errors
/// What the kernel says.
pub fn detach_link(pin: &Path) -> io::Result<()> {
    let path = CString::new(pin.as_os_str().as_bytes())?;
    let link = bpf(OBJ_GET, &[path.as_ptr() as u64, 0])?.ok_or_else(|| io::Error::other("no descriptor"))?;
    bpf(LINK_DETACH, &[pair(number(&link)?, 0)]).map(drop)
}

fn number(fd: &OwnedFd) -> io::Result<u32> {
    u32::try_from(fd.as_raw_fd()).map_err(io::Error::other)
}

/// Two neighbours of 32 bits.
fn pair(first: u32, second: u32) -> u64 {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&first.to_ne_bytes());
    bytes[4..].copy_from_slice(&second.to_ne_bytes());
    u64::from_ne_bytes(bytes)
}

/// The commands above yield a descriptor, or nothing.
fn bpf(command: libc::c_int, attributes: &[u64]) -> io::Result<Option<OwnedFd>> {
    // SAFETY: the attributes outlive the call, and their size is told; what the callers above point to outlives the
    // call too, and the commands only read it.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), size_of_val(attributes)) };
    match libc::c_int::try_from(result) {
        Ok(0) => Ok(None),
        // SAFETY: the kernel has just made the descriptor for us.
        Ok(fd @ 1..) => Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) })),
        _ => Err(io::Error::last_os_error()),
    }
}

fn signal(process: u32, signal: i32) -> io::Result<()> {
    let process = i32::try_from(process).map_err(io::Error::other)?;
    // SAFETY: the call touches no memory; the caller's child keeps its id until it is waited for.
    check(unsafe { libc::kill(process, signal) })
}

/// Keeps this thread on the CPU that it is on, and says which that is.
///
/// # Errors
/// What the kernel says.
pub fn stay_on_this_cpu() -> io::Result<usize> {
    // SAFETY: the call takes nothing.
    let cpu = unsafe { libc::sched_getcpu() };
    let cpu = usize::try_from(cpu).map_err(|_| io::Error::last_os_error())?;
    stay_on(cpu)?;
    Ok(cpu)
}

/// Keeps this thread on one CPU.
///
/// # Errors
/// What the kernel says.
pub fn stay_on(cpu: usize) -> io::Result<()> {
    // SAFETY: the type is an array of integers, for which zero is valid and means no CPU.
    let mut cpus = unsafe { MaybeUninit::<libc::cpu_set_t>::zeroed().assume_init() };
    // SAFETY: the call checks the number against the set's size.
    unsafe { libc::CPU_SET(cpu, &mut cpus) };
    // SAFETY: the set is as large as stated; 0 is this thread.
    check(unsafe { libc::sched_setaffinity(0, size_of_val(&cpus), &raw const cpus) })
}

/// CPU time of this thread. Unlike wall-clock time, it stands still while others have the CPU.
///
/// # Errors
/// What the kernel says.
pub fn thread_time() -> io::Result<Duration> {
    let mut time = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: `time` has room for the answer.
    check(unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, time.as_mut_ptr()) })?;
    // SAFETY: the call said that it filled the structure in.
    let time = unsafe { time.assume_init() };
    let seconds = u64::try_from(time.tv_sec).map_err(io::Error::other)?;
    Ok(Duration::from_secs(seconds) + Duration::from_nanos(time.tv_nsec.unsigned_abs()))
}

/// A socket of this thread's namespace for the whole frames of one interface: writing sends one, as a wire would
/// bring it, and reading takes one that came in or went out.
///
/// # Errors
/// What the kernel says.
pub fn packet_socket(interface: u32, protocol: u16) -> io::Result<File> {
    let protocol = protocol.to_be();
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: the call takes numbers. Of no protocol until it is bound: frames of other interfaces stay out.
    let socket = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
    check(socket.min(0))?;
    // SAFETY: the descriptor has just been made, and nothing else has it.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    // SAFETY: the type is made of integers, for which zero is valid.
    let mut address = unsafe { MaybeUninit::<libc::sockaddr_ll>::zeroed().assume_init() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol;
    address.sll_ifindex = i32::try_from(interface).map_err(io::Error::other)?;
    let length = size_of_val(&address) as u32;
    // SAFETY: the address is as long as stated.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) })?;
    Ok(socket.into())
}

/// A socket of this thread's namespace for every packet of one protocol, however it is addressed. Reading does not
/// wait for one.
///
/// # Errors
/// What the kernel says.
pub fn raw_socket(ipv6: bool, protocol: u8) -> io::Result<File> {
    let family = if ipv6 { libc::AF_INET6 } else { libc::AF_INET };
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: the call takes numbers.
    let socket = unsafe { libc::socket(family, kind, protocol.into()) };
    check(socket.min(0))?;
    // SAFETY: the descriptor has just been made, and nothing else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(socket) }.into())
}

fn check(result: i32) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
