//! Putting the program on an interface by a pinned bpf_link, and adopting links that are there.

use std::io;

use aya::Ebpf;
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::xdp::{XdpLink, XdpLinkId};
use aya::programs::{ProgramError, XdpMode as KernelMode};

use super::displaced::Displaced;
use super::error::FilterError;
use super::foreign::{self, Program};
use super::interfaces::{self, Interface};
use super::pins::{Link, Pins};
use super::{cures, object, place};
use crate::config::XdpMode;

/// The loaded program, and how it is to be attached.
pub struct Hand {
    ebpf: Ebpf,
    mode: XdpMode,
    pins: Pins,
    program: u32,
    replace: bool,
}

/// What was done for an interface.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Put {
    /// An earlier agent's link got the program in one step, without a packet in between.
    Adopted,
    /// It had the program.
    Already,
    /// It has a new link.
    Attached {
        /// Why it is not native, where that was tried first.
        fallback: Option<String>,
    },
}

impl Hand {
    /// A hand that attaches the object's program.
    ///
    /// # Errors
    /// [`FilterError::Load`].
    pub fn new(mut ebpf: Ebpf, pins: Pins, mode: XdpMode, replace: bool) -> Result<Self, FilterError> {
        let program = object::program(&mut ebpf)?.info().map_err(|error| FilterError::Load {
            cure: "look at the kernel's log (`dmesg | tail`)",
            detail: error.to_string(),
        })?;
        let program = program.id();
        Ok(Self { ebpf, mode, pins, program, replace })
    }

    /// How it attaches.
    pub fn mode(&self) -> XdpMode {
        self.mode
    }

    /// Where the links are pinned.
    pub fn pins(&self) -> &Pins {
        &self.pins
    }

    /// Whether our program is on the interface.
    pub fn is_on(&self, interface: &Interface) -> bool {
        interface.program.is_some_and(|attached| attached.id == self.program)
    }

    /// Sees to it that our program is on the interface, by a pinned link.
    ///
    /// # Errors
    /// Why it can't be.
    pub fn put(&mut self, interface: &Interface) -> Result<Put, FilterError> {
        interface.must_be_ethernet()?;
        let link = self.pins.own_links()?.into_iter().find(|link| link.interface() == Some(interface.index));
        if let Some(link) = link {
            if self.is_on(interface) {
                link.keep_as(&self.pins, interface)?;
                return Ok(Put::Already);
            }
            if self.adopt(&link, interface)? {
                return Ok(Put::Adopted);
            }
        }
        self.attach(interface)
    }

    /// Replaces the program of a pinned link; false where that does not work any more.
    fn adopt(&mut self, pinned: &Link, interface: &Interface) -> Result<bool, FilterError> {
        let link = PinnedLink::from_pin(&pinned.path).map(FdLink::from).ok();
        let link = link.filter(|link| carries(link, interface)).and_then(|link| XdpLink::try_from(link).ok());
        let program = object::program(&mut self.ebpf)?;
        let adopted = link.is_some_and(|link| {
            // The pin keeps the link; the file descriptor can go.
            program.attach_to_link(link).and_then(|id| program.take_link(id)).is_ok()
        });
        if !adopted {
            tracing::warn!(interface = %interface.name, "the pinned link does not work any more: attaching anew");
            pinned.remove()?;
            return Ok(false);
        }
        pinned.keep_as(&self.pins, interface)?;
        Ok(true)
    }

    fn attach(&mut self, interface: &Interface) -> Result<Put, FilterError> {
        let Some(attached) = interface.program else { return self.attach_to_free(interface) };
        let other = foreign::program(attached, interface.index);
        let busy =
            |cure| FilterError::Busy { cure, interface: interface.name.clone(), program: other.clone() };
        let cure = other.cure(&interface.name);
        match (self.replace, other.irreplaceable()) {
            (false, _) => Err(busy(cure)),
            (true, Some(why)) => Err(busy(format!("the filter can't take its place, since {why}; {cure}"))),
            (true, None) => self.take_place_of(&other, interface),
        }
    }

