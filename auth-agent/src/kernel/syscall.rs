//! The BPF commands that aya has no name for.

#![allow(unsafe_code, reason = "bpf(2) itself")]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Commands of linux/bpf.h.
const OBJECT_GET: libc::c_int = 7;
const OBJECT_GET_INFO_BY_FD: libc::c_int = 15;
const LINK_GET_FD_BY_ID: libc::c_int = 30;
const LINK_DETACH: libc::c_int = 34;

/// The parts of `union bpf_attr` that the commands read.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    /// `pathname`; or `link_id`, `link_detach.link_fd`, or `info.bpf_fd` and `info.info_len`, of 32 bits each.
    first: u64,
    /// `info.info`; or `bpf_fd` and `file_flags`, of 32 bits each.
    second: u64,
}

impl Attributes {
    /// With these as the union's first two members of 32 bits.
    fn words(first: u32, second: u32) -> Self {
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&first.to_ne_bytes());
        bytes[4..].copy_from_slice(&second.to_ne_bytes());
        Self { first: u64::from_ne_bytes(bytes), second: 0 }
    }
}

/// The beginning of `struct bpf_link_info`, for links of XDP programs.
#[repr(C)]
#[derive(Default)]
struct LinkInfo {
    kind: u32,
    id: u32,
    program: u32,
    _padding: u32,
    interface: u32,
    _more: u32,
}

/// Takes the program of a pinned link off its interface, and returns when no packet sees it any more. Removing the
/// pin alone would do it some time later.
///
/// # Errors
/// What the kernel says.
pub fn detach_link(pin: &Path) -> io::Result<()> {
    let link = pinned(pin)?;
    bpf(LINK_DETACH, &Attributes::words(descriptor(&link)?, 0))?;
    Ok(())
}

/// Index of the interface that a pinned link holds its program on, in that interface's network namespace; 0 where
/// it holds nothing any more.
///
/// # Errors
/// What the kernel says.
pub fn pinned_interface(pin: &Path) -> io::Result<u32> {
    interface(&pinned(pin)?)
}

/// The same of the link with this id.
///
/// # Errors
/// What the kernel says.
pub fn link_interface(id: u32) -> io::Result<u32> {
    interface(&owned(bpf(LINK_GET_FD_BY_ID, &Attributes::words(id, 0))?))
}

fn pinned(pin: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(pin.as_os_str().as_bytes())?;
    Ok(owned(bpf(OBJECT_GET, &Attributes { first: path.as_ptr() as u64, second: 0 })?))
}

fn interface(link: &OwnedFd) -> io::Result<u32> {
    let mut info = LinkInfo::default();
    let size = size_of::<LinkInfo>() as u32;
    let attributes =
        Attributes { second: (&raw mut info) as u64, ..Attributes::words(descriptor(link)?, size) };
    bpf(OBJECT_GET_INFO_BY_FD, &attributes)?;
    Ok(info.interface)
}

fn descriptor(fd: &OwnedFd) -> io::Result<u32> {
    u32::try_from(fd.as_raw_fd()).map_err(io::Error::other)
}

fn owned(fd: libc::c_int) -> OwnedFd {
    // SAFETY: only called with what the kernel has just made for us.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn bpf(command: libc::c_int, attributes: &Attributes) -> io::Result<libc::c_int> {
    // SAFETY: the attributes outlive the call, their size is told, and the commands read no more of them; the path
    // or structure that they may point to outlives the call too, the path is NUL-terminated, and the structure's size
    // is told.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<Attributes>())
    };
    match libc::c_int::try_from(result) {
        Ok(result @ 0..) => Ok(result),
        _ => Err(io::Error::last_os_error()),
    }
}
