//! What is counted in this process, because Redis does not count it.

use super::super::{Claim, Claims, CountersUnavailable, Limit, Reserved, Standing};
use super::Inner;
use crate::config::SpendWithoutRedis;
use crate::domain::money::NanoUsd;

/// Of what nobody counts now, and nobody is held by.
const NOT_COUNTED: Standing =
    Standing { used: 0, violated: false, retry_after: Some(0), whole_after: 0 };

impl Inner {
    /// Counts in this process what may be counted apart. Where spend may not be, a cap that holds
    /// somebody refuses the request; what is spent beside those is told to Redis at its settlement.
    /// `asked` is whether Redis was, and may have counted it as well.
    pub(super) fn reserve_apart(
        &self,
        claims: &Claims,
        history: &[Option<NanoUsd>],
        asked: bool,
        why: String,
    ) -> Result<Reserved, CountersUnavailable> {
        let reserved = match self.spend_without {
            SpendWithoutRedis::Local => self.local.reserve(claims, history),
            SpendWithoutRedis::Refuse => {
                let caps = |claim: &Claim| is_spend(claim) && !claim.limit.holds_nobody();
                if claims.claims.iter().any(caps) {
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
        let rates = claims.claims.iter().copied().filter(|claim| !is_spend(claim)).collect();
        let in_their_places = |standings: Vec<Standing>| {
            let mut standings = standings.into_iter();
            let place = |claim: &Claim| {
                if is_spend(claim) { Some(NOT_COUNTED) } else { standings.next() }
            };
            claims.claims.iter().filter_map(place).collect()
        };
        match self.local.reserve(&Claims { claims: rates, ..claims.clone() }, &[]) {
            Reserved::Admitted(standings) => Reserved::Admitted(in_their_places(standings)),
            Reserved::Refused(standings) => Reserved::Refused(in_their_places(standings)),
            // Only spend counters are ever unknown.
            Reserved::Unknown(places) => Reserved::Unknown(places),
        }
    }
}

fn is_spend(claim: &Claim) -> bool {
    matches!(claim.limit, Limit::Spend { .. })
}
