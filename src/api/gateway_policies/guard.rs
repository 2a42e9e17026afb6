//! What a guard finds in a sample.

use std::sync::Arc;
use std::time::Instant;

use actix_web::web;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{WHAT, store};
use crate::api::Management;
use crate::api::access::{InOrganization, OrganizationManage};
use crate::api::body::Json;
use crate::api::error::ApiError;
use crate::api::shared::{Conflicts, NotFound, path_id};
use crate::crypto::system_random;
use crate::db::Conn;
use crate::db::gateway_policies::GatewayPolicyRow;
use crate::domain::policy::PolicyType;
use crate::llm::format::Format;
use crate::policy::guard::entities::Entities;
use crate::policy::guard::placeholder::ConversationKey;
use crate::policy::guard::policy::{Action, Guard, GuardConfig};
use crate::policy::guard::redact::{Guarded, Report, ScanError};
use crate::presidio::{Presidio, PresidioError};
use crate::upstream::UpstreamClient;

/// A sample to look through: a text, or the body of a request.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"text": "Write to ada@example.org"}))]
pub(super) struct TestGatewayPolicy {
    /// A text. Not together with `body`.
    #[serde(default)]
    #[schema(max_length = 1_048_576)]
    text: Option<String>,
    /// The format of `body`.
    #[serde(default)]
    format: Option<SampleFormat>,
    /// The body of a request of that format.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    body: Option<Value>,
}

/// The format of a request's body.
#[derive(Clone, Copy, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
enum SampleFormat {
    Chat,
    Responses,
    Messages,
    Embeddings,
    Gemini,
    GeminiEmbeddings,
    Converse,
}

impl From<SampleFormat> for Format {
    fn from(format: SampleFormat) -> Self {
        match format {
            SampleFormat::Chat => Self::Chat,
            SampleFormat::Responses => Self::Responses,
            SampleFormat::Messages => Self::Messages,
            SampleFormat::Embeddings => Self::Embeddings,
            SampleFormat::Gemini => Self::Gemini,
            SampleFormat::GeminiEmbeddings => Self::GeminiEmbeddings,
            SampleFormat::Converse => Self::Converse,
        }
    }
}

/// What a guard does with a sample.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct GatewayPolicyTest {
    /// Whether a request with it would be refused.
    blocked: bool,
    /// By category or pattern, in alphabetical order.
    findings: Vec<GuardFinding>,
    /// The text as it would be sent; null if it would not be, or if a body was given. The placeholders of
    /// real requests are others.
    text: Option<String>,
    /// The body as it would be sent.
    #[schema(value_type = Option<Object>)]
    body: Option<Value>,
}

/// What a guard found of one category.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct GuardFinding {
    /// The category, or the name of the pattern.
    category: String,
    count: usize,
    /// What becomes of it: `report`, `redact` or `block`. What can't be replaced is blocked.
    action: Action,
}

/// Try a guard on a sample
///
/// Says what the policy would find in a text or in the body of a request, and what would be sent. Disabled
/// policies are tried, too. The sample is not stored.
#[utoipa::path(
    post,
    path = "/gateway-policies/{policy_id}/test",
    responses((status = 200, description = "What was found", body = GatewayPolicyTest), NotFound, Conflicts),
)]
pub(super) async fn test_gateway_policy(
    caller: InOrganization<OrganizationManage>,
    plane: web::Data<Management>,
    path: web::Path<String>,
    client: web::Data<UpstreamClient>,
    body: Json<TestGatewayPolicy>,
) -> Result<web::Json<GatewayPolicyTest>, ApiError> {
    let id = path_id(&path, WHAT)?;
    let organization_id = caller.scope;
    let sample = body.check(Sample::of)?;
    let row = plane
        .database
        .read(async move |conn: &mut Conn| store::existing(conn, organization_id, id).await)
        .await?;
    let guard = Arc::new(guard_of(&row)?);
    let entities = {
        let of = (organization_id.uuid(), &sample);
        find_entities(plane.presidio.as_ref(), &client, &guard, of).await?
    };
    let mut key = [0; 32];
    system_random(&mut key).map_err(|error| ApiError::Internal(error.to_string()))?;
    let key = ConversationKey::derive(&key, b"test", b"test");
    let is_text = sample.is_text;
    let scanned = web::block(move || {
        let began = Instant::now();
        let keep_going = || began.elapsed() < guard.timeout();
        let guarded = guard.redact(sample.format, &sample.body, &key, &entities, &keep_going)?;
        Ok::<_, ScanError>((guard, sample.body, guarded))
    })
    .await
    .map_err(|error| ApiError::Internal(error.to_string()))?;
    let (guard, original, guarded) = scanned.map_err(|error| scan_failed(is_text, error))?;
    let (report, sent) = match guarded {
        Guarded::Blocked(report) => (report, None),
        Guarded::Passed { body, report, .. } => (report, Some(body.unwrap_or(original))),
    };
    let sent: Option<Value> = sent
        .map(|sent| serde_json::from_slice(&sent))
        .transpose()
        .map_err(|error| ApiError::Internal(format!("a guarded sample: {error}")))?;
    let text = sent.as_ref().filter(|_| is_text).and_then(|sent| {
        sent.pointer("/messages/0/content").and_then(Value::as_str).map(str::to_owned)
    });
    Ok(web::Json(GatewayPolicyTest {
        blocked: sent.is_none(),
        findings: findings(&guard, &report),
        text,
        body: sent.filter(|_| !is_text),
    }))
}

