//! `[[listener]]`

use std::net::{IpAddr, SocketAddr};

use super::Earlier;
use crate::config::document::{Checked, Section, wrong};
use crate::config::{Kernel, Listener, values};

/// `[[listener]]`
pub(super) fn listeners(root: &mut Section<'_>, kernel: &Kernel) -> Vec<Listener> {
    let mut earlier = Earlier::default();
    let sections = root.required_sections("listener", "[[listener]] with address, certificate and key");
    sections.into_iter().filter_map(|section| listener(section, kernel, &mut earlier)).collect()
}

fn listener(
    mut section: Section<'_>,
    kernel: &Kernel,
    earlier: &mut Earlier<SocketAddr>,
) -> Option<Listener> {
    let path = values::path(section.folder());
    let address = section.required("address", values::address, r#"address = "[::]:443""#);
    let certificate = section.required("certificate", &path, r#"certificate = "edge.crt""#);
    let key = section.required("key", &path, r#"key = "edge.key""#);
    let proxy_protocol = section.or("proxy_protocol", values::boolean, false);
    if let Some(address) = address {
        section.check("address", port_is_free(address.port(), kernel));
        earlier.check(&section, "address", address, overlap);
    }
    section.finish();
    Some(Listener { address: address?, certificate: certificate?, key: key?, proxy_protocol })
}

pub(super) fn port_is_free(port: u16, kernel: &Kernel) -> Checked<()> {
    if kernel.plaintext_ports.contains(&port) {
        wrong(
            format!("{port} is a plaintext port: nothing sent there arrives"),
            "choose another port, or take this one out of kernel.plaintext_ports",
        )
    } else if kernel.guarded_ports.contains(&port) {
        wrong(
            format!("{port} is a guarded port: its clients would have no limits"),
            "choose another port, or take this one out of kernel.guarded_ports",
        )
    } else {
        Ok(())
    }
}

/// Whether two sockets can't both listen: `[::]` takes IPv4 too.
fn overlap(a: &SocketAddr, b: &SocketAddr) -> bool {
    let covers = |all: IpAddr, one: IpAddr| all.is_unspecified() && (all.is_ipv6() || one.is_ipv4());
    a.port() == b.port() && (a.ip() == b.ip() || covers(a.ip(), b.ip()) || covers(b.ip(), a.ip()))
}
