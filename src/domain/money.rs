//! Money in whole nano-dollars, parsed from and written as decimals, never as floating point.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Neg, Sub};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Number;

/// Nano-dollars in a dollar.
pub const NANOS_PER_USD: i64 = 1_000_000_000;

/// An amount of US dollars in whole nano-dollars (1e-9 USD). Sums saturate at about nine billion
/// dollars.
///
/// In JSON it is a number of dollars with at most nine digits after the point, read and written
/// exactly. A string with such a number is also accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NanoUsd(i64);

/// The text is not an amount that can be represented exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAmount {
    #[error("must be a decimal number of US dollars, such as 12.50")]
    NotANumber,
    #[error("must have at most nine digits after the decimal point")]
    TooPrecise,
    #[error("must be less than nine billion dollars")]
    TooLarge,
}

impl NanoUsd {
    /// Zero dollars.
    pub const ZERO: Self = Self(0);
    /// The largest amount, which exceeds every cap.
    pub const MAX: Self = Self(i64::MAX);

    /// Converts from nano-dollars.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// The amount in nano-dollars.
    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// `amount / divisor` in nano-dollars, rounded up.
    pub fn from_ratio_up(amount: i128, divisor: i128) -> Self {
        let whole = amount.div_euclid(divisor) + i128::from(amount.rem_euclid(divisor) != 0);
        Self(i64::try_from(whole).unwrap_or(if whole < 0 { i64::MIN } else { i64::MAX }))
    }
}

impl FromStr for NanoUsd {
    type Err = InvalidAmount;

    fn from_str(text: &str) -> Result<Self, InvalidAmount> {
        let (text, negative) = match text.strip_prefix('-') {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => {
                (mantissa, exponent.parse::<i32>().map_err(|_| InvalidAmount::NotANumber)?)
            }
            None => (text, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let is_number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !is_number(whole) || !is_number(fraction) || text.ends_with('.') {
            return Err(InvalidAmount::NotANumber);
        }
        // More digits are either zeros or too many.
        if mantissa.len() > 64 || exponent.abs() > 64 {
            return Err(InvalidAmount::TooLarge);
        }
        let fraction = fraction.trim_end_matches('0');
        let digits = format!("{whole}{fraction}");
        let digits = digits.trim_start_matches('0');
        if digits.is_empty() {
            return Ok(Self::ZERO);
        }
        let shift = 9 + exponent - i32::try_from(fraction.len()).unwrap_or(i32::MAX);
        let (kept, dropped) = match usize::try_from(-shift) {
            Ok(places) => digits.split_at(digits.len().saturating_sub(places)),
            Err(_) => (digits, ""),
        };
        if dropped.bytes().any(|digit| digit != b'0') {
            return Err(InvalidAmount::TooPrecise);
        }
        let value: i128 =
            if kept.is_empty() { 0 } else { kept.parse().map_err(|_| InvalidAmount::TooLarge)? };
        let scale = 10_i128
            .checked_pow(u32::try_from(shift.max(0)).unwrap_or(u32::MAX))
            .ok_or(InvalidAmount::TooLarge)?;
        let value = value.checked_mul(scale).ok_or(InvalidAmount::TooLarge)?;
        let value = i64::try_from(value).map_err(|_| InvalidAmount::TooLarge)?;
        Ok(Self(if negative { -value } else { value }))
    }
}

impl NanoUsd {
    /// Writes dollars without trailing zeros: `0.25`, `12`, `-1.5`.
    pub fn write_to(self, out: &mut impl fmt::Write) -> fmt::Result {
        let nanos = self.0.unsigned_abs();
        let unit = NANOS_PER_USD.unsigned_abs();
        if self.0 < 0 {
            out.write_str("-")?;
        }
        // Not with the formatting macros: every answer and every log line has such an amount.
        let mut digits = itoa::Buffer::new();
        out.write_str(digits.format(nanos / unit))?;
        if nanos.is_multiple_of(unit) {
            return Ok(());
        }
        out.write_str(".")?;
        // With a leading one, since the zeros after the point count.
        let fraction = digits.format(unit + nanos % unit).get(1..).unwrap_or_default();
        out.write_str(fraction.trim_end_matches('0'))
    }
}

/// Dollars as [`NanoUsd::write_to`] writes them.
impl fmt::Display for NanoUsd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_to(f)
    }
}

