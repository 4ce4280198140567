//! System calls of the benchmarks.

#![allow(unsafe_code, reason = "affinity, scheduling class, CPU clocks and an ethtool command")]

use std::io;
use std::mem::MaybeUninit;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::time::Duration;

/// The CPUs that this thread may use.
///
/// # Errors
/// What the kernel says.
pub fn cpus() -> io::Result<Vec<usize>> {
    let mut cpus = no_cpus();
    // SAFETY: the set is as large as stated; 0 is this thread.
    check(unsafe { libc::sched_getaffinity(0, size_of_val(&cpus), &raw mut cpus) })?;
    // SAFETY: the call checks the number against the set's size.
    Ok((0..libc::CPU_SETSIZE as usize).filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &cpus) }).collect())
}

/// Keeps a thread on a CPU; 0 is this thread. What it starts stays there, too.
///
/// # Errors
/// What the kernel says.
pub fn keep_on(thread: u32, cpu: usize) -> io::Result<()> {
    let mut cpus = no_cpus();
    // SAFETY: the call checks the number against the set's size.
    unsafe { libc::CPU_SET(cpu, &mut cpus) };
    let thread = i32::try_from(thread).map_err(io::Error::other)?;
    // SAFETY: the set is as large as stated.
    check(unsafe { libc::sched_setaffinity(thread, size_of_val(&cpus), &raw const cpus) })
}

fn no_cpus() -> libc::cpu_set_t {
    // SAFETY: the type is an array of integers, for which zero is valid and means no CPU.
    unsafe { MaybeUninit::zeroed().assume_init() }
}

/// Lets a thread run before all ordinary ones, as interrupts do.
///
/// # Errors
/// What the kernel says.
pub fn run_first(thread: u32) -> io::Result<()> {
    let thread = i32::try_from(thread).map_err(io::Error::other)?;
    let parameters = libc::sched_param { sched_priority: 1 };
    // SAFETY: the parameters outlive the call.
    check(unsafe { libc::sched_setscheduler(thread, libc::SCHED_FIFO, &raw const parameters) })
}

/// CPU time of a process, all its threads together.
///
/// # Errors
/// If it is gone.
pub fn cpu_time(process: u32) -> io::Result<Duration> {
    let process = i32::try_from(process).map_err(io::Error::other)?;
    let mut clock = MaybeUninit::uninit();
    // SAFETY: `clock` has room for the answer.
    let error = unsafe { libc::clock_getcpuclockid(process, clock.as_mut_ptr()) };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error));
    }
    let mut time = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: the call before filled the clock in; `time` has room for the answer.
    check(unsafe { libc::clock_gettime(clock.assume_init(), time.as_mut_ptr()) })?;
    // SAFETY: the call said that it filled the structure in.
    let time = unsafe { time.assume_init() };
    let seconds = u64::try_from(time.tv_sec).map_err(io::Error::other)?;
    Ok(Duration::from_secs(seconds) + Duration::from_nanos(time.tv_nsec.unsigned_abs()))
}

/// `struct ethtool_value` of linux/ethtool.h.
#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

/// `ETHTOOL_SGRO` of linux/ethtool.h.
const SET_GRO: u32 = 0x2c;

/// Turns generic receive offload on, for an interface of this thread's namespace.
///
/// # Errors
/// What the driver says.
pub fn offload_receive(interface: &str) -> io::Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let mut value = EthtoolValue { command: SET_GRO, data: 1 };
    // SAFETY: the type is integers and a union of integers and pointers, for which zero is valid.
    let mut request: libc::ifreq = unsafe { MaybeUninit::zeroed().assume_init() };
    let name = interface.bytes().take(request.ifr_name.len() - 1);
    for (to, byte) in request.ifr_name.iter_mut().zip(name) {
        *to = byte as libc::c_char;
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: the request and the value that it points to outlive the call, and are what the command reads.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request) })
}

fn check(result: i32) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_of_this_process_goes_on_while_it_works() {
        let start = cpu_time(std::process::id()).unwrap_or_default();
        let mut sum = 0_u64;
        while cpu_time(std::process::id()).is_ok_and(|now| now == start) {
            sum = sum.wrapping_add(1);
        }
        assert!(cpu_time(std::process::id()).is_ok_and(|now| now > start), "{sum} turns");
    }

    #[test]
    fn a_thread_that_is_kept_on_a_cpu_may_use_no_other() {
        let all = cpus().unwrap_or_default();
        let last = all.last().copied().unwrap_or_default();
        std::thread::spawn(move || {
            assert!(keep_on(0, last).is_ok());
            assert_eq!(cpus().ok(), Some(vec![last]));
        })
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        assert_eq!(cpus().ok(), Some(all));
    }
}
