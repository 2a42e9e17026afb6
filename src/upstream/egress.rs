//! Which addresses a provider may have. A base URL is an instruction to our own network, so only
//! what the internet at large can reach is allowed, and what the operator admits by name.
//!
//! Pure rules over addresses: names are resolved by the callers, at save and at every connect.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use ipnet::IpNet;

mod ranges;
#[cfg(test)]
mod tests;

use ranges::{GLOBAL_UNICAST, Range, SPECIAL_V4, SPECIAL_V6};

/// The egress rules of this process. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct EgressRules {
    admitted: Arc<[IpNet]>,
}

impl EgressRules {
    /// Rules that allow every globally reachable address and, besides, the `admitted` networks.
    pub fn new(admitted: Vec<IpNet>) -> Self {
        Self { admitted: admitted.into() }
    }

    /// Is the address in one of the admitted networks? An IPv4-mapped IPv6 address is judged as
    /// the IPv4 address that it stands for.
    pub fn is_admitted(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.admitted.iter().any(|net| net.contains(&ip))
    }

    /// May we connect to this address? Yes if it is globally reachable or admitted, and if so is
    /// every IPv4 address that it embeds: admitting an IPv6 network does not admit the private
    /// IPv4 networks behind its translator. With `plain_http` only admitted addresses will do,
    /// because a provider key must never cross the internet in clear.
    pub fn check(&self, ip: IpAddr, plain_http: bool) -> Result<(), EgressRefusal> {
        let canonical = ip.to_canonical();
        let admitted = self.is_admitted(canonical);
        if !admitted && let Some(range) = refused_range(canonical) {
            return Err(EgressRefusal::range(ip, canonical, range));
        }
        if let IpAddr::V6(v6) = canonical {
            for embedded in embedded_v4(v6).into_iter().flatten().map(IpAddr::V4) {
                if !self.is_admitted(embedded)
                    && let Some(range) = refused_range(embedded)
                {
                    return Err(EgressRefusal::range(ip, embedded, range));
                }
            }
        }
        if plain_http && !admitted {
            return Err(EgressRefusal::plain_http(ip));
        }
        Ok(())
    }
}

/// Why an address was refused. Displays as a sentence for the admin who typed the URL, e.g.
/// `127.0.0.1 is in 127.0.0.0/8 (loopback)`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{explanation}")]
pub struct EgressRefusal {
    rule: &'static str,
    explanation: String,
}

impl EgressRefusal {
    /// The stable name of the rule, such as `loopback`, `private_use` or `plain_http`.
    pub fn rule(&self) -> &'static str {
        self.rule
    }

    fn range(given: IpAddr, judged: IpAddr, range: Refused) -> Self {
        let explanation = if given == judged {
            format!("{given} {range}")
        } else {
            format!("{given} stands for {judged}, which {range}")
        };
        Self { rule: range.rule(), explanation }
    }

    fn plain_http(ip: IpAddr) -> Self {
        Self {
            rule: "plain_http",
            explanation: format!(
                "{ip} is not an admitted address, and plain http goes only to admitted ones; \
                 use https"
            ),
        }
    }
}

/// What refuses an address: a special-purpose range, or being outside of what is allocated.
enum Refused {
    V4(&'static Range<Ipv4Addr>),
    V6(&'static Range<Ipv6Addr>),
    NotGlobalUnicast,
}

impl Refused {
    fn rule(&self) -> &'static str {
        match self {
            Self::V4(range) => range.rule,
            Self::V6(range) => range.rule,
            Self::NotGlobalUnicast => "not_global_unicast",
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(range) => write!(f, "is in {range}"),
            Self::V6(range) => write!(f, "is in {range}"),
            Self::NotGlobalUnicast => write!(f, "is outside {GLOBAL_UNICAST}"),
        }
    }
}

/// The range that refuses an address, taken by itself (without what it may embed).
fn refused_range(ip: IpAddr) -> Option<Refused> {
    match ip {
        IpAddr::V4(ip) => SPECIAL_V4
            .iter()
            .find(|range| range.contains(ip))
            .filter(|range| !range.globally_reachable)
            .map(Refused::V4),
        IpAddr::V6(ip) => match SPECIAL_V6.iter().find(|range| range.contains(ip)) {
            Some(range) => (!range.globally_reachable).then_some(Refused::V6(range)),
            None => (!GLOBAL_UNICAST.contains(ip)).then_some(Refused::NotGlobalUnicast),
        },
    }
}

/// The IPv4 addresses that packets to this IPv6 address may end up at.
fn embedded_v4(ip: Ipv6Addr) -> [Option<Ipv4Addr>; 3] {
    let s = ip.segments();
    let v4 = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    let nothing = [None; 3];
    match s {
        // IPv4-compatible (RFC 4291, 2.5.5.1) and NAT64 (RFC 6052): the last 32 bits.
        [0, 0, 0, 0, 0, 0, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            [Some(v4(high, low)), None, None]
        }
        // 6to4 (RFC 3056): the 32 bits after the prefix; its own site may use ISATAP inside.
        [0x2002, high, low, _, interface, 0x5efe, isatap_high, isatap_low]
            if is_isatap(interface) =>
        {
            [Some(v4(high, low)), Some(v4(isatap_high, isatap_low)), None]
        }
        [0x2002, high, low, ..] => [Some(v4(high, low)), None, None],
        // Teredo (RFC 4380): the server in clear, the client with every bit flipped.
        [0x2001, 0, server_high, server_low, _, _, client_high, client_low] => {
            [Some(v4(server_high, server_low)), Some(v4(!client_high, !client_low)), None]
        }
        // ISATAP (RFC 5214): any prefix, a marked interface identifier, then 32 bits.
        [_, _, _, _, interface, 0x5efe, high, low] if is_isatap(interface) => {
            [Some(v4(high, low)), None, None]
        }
        _ => nothing,
    }
}

/// The first half of ISATAP's `::0:5efe:a.b.c.d`; the other value has the "universal" bit set.
fn is_isatap(interface: u16) -> bool {
    matches!(interface, 0x0000 | 0x0200)
}