impl Serialize for NanoUsd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let number: Number = self.to_string().parse().map_err(serde::ser::Error::custom)?;
        number.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for NanoUsd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        let parsed = match &value {
            serde_json::Value::Number(number) => number.to_string().parse(),
            serde_json::Value::String(text) => text.parse(),
            _ => Err(InvalidAmount::NotANumber),
        };
        parsed.map_err(serde::de::Error::custom)
    }
}

impl utoipa::PartialSchema for NanoUsd {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::Number)
            .description(Some("US dollars, exact to nine digits after the decimal point"))
            .into()
    }
}

impl utoipa::ToSchema for NanoUsd {}

impl Add for NanoUsd {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for NanoUsd {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for NanoUsd {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Neg for NanoUsd {
    type Output = Self;

    fn neg(self) -> Self {
        Self(self.0.saturating_neg())
    }
}

impl Sum for NanoUsd {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn amounts_are_read_exactly() {
        for (text, nanos) in [
            ("0", 0),
            ("0.0", 0),
            ("12.50", 12_500_000_000),
            ("0.000000001", 1),
            ("1e-9", 1),
            ("1.5e3", 1_500_000_000_000),
            ("100E-2", 1_000_000_000),
            ("-0.1", -100_000_000),
            ("0.10000000000", 100_000_000),
            ("9223372036.854775807", i64::MAX),
        ] {
            assert_eq!(text.parse(), Ok(NanoUsd(nanos)), "{text}");
        }
    }

    #[test]
    fn texts_that_are_not_amounts_are_rejected() {
        use InvalidAmount::*;
        for (text, error) in [
            ("", NotANumber),
            ("-", NotANumber),
            (".5", NotANumber),
            ("5.", NotANumber),
            ("+1", NotANumber),
            ("1 ", NotANumber),
            ("NaN", NotANumber),
            ("1e", NotANumber),
            ("0.0000000001", TooPrecise),
            ("1e-10", TooPrecise),
            ("1e-40", TooPrecise),
            ("9223372036.854775808", TooLarge),
            ("1e30", TooLarge),
            ("1e999999999", TooLarge),
        ] {
            assert_eq!(text.parse::<NanoUsd>(), Err(error), "{text}");
        }
    }

    #[test]
    fn json_keeps_every_digit() {
        let read: NanoUsd = serde_json::from_str("1234567.123456789").unwrap();
        assert_eq!(read, NanoUsd(1_234_567_123_456_789));
        assert_eq!(serde_json::to_string(&read).unwrap(), "1234567.123456789");
        let value = serde_json::to_value(read).unwrap();
        assert_eq!(serde_json::from_value::<NanoUsd>(value).unwrap(), read);
        assert_eq!(serde_json::from_str::<NanoUsd>("\"0.1\"").unwrap(), NanoUsd(100_000_000));
        assert!(serde_json::from_str::<NanoUsd>("true").is_err());
    }

    #[test]
    fn ratios_are_rounded_up() {
        assert_eq!(NanoUsd::from_ratio_up(1, 1_000_000), NanoUsd(1));
        assert_eq!(NanoUsd::from_ratio_up(1_000_000, 1_000_000), NanoUsd(1));
        assert_eq!(NanoUsd::from_ratio_up(0, 1_000_000), NanoUsd(0));
        assert_eq!(NanoUsd::from_ratio_up(i128::MAX, 1), NanoUsd::MAX);
    }

    proptest! {
        #[test]
        fn text_and_back(nanos in any::<i64>()) {
            let amount = NanoUsd(nanos.max(-i64::MAX));
            prop_assert_eq!(amount.to_string().parse(), Ok(amount));
        }

        #[test]
        fn no_text_panics(text in "[-+0-9.eE]{0,30}") {
            let _ = text.parse::<NanoUsd>();
        }
    }
}
