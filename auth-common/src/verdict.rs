//! Every reason to pass or drop a packet. Each has one name, the same in the counter, the CLI and the log.

/// What happens to a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It ends here.
    Drop,
    /// It goes on to the host's stack.
    Pass,
    /// It ends here, and its sender is told so: a TCP reset goes back.
    Reset,
}

impl Verdict {
    /// `drop`, `pass` or `reset`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Pass => "pass",
            Self::Reset => "reset",
        }
    }
}

/// Why. The number is the index of its counter in the kernel, so it is part of the map layout.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[repr(u8)]
pub enum Reason {
    /// No agent has given a sign of life, and the operator lets packets pass then.
    AgentGone,
    /// The source is on the allow list.
    Allowed,
    /// The source is over its failed authentications, far enough to be dropped here.
    AuthFailureDebt,
    /// The source is banned.
    Banned,
    /// Strangers together open connections faster than the breaker lets them.
    Breaker,
    /// The source sends bytes faster than its budget.
    ByteBudget,
    /// The source opens connections faster than its budget.
    ConnectionBudget,
    /// An Ethernet header cut short.
    EthernetTruncated,
    /// A later fragment that lies over the TCP header (RFC 3128).
    FragmentOverlap,
    /// A first fragment without the whole transport header (RFC 1858, RFC 7112).
    FragmentTiny,
    /// To a guarded port.
    Guarded,
    /// An ICMP header cut short.
    IcmpTruncated,
    /// A map that the program was loaded with did not answer; can't happen, and fails closed.
    Internal,
    /// An IPv4 header length below 20.
    Ipv4HeaderLength,
    /// An IPv4 total length below its header or beyond the frame.
    Ipv4TotalLength,
    /// An IPv4 header cut short.
    Ipv4Truncated,
    /// An IPv4 ethertype over another IP version.
    Ipv4Version,
    /// More IPv6 extension headers than are walked.
    Ipv6ExtensionChain,
    /// Hop-by-hop options that don't stand first.
    Ipv6ExtensionOrder,
    /// An IPv6 extension header cut short.
    Ipv6ExtensionTruncated,
    /// An IPv6 payload length beyond the frame.
    Ipv6PayloadLength,
    /// An IPv6 header cut short.
    Ipv6Truncated,
    /// An IPv6 ethertype over another IP version.
    Ipv6Version,
    /// IPv6 neighbour discovery from this link.
    NeighbourDiscovery,
    /// Not IP.
    NonIp,
    /// The source sends packets faster than its budget.
    PacketBudget,
    /// TCP to a plaintext port.
    PlaintextPort,
    /// TCP to a plaintext port, answered with a reset.
    PlaintextReset,
    /// The source is over its HTTP requests, far enough to be dropped here.
    RequestDebt,
    /// The agent ended this connection.
    RevokedFlow,
    /// The source's IPv6 site is over one of its budgets.
    SiteBudget,
    /// A source address that can't be one: multicast, broadcast, v4-mapped on the wire.
    SourceInvalid,
    /// A TCP header length below 20 or beyond the packet.
    TcpHeaderLength,
    /// A TCP header cut short.
    TcpTruncated,
    /// A UDP length below 8 or beyond the packet.
    UdpLength,
    /// A UDP header cut short.
    UdpTruncated,
    /// More than two VLAN tags.
    VlanTooDeep,
    /// A VLAN tag cut short.
    VlanTruncated,
    /// Nothing against it.
    WithinBudget,
}

