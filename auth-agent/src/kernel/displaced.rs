//! A program of somebody else's that had to go: taken off only if it is still the one that was looked at, and put
//! back where ours can't take its place.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::Instant;

use aya::programs::{ProgramFd, loaded_programs};
use netlink_packet_route::link::{LinkAttribute, LinkMessage, LinkXdp};

use super::cures;
use super::error::FilterError;
use super::foreign::Program;
use super::interfaces::{self, Interface};

/// `XDP_FLAGS_*` of linux/if_link.h.
const UPDATE_IF_NOEXIST: u32 = 1;
const SKB_MODE: u32 = 1 << 1;
const DRV_MODE: u32 = 1 << 2;
const REPLACE: u32 = 1 << 4;

/// No program.
const NONE: RawFd = -1;

/// A program that was attached over netlink, and is off its interface.
#[must_use = "the interface has no program now"]
pub struct Displaced {
    fd: ProgramFd,
    index: u32,
    interface: String,
    mode: u32,
    name: String,
    since: Instant,
}

impl Displaced {
    /// Takes the program off, if it is still there.
    ///
    /// # Errors
    /// [`FilterError::Busy`]: then it is still there, or another is.
    pub fn remove(program: &Program, interface: &Interface) -> Result<Self, FilterError> {
        let busy =
            |cure| FilterError::Busy { cure, interface: interface.name.clone(), program: program.clone() };
        let info = loaded_programs().filter_map(Result::ok).find(|info| info.id() == program.id);
        let info = info.ok_or_else(|| busy("it is gone in this moment: start again".to_owned()))?;
        let fd = info.fd().map_err(|error| busy(format!("it can't be held on to: {error}")))?;
        let mode = if program.mode == cures::NATIVE { DRV_MODE } else { SKB_MODE };
        let since = Instant::now();
        let expected = LinkXdp::ExpectedFd(number(&fd).map_err(|error| busy(error.to_string()))?);
        set(interface.index, vec![LinkXdp::Fd(NONE), LinkXdp::Flags(mode | REPLACE), expected]).map_err(
            |error| {
                busy(format!("the kernel does not take it off ({error}); {}", program.cure(&interface.name)))
            },
        )?;
        let interface_name = interface.name.clone();
        Ok(Self {
            fd,
            index: interface.index,
            interface: interface_name,
            mode,
            name: program.to_string(),
            since,
        })
    }

    /// Puts it back.
    pub fn restore(self) {
        let program = LinkXdp::Fd(self.fd.as_fd().as_raw_fd());
        match set(self.index, vec![program, LinkXdp::Flags(self.mode | UPDATE_IF_NOEXIST)]) {
            Ok(()) => {
                tracing::warn!(interface = %self.interface, program = %self.name, "the program that was there is back");
            }
            Err(error) => tracing::error!(
                interface = %self.interface, program = %self.name, %error,
                "the program that was there can't be put back: its owner must attach it again"
            ),
        }
    }

    /// Says what became of it, and how long the interface had no program at all.
    pub fn tell(self) {
        let gap = self.since.elapsed().as_micros();
        tracing::warn!(
            interface = %self.interface, program = %self.name, gap_us = gap,
            "took the place of another program; between the two, packets passed for gap_us at most"
        );
    }
}

fn number(fd: &ProgramFd) -> io::Result<u32> {
    u32::try_from(fd.as_fd().as_raw_fd()).map_err(io::Error::other)
}

fn set(index: u32, xdp: Vec<LinkXdp>) -> io::Result<()> {
    let mut link = LinkMessage::default();
    link.header.index = index;
    link.attributes.push(LinkAttribute::Xdp(xdp));
    interfaces::change(link)
}
