//! What a price read from JSON has to keep to. Checked field by field while it is read, so that a
//! mistake is told by the field's own name.

use serde::de::Error;
use serde::{Deserialize, Deserializer};

use super::Tier;
use crate::domain::money::NanoUsd;

/// The highest rate for a million tokens, and the highest fee for a request. It keeps sums of any
/// usage that is believed far from overflow.
pub const MOST_RATE: NanoUsd = NanoUsd::from_nanos(1_000_000 * 1_000_000_000);
/// The most tiers of one price.
pub const MOST_TIERS: usize = 16;
/// The highest threshold, beyond what any model takes.
const MOST_THRESHOLD: u64 = 1_000_000_000;

pub(super) fn rate<'de, D: Deserializer<'de>>(from: D) -> Result<NanoUsd, D::Error> {
    within(NanoUsd::deserialize(from)?)
}

pub(super) fn optional_rate<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<NanoUsd>, D::Error> {
    Option::<NanoUsd>::deserialize(from)?.map(within).transpose()
}

fn within<E: Error>(rate: NanoUsd) -> Result<NanoUsd, E> {
    if (NanoUsd::ZERO..=MOST_RATE).contains(&rate) {
        return Ok(rate);
    }
    Err(E::custom(format_args!("must be 0 to {MOST_RATE} US dollars")))
}

pub(super) fn threshold<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    let tokens = u64::deserialize(from)?;
    if (1..=MOST_THRESHOLD).contains(&tokens) {
        return Ok(tokens);
    }
    Err(D::Error::custom(format_args!("must be 1 to {MOST_THRESHOLD} tokens")))
}

pub(super) fn tiers<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Tier>, D::Error> {
    let tiers = Vec::<Tier>::deserialize(from)?;
    if tiers.len() > MOST_TIERS {
        return Err(D::Error::custom(format_args!("must be at most {MOST_TIERS}")));
    }
    if !tiers.is_sorted_by(|one, next| one.above_input_tokens < next.above_input_tokens) {
        return Err(D::Error::custom(
            "must be in ascending order of above_input_tokens, each threshold once",
        ));
    }
    Ok(tiers)
}
