//! System calls that std has no name for.

#![allow(unsafe_code, reason = "setns and kill")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

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

fn signal(process: u32, signal: i32) -> io::Result<()> {
    let process = i32::try_from(process).map_err(io::Error::other)?;
    // SAFETY: the call touches no memory; the caller's child keeps its id until it is waited for.
    check(unsafe { libc::kill(process, signal) })
}

fn check(result: i32) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
