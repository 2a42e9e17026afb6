//! Asks Presidio about the texts of a request, if its guard detects names, places or organizations.

use std::sync::Arc;

use actix_web::web::block;
use tokio::time::Instant;

use super::{GuardStage, MAX_INLINE};
use crate::accounting::budget::Share;
use crate::policy::admission::Reason;
use crate::policy::guard::entities::Entities;
use crate::policy::guard::policy::TimeoutAction;
use crate::policy::guard::redact::ScanError;
use crate::policy::set::MatchedGuard;
use crate::presidio::{Presidio, PresidioError};
use crate::proxy::context::RequestContext;
use crate::proxy::error::ProxyError;
use crate::proxy::read::CallerBody;

impl GuardStage<'_> {
    /// What Presidio finds in the body, and in texts that cannot be changed. Nothing, if it is not needed,
    /// or if it fails and the policies let the request pass then.
    pub(super) async fn find_entities(
        &self,
        matched: &MatchedGuard<'_>,
        fixed: &[Vec<u8>],
        body: Option<&CallerBody>,
        share: &mut Option<Share>,
        context: &mut RequestContext,
    ) -> Result<Entities, ProxyError> {
        let presidio = match Presidio::for_guard(self.plane.presidio.as_ref(), &matched.guard) {
            Ok(Some(presidio)) => presidio,
            Ok(None) => return Ok(Entities::default()),
            Err(error) => return self.not_searched(matched, &error, context),
        };
        let deadline = Instant::now() + matched.guard.timeout();
        let mut texts = matched.guard.fixed_entity_texts(fixed);
        match self.body_texts(matched, body, deadline).await? {
            Ok(more) => texts.extend(more),
            Err(error) => {
                self.scan_failed(matched, error, context)?;
                return Ok(Entities::default());
            }
        }
        if texts.is_empty() {
            return Ok(Entities::default());
        }
        let size = texts.iter().map(Vec::len).sum();
        if share.as_mut().is_some_and(|share| !share.grow(size)) {
            return Err(ProxyError::Overloaded);
        }
        let wanted = matched.guard.entities();
        let found = presidio.find_entities(self.client, wanted, texts, deadline).await;
        if let Some(share) = share {
            share.shrink(size);
        }
        match found {
            Ok(entities) => Ok(entities),
            Err(error) => self.not_searched(matched, &error, context),
        }
    }

    async fn body_texts(
        &self,
        matched: &MatchedGuard<'_>,
        body: Option<&CallerBody>,
        deadline: Instant,
    ) -> Result<Result<Vec<Vec<u8>>, ScanError>, ProxyError> {
        let (Some(format), Some(body)) = (self.operation.format(), body) else {
            return Ok(Ok(Vec::new()));
        };
        let (guard, bytes) = (Arc::clone(&matched.guard), body.json.bytes());
        let is_long = bytes.len() > MAX_INLINE;
        let collect =
            move || guard.entity_texts(format, &bytes, &|| tokio::time::Instant::now() < deadline);
        if is_long { block(collect).await.map_err(|_| ProxyError::Internal) } else { Ok(collect()) }
    }

    /// Names could not be looked for. An error if the request must not be sent then; otherwise the rest of
    /// the scan goes on.
    fn not_searched(
        &self,
        matched: &MatchedGuard<'_>,
        error: &PresidioError,
        context: &mut RequestContext,
    ) -> Result<Entities, ProxyError> {
        context.request.record().cause = Some(format!("guard: Presidio: {error}"));
        if matched.guard.timeout_action() == TimeoutAction::Allow {
            return Ok(Entities::default());
        }
        let message = "its content could not be searched for names, places and organizations";
        Err(self.refuse(matched.ids(), (Reason::Content, message.to_owned()), context))
    }
}
