//! Drivers, offloads and queues.

use super::*;

#[test]
fn drivers_mtus_and_offloads_that_keep_native_xdp_out_are_judged() {
    each_row_has_one_finding(&[
        (
            |facts| on_link(facts).native.supported = Some(false),
            Problem,
            "eth0 driver",
            "ena: no native XDP (says the kernel)",
            "set kernel.mode = \"generic\"",
        ),
        (
            |facts| {
                on_link(facts).native = Native { source: NativeSource::Table, supported: Some(false) };
                facts.mode = XdpMode::Auto;
            },
            Warning,
            "eth0 driver",
            "says the table of known drivers",
            "set kernel.mode = \"generic\"",
        ),
        (|facts| on_link(facts).native.supported = None, Note, "eth0 driver", "not known", ""),
        (
            |facts| facts.mode = XdpMode::Generic,
            Note,
            "eth0 driver",
            "costs more",
            "set kernel.mode = \"auto\"",
        ),
        (
            |facts| on_link(facts).mtu = 3499,
            Problem,
            "eth0 mtu",
            "at most 3498",
            "ip link set dev eth0 mtu 3498",
        ),
        (
            |facts| {
                let link = on_link(facts);
                link.driver = Some("veth".to_owned());
                link.peer = Some(("veth1".to_owned(), 3507));
            },
            Problem,
            "eth0 mtu",
            "3507 at the other end (veth1): native XDP takes at most 3506",
            "ip link set dev veth1 mtu 3506",
        ),
        (
            |facts| {
                let link = on_link(facts);
                (link.driver, link.mtu) = (Some("veth".to_owned()), 3507);
            },
            Warning,
            "eth0 mtu",
            "in another namespace",
            "ip link set dev eth0 mtu 3506",
        ),
        (
            |facts| {
                let link = on_link(facts);
                (link.driver, link.mtu) = (Some("ixgbe".to_owned()), 9000);
            },
            Warning,
            "eth0 mtu",
            "few drivers take more than 3498",
            "ip link set dev eth0 mtu 3498",
        ),
        (
            |facts| {
                on_link(facts).features =
                    Some(Features { lro: Feature { fixed: false, on: true }, ..Features::default() });
            },
            Problem,
            "eth0 lro",
            "merges packets",
            "ethtool -K eth0 lro off",
        ),
        (
            |facts| {
                on_link(facts).features =
                    Some(Features { gro_hw: Feature { fixed: false, on: true }, ..Features::default() });
            },
            Warning,
            "eth0 gro-hw",
            "merges packets",
            "ethtool -K eth0 rx-gro-hw off",
        ),
        (
            |facts| {
                on_link(facts).features =
                    Some(Features { gro_hw: Feature { fixed: true, on: true }, ..Features::default() });
            },
            Problem,
            "eth0 gro-hw",
            "only the hypervisor",
            "set kernel.mode = \"generic\"",
        ),
        (
            |facts| {
                let link = on_link(facts);
                link.features =
                    Some(Features { vlan_strip: Feature { fixed: false, on: true }, ..Features::default() });
                link.vlans = vec!["eth0.7".to_owned()];
            },
            Note,
            "eth0 vlan",
            "eth0.7 look like untagged",
            "ethtool -K eth0 rxvlan off",
        ),
    ]);
}

#[test]
fn in_generic_mode_neither_mtu_nor_offloads_matter() {
    let mut facts = healthy();
    facts.mode = XdpMode::Generic;
    let link = on_link(&mut facts);
    link.mtu = 9000;
    link.native.supported = Some(false);
    link.features = Some(Features { lro: Feature { fixed: true, on: true }, ..Features::default() });
    assert!(check::all(&facts).iter().all(|finding| finding.severity == Severity::Ok));
}

#[test]
fn queues_are_held_against_processors_and_against_what_xdp_needs() {
    each_row_has_one_finding(&[
        (
            |facts| {
                let link = on_link(facts);
                (link.rss, link.channels) = (Some(8), Some(Channels { combined: true, in_use: 8, most: 8 }));
            },
            Problem,
            "eth0 channels",
            "8 of 8 in use",
            "ethtool -L eth0 combined 4",
        ),
        (
            |facts| on_link(facts).channels = Some(Channels { combined: true, in_use: 1, most: 8 }),
            Warning,
            "eth0 queues",
            "1 for 4 processors",
            "ethtool -L eth0 combined 4",
        ),
        (
            |facts| {
                let link = on_link(facts);
                link.channels = Some(Channels { combined: false, in_use: 2, most: 16 });
                link.driver = Some("ixgbe".to_owned());
            },
            Note,
            "eth0 queues",
            "no more than 2",
            "ethtool -L eth0 rx 4",
        ),
        (
            |facts| {
                let link = on_link(facts);
                link.driver = Some("virtio_net".to_owned());
                link.rss = None;
                link.channels = Some(Channels { combined: true, in_use: 5, most: 8 });
            },
            Note,
            "eth0 channels",
            "takes a lock",
            "ethtool -L eth0 combined 4",
        ),
        (
            |facts| {
                facts.host.cpus = 70;
                let link = on_link(facts);
                link.driver = Some("ixgbe".to_owned());
                link.channels = Some(Channels { combined: true, in_use: 4, most: 4 });
            },
            Note,
            "eth0 queues",
            "RPS is off",
            "for q in /sys/class/net/eth0/queues/rx-*; do echo 3f,ffffffff,ffffffff > \"$q/rps_cpus\"; done",
        ),
        (
            |facts| on_link(facts).rss = Some(1),
            Warning,
            "eth0 rss",
            "1 of 4 queues",
            "ethtool -X eth0 equal 4",
        ),
        (
            |facts| on_link(facts).interrupts = interrupts(&[2]),
            Warning,
            "eth0 interrupts",
            "4 on 1 of 4 processors: the filter runs on no others",
            "i=0; for irq in 24 25 26 27; do echo $((i % 4)) > /proc/irq/$irq/smp_affinity_list; i=$((i + 1)); done",
        ),
        (
            |facts| on_link(facts).interrupts = interrupts(&[0, 2]),
            Note,
            "eth0 interrupts",
            "4 on 2 of 4 processors",
            "i=0; for irq in 24 25 26 27; do echo $((i % 4)) > /proc/irq/$irq/smp_affinity_list; i=$((i + 1)); done",
        ),
    ]);
}

fn interrupts(cpus: &[usize]) -> Option<Interrupts> {
    Some(Interrupts { cpus: cpus.to_vec(), numbers: vec![24, 25, 26, 27] })
}

#[test]
fn drivers_are_known_by_kernel_version() {
    let table = [
        ("virtio_net", Version(5, 15), Some(true)),
        ("mana", Version(5, 15), Some(false)),
        ("mana", Version(6, 1), Some(true)),
        ("e1000e", Version(6, 1), None),
    ];
    for (driver, kernel, native) in table {
        assert_eq!(drivers::native(driver, kernel), native, "{driver} on {kernel}");
    }
    for (release, version) in
        [("6.1.0-18-amd64", Some(Version(6, 1))), ("5.15", Some(Version(5, 15))), ("6", None), ("", None)]
    {
        assert_eq!(Version::parse(release), version, "{release}");
    }
}
