//! XDP programs of others: what they are, what holds them, and how they are taken off.

use std::fmt;

use auth_common::layout::PROGRAM;
use aya::programs::{loaded_links, loaded_programs};

use super::interfaces::Attached;
use super::syscall;

/// What libxdp's dispatcher is called: it is attached in place of the programs that it calls in turn.
const DISPATCHER: &str = "xdp_dispatcher";

/// An XDP program on an interface.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Program {
    /// Its id; 0 where there are several.
    pub id: u32,
    /// How it is attached.
    pub holder: Holder,
    /// `native`, `generic`, `offloaded` or `several`.
    pub mode: &'static str,
    /// Its name, where it may be seen.
    pub name: Option<String>,
}

/// What holds a program on its interface.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Holder {
    /// A bpf_link of this id.
    Link(u32),
    /// The interface itself, over netlink.
    Netlink,
    /// Not to be seen.
    Unseen,
}

/// Whose a program is, as far as can be seen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Owner {
    /// An agent that pins its filter elsewhere.
    Agent,
    /// libxdp, which lets several programs share an interface.
    Dispatcher,
    /// Anybody else.
    Other,
    /// Its name can't be seen.
    Unseen,
}

/// Looks up a program that is attached to the interface of this index. Name and holder need CAP_SYS_ADMIN.
pub fn program(attached: Attached, index: u32) -> Program {
    let Attached { id, mode } = attached;
    let info = loaded_programs().map_while(Result::ok).find(|info| info.id() == id);
    let mut links = loaded_links().filter_map(Result::ok).filter(|link| link.program_id() == id);
    // One that is at other interfaces too has a link for each; the others say nothing of this one.
    let link = links.find(|link| syscall::link_interface(link.id()).is_ok_and(|at| at == index));
    let holder = match (link, &info) {
        (Some(link), _) => Holder::Link(link.id()),
        // All links could be seen, as the programs could.
        (None, Some(_)) => Holder::Netlink,
        (None, None) => Holder::Unseen,
    };
    let name = info.and_then(|info| info.name_as_str().map(str::to_owned));
    Program { holder, id, mode, name }
}

impl Program {
    /// Whose it is.
    pub fn owner(&self) -> Owner {
        match self.name.as_deref() {
            None => Owner::Unseen,
            Some(DISPATCHER) => Owner::Dispatcher,
            Some(PROGRAM) => Owner::Agent,
            Some(_) => Owner::Other,
        }
    }

    /// The command that takes it off, or finds its owner.
    pub fn removal(&self, interface: &str) -> String {
        let Self { holder, id, mode, .. } = self;
        match (self.owner(), holder, *mode) {
            (Owner::Agent, ..) => "auth-agent detach --pin-directory DIR".to_owned(),
            (Owner::Dispatcher, ..) => format!("xdp-loader unload {interface} --all"),
            (_, Holder::Link(link), _) => format!("bpftool link detach id {link}"),
            (_, Holder::Netlink, "generic") => format!("ip link set dev {interface} xdpgeneric off"),
            (_, Holder::Netlink, "native") => format!("ip link set dev {interface} xdpdrv off"),
            (_, Holder::Netlink, "offloaded") => format!("ip link set dev {interface} xdpoffload off"),
            (_, Holder::Netlink, _) => format!("ip link set dev {interface} xdp off"),
            (_, Holder::Unseen, _) => format!("bpftool prog show id {id}"),
        }
    }

    /// Why the agent can't take its place, if it can't.
    pub fn irreplaceable(&self) -> Option<&'static str> {
        match (self.owner(), self.holder, self.mode) {
            (Owner::Agent, ..) => Some("it is the filter of another agent"),
            (Owner::Dispatcher, ..) => Some("libxdp's programs hang on it, and would stop with it"),
            (_, Holder::Link(_), _) => Some("its bpf_link belongs to its owner, who alone may let it go"),
            (_, Holder::Unseen, _) => Some("what holds it can't be seen"),
            (_, Holder::Netlink, "generic" | "native") => None,
            (_, Holder::Netlink, _) => Some("it is not a single program in native or generic mode"),
        }
    }

    /// What to do about it, for whoever wants this interface.
    pub fn cure(&self, interface: &str) -> String {
        let removal = self.removal(interface);
        match (self.owner(), self.holder) {
            (Owner::Agent, _) => {
                format!("it is the filter of an agent with another kernel.pin_directory: `{removal}`")
            }
            (Owner::Dispatcher, _) => {
                format!("it is libxdp's dispatcher, which runs the programs of others: `{removal}`")
            }
            (_, Holder::Link(link)) => format!(
                "a bpf_link holds it, so `ip link set ... xdp off` does not take it off: stop its owner (`bpftool link show id {link}` tells pids and pins), or `{removal}`"
            ),
            (_, Holder::Netlink) if self.irreplaceable().is_none() => {
                format!(
                    "take it off with `{removal}`, or let the filter take its place with `auth-agent run --replace`"
                )
            }
            (_, Holder::Netlink) => format!("take it off with `{removal}`"),
            (_, Holder::Unseen) => format!("find its owner with `{removal}`"),
        }
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { holder, id, mode, name } = self;
        write!(f, "{} (id {id}), {mode}", name.as_deref().unwrap_or("unnamed"))?;
        match holder {
            Holder::Link(link) => write!(f, ", held by bpf_link {link}"),
            Holder::Netlink => write!(f, ", attached over netlink"),
            Holder::Unseen => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_program_is_named_with_what_takes_it_off_and_replaced_only_where_that_is_safe() {
        let netlink = Holder::Netlink;
        type Row = (Option<&'static str>, Holder, &'static str, &'static str, &'static str, bool);
        let table: [Row; 8] = [
            (
                Some("fw"),
                netlink,
                "native",
                "fw (id 31), native, attached over netlink",
                "ip link set dev eth0 xdpdrv off",
                true,
            ),
            (Some("fw"), netlink, "generic", "generic", "ip link set dev eth0 xdpgeneric off", true),
            (Some("fw"), netlink, "offloaded", "offloaded", "ip link set dev eth0 xdpoffload off", false),
            (Some("fw"), netlink, "several", "several", "ip link set dev eth0 xdp off", false),
            (Some("fw"), Holder::Link(7), "native", "held by bpf_link 7", "bpftool link detach id 7", false),
            (
                Some("xdp_dispatcher"),
                netlink,
                "native",
                "xdp_dispatcher",
                "xdp-loader unload eth0 --all",
                false,
            ),
            (
                Some("auth_filter"),
                Holder::Link(7),
                "native",
                "auth_filter",
                "auth-agent detach --pin-directory DIR",
                false,
            ),
            (None, Holder::Unseen, "native", "unnamed (id 31), native", "bpftool prog show id 31", false),
        ];
        for (name, holder, mode, shown, removal, replaced) in table {
            let program = Program { holder, id: 31, mode, name: name.map(str::to_owned) };
            assert!(program.to_string().contains(shown), "{program}");
            assert_eq!(program.removal("eth0"), removal);
            assert!(program.cure("eth0").contains(removal), "{program}: {}", program.cure("eth0"));
            assert_eq!(program.irreplaceable().is_none(), replaced, "{program}");
            assert_eq!(program.cure("eth0").contains("--replace"), replaced, "{program}");
        }
    }
}
