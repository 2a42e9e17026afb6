//! Option values: times, sizes and lists of networks.

use std::fmt;
use std::marker::PhantomData;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;

/// The text is not a valid value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    #[error("a time is a whole number and a unit, as in 500ms, 30s, 10m, 1h or 7d")]
    Time,
    #[error("a size is a whole number and a unit, as in 65536, 64KiB, 32MiB or 2GiB")]
    Size,
    #[error("the value is too large")]
    TooLarge,
    #[error("`{0}` is not a network: write 10.0.0.0/8, fd00::/8 or one address")]
    Network(String),
    /// A network with bits set beyond its prefix, probably a typing error.
    #[error("`{0}` has bits set beyond its prefix: write {1}, or one address without a prefix")]
    HostBits(String, IpNet),
}

/// Splits `10m` into 10 and `m`.
fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end)?;
    Some((number.parse().ok()?, unit.trim()))
}

/// Parses a time: `500ms`, `30s`, `10m`, `1h`, `7d`; a bare `0` is zero.
pub fn parse_duration(text: &str) -> Result<Duration, ValueError> {
    let (number, unit) = number_and_unit(text).ok_or(ValueError::Time)?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "" if number == 0 => 1,
        _ => return Err(ValueError::Time),
    };
    let millis = number.checked_mul(millis).ok_or(ValueError::TooLarge)?;
    // At most a century: adding it to a clock does not overflow.
    if millis > 100 * 365 * 86_400_000 {
        return Err(ValueError::TooLarge);
    }
    Ok(Duration::from_millis(millis))
}

/// Parses a size in bytes: `65536`, `64KiB`, `32MiB`, `2GiB`; `KB`, `MB` and `GB` are powers of ten.
pub fn parse_size(text: &str) -> Result<usize, ValueError> {
    let (number, unit) = number_and_unit(text).ok_or(ValueError::Size)?;
    let unit = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kib" | "k" => 1 << 10,
        "mib" | "m" => 1 << 20,
        "gib" | "g" => 1 << 30,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        _ => return Err(ValueError::Size),
    };
    let bytes = number.checked_mul(unit).ok_or(ValueError::TooLarge)?;
    usize::try_from(bytes).map_err(|_| ValueError::TooLarge)
}

/// A list of networks, separated by commas; an address alone is a network of one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(pub Vec<IpNet>);

impl FromStr for Networks {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.split(',').map(str::trim).filter(|one| !one.is_empty()).map(parse_network).collect()
    }
}

impl FromIterator<IpNet> for Networks {
    fn from_iter<I: IntoIterator<Item = IpNet>>(networks: I) -> Self {
        Self(networks.into_iter().collect())
    }
}

impl fmt::Display for Networks {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, network) in self.0.iter().enumerate() {
            if i > 0 {
                formatter.write_str(",")?;
            }
            network.fmt(formatter)?;
        }
        Ok(())
    }
}

/// Parses the value of an option that may contain a password. Clap's own parsers repeat an invalid value
/// in their message.
#[derive(Clone)]
pub(super) struct SecretParser<T>(PhantomData<T>);

impl<T> Default for SecretParser<T> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T> clap::builder::TypedValueParser for SecretParser<T>
where
    T: FromStr<Err: fmt::Display> + Clone + Send + Sync + 'static,
{
    type Value = T;

    fn parse_ref(
        &self,
        _command: &clap::Command,
        arg: Option<&clap::Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<T, clap::Error> {
        value.to_str().unwrap_or_default().parse().map_err(|error| {
            let option = arg.and_then(clap::Arg::get_long).unwrap_or_default();
            let message = format!("--{option} cannot be used: {error}\n");
            clap::Error::raw(clap::error::ErrorKind::ValueValidation, message)
        })
    }
}

fn parse_network(text: &str) -> Result<IpNet, ValueError> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address));
    }
    let network: IpNet = text.parse().map_err(|_| ValueError::Network(text.to_owned()))?;
    if network != network.trunc() {
        return Err(ValueError::HostBits(text.to_owned(), network.trunc()));
    }
    Ok(network)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (text, millis) in [
            ("500ms", 500),
            ("30s", 30_000),
            ("10 m", 600_000),
            (" 1h ", 3_600_000),
            ("2d", 172_800_000),
            ("0", 0),
            ("0s", 0),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "30", "s", "-1s", "1.5s", "1w", "1h30m", "1 S", "٣s"] {
            assert_eq!(parse_duration(text), Err(ValueError::Time), "{text}");
        }
        for text in ["18446744073709551615h", "40000d"] {
            assert_eq!(parse_duration(text), Err(ValueError::TooLarge), "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("65536", 65_536),
            ("1b", 1),
            ("64KiB", 65_536),
            ("32 mib", 33_554_432),
            ("2GiB", 2_147_483_648),
            ("1MB", 1_000_000),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "MiB", "1.5MiB", "-1", "1TiBB"] {
            assert_eq!(parse_size(text), Err(ValueError::Size), "{text}");
        }
        assert_eq!(parse_size("99999999999999GiB"), Err(ValueError::TooLarge));
    }

    #[test]
    fn networks() {
        let networks: Networks = "10.0.0.0/8, 127.0.0.1,fd00::/8,".parse().unwrap();
        assert_eq!(networks.to_string(), "10.0.0.0/8,127.0.0.1/32,fd00::/8");
        assert_eq!("".parse::<Networks>().unwrap(), Networks::default());
        let said = "10.0.0.1/8".parse::<Networks>().unwrap_err().to_string();
        assert!(said.contains("10.0.0.0/8"), "{said}");
        assert!("10.0.0.0/33".parse::<Networks>().is_err());
        assert!("localhost".parse::<Networks>().is_err());
    }
}