    /// A link can't be made while a program is attached over netlink, so that one goes first: for as long as the
    /// two calls are apart, the interface has neither.
    fn take_place_of(&mut self, other: &Program, interface: &Interface) -> Result<Put, FilterError> {
        let displaced = Displaced::remove(other, interface)?;
        match self.attach_to_free(interface) {
            Ok(put) => {
                displaced.tell();
                Ok(put)
            }
            Err(error) => {
                displaced.restore();
                Err(error)
            }
        }
    }

    fn attach_to_free(&mut self, interface: &Interface) -> Result<Put, FilterError> {
        let (link, mode, fallback) = match self.mode {
            XdpMode::Generic => (self.create(interface, GENERIC)?, GENERIC, None),
            XdpMode::Native => (self.create(interface, NATIVE)?, NATIVE, None),
            XdpMode::Auto => match self.create(interface, NATIVE) {
                Ok(link) => (link, NATIVE, None),
                Err(error) => (self.create(interface, GENERIC)?, GENERIC, Some(error.to_string())),
            },
        };
        let path = self.pins.link(interface);
        link.pin(&path).map_err(|error| FilterError::Attach {
            cure: format!("look at {}", path.display()),
            interface: interface.name.clone(),
            mode: mode.name,
            source: io::Error::other(error),
        })?;
        if let Some(error) = &fallback {
            tracing::warn!(
                interface = %interface.name, %error,
                "no native XDP here: attached in generic mode, which costs more per packet"
            );
        }
        tracing::info!(interface = %interface.name, index = interface.index, mode = mode.name, "filter attached");
        Ok(Put::Attached { fallback })
    }

    fn create(&mut self, interface: &Interface, mode: Mode) -> Result<FdLink, FilterError> {
        let program = object::program(&mut self.ebpf)?;
        let made = program.attach_to_if_index(interface.index, mode.kernel);
        let id: XdpLinkId = made.map_err(|error| refused(interface, mode, io_error(error)))?;
        let link = program.take_link(id).map_err(|error| refused(interface, mode, io_error(error)))?;
        // aya falls back to netlink, without a word, where the kernel answers EINVAL; dropping such a link
        // detaches it. Nothing could be pinned, so nothing would outlive the agent.
        FdLink::try_from(link).map_err(|_| {
            let source =
                io::Error::other("the kernel gave no bpf_link, so the filter could not outlive the agent");
            refused(interface, mode, source)
        })
    }
}

/// Whether the program on the interface is the link's.
fn carries(link: &FdLink, interface: &Interface) -> bool {
    let attached = interface.program.map(|program| program.id);
    link.info().is_ok_and(|info| Some(info.program_id()) == attached)
}

#[derive(Clone, Copy)]
struct Mode {
    kernel: KernelMode,
    name: &'static str,
}

const GENERIC: Mode = Mode { kernel: KernelMode::Skb, name: cures::GENERIC };
const NATIVE: Mode = Mode { kernel: KernelMode::Driver, name: cures::NATIVE };

fn refused(interface: &Interface, mode: Mode, source: io::Error) -> FilterError {
    // Where the interface stands among the others often says more than the kernel does.
    let all = interfaces::links().unwrap_or_default();
    let message = all.iter().find(|message| message.header.index == interface.index);
    let place = message.map(|message| place::place(message, &all)).unwrap_or_default();
    FilterError::Attach {
        cure: cures::attach(&interface.name, mode.name, &place, source.raw_os_error()),
        interface: interface.name.clone(),
        mode: mode.name,
        source,
    }
}

fn io_error(error: ProgramError) -> io::Error {
    match error {
        ProgramError::SyscallError(error) => error.io_error,
        error => io::Error::other(error),
    }
}