impl Reason {
    /// Every reason, in the order of their counters.
    pub const ALL: [Self; 39] = [
        Self::AgentGone,
        Self::Allowed,
        Self::AuthFailureDebt,
        Self::Banned,
        Self::Breaker,
        Self::ByteBudget,
        Self::ConnectionBudget,
        Self::EthernetTruncated,
        Self::FragmentOverlap,
        Self::FragmentTiny,
        Self::Guarded,
        Self::IcmpTruncated,
        Self::Internal,
        Self::Ipv4HeaderLength,
        Self::Ipv4TotalLength,
        Self::Ipv4Truncated,
        Self::Ipv4Version,
        Self::Ipv6ExtensionChain,
        Self::Ipv6ExtensionOrder,
        Self::Ipv6ExtensionTruncated,
        Self::Ipv6PayloadLength,
        Self::Ipv6Truncated,
        Self::Ipv6Version,
        Self::NeighbourDiscovery,
        Self::NonIp,
        Self::PacketBudget,
        Self::PlaintextPort,
        Self::PlaintextReset,
        Self::RequestDebt,
        Self::RevokedFlow,
        Self::SiteBudget,
        Self::SourceInvalid,
        Self::TcpHeaderLength,
        Self::TcpTruncated,
        Self::UdpLength,
        Self::UdpTruncated,
        Self::VlanTooDeep,
        Self::VlanTruncated,
        Self::WithinBudget,
    ];

    /// Its name, as operators see it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AgentGone => "agent-gone",
            Self::Allowed => "allowed",
            Self::AuthFailureDebt => "auth-failure-debt",
            Self::Banned => "banned",
            Self::Breaker => "breaker",
            Self::ByteBudget => "byte-budget",
            Self::ConnectionBudget => "connection-budget",
            Self::EthernetTruncated => "ethernet-truncated",
            Self::FragmentOverlap => "fragment-overlap",
            Self::FragmentTiny => "fragment-tiny",
            Self::Guarded => "guarded",
            Self::IcmpTruncated => "icmp-truncated",
            Self::Internal => "internal",
            Self::Ipv4HeaderLength => "ipv4-header-length",
            Self::Ipv4TotalLength => "ipv4-total-length",
            Self::Ipv4Truncated => "ipv4-truncated",
            Self::Ipv4Version => "ipv4-version",
            Self::Ipv6ExtensionChain => "ipv6-extension-chain",
            Self::Ipv6ExtensionOrder => "ipv6-extension-order",
            Self::Ipv6ExtensionTruncated => "ipv6-extension-truncated",
            Self::Ipv6PayloadLength => "ipv6-payload-length",
            Self::Ipv6Truncated => "ipv6-truncated",
            Self::Ipv6Version => "ipv6-version",
            Self::NeighbourDiscovery => "neighbour-discovery",
            Self::NonIp => "non-ip",
            Self::PacketBudget => "packet-budget",
            Self::PlaintextPort => "plaintext-port",
            Self::PlaintextReset => "plaintext-reset",
            Self::RequestDebt => "request-debt",
            Self::RevokedFlow => "revoked-flow",
            Self::SiteBudget => "site-budget",
            Self::SourceInvalid => "source-invalid",
            Self::TcpHeaderLength => "tcp-header-length",
            Self::TcpTruncated => "tcp-truncated",
            Self::UdpLength => "udp-length",
            Self::UdpTruncated => "udp-truncated",
            Self::VlanTooDeep => "vlan-too-deep",
            Self::VlanTruncated => "vlan-truncated",
            Self::WithinBudget => "within-budget",
        }
    }

    /// What it means for the packet.
    #[inline(always)]
    pub const fn verdict(self) -> Verdict {
        match self {
            Self::AgentGone
            | Self::Allowed
            | Self::Guarded
            | Self::NeighbourDiscovery
            | Self::NonIp
            | Self::WithinBudget => Verdict::Pass,
            Self::PlaintextReset => Verdict::Reset,
            _ => Verdict::Drop,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::Reason;

    #[test]
    fn every_reason_stands_at_its_own_counter_and_has_its_own_name() {
        let names: HashSet<_> = Reason::ALL.iter().map(|reason| reason.name()).collect();
        assert_eq!(names.len(), Reason::ALL.len());
        for (index, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index, "{}", reason.name());
        }
    }
}
