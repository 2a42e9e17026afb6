//! Which addresses a connection may go to.

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn none_admitted() -> EgressRules {
    EgressRules::default()
}

fn admitting(networks: &[&str]) -> EgressRules {
    EgressRules::new(networks.iter().map(|net| net.parse().unwrap()).collect())
}

/// The neighbours of a network: one before its first address, one after its last.
fn neighbours(net: IpNet) -> (Option<IpAddr>, Option<IpAddr>) {
    match net {
        IpNet::V4(net) => (
            u32::from(net.network()).checked_sub(1).map(|n| Ipv4Addr::from(n).into()),
            u32::from(net.broadcast()).checked_add(1).map(|n| Ipv4Addr::from(n).into()),
        ),
        IpNet::V6(net) => (
            u128::from(net.network()).checked_sub(1).map(|n| Ipv6Addr::from(n).into()),
            u128::from(net.broadcast()).checked_add(1).map(|n| Ipv6Addr::from(n).into()),
        ),
    }
}

/// Every entry of both registries that is not globally reachable, and multicast: written down
/// again from the registries, not taken from the tables under test. The two flags say whether the
/// addresses just before and just after are allowed.
const REFUSED: &[(&str, &str, bool, bool)] = &[
    ("0.0.0.0/8", "this_network", false, true),
    ("10.0.0.0/8", "private_use", true, true),
    ("100.64.0.0/10", "shared_address_space", true, true),
    ("127.0.0.0/8", "loopback", true, true),
    ("169.254.0.0/16", "link_local", true, true),
    ("172.16.0.0/12", "private_use", true, true),
    ("192.0.0.0/29", "ietf_protocol_assignments", true, false),
    ("192.0.0.8/32", "ietf_protocol_assignments", false, true),
    ("192.0.0.170/31", "ietf_protocol_assignments", false, false),
    ("192.0.0.11/32", "ietf_protocol_assignments", true, false),
    ("192.0.0.255/32", "ietf_protocol_assignments", false, true),
    ("192.0.2.0/24", "documentation", true, true),
    ("192.88.99.0/24", "6to4_relay_anycast", true, true),
    ("192.168.0.0/16", "private_use", true, true),
    ("198.18.0.0/15", "benchmarking", true, true),
    ("198.51.100.0/24", "documentation", true, true),
    ("203.0.113.0/24", "documentation", true, true),
    ("224.0.0.0/4", "multicast", true, false),
    ("240.0.0.0/5", "reserved", false, false),
    ("255.255.255.255/32", "limited_broadcast", false, false),
    ("::/128", "unspecified", false, false),
    ("::1/128", "loopback", false, false),
    ("::808:0/112", "ipv4_compatible", false, false),
    ("64:ff9b:1::/48", "local_use_nat64", false, false),
    ("100::/64", "discard_only", false, false),
    ("100:0:0:1::/64", "dummy_prefix", false, false),
    ("2001::/32", "teredo", true, false),
    ("2001:1::4/128", "ietf_protocol_assignments", true, false),
    ("2001:2::/48", "benchmarking", false, false),
    ("2001:4:113::/48", "ietf_protocol_assignments", true, false),
    ("2001:10::/28", "orchid", false, true),
    ("2001:40::/28", "ietf_protocol_assignments", true, false),
    ("2001:1ff:8000::/33", "ietf_protocol_assignments", false, true),
    ("2001:db8::/32", "documentation", true, true),
    ("2002::/16", "6to4", true, true),
    ("3fff::/20", "documentation", true, true),
    ("4000::/3", "not_global_unicast", true, false),
    ("5f00::/16", "segment_routing_sids", false, false),
    ("fc00::/7", "unique_local", false, false),
    ("fe80::/10", "link_local", false, false),
    ("fec0::/10", "not_global_unicast", false, false),
    ("ff00::/8", "multicast", false, false),
];

#[test]
fn refuses_every_special_purpose_range_up_to_its_borders() {
    let rules = none_admitted();
    for (net, rule, before_allowed, after_allowed) in REFUSED {
        let net: IpNet = net.parse().unwrap();
        for inside in [net.network(), net.broadcast()] {
            let refusal = rules.check(inside, false).unwrap_err();
            assert_eq!(refusal.rule(), *rule, "{inside} in {net}");
        }
        let (before, after) = neighbours(net);
        for (neighbour, allowed) in [(before, before_allowed), (after, after_allowed)] {
            if let Some(neighbour) = neighbour {
                assert_eq!(rules.check(neighbour, false).is_ok(), *allowed, "{neighbour} by {net}");
            }
        }
    }
}

