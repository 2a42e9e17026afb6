//! Renews the leases of living requests, and puts back what Redis has lost of them.

use std::sync::Arc;

use futures_util::future::join_all;

use super::Inner;
use super::line::Failure;
use crate::domain::ids::{OrganizationId, RequestId};

/// Requests renewed by one call.
const RENEWED: usize = 256;
/// Calls at a time: so many that none waits for its turn in Redis beyond its deadline.
const AT_A_TIME: usize = 16;

impl Inner {
    /// All organizations' leases, as far as Redis is reached. Where it can't renew those of one, the
    /// next round tries again.
    pub(super) async fn renew(&self) {
        for some in self.living.organizations().chunks(AT_A_TIME) {
            let renewing = some.iter().map(async |organization_id| {
                let Some(turn) = self.living.turn(*organization_id) else { return };
                let _turn = turn.lock().await;
                if let Err(Failure::Error(error)) = self.renew_tenant(*organization_id).await {
                    tracing::warn!(%organization_id, error, "Redis does not renew leases");
                }
            });
            join_all(renewing).await;
            if !self.line.is_up() {
                return;
            }
        }
    }

    /// Has all that lives here of an organization held in this generation of keys, which Redis has
    /// begun. One does so for all who wait for it.
    pub(super) async fn put_back(
        &self,
        organization_id: OrganizationId,
        generation: &str,
    ) -> Result<(), Failure> {
        let Some(turn) = self.living.turn(organization_id) else { return Ok(()) };
        let _turn = turn.lock().await;
        match self.living.held_in(organization_id) {
            Some(held_in) if &*held_in != generation => self.renew_tenant(organization_id).await,
            _ => Ok(()),
        }
    }

    async fn renew_tenant(&self, organization_id: OrganizationId) -> Result<(), Failure> {
        let Some(roll) = self.living.roll(organization_id) else { return Ok(()) };
        let mut generations = Vec::new();
        for requests in roll.requests.chunks(RENEWED) {
            generations.extend(self.renew_some(organization_id, requests).await?);
        }
        generations.dedup();
        let held_in = match generations.as_slice() {
            [one] => Some(Arc::from(one.as_str())),
            // Emptied meanwhile.
            _ => None,
        };
        self.living.renewed(organization_id, &roll, held_in);
        Ok(())
    }

    /// Gives the generations that Redis was in.
    async fn renew_some(
        &self,
        organization_id: OrganizationId,
        requests: &[RequestId],
    ) -> Result<Vec<String>, Failure> {
        let now = self.clock.now();
        let told: Vec<String> =
            self.line.call(|run| self.scripts.renew(organization_id, requests, run, now)).await?;
        let mut told = told.into_iter();
        let mut generations: Vec<String> = told.by_ref().take(1).collect();
        let lost = told.filter_map(|id| id.parse().ok());
        for lost in self.living.claims(organization_id, lost).chunks(AT_A_TIME) {
            let restoring = lost.iter().map(|claims| {
                self.line.call::<String>(|run| self.scripts.restore(claims, run, now))
            });
            for generation in join_all(restoring).await {
                generations.push(generation?);
            }
        }
        Ok(generations)
    }
}
