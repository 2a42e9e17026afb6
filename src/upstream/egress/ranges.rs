//! The special-purpose address registries of IANA, as data:
//! <https://www.iana.org/assignments/iana-ipv4-special-registry/> and
//! <https://www.iana.org/assignments/iana-ipv6-special-registry/>, plus multicast, which has
//! registries of its own. An entry whose "globally reachable" column says anything but true is
//! refused ("N/A" included: 6to4 and Teredo go wherever they are told to).

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
};

/// One registry entry. In the tables the narrower entry comes first, and the first match counts.
pub(super) struct Range<A> {
    first: A,
    prefix: u32,
    pub(super) rule: &'static str,
    pub(super) globally_reachable: bool,
}

impl Range<Ipv4Addr> {
    pub(super) fn contains(&self, ip: Ipv4Addr) -> bool {
        // A /0 would shift by the whole width; no entry is that wide.
        u32::from(ip) >> (32 - self.prefix) == u32::from(self.first) >> (32 - self.prefix)
    }
}

impl Range<Ipv6Addr> {
    pub(super) fn contains(&self, ip: Ipv6Addr) -> bool {
        u128::from(ip) >> (128 - self.prefix) == u128::from(self.first) >> (128 - self.prefix)
    }
}

impl<A: fmt::Display> fmt::Display for Range<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} ({})", self.first, self.prefix, self.rule.replace('_', " "))
    }
}

const fn v4(octets: [u8; 4], prefix: u32, rule: &'static str, reachable: bool) -> Range<Ipv4Addr> {
    let [a, b, c, d] = octets;
    Range { first: Ipv4Addr::new(a, b, c, d), prefix, rule, globally_reachable: reachable }
}

const fn v6(
    segments: [u16; 8],
    prefix: u32,
    rule: &'static str,
    reachable: bool,
) -> Range<Ipv6Addr> {
    let [a, b, c, d, e, f, g, h] = segments;
    Range {
        first: Ipv6Addr::new(a, b, c, d, e, f, g, h),
        prefix,
        rule,
        globally_reachable: reachable,
    }
}

const NO: bool = false;
const YES: bool = true;

pub(super) static SPECIAL_V4: &[Range<Ipv4Addr>] = &[
    v4([0, 0, 0, 0], 8, "this_network", NO),
    v4([10, 0, 0, 0], 8, "private_use", NO),
    v4([100, 64, 0, 0], 10, "shared_address_space", NO),
    v4([127, 0, 0, 0], 8, "loopback", NO),
    v4([169, 254, 0, 0], 16, "link_local", NO),
    v4([172, 16, 0, 0], 12, "private_use", NO),
    v4([192, 0, 0, 9], 32, "port_control_protocol_anycast", YES),
    v4([192, 0, 0, 10], 32, "turn_anycast", YES),
    v4([192, 0, 0, 0], 24, "ietf_protocol_assignments", NO),
    v4([192, 0, 2, 0], 24, "documentation", NO),
    v4([192, 31, 196, 0], 24, "as112", YES),
    v4([192, 52, 193, 0], 24, "amt", YES),
    v4([192, 88, 99, 0], 24, "6to4_relay_anycast", NO),
    v4([192, 168, 0, 0], 16, "private_use", NO),
    v4([192, 175, 48, 0], 24, "as112", YES),
    v4([198, 18, 0, 0], 15, "benchmarking", NO),
    v4([198, 51, 100, 0], 24, "documentation", NO),
    v4([203, 0, 113, 0], 24, "documentation", NO),
    v4([224, 0, 0, 0], 4, "multicast", NO),
    v4([255, 255, 255, 255], 32, "limited_broadcast", NO),
    v4([240, 0, 0, 0], 4, "reserved", NO),
];

/// What IANA has opened for global unicast at all; the rest of the IPv6 space leads nowhere today.
pub(super) static GLOBAL_UNICAST: Range<Ipv6Addr> =
    v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3, "global_unicast", YES);

pub(super) static SPECIAL_V6: &[Range<Ipv6Addr>] = &[
    v6([0, 0, 0, 0, 0, 0, 0, 0], 128, "unspecified", NO),
    v6([0, 0, 0, 0, 0, 0, 0, 1], 128, "loopback", NO),
    v6([0, 0, 0, 0, 0, 0, 0, 0], 96, "ipv4_compatible", NO),
    v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96, "nat64", YES),
    v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48, "local_use_nat64", NO),
    v6([0x100, 0, 0, 0, 0, 0, 0, 0], 64, "discard_only", NO),
    v6([0x100, 0, 0, 1, 0, 0, 0, 0], 64, "dummy_prefix", NO),
    v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32, "teredo", NO),
    v6([0x2001, 1, 0, 0, 0, 0, 0, 1], 128, "port_control_protocol_anycast", YES),
    v6([0x2001, 1, 0, 0, 0, 0, 0, 2], 128, "turn_anycast", YES),
    v6([0x2001, 1, 0, 0, 0, 0, 0, 3], 128, "srp_anycast", YES),
    v6([0x2001, 2, 0, 0, 0, 0, 0, 0], 48, "benchmarking", NO),
    v6([0x2001, 3, 0, 0, 0, 0, 0, 0], 32, "amt", YES),
    v6([0x2001, 4, 0x112, 0, 0, 0, 0, 0], 48, "as112", YES),
    v6([0x2001, 0x10, 0, 0, 0, 0, 0, 0], 28, "orchid", NO),
    v6([0x2001, 0x20, 0, 0, 0, 0, 0, 0], 28, "orchid_v2", YES),
    v6([0x2001, 0x30, 0, 0, 0, 0, 0, 0], 28, "drone_remote_id", YES),
    v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23, "ietf_protocol_assignments", NO),
    v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32, "documentation", NO),
    v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16, "6to4", NO),
    v6([0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0], 48, "as112", YES),
    v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20, "documentation", NO),
    v6([0x5f00, 0, 0, 0, 0, 0, 0, 0], 16, "segment_routing_sids", NO),
    v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7, "unique_local", NO),
    v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10, "link_local", NO),
    v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8, "multicast", NO),
];
