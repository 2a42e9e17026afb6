//! What is recorded of a request, in its log line and in the ledger, has none of the values that its guard
//! detects: masks take their place.

use std::sync::Arc;

use tokio::time::Instant;

use super::GuardStage;
use crate::domain::policy::Subject;
use crate::policy::guard::entities::Entities;
use crate::policy::guard::policy::Guard;
use crate::policy::set::PolicySet;
use crate::proxy::DataPlane;
use crate::proxy::candidates::unavailable;
use crate::proxy::context::RequestContext;
use crate::proxy::error::ProxyError;

/// The guard of a request whose body is not known yet.
pub struct RecordGuard(Option<Arc<Guard>>);

impl RecordGuard {
    /// Finds the guard, and masks what the headers have brought into the record. If none matches, this
    /// costs a look at the policies.
    pub async fn find(
        plane: &DataPlane,
        subject: &Subject<'_>,
        context: &mut RequestContext,
    ) -> Result<Self, ProxyError> {
        let policies = plane.directory.find_policies(subject.organization_id).await;
        let policies = policies.map_err(|error| {
            context.request.record().ids.client_request_id = None;
            unavailable(context, &error)
        })?;
        Self::of(&policies, subject, context)
    }

    /// The same with the policies of the organization.
    pub fn of(
        policies: &PolicySet,
        subject: &Subject<'_>,
        context: &mut RequestContext,
    ) -> Result<Self, ProxyError> {
        let matched = policies.guard(subject).map_err(|invalid| {
            let record = context.request.record();
            record.ids.client_request_id = None;
            record.cause = Some(format!("guard: {} {}", invalid.field, invalid.message));
            ProxyError::Internal
        })?;
        let guard = matched.map(|matched| matched.guard);
        if let Some(guard) = &guard {
            let mut texts: Vec<String> = metadata(subject).collect();
            texts.extend(context.request.record().ids.client_request_id.clone());
            mask(guard, texts, &Entities::default(), context);
        }
        Ok(Self(guard))
    }

    /// Records the model that the request names.
    pub fn note_model(&self, asked: Option<String>, context: &mut RequestContext) {
        if let (Some(guard), Some(asked)) = (&self.0, &asked) {
            mask(guard, [asked.clone()], &Entities::default(), context);
        }
        context.request.record().model_asked = asked;
    }
}

impl GuardStage<'_> {
    /// Masks all that is recorded of the request.
    pub(super) fn mask_record(
        &self,
        guard: &Guard,
        entities: &Entities,
        context: &mut RequestContext,
    ) {
        let record = context.request.record();
        let mut texts: Vec<String> = metadata(&self.subject).collect();
        texts.extend(record.ids.client_request_id.clone());
        if let Some(asked) = &record.model_asked {
            // The target is asked for a part of what the caller names.
            let models = self.candidates.list.iter().map(|one| &one.model.name);
            texts.extend(models.filter(|model| asked.contains(*model)).cloned());
            texts.push(asked.clone());
        }
        mask(guard, texts, entities, context);
    }
}

/// The values of the request's metadata. The ledger keeps those by which policies count.
fn metadata(subject: &Subject<'_>) -> impl Iterator<Item = String> {
    subject.metadata.iter().map(|(_, value)| value.to_owned())
}

fn mask(
    guard: &Guard,
    texts: impl IntoIterator<Item = String>,
    entities: &Entities,
    context: &mut RequestContext,
) {
    let deadline = Instant::now() + guard.timeout();
    for text in texts {
        let masked = guard.masked(&text, entities, &|| Instant::now() < deadline);
        if let Some(masked) =
            masked.filter(|masked| context.request.record().shown(&text) != masked)
        {
            context.request.record().masks.push((text, masked));
        }
    }
}
