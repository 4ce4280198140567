//! What can go wrong between the agent and the kernel, each with its cure.

use std::io;
use std::path::PathBuf;

use super::foreign::Program;

/// Why the filter can't be put in place or changed.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// The kernel refused to attach.
    #[error("interface {interface}: attaching the filter in {mode} mode failed: {source}; {cure}")]
    Attach {
        /// What to do about it.
        cure: String,
        /// The interface.
        interface: String,
        /// `native` or `generic`.
        mode: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Another program is attached.
    #[error("interface {interface}: another XDP program is attached: {program}; {cure}")]
    Busy {
        /// What to do about it.
        cure: String,
        /// The interface.
        interface: String,
        /// The program.
        program: Program,
    },
    /// A class on a part of what counts as one source.
    #[error(
        "limits for {network}: IPv6 sources are told apart by /{ipv6_prefix}, so that a longer network can't have limits of its own; write its /{ipv6_prefix}"
    )]
    ClassTooLong {
        /// Of the source table in place.
        ipv6_prefix: u8,
        /// The network.
        network: ipnet::IpNet,
    },
    /// A directory can't be made or read.
    #[error("{}: {source}", path.display())]
    Directory {
        /// The directory or file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another agent works on the same pins.
    #[error("{}: another running agent uses this directory; stop it, or set another kernel.pin_directory", path.display())]
    InUse {
        /// The pin directory.
        path: PathBuf,
    },
    /// No such interface.
    #[error(
        "interface {interface} does not exist; this host has: {present}; mend kernel.interfaces, or move it to kernel.hotplug if it appears later"
    )]
    InterfaceMissing {
        /// The interface.
        interface: String,
        /// What is there.
        present: String,
    },
    /// Pinned maps of another version.
    #[error(
        "{}: the pinned maps have layout {found}, this agent needs {}; run `auth-agent detach` (the host is unfiltered until the next start) and start again", path.display(), auth_common::layout::VERSION
    )]
    Layout {
        /// What the maps say.
        found: u32,
        /// Where they are pinned.
        path: PathBuf,
    },
    /// The kernel refused the program or a map.
    #[error("the kernel refused the filter: {detail}; {cure}")]
    Load {
        /// What to do about it.
        cure: &'static str,
        /// What the kernel said, in one line.
        detail: String,
    },
    /// A map did not do as told.
    #[error("map {map}: {detail}")]
    Map {
        /// What the kernel said.
        detail: String,
        /// The map.
        map: &'static str,
    },
    /// No bpf file system where the pins should go.
    #[error("{}: not on a bpf file system; run `mount -t bpf bpf /sys/fs/bpf`, or mend kernel.pin_directory", path.display())]
    NoBpffs {
        /// Where the pins should go.
        path: PathBuf,
    },
    /// The route netlink socket failed.
    #[error("netlink: {0}")]
    Netlink(String),
    /// An interface without Ethernet headers: the filter would take every packet for something else than IP.
    #[error(
        "interface {interface} carries no Ethernet frames, so the filter can't read what comes in there; put the Ethernet interface below it into kernel.interfaces"
    )]
    NotEthernet {
        /// The interface.
        interface: String,
    },
    /// Missing rights.
    #[error("not allowed to load BPF programs; run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON")]
    NotPermitted,
    /// The pins are those of another network namespace.
    #[error(
        "{}: filters of another network namespace (net:[{namespace}]) are pinned here, on {interfaces}; set another kernel.pin_directory for this one, or let them go with `auth-agent detach` (they are unfiltered then)", path.display()
    )]
    OtherNamespace {
        /// What they are on.
        interfaces: String,
        /// The namespace's inode.
        namespace: u64,
        /// The pin directory.
        path: PathBuf,
    },
    /// Too many classes.
    #[error(
        "{wanted} networks with limits of their own that all differ, the kernel table holds {}; give some the same limits",
        auth_common::layout::MAX_CLASSES - 1
    )]
    TooManyClasses {
        /// How many there would be.
        wanted: usize,
    },
    /// Too many rules.
    #[error(
        "{wanted} rules after overlaps are resolved, the kernel table holds {}; merge or remove some",
        auth_common::layout::MAX_RULES
    )]
    TooManyRules {
        /// How many there would be.
        wanted: usize,
    },
}

impl FilterError {
    /// An error of `map`.
    pub(super) fn map(map: &'static str, error: impl std::fmt::Display) -> Self {
        Self::Map { detail: error.to_string(), map }
    }
}
