//! Addresses, networks, ports and interfaces.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use toml::de::DeValue;

use super::{described, integer, string};
use crate::config::document::{Checked, shown, wrong};

/// Linux's IFNAMSIZ without the final NUL.
const MAX_INTERFACE_BYTES: usize = 15;

/// `"0.0.0.0:443"`
pub(in crate::config) fn address(value: &DeValue<'_>) -> Checked<SocketAddr> {
    const CURE: &str = "write an address and a port, such as \"0.0.0.0:443\" or \"[::]:443\"";
    let text = string(value, CURE)?;
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() != 0 => Ok(address),
        _ => wrong(format!("\"{}\" is not an address with a port", shown(text)), CURE),
    }
}

/// `"eth0"`
pub(in crate::config) fn interface(value: &DeValue<'_>) -> Checked<String> {
    const CURE: &str = "write a name as `ip link` shows it, such as \"eth0\"";
    let text = string(value, CURE)?;
    let right = (1..=MAX_INTERFACE_BYTES).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/')
        && text != "."
        && text != "..";
    if right {
        Ok(text.to_owned())
    } else {
        wrong(format!("\"{}\" is not an interface name", shown(text)), CURE)
    }
}

/// A CIDR that is not everyone, or a single address.
pub(in crate::config) fn network(value: &DeValue<'_>) -> Checked<IpNet> {
    match any_network(value)? {
        network if network.prefix_len() == 0 => {
            wrong(format!("{network} is everyone"), "name the networks that are to pass")
        }
        network => Ok(network),
    }
}

/// A CIDR, or a single address.
pub(in crate::config) fn any_network(value: &DeValue<'_>) -> Checked<IpNet> {
    const CURE: &str = "write a network such as \"10.0.0.0/8\" or \"2001:db8::/32\", or a single address";
    let text = string(value, CURE)?;
    let parsed = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    let Some(network) = parsed else {
        return wrong(format!("\"{}\" is not a network", shown(text)), CURE);
    };
    if network != network.trunc() {
        return wrong(
            format!("{network} has bits set beyond its prefix"),
            format!("write \"{}\", or \"{}\" for that address alone", network.trunc(), network.addr()),
        );
    }
    if let IpNet::V6(ipv6) = network
        && ipv6.addr().to_ipv4_mapped().is_some()
    {
        return wrong(format!("{network} is an IPv4 network in IPv6 clothes"), "write it as IPv4");
    }
    Ok(network)
}

/// 1 to 65535
pub(in crate::config) fn port(value: &DeValue<'_>) -> Checked<u16> {
    match integer(value).and_then(|number| u16::try_from(number).ok()).filter(|port| *port != 0) {
        Some(port) => Ok(port),
        None => wrong(format!("{} is not a port", described(value)), "write 1 to 65535"),
    }
}
