//! Reads the reply of the reserving script.

use std::sync::Arc;

use redis::Value;

use super::super::retry_times::{saturated, until_bucket_left, until_next_window};
use super::super::{Claim, Claims, LimitStatus, LimitStatuses, Reserved};
use crate::policy::limit::Limit;

pub(super) enum Reply {
    /// In this generation of keys.
    Reserved(Reserved, Arc<str>),
    /// Nothing was counted: this is the generation of keys, and it does not hold the open requests of
    /// this process.
    OtherGeneration(Arc<str>),
    /// The request has reserved before, or was abandoned.
    Ended,
}

/// None if the script never replies like this.
pub(super) fn read(value: &Value, claims: &Claims) -> Option<Reply> {
    let [code, generation, rest @ ..] = list(value)? else { return None };
    let generation: Arc<str> = text(generation)?.into();
    let refused = match text(code)? {
        "E" => return Some(Reply::Ended),
        "N" => return Some(Reply::OtherGeneration(generation)),
        "U" => {
            let places = list(rest.first()?)?.iter().map(|place| number(place)?.try_into().ok());
            let unknown = Reserved::Unknown(places.collect::<Option<_>>()?);
            return Some(Reply::Reserved(unknown, generation));
        }
        "A" => false,
        "R" => true,
        _ => return None,
    };
    if rest.len() != claims.list.len() {
        return None;
    }
    let mut statuses = LimitStatuses::new();
    for (claim, reply) in claims.list.iter().zip(rest) {
        statuses.push(status(claim, claims, list(reply)?)?);
    }
    let reserved = if refused { Reserved::Refused(statuses) } else { Reserved::Admitted(statuses) };
    Some(Reply::Reserved(reserved, generation))
}

fn status(claim: &Claim, claims: &Claims, reply: &[Value]) -> Option<LimitStatus> {
    let [used, violated, newest, buckets] = reply else { return None };
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
    let reset_after = match (claim.limit, number(newest)?) {
        _ if used == 0 => 0,
        (Limit::Spend { window, .. }, _) => until_next_window(window, claims.at),
        (Limit::Rate { .. }, 0) => 0,
        (Limit::Rate { window, .. }, newest) => until_bucket_left(window, newest, claims.at),
    };
    Some(LimitStatus { used: saturated(used), violated, retry_after, reset_after })
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