fn scan_failed(is_text: bool, error: ScanError) -> ApiError {
    let message = match error {
        ScanError::TimeExceeded => "took longer to scan than the policy's timeout_seconds",
        ScanError::TooManyValues => "has too many values",
        ScanError::NotJson | ScanError::TooLong | ScanError::NotEvent | ScanError::Unreadable => {
            "nests too deeply"
        }
        ScanError::NotSearched => "could not be searched for names",
        ScanError::TooMuchText => "has too much text to search it for names",
    };
    ApiError::field(if is_text { "text" } else { "body" }, message)
}

/// What Presidio finds in the sample, if the guard needs it.
async fn find_entities(
    presidio: Option<&Presidio>,
    client: &UpstreamClient,
    guard: &Arc<Guard>,
    (tenant, sample): (Uuid, &Sample),
) -> Result<Entities, ApiError> {
    let unknown = |error: PresidioError| ApiError::Conflict {
        code: "names_not_searched",
        detail: format!("Presidio could not search the sample for names: {error}."),
    };
    let Some(presidio) = Presidio::for_guard(presidio, guard).map_err(unknown)? else {
        return Ok(Entities::default());
    };
    let deadline = tokio::time::Instant::now() + guard.timeout();
    let (of_block, format, body) = (Arc::clone(guard), sample.format, sample.body.clone());
    let collect =
        move || of_block.entity_texts(format, &body, &|| tokio::time::Instant::now() < deadline);
    let texts = web::block(collect).await.map_err(|error| ApiError::Internal(error.to_string()))?;
    let texts = texts.map_err(|error| scan_failed(sample.is_text, error))?;
    let texts = (guard.entities(), texts);
    presidio.find_entities(client, tenant, texts, deadline).await.map_err(unknown)
}

struct Sample {
    format: Format,
    body: Vec<u8>,
    is_text: bool,
}

impl Sample {
    fn of(given: TestGatewayPolicy) -> Result<Self, ApiError> {
        let as_sample = |format, body: &Value, is_text| Sample {
            format,
            body: body.to_string().into_bytes(),
            is_text,
        };
        match given {
            TestGatewayPolicy { text: Some(text), format: None, body: None } => {
                let body = json!({"messages": [{"role": "user", "content": text}]});
                Ok(as_sample(Format::Chat, &body, true))
            }
            TestGatewayPolicy { text: None, format: Some(format), body: Some(body) } => {
                if !body.is_object() {
                    return Err(ApiError::field("body", "must be an object"));
                }
                Ok(as_sample(format.into(), &body, false))
            }
            _ => Err(ApiError::field("text", "is required, or format and body instead of it")),
        }
    }
}

fn guard_of(row: &GatewayPolicyRow) -> Result<Guard, ApiError> {
    if row.policy_type != PolicyType::Guard {
        return Err(ApiError::Conflict {
            code: "not_a_guard",
            detail: "Only policies of type guard can be tried on a sample.".to_owned(),
        });
    }
    let defect = |error: &dyn std::fmt::Display| ApiError::Internal(format!("a guard: {error}"));
    let config = GuardConfig::parse(&row.config).map_err(|invalid| defect(&invalid.message))?;
    Guard::new(&[config])
        .map_err(|error| defect(&error))?
        .ok_or_else(|| defect(&"it has no configuration"))
}

fn findings(guard: &Guard, report: &Report) -> Vec<GuardFinding> {
    let found = report.found.iter().map(|(category, count)| GuardFinding {
        category: category.clone(),
        count: *count,
        action: match report.blocking.contains(category) {
            true => Action::Block,
            false => guard.action_of(category),
        },
    });
    found.collect()
}
