//! What is counted in this process, because Redis does not count it.

use super::super::{Claim, Claims, CountersUnavailable, LimitStatus, LimitStatuses, Reserved};
use super::Inner;
use crate::config::SpendWithoutRedis;

/// Of what nobody counts now, and nobody is held by.
const NOT_COUNTED: LimitStatus =
    LimitStatus { used: 0, violated: false, retry_after: Some(0), reset_after: 0 };

impl Inner {
    /// Counts in this process what may be counted apart. Where spend may not be, a cap that holds
    /// somebody refuses the request; what is spent beside those is told to Redis at its settlement.
    /// `asked` is whether Redis was, and may have counted it as well.
    pub(super) fn reserve_apart(
        &self,
        claims: &Claims,
        asked: bool,
        why: String,
    ) -> Result<Reserved, CountersUnavailable> {
        let reserved = match self.spend_without {
            SpendWithoutRedis::Local => self.local.reserve(claims),
            SpendWithoutRedis::Refuse => {
                let caps = |claim: &Claim| claim.limit.is_spend() && !claim.limit.is_unlimited();
                if claims.list.iter().any(caps) {
                    return Err(CountersUnavailable(why));
                }
                self.reserve_rates(claims)
            }
        };
        if matches!(reserved, Reserved::Admitted(_)) {
            self.living.add_apart(claims, asked);
        }
        Ok(reserved)
    }

    /// Counts the rates among the claims.
    fn reserve_rates(&self, claims: &Claims) -> Reserved {
        let rates = claims.list.iter().copied().filter(|claim| !claim.limit.is_spend()).collect();
        let in_their_places = |standings: LimitStatuses| {
            let mut standings = standings.into_iter();
            let place = |claim: &Claim| {
                if claim.limit.is_spend() { Some(NOT_COUNTED) } else { standings.next() }
            };
            claims.list.iter().filter_map(place).collect()
        };
        match self.local.reserve(&Claims { list: rates, ..*claims }) {
            Reserved::Admitted(standings) => Reserved::Admitted(in_their_places(standings)),
            Reserved::Refused(standings) => Reserved::Refused(in_their_places(standings)),
            // Only spend counters are ever unknown.
            Reserved::Unknown(places) => Reserved::Unknown(places),
        }
    }
}
