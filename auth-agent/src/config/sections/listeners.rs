//! `[[listener]]`

mod client_certificates;

use std::net::{IpAddr, SocketAddr};

use super::Earlier;
use crate::config::document::{Checked, Section, wrong};
use crate::config::{CertificateFiles, Kernel, Listener, values};

const CERTIFICATE: &str = r#"certificate = "edge.crt""#;
const KEY: &str = r#"key = "edge.key""#;

/// `[[listener]]`
pub(super) fn listeners(root: &mut Section<'_>, kernel: &Kernel) -> Vec<Listener> {
    let mut earlier = Earlier::default();
    let sections = root.required_sections("listener", "[[listener]] with address, certificate and key");
    let has_acme = root.has("acme");
    sections.into_iter().filter_map(|section| listener(section, kernel, has_acme, &mut earlier)).collect()
}

fn listener(
    mut section: Section<'_>,
    kernel: &Kernel,
    has_acme: bool,
    earlier: &mut Earlier<SocketAddr>,
) -> Option<Listener> {
    let address = section.required("address", values::address, r#"address = "[::]:443""#);
    let acme = section.list("acme", values::host_name).unwrap_or_default();
    if !acme.is_empty() && !has_acme {
        let cure = "write [acme] with directory and terms_of_service_agreed";
        section.check("acme", wrong("there is no section that says where certificates are got", cure));
    }
    let certificates = certificates(&mut section, !acme.is_empty());
    let client_certificates =
        client_certificates::client_certificates(section.section("client_certificates"));
    let tls_min = section.or("tls_min", values::tls_version, Default::default());
    let unknown_name = section.or("unknown_name", values::unknown_name, Default::default());
    let proxy_protocol = section.or("proxy_protocol", values::boolean, false);
    if let Some(address) = address {
        section.check("address", port_is_free(address.port(), kernel));
        earlier.check(&section, "address", address, overlap);
    }
    section.finish();
    Some(Listener {
        acme,
        address: address?,
        certificates: certificates?,
        client_certificates,
        proxy_protocol,
        tls_min,
        unknown_name,
    })
}

/// The listener's own pair, and those listed besides it or in its place.
fn certificates(section: &mut Section<'_>, gets_one: bool) -> Option<Vec<CertificateFiles>> {
    let has_own = [section.has("certificate"), section.has("key")].contains(&true);
    let own = if has_own || !(gets_one || section.has("certificates")) { pair(section) } else { None };
    if !has_own && !gets_one {
        section.refuse_empty("certificates", &format!("certificates = [{{ {CERTIFICATE}, {KEY} }}]"));
    }
    let mut found: Vec<_> = own.into_iter().collect();
    for mut more in section.sections("certificates") {
        let pair = pair(&mut more);
        if let Some(pair) = pair {
            if found.iter().any(|other| other.certificate == pair.certificate) {
                more.check("certificate", wrong("listed twice", "take one of them out"));
            }
            found.push(pair);
        }
        more.finish();
    }
    (gets_one || !found.is_empty()).then_some(found)
}

fn pair(section: &mut Section<'_>) -> Option<CertificateFiles> {
    let path = values::path(section.folder());
    let certificate = section.required("certificate", &path, CERTIFICATE);
    let key = section.required("key", &path, KEY);
    Some(CertificateFiles { certificate: certificate?, key: key? })
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
