//! Attaching the program to interfaces by pinned bpf_links, and adopting links that are there.

use std::io;

use aya::Ebpf;
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::xdp::{XdpLink, XdpLinkId};
use aya::programs::{ProgramError, XdpMode as KernelMode};

use super::error::FilterError;
use super::interfaces::{self, Interface};
use super::object;
use super::pins::{Link, Pins};
use crate::config::XdpMode;

/// Puts the program on exactly `wanted`: links that are there get the new program in one step, without a
/// packet in between; missing ones are made; pinned ones that are no longer wanted are let go.
///
/// # Errors
/// The first interface that can't be served.
pub fn attach(ebpf: &mut Ebpf, pins: &Pins, wanted: &[String], mode: XdpMode) -> Result<(), FilterError> {
    let present = interfaces::list()?;
    let wanted = wanted.iter().map(|name| find(name, &present)).collect::<Result<Vec<_>, _>>()?;
    for interface in &wanted {
        if !adopt(ebpf, pins, interface, mode)? {
            attach_one(ebpf, pins, interface, mode)?;
        }
    }
    let unwanted = |link: &Link| wanted.iter().all(|interface| interface.index != link.index);
    for link in pins.links()?.iter().filter(|link| unwanted(link)) {
        tracing::warn!(interface = %link.name, "no longer in kernel.interfaces: filter detached");
        link.remove()?;
    }
    Ok(())
}

fn find<'a>(name: &str, present: &'a [Interface]) -> Result<&'a Interface, FilterError> {
    let interface =
        present.iter().find(|interface| interface.name == name).ok_or_else(|| missing(name, present))?;
    match interface.ethernet {
        true => Ok(interface),
        false => Err(FilterError::NotEthernet { interface: name.to_owned() }),
    }
}

/// Replaces the program of a pinned link; false where there is none that still works.
fn adopt(ebpf: &mut Ebpf, pins: &Pins, interface: &Interface, mode: XdpMode) -> Result<bool, FilterError> {
    let Some(pinned) = pins.links()?.into_iter().find(|link| link.index == interface.index) else {
        return Ok(false);
    };
    let link = PinnedLink::from_pin(&pinned.path).map(FdLink::from).ok();
    let link = link.filter(|link| carries(link, interface)).and_then(|link| XdpLink::try_from(link).ok());
    let program = object::program(ebpf)?;
    let adopted = link.is_some_and(|link| {
        // The pin keeps the link; the file descriptor can go.
        program.attach_to_link(link).and_then(|id| program.take_link(id)).is_ok()
    });
    if !adopted {
        // The interface went away under the link and came back: the old link holds nothing any more.
        tracing::warn!(interface = %interface.name, "the pinned link is dead: attaching anew");
        pinned.remove()?;
        return Ok(false);
    }
    if pinned.name != interface.name {
        pinned.rename(&interface.name)?;
    }
    tracing::info!(interface = %interface.name, "filter adopted");
    warn_of_other_mode(interface, mode);
    Ok(true)
}

/// Whether the program on the interface is the link's.
fn carries(link: &FdLink, interface: &Interface) -> bool {
    let attached = interface.program.map(|program| program.id);
    link.info().is_ok_and(|info| Some(info.program_id()) == attached)
}

/// A link keeps its mode for life.
fn warn_of_other_mode(interface: &Interface, wanted: XdpMode) {
    let present = interface.program.map_or("", |program| program.mode);
    let wanted = match wanted {
        XdpMode::Auto => return,
        XdpMode::Generic => GENERIC.name,
        XdpMode::Native => NATIVE.name,
    };
    if present != wanted {
        tracing::warn!(
            interface = %interface.name, mode = present,
            "the filter in place keeps its mode; kernel.mode = \"{wanted}\" takes effect after `auth-agent detach`"
        );
    }
}

fn attach_one(ebpf: &mut Ebpf, pins: &Pins, interface: &Interface, mode: XdpMode) -> Result<(), FilterError> {
    if let Some(other) = interface.program {
        return Err(FilterError::Busy { interface: interface.name.clone(), program: other.id });
    }
    let (link, mode) = match mode {
        XdpMode::Generic => (create(ebpf, interface, GENERIC)?, GENERIC),
        XdpMode::Native => (create(ebpf, interface, NATIVE)?, NATIVE),
        XdpMode::Auto => match create(ebpf, interface, NATIVE) {
            Ok(link) => (link, NATIVE),
            Err(error) => {
                let link = create(ebpf, interface, GENERIC)?;
                tracing::warn!(
                    interface = %interface.name, %error,
                    "no native XDP here: attached in generic mode, which costs more per packet"
                );
                (link, GENERIC)
            }
        },
    };
    let path = pins.link(interface);
    link.pin(&path).map_err(|error| FilterError::Attach {
        cure: format!("look at {}", path.display()),
        interface: interface.name.clone(),
        mode: mode.name,
        source: io::Error::other(error),
    })?;
    tracing::info!(interface = %interface.name, mode = mode.name, "filter attached");
    Ok(())
}

#[derive(Clone, Copy)]
struct Mode {
    cure: &'static str,
    kernel: KernelMode,
    name: &'static str,
}

const GENERIC: Mode =
    Mode { cure: "look at the kernel's log (`dmesg | tail`)", kernel: KernelMode::Skb, name: "generic" };
const NATIVE: Mode = Mode {
    cure: "if the driver has no native XDP, set kernel.mode = \"generic\"; else look at its MTU, channel and LRO settings (`dmesg | tail`)",
    kernel: KernelMode::Driver,
    name: "native",
};

fn create(ebpf: &mut Ebpf, interface: &Interface, mode: Mode) -> Result<FdLink, FilterError> {
    let refused = |source| FilterError::Attach {
        cure: mode.cure.to_owned(),
        interface: interface.name.clone(),
        mode: mode.name,
        source,
    };
    let program = object::program(ebpf)?;
    let id: XdpLinkId =
        program.attach_to_if_index(interface.index, mode.kernel).map_err(|error| refused(io_error(error)))?;
    let link = program.take_link(id).map_err(|error| refused(io_error(error)))?;
    // aya falls back to netlink, without a word, where the kernel answers EINVAL; dropping such a link
    // detaches it. Nothing could be pinned, so nothing would outlive the agent.
    FdLink::try_from(link).map_err(|_| {
        refused(io::Error::other("the kernel gave no bpf_link, so the filter could not outlive the agent"))
    })
}

fn io_error(error: ProgramError) -> io::Error {
    match error {
        ProgramError::SyscallError(error) => error.io_error,
        error => io::Error::other(error),
    }
}

fn missing(name: &str, present: &[Interface]) -> FilterError {
    let present: Vec<_> = present.iter().map(|interface| interface.name.as_str()).collect();
    FilterError::InterfaceMissing { interface: name.to_owned(), present: present.join(", ") }
}
