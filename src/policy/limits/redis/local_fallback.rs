//! Counts in this process while Redis is unavailable.

use super::super::{Claim, Claims, CountersUnavailable, LimitStatus, LimitStatuses, Reserved};
use super::Inner;
use crate::config::SpendWithoutRedis;

/// Of a claim without a limit that is not counted now.
const NOT_COUNTED: LimitStatus =
    LimitStatus { used: 0, violated: false, retry_after: Some(0), reset_after: 0 };

impl Inner {
    /// Reserves in this process. Unless spend may be counted locally too, a claim on a spend cap fails;
    /// spend claims without a limit are counted when the request is settled.
    pub(super) fn reserve_locally(
        &self,
        claims: &Claims,
        redis_was_asked: bool,
        why: String,
    ) -> Result<Reserved, CountersUnavailable> {
        let reserved = match self.spend_without {
            SpendWithoutRedis::Local => self.local.reserve(claims),
            SpendWithoutRedis::Refuse => {
                let is_cap = |claim: &Claim| claim.limit.is_spend() && !claim.limit.is_unlimited();
                if claims.list.iter().any(is_cap) {
                    return Err(CountersUnavailable(why));
                }
                self.reserve_rates(claims)
            }
        };
        if matches!(reserved, Reserved::Admitted(_)) {
            self.open.add_local(claims, redis_was_asked);
        }
        Ok(reserved)
    }

    fn reserve_rates(&self, claims: &Claims) -> Reserved {
        let list = claims.list.iter().copied().filter(|claim| !claim.limit.is_spend()).collect();
        let for_all_claims = |statuses: LimitStatuses| {
            let mut statuses = statuses.into_iter();
            let status = |claim: &Claim| {
                if claim.limit.is_spend() { Some(NOT_COUNTED) } else { statuses.next() }
            };
            claims.list.iter().filter_map(status).collect()
        };
        match self.local.reserve(&Claims { list, ..*claims }) {
            Reserved::Admitted(statuses) => Reserved::Admitted(for_all_claims(statuses)),
            Reserved::Refused(statuses) => Reserved::Refused(for_all_claims(statuses)),
            // Rate counters are never unknown.
            Reserved::Unknown(places) => Reserved::Unknown(places),
        }
    }
}
