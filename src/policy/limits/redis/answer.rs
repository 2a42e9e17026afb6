//! Reads what the reserving script answers.

use std::sync::Arc;

use redis::Value;

use super::super::waiting::{saturated, until_bucket_left, until_next_window};
use super::super::{Claim, Claims, Limit, Reserved, Standing};

/// What the script may say.
pub(super) enum Answer {
    /// Counted, or not, in this generation of keys.
    Reserved(Reserved, Arc<str>),
    /// Nothing was counted: the generation of keys is this one, and not the one that the caller's
    /// living requests are held in.
    Anew(Arc<str>),
    /// The request has reserved before, or was given up.
    Ended,
}

/// None if it is not what the script answers.
pub(super) fn read(value: &Value, claims: &Claims) -> Option<Answer> {
    let [code, generation, rest @ ..] = list(value)? else { return None };
    let generation: Arc<str> = text(generation)?.into();
    let refused = match text(code)? {
        "E" => return Some(Answer::Ended),
        "N" => return Some(Answer::Anew(generation)),
        "U" => {
            let places = list(rest.first()?)?.iter().map(|place| number(place)?.try_into().ok());
            let unknown = Reserved::Unknown(places.collect::<Option<_>>()?);
            return Some(Answer::Reserved(unknown, generation));
        }
        "A" => false,
        "R" => true,
        _ => return None,
    };
    if rest.len() != claims.claims.len() {
        return None;
    }
    let mut standings = Vec::with_capacity(rest.len());
    for (claim, told) in claims.claims.iter().zip(rest) {
        standings.push(standing(claim, claims, list(told)?)?);
    }
    let reserved =
        if refused { Reserved::Refused(standings) } else { Reserved::Admitted(standings) };
    Some(Answer::Reserved(reserved, generation))
}

fn standing(claim: &Claim, claims: &Claims, told: &[Value]) -> Option<Standing> {
    let [used, violated, newest, buckets] = told else { return None };
    let used: i128 = text(used)?.parse().ok()?;
    let violated = number(violated)? != 0;
    let amount = i128::from(claim.amount.max(0));
    let retry_after = match claim.limit {
        _ if !violated => Some(0),
        Limit::Spend { limit, .. } if amount > i128::from(limit.nanos()) => None,
        Limit::Rate { value, .. } if amount > i128::from(value) => None,
        Limit::Spend { window, .. } => Some(until_next_window(window, claims.at)),
        Limit::Rate { window, value, .. } => {
            let mut all = Vec::new();
            for pair in list(buckets)?.chunks_exact(2) {
                let [bucket, amount] = pair else { return None };
                let amount: i128 = text(amount)?.parse().ok()?;
                all.push((text(bucket)?.parse::<i64>().ok()?, amount));
            }
            all.sort_unstable();
            let excess = used + amount - i128::from(value);
            let mut left = 0;
            let leaving = all.iter().find(|(_, amount)| {
                left += amount;
                left >= excess
            });
            let (bucket, _) = leaving.or(all.last())?;
            Some(until_bucket_left(window, *bucket, claims.at))
        }
    };
    let whole_after = match (claim.limit, number(newest)?) {
        _ if used == 0 => 0,
        (Limit::Spend { window, .. }, _) => until_next_window(window, claims.at),
        (Limit::Rate { .. }, 0) => 0,
        (Limit::Rate { window, .. }, newest) => until_bucket_left(window, newest, claims.at),
    };
    Some(Standing { used: saturated(used), violated, retry_after, whole_after })
}

fn list(value: &Value) -> Option<&[Value]> {
    match value {
        Value::Array(values) => Some(values),
        _ => None,
    }
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        _ => None,
    }
}

fn number(value: &Value) -> Option<i64> {
    match value {
        Value::Int(number) => Some(*number),
        _ => None,
    }
}
