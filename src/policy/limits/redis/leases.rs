//! Renews the leases of open requests, and restores the reservations that Redis has lost.

use std::sync::Arc;

use futures_util::future::join_all;

use super::Inner;
use super::client::Failure;
use crate::domain::ids::{OrganizationId, RequestId};

/// Requests renewed by one call.
const MAX_PER_CALL: usize = 256;
/// Calls at once: few enough that none waits in Redis past its deadline.
const MAX_CALLS: usize = 16;

impl Inner {
    /// Renews the leases of all organizations. What fails is tried again in the next round.
    pub(super) async fn renew_leases(&self) {
        for organizations in self.open.organizations().chunks(MAX_CALLS) {
            let renewing = organizations.iter().map(async |organization_id| {
                let Some(turn) = self.open.turn(*organization_id) else { return };
                let _turn = turn.lock().await;
                if let Err(Failure::Error(error)) = self.renew_tenant(*organization_id).await {
                    tracing::warn!(
                        %organization_id,
                        error,
                        "Redis does not renew leases; the requests will be charged as reserved"
                    );
                }
            });
            join_all(renewing).await;
            if !self.client.is_up() {
                return;
            }
        }
    }

    /// Restores the open requests of an organization in this generation of keys, unless another call
    /// has done so meanwhile.
    pub(super) async fn restore(
        &self,
        organization_id: OrganizationId,
        generation: &str,
    ) -> Result<(), Failure> {
        let Some(turn) = self.open.turn(organization_id) else { return Ok(()) };
        let _turn = turn.lock().await;
        match self.open.held_in(organization_id) {
            Some(held_in) if &*held_in != generation => self.renew_tenant(organization_id).await,
            _ => Ok(()),
        }
    }

    async fn renew_tenant(&self, organization_id: OrganizationId) -> Result<(), Failure> {
        let Some(snapshot) = self.open.snapshot(organization_id) else { return Ok(()) };
        let mut generations = Vec::new();
        for requests in snapshot.requests.chunks(MAX_PER_CALL) {
            generations.extend(self.renew_requests(organization_id, requests).await?);
        }
        generations.dedup();
        let held_in = match generations.as_slice() {
            [one] => Some(Arc::from(one.as_str())),
            // Redis was emptied meanwhile.
            _ => None,
        };
        self.open.set_held_in(organization_id, &snapshot, held_in);
        Ok(())
    }

    /// Returns the generations of keys that Redis has used.
    async fn renew_requests(
        &self,
        organization_id: OrganizationId,
        requests: &[RequestId],
    ) -> Result<Vec<String>, Failure> {
        let now = self.clock.now();
        let reply: Vec<String> =
            self.client.call(|run| self.scripts.renew(organization_id, requests, run, now)).await?;
        let mut reply = reply.into_iter();
        let mut generations: Vec<String> = reply.by_ref().take(1).collect();
        let lost = reply.filter_map(|id| id.parse().ok());
        for lost in self.open.claims(organization_id, lost).chunks(MAX_CALLS) {
            let restoring = lost.iter().map(|claims| {
                self.client.call::<String>(|run| self.scripts.restore(claims, run, now))
            });
            for generation in join_all(restoring).await {
                generations.push(generation?);
            }
        }
        Ok(generations)
    }
}
