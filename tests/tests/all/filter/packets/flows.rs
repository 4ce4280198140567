//! Revoked flows, and what looks like them.

use auth_agent::edge::Flow;
use auth_common::verdict::Reason;
use tests::frames::{ACK, Ip, tcp, udp};

use super::{
    DESTINATION, HERE, HERE6, HTTPS, MORE, Row, TCP, UDP, VLAN, ack, chain, options, row, syn, v4, v6,
};

/// What the agent has ended before the table is played.
pub fn revoked() -> Vec<Flow> {
    let flow = |peer: &str, local: &str| Flow { local: local.parse().unwrap(), peer: peer.parse().unwrap() };
    let v4 = |source: &str, port: u16| flow(&format!("{source}:40000"), &format!("{HERE}:{port}"));
    vec![
        v4("192.0.2.30", HTTPS),
        v4("192.0.2.30", 9_000),
        v4("192.0.2.30", 80),
        v4("192.0.2.30", 22),
        v4("198.51.100.30", HTTPS),
        v4("203.0.113.30", HTTPS),
        flow("[2001:db8:30::1]:40000", &format!("[{HERE6}]:{HTTPS}")),
    ]
}

pub(super) fn table() -> Vec<Row> {
    let s = "192.0.2.30";
    let reason = Reason::RevokedFlow;
    let s6 = "2001:db8:30::1";
    let part = |fragment, payload| Ip { fragment, ..v4(s, payload) }.frame();
    vec![
        row("a revoked flow", v4(s, ack(HTTPS)).frame(), reason),
        row("a new connection over it", v4(s, syn(HTTPS)).frame(), reason),
        row("a revoked flow in a VLAN", v4(s, ack(HTTPS)).tagged(&[VLAN]), reason),
        row("a revoked flow behind options", Ip { extra: vec![1; 8], ..v4(s, ack(HTTPS)) }.frame(), reason),
        row("its first fragment", part(MORE, ack(HTTPS)), reason),
        row("its later fragments have no port", part(3, vec![0; 8]), Reason::WithinBudget),
        row("from its next port", v4(s, tcp(40_001, HTTPS, ACK)).frame(), Reason::WithinBudget),
        row("from its neighbour", v4("192.0.2.31", ack(HTTPS)).frame(), Reason::WithinBudget),
        row("to another address", Ip::new(s, "10.0.0.2", TCP, ack(HTTPS)).frame(), Reason::WithinBudget),
        row("to another port", v4(s, ack(HTTPS + 1)).frame(), Reason::WithinBudget),
        row("UDP", Ip::new(s, HERE, UDP, udp(40_000, HTTPS, b"")).frame(), Reason::WithinBudget),
        row("to a port that is not the agent's", v4(s, ack(9_000)).frame(), Reason::WithinBudget),
        row("to a plaintext port", v4(s, ack(80)).frame(), Reason::PlaintextPort),
        row("to a guarded port", v4(s, ack(22)).frame(), Reason::Guarded),
        row("a revoked flow of a banned source", v4("198.51.100.30", ack(HTTPS)).frame(), reason),
        row("another flow of it", v4("198.51.100.30", tcp(40_001, HTTPS, ACK)).frame(), Reason::Banned),
        row("a revoked flow of an allowed source", v4("203.0.113.30", ack(HTTPS)).frame(), reason),
        row("another flow of it", v4("203.0.113.30", tcp(40_001, HTTPS, ACK)).frame(), Reason::Allowed),
        row("a revoked IPv6 flow", v6(s6, ack(HTTPS)).frame(), reason),
        row(
            "a revoked flow behind an extension header",
            chain(s6, &[(DESTINATION, options(1))], TCP, ack(HTTPS)).frame(),
            reason,
        ),
        row("an IPv6 flow from its next port", v6(s6, tcp(40_001, HTTPS, ACK)).frame(), Reason::WithinBudget),
        row(
            "an IPv6 flow from its neighbour",
            v6("2001:db8:30::2", ack(HTTPS)).frame(),
            Reason::WithinBudget,
        ),
    ]
}
