//! System calls of the benchmarks.

#![allow(
    unsafe_code,
    reason = "affinity, scheduling class, CPU clocks, an ethtool command and perf_event_open"
)]

use std::fs::File;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::net::UdpSocket;
use std::os::fd::{AsRawFd, FromRawFd};
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

/// What a [`Counter`] counts: `PERF_TYPE_*` and `PERF_COUNT_*` of linux/perf_event.h.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    kind: u32,
    config: u64,
}

impl Event {
    /// Cache misses, mostly of the last level.
    pub const CACHE_MISSES: Self = Self { kind: 0, config: 3 };
    /// Instructions.
    pub const INSTRUCTIONS: Self = Self { kind: 0, config: 1 };
}

/// The first version of `struct perf_event_attr`; newer kernels take the rest as zero.
#[repr(C)]
#[derive(Default)]
struct PerfAttributes {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    breakpoint_type: u32,
    breakpoint_address: u64,
}

/// Never off the counter for others' sake: then it fails instead.
const PINNED: u64 = 1 << 2;
/// `PERF_FLAG_FD_CLOEXEC`.
const CLOSE_ON_EXEC: libc::c_ulong = 1 << 3;
/// BPF programs run in the kernel.
const EXCLUDE_USER: u64 = 1 << 4;

/// Counts what this thread does in the kernel.
#[derive(Debug)]
pub struct Counter(File);

impl Counter {
    /// Starts to count.
    ///
    /// # Errors
    /// If the machine has no such counter (`ENOENT`), or keeps it from us.
    pub fn start(event: Event) -> io::Result<Self> {
        let size = size_of::<PerfAttributes>();
        let attributes = PerfAttributes {
            kind: event.kind,
            size: u32::try_from(size).map_err(io::Error::other)?,
            config: event.config,
            flags: PINNED | EXCLUDE_USER,
            ..PerfAttributes::default()
        };
        let (this_thread, any_cpu, no_group) = (0, -1, -1);
        // SAFETY: the attributes outlive the call, and say how large they are.
        let result = unsafe {
            libc::syscall(
                libc::SYS_perf_event_open,
                &raw const attributes,
                this_thread,
                any_cpu,
                no_group,
                CLOSE_ON_EXEC,
            )
        };
        let descriptor = i32::try_from(result).map_err(io::Error::other)?;
        check(descriptor.min(0))?;
        // SAFETY: the kernel has just made the descriptor for us.
        Ok(Self(unsafe { File::from_raw_fd(descriptor) }))
    }

    /// The count so far.
    ///
    /// # Errors
    /// If it could not count all the time.
    pub fn read(&self) -> io::Result<u64> {
        let mut count = [0; 8];
        (&self.0).read_exact(&mut count)?;
        Ok(u64::from_ne_bytes(count))
    }
}

fn check(result: i32) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::privilege;

    /// The kernel's own clock as a counter: every machine has it.
    #[test]
    fn a_counter_goes_on_while_its_thread_works() {
        const TASK_CLOCK: Event = Event { kind: 1, config: 1 };
        if !privilege::kernel_usable("performance counters") {
            return;
        }
        let counts = |counter: Counter| -> io::Result<(u64, u64)> {
            let first = counter.read()?;
            while counter.read()? == first {}
            Ok((first, counter.read()?))
        };
        let counted = Counter::start(TASK_CLOCK).and_then(counts);
        assert!(counted.as_ref().is_ok_and(|(first, last)| last > first), "{counted:?}");
    }

    #[test]
    fn a_counter_that_there_is_not_says_so() {
        let counter = Counter::start(Event { kind: 1, config: u64::MAX });
        assert!(counter.is_err(), "{counter:?}");
    }

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