#[test]
fn allows_what_the_registries_call_globally_reachable() {
    for address in [
        "1.1.1.1",
        "192.0.0.9",
        "192.0.0.10",
        "192.31.196.1",
        "192.52.193.1",
        "192.175.48.1",
        "2001:1::1",
        "2001:1::2",
        "2001:1::3",
        "2001:3::1",
        "2001:4:112::1",
        "2001:20::1",
        "2001:30::1",
        "2606:4700::1111",
        "2620:4f:8000::1",
    ] {
        assert_eq!(none_admitted().check(ip(address), false), Ok(()), "{address}");
    }
}

#[test]
fn looks_inside_addresses_that_embed_others() {
    for (address, rule) in [
        ("::ffff:127.0.0.1", "loopback"),
        ("::ffff:10.1.2.3", "private_use"),
        ("::ffff:169.254.169.254", "link_local"),
        ("64:ff9b::127.0.0.1", "loopback"),
        ("64:ff9b::a9fe:a9fe", "link_local"),
        ("64:ff9b::192.168.1.1", "private_use"),
        ("64:ff9b:1::127.0.0.1", "local_use_nat64"),
        ("::127.0.0.1", "ipv4_compatible"),
        ("2002:7f00:1::", "6to4"),
        ("2001:0:7f00:1::", "teredo"),
        ("2606:4700::5efe:10.0.0.1", "private_use"),
        ("2606:4700::200:5efe:127.0.0.1", "loopback"),
    ] {
        let refusal = none_admitted().check(ip(address), false).unwrap_err();
        assert_eq!(refusal.rule(), rule, "{address}");
    }
    for address in ["::ffff:1.1.1.1", "64:ff9b::1.1.1.1", "2606:4700::5efe:1.1.1.1"] {
        assert_eq!(none_admitted().check(ip(address), false), Ok(()), "{address}");
    }
}

#[test]
fn admitting_a_network_admits_no_other_through_it() {
    // 6to4, Teredo and NAT64 carry IPv4 packets: who admits them has not admitted loopback.
    let rules = admitting(&["2002::/16", "2001::/32", "64:ff9b::/96", "::/0"]);
    for (address, rule) in [
        ("2002:7f00:1::", "loopback"),
        ("2002:0808:0808:0:0:5efe:10.0.0.1", "private_use"),
        ("2001:0:7f00:1::", "loopback"),
        // The client part, with every bit flipped: 127.0.0.1.
        ("2001:0:808:808::80ff:fffe", "loopback"),
        ("64:ff9b::7f00:1", "loopback"),
        ("::127.0.0.1", "loopback"),
        ("::ffff:127.0.0.1", "loopback"),
    ] {
        let refusal = rules.check(ip(address), false).unwrap_err();
        assert_eq!(refusal.rule(), rule, "{address}");
    }
    assert_eq!(rules.check(ip("2002:808:808::1"), false), Ok(()));
    assert_eq!(rules.check(ip("fd00::1"), false), Ok(()));
}

#[test]
fn an_admitted_network_is_allowed_to_its_borders() {
    let rules = admitting(&["10.1.0.0/16", "fd00:1::/32"]);
    for address in ["10.1.0.0", "10.1.255.255", "::ffff:10.1.2.3", "fd00:1::", "fd00:1::1"] {
        assert!(rules.is_admitted(ip(address)), "{address}");
        assert_eq!(rules.check(ip(address), false), Ok(()), "{address}");
        assert_eq!(rules.check(ip(address), true), Ok(()), "{address}");
    }
    for address in ["10.0.255.255", "10.2.0.0", "fd00:2::", "127.0.0.1"] {
        assert!(!rules.is_admitted(ip(address)), "{address}");
        assert!(rules.check(ip(address), false).is_err(), "{address}");
    }
    // An embedded address that is admitted is as good as a public one.
    assert_eq!(rules.check(ip("64:ff9b::10.1.2.3"), false), Ok(()));
}

#[test]
fn plain_http_goes_to_admitted_addresses_only() {
    let rules = admitting(&["127.0.0.0/8"]);
    assert_eq!(rules.check(ip("1.1.1.1"), true).unwrap_err().rule(), "plain_http");
    assert_eq!(rules.check(ip("64:ff9b::1.1.1.1"), true).unwrap_err().rule(), "plain_http");
    assert_eq!(rules.check(ip("10.0.0.1"), true).unwrap_err().rule(), "private_use");
    assert_eq!(rules.check(ip("127.0.0.1"), true), Ok(()));
}

#[test]
fn a_refusal_explains_itself() {
    let text = |address| none_admitted().check(ip(address), false).unwrap_err().to_string();
    assert_eq!(text("127.0.0.1"), "127.0.0.1 is in 127.0.0.0/8 (loopback)");
    assert_eq!(
        text("64:ff9b::a00:1"),
        "64:ff9b::a00:1 stands for 10.0.0.1, which is in 10.0.0.0/8 (private use)"
    );
    assert_eq!(text("8000::1"), "8000::1 is outside 2000::/3 (global unicast)");
}
