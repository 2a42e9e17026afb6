//! The limits of a price that is read from JSON. Checked while each field is read, so that the error
//! names the field.

use serde::de::Error;
use serde::{Deserialize, Deserializer};

use super::Tier;
use crate::domain::money::NanoUsd;

/// The highest rate for a million tokens, and the highest fee for a request. Low enough that the cost of
/// any plausible usage does not overflow.
pub const MAX_RATE: NanoUsd = NanoUsd::from_nanos(1_000_000 * 1_000_000_000);
/// The most tiers of one price.
pub const MAX_TIERS: usize = 16;
/// The highest threshold, which is higher than the context window of any model.
const MAX_THRESHOLD: u64 = 1_000_000_000;

pub(super) fn rate<'de, D: Deserializer<'de>>(from: D) -> Result<NanoUsd, D::Error> {
    check_range(NanoUsd::deserialize(from)?)
}

pub(super) fn optional_rate<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<NanoUsd>, D::Error> {
    Option::<NanoUsd>::deserialize(from)?.map(check_range).transpose()
}

fn check_range<E: Error>(rate: NanoUsd) -> Result<NanoUsd, E> {
    if (NanoUsd::ZERO..=MAX_RATE).contains(&rate) {
        return Ok(rate);
    }
    Err(E::custom(format_args!("must be 0 to {MAX_RATE} US dollars")))
}

pub(super) fn threshold<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    let tokens = u64::deserialize(from)?;
    if (1..=MAX_THRESHOLD).contains(&tokens) {
        return Ok(tokens);
    }
    Err(D::Error::custom(format_args!("must be 1 to {MAX_THRESHOLD} tokens")))
}

pub(super) fn tiers<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Tier>, D::Error> {
    let tiers = Vec::<Tier>::deserialize(from)?;
    if tiers.len() > MAX_TIERS {
        return Err(D::Error::custom(format_args!("must have at most {MAX_TIERS} tiers")));
    }
    if !tiers.is_sorted_by(|one, next| one.above_input_tokens < next.above_input_tokens) {
        return Err(D::Error::custom(
            "must be in ascending order of above_input_tokens, each threshold once",
        ));
    }
    Ok(tiers)
}
