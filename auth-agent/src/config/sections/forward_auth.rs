//! `[forward_auth]`

use super::listeners::port_is_free;
use crate::config::document::{Checked, Section, wrong};
use crate::config::{ForwardAuth, Kernel, Listener, LocalAddress, values};

/// None unless the section is there.
pub(super) fn forward_auth(
    mut section: Section<'_>,
    kernel: &Kernel,
    listeners: &[Listener],
) -> Option<ForwardAuth> {
    if !section.is_present() {
        return None;
    }
    let address = values::local_address(section.folder());
    let listen = section.required("listen", address, r#"listen = "127.0.0.1:9180""#);
    let allow_remote = section.or("allow_remote", values::boolean, false);
    if let Some(LocalAddress::Socket(address)) = &listen {
        let remote = !address.ip().is_loopback();
        section.check("listen", if remote && !allow_remote { is_too_open() } else { Ok(()) });
        section.check("listen", if remote { port_is_free(address.port(), kernel) } else { Ok(()) });
        let taken = |listener: &&Listener| listener.address.port() == address.port();
        if let Some(listener) = listeners.iter().find(taken) {
            let what = format!("the [[listener]] at {} has this port", listener.address);
            section.check("listen", wrong(what, "choose another port"));
        }
    }
    section.finish();
    Some(ForwardAuth { listen: listen? })
}

/// Whoever reaches it can ask in any client's name.
fn is_too_open() -> Checked<()> {
    wrong(
        "anyone on the network could ask in any client's name",
        "write a loopback address or \"unix:/path\", or allow_remote = true if nobody but your proxies gets there",
    )
}
