//! Asks Presidio about the texts of a request, if its guard detects names, places or organizations.

use std::sync::Arc;

use tokio::time::Instant;

use super::GuardStage;
use crate::accounting::budget::Share;
use crate::policy::admission::Reason;
use crate::policy::guard::entities::Entities;
use crate::policy::guard::policy::TimeoutAction;
use crate::policy::guard::redact::ScanError;
use crate::policy::set::MatchedGuard;
use crate::presidio::{Presidio, PresidioError};
use crate::proxy::context::RequestContext;
use crate::proxy::error::ProxyError;
use crate::proxy::off_worker::off_worker;
use crate::proxy::read::CallerBody;
use crate::proxy::restore::{AnswerRestorer, NameSearch};

impl GuardStage<'_> {
    /// What Presidio finds in the body, and in texts that cannot be changed. Nothing, if it is not needed,
    /// or if it fails and the policies let the request pass then.
    pub(super) async fn find_entities(
        &self,
        matched: &MatchedGuard<'_>,
        (fixed, body): (&[Vec<u8>], Option<&CallerBody>),
        deadline: Instant,
        share: &mut Option<Share>,
        context: &mut RequestContext,
    ) -> Result<Entities, ProxyError> {
        let presidio = match Presidio::for_guard(self.plane.presidio.as_ref(), &matched.guard) {
            Ok(Some(presidio)) => presidio,
            Ok(None) => return Ok(Entities::default()),
            Err(error) => return self.not_searched(matched, &error, context),
        };
        // What else there is to detect is found also if the service is late.
        let deadline = deadline - matched.guard.timeout() / 4;
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
        let of = self.subject.workspace_id.uuid();
        let found = presidio.find_entities(self.client, of, (wanted, texts), deadline).await;
        if let Some(share) = share {
            share.shrink(size);
        }
        match found {
            Ok(entities) => Ok(entities),
            Err(error) => self.not_searched(matched, &error, context),
        }
    }

    /// What asks for the names in the answer, if it is scanned and its guard detects names.
    pub(super) fn name_search(
        &self,
        matched: &MatchedGuard<'_>,
        restorer: &mut AnswerRestorer,
    ) -> Option<Box<NameSearch>> {
        // Where there has to be one and is none, the policies have let the request pass all the same.
        let presidio = Presidio::for_guard(self.plane.presidio.as_ref(), &matched.guard).ok()??;
        restorer.await_names();
        restorer.is_scanning().then(|| {
            Box::new(NameSearch {
                presidio: presidio.clone(),
                client: self.client.clone(),
                tenant: self.subject.workspace_id.uuid(),
            })
        })
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
        let length = bytes.len();
        let collect = move || guard.entity_texts(format, &bytes, &|| Instant::now() < deadline);
        off_worker(length, collect).await
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
