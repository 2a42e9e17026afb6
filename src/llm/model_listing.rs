//! Reads the lists of models that providers' APIs have.

use chrono::DateTime;
use serde::Deserialize;
use serde_json::Value;
use url::form_urlencoded;

use crate::domain::provider::UpstreamApi;

/// The longest id of a model that is taken, in bytes; the longest known ones have about a hundred.
const MAX_ID: usize = 256;

/// A model as its provider lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedModel {
    /// As requests name it.
    pub id: String,
    /// For people.
    pub display_name: Option<String>,
    /// Seconds since 1970, if the provider says when the model was made.
    pub created: Option<i64>,
}

/// A part of a list.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ListingPage {
    pub models: Vec<ListedModel>,
    /// The query of the next part.
    pub next: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Body {
    Object(Box<ListingBody>),
    /// Together has no object around it.
    Array(Vec<Item>),
}

#[derive(Deserialize)]
struct ListingBody {
    data: Option<Vec<Item>>,
    models: Option<Vec<Item>>,
    #[serde(rename = "modelSummaries")]
    model_summaries: Option<Vec<Item>>,
    #[serde(rename = "inferenceProfileSummaries")]
    inference_profile_summaries: Option<Vec<Item>>,
    #[serde(rename = "publisherModels")]
    publisher_models: Option<Vec<Item>>,
    #[serde(default)]
    has_more: bool,
    last_id: Option<String>,
    #[serde(rename = "nextPageToken")]
    next_page_token: Option<String>,
    #[serde(rename = "nextToken")]
    next_token: Option<String>,
}

#[derive(Deserialize)]
struct Item {
    #[serde(default)]
    id: Value,
    #[serde(default)]
    name: Value,
    #[serde(default)]
    created: Value,
    #[serde(default)]
    created_at: Value,
    #[serde(default)]
    display_name: Value,
    #[serde(default, rename = "displayName")]
    camel_display_name: Value,
    #[serde(default, rename = "modelId")]
    model_id: Value,
    #[serde(default, rename = "modelName")]
    model_name: Value,
    #[serde(default, rename = "inferenceTypesSupported")]
    inference_types: Vec<String>,
    #[serde(default, rename = "inferenceProfileId")]
    inference_profile_id: Value,
    #[serde(default, rename = "inferenceProfileName")]
    inference_profile_name: Value,
}

/// One of the lists that an API has of its models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listing {
    /// After the version.
    pub path: &'static str,
    /// The query of its first part: as many models at once as the API gives.
    pub first_query: Option<&'static str>,
}

const fn listing(path: &'static str, first_query: Option<&'static str>) -> Listing {
    Listing { path, first_query }
}

/// The lists of an API: Anthropic, "List models" (at most 1,000 at once); Google, "models.list" (1,000) and
/// "publishers.models.list"; AWS, "ListFoundationModels" and "ListInferenceProfiles" (1,000). OpenAI's has
/// one part.
pub fn listings(api: UpstreamApi) -> &'static [Listing] {
    const GOOGLE: Listing = listing("/publishers/google/models", Some("pageSize=1000"));
    const ANTHROPIC: Listing = listing("/publishers/anthropic/models", Some("pageSize=1000"));
    const PROFILES: Listing = listing("/inference-profiles", Some("maxResults=1000"));
    match api {
        UpstreamApi::OpenAi | UpstreamApi::Azure => const { &[listing("/models", None)] },
        UpstreamApi::Anthropic => const { &[listing("/models", Some("limit=1000"))] },
        UpstreamApi::Gemini => const { &[listing("/models", Some("pageSize=1000"))] },
        UpstreamApi::Converse => const { &[listing("/foundation-models", None), PROFILES] },
        UpstreamApi::Vertex => &[GOOGLE, ANTHROPIC],
    }
}

/// A part of a list; none if the body is no list of this API. What has no id that a request could name
/// is left out.
pub fn read_page(api: UpstreamApi, first_query: Option<&str>, body: &[u8]) -> Option<ListingPage> {
    let (items, next) = match serde_json::from_slice(body).ok()? {
        Body::Array(items) => (items, None),
        Body::Object(body) => {
            let next = first_query.and_then(|first| next_query(api, first, &body));
            let items = match api {
                UpstreamApi::Gemini => body.models,
                // An empty list may be left out.
                UpstreamApi::Vertex => Some(body.publisher_models.unwrap_or_default()),
                UpstreamApi::Converse => body.model_summaries.or(body.inference_profile_summaries),
                _ => body.data,
            };
            (items?, next)
        }
    };
    let models = items.into_iter().filter_map(|item| listed(api, item)).collect();
    Some(ListingPage { models, next })
}

fn next_query(api: UpstreamApi, first_query: &str, body: &ListingBody) -> Option<String> {
    let (name, value) = match api {
        UpstreamApi::Anthropic if body.has_more => ("after_id", body.last_id.as_ref()?),
        UpstreamApi::Gemini | UpstreamApi::Vertex => {
            let token = body.next_page_token.as_ref().filter(|token| !token.is_empty());
            ("pageToken", token?)
        }
        UpstreamApi::Converse => ("nextToken", body.next_token.as_ref()?),
        _ => return None,
    };
    let mut query = form_urlencoded::Serializer::new(first_query.to_owned());
    Some(query.append_pair(name, value).finish())
}

fn listed(api: UpstreamApi, item: Item) -> Option<ListedModel> {
    let text = |value: Value| if let Value::String(text) = value { Some(text) } else { None };
    let id = match api {
        UpstreamApi::Gemini => text(item.name)?.strip_prefix("models/")?.to_owned(),
        UpstreamApi::Vertex => text(item.name)?.split_once("/models/")?.1.to_owned(),
        // Others are called by an inference profile.
        UpstreamApi::Converse if item.model_id.is_string() => {
            let is_on_demand = item.inference_types.iter().any(|one| one == "ON_DEMAND");
            text(item.model_id).filter(|_| is_on_demand)?
        }
        UpstreamApi::Converse => text(item.inference_profile_id)?,
        _ => text(item.id)?,
    };
    // Google's list has models of other kinds, which the gateway has no path to.
    let is_callable =
        api != UpstreamApi::Vertex || id.starts_with("gemini-") || id.starts_with("claude-");
    let is_id = (1..=MAX_ID).contains(&id.len()) && !id.chars().any(char::is_control);
    let made_at = || {
        let made_at = text(item.created_at)?;
        Some(DateTime::parse_from_rfc3339(&made_at).ok()?.timestamp())
    };
    (is_id && is_callable).then(|| ListedModel {
        id,
        display_name: [
            item.display_name,
            item.camel_display_name,
            item.model_name,
            item.inference_profile_name,
        ]
        .into_iter()
        .find_map(text),
        created: item.created.as_i64().or_else(made_at),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(api: UpstreamApi, body: &Value) -> ListingPage {
        let first_query = listings(api).last().unwrap().first_query;
        read_page(api, first_query, body.to_string().as_bytes()).unwrap()
    }

    fn model(id: &str, display_name: Option<&str>, created: Option<i64>) -> ListedModel {
        ListedModel { id: id.to_owned(), display_name: display_name.map(str::to_owned), created }
    }

    #[test]
    fn each_apis_list_is_read() {
        let page = read(
            UpstreamApi::OpenAi,
            &json!({"object": "list", "data": [
                {"id": "gpt-4o", "object": "model", "created": 1_715_367_049, "owned_by": "system"},
                {"id": "org/other", "name": "Other", "created": "yesterday"},
                {"name": "without an id"}, {"id": 5}, {"id": "a\nb"}, {"id": "x".repeat(257)},
            ]}),
        );
        let models =
            vec![model("gpt-4o", None, Some(1_715_367_049)), model("org/other", None, None)];
        assert_eq!(page, ListingPage { models, next: None });

        let page = read(UpstreamApi::OpenAi, &json!([{"id": "a/b", "display_name": "A B"}]));
        assert_eq!(page.models, [model("a/b", Some("A B"), None)]);

        let page = read(
            UpstreamApi::Anthropic,
            &json!({"data": [{"type": "model", "id": "claude-sonnet-4-5-20250929",
                "display_name": "Claude Sonnet 4.5", "created_at": "2025-09-29T00:00:00Z"}],
                "has_more": true, "first_id": "x", "last_id": "a b&c"}),
        );
        let sonnet =
            model("claude-sonnet-4-5-20250929", Some("Claude Sonnet 4.5"), Some(1_759_104_000));
        assert_eq!(page.models, [sonnet]);
        assert_eq!(page.next.as_deref(), Some("limit=1000&after_id=a+b%26c"));

        let page = read(
            UpstreamApi::Gemini,
            &json!({"models": [{"name": "models/gemini-2.5-pro", "displayName": "Gemini 2.5 Pro"},
                {"name": "tunedModels/mine"}], "nextPageToken": "t"}),
        );
        assert_eq!(page.models, [model("gemini-2.5-pro", Some("Gemini 2.5 Pro"), None)]);
        assert_eq!(page.next.as_deref(), Some("pageSize=1000&pageToken=t"));
    }

    #[test]
    fn lists_of_clouds_hold_what_can_be_called() {
        let page = read(
            UpstreamApi::Converse,
            &json!({"modelSummaries": [
                {"modelId": "amazon.nova-micro-v1:0", "modelName": "Nova Micro",
                    "inferenceTypesSupported": ["ON_DEMAND", "PROVISIONED"]},
                {"modelId": "anthropic.claude-sonnet-4-5-20250929-v1:0", "modelName": "Claude",
                    "inferenceTypesSupported": ["INFERENCE_PROFILE"]}]}),
        );
        assert_eq!(page.models, [model("amazon.nova-micro-v1:0", Some("Nova Micro"), None)]);
        let profile = "us.anthropic.claude-sonnet-4-5-20250929-v1:0";
        let page = read(
            UpstreamApi::Converse,
            &json!({"inferenceProfileSummaries": [{"inferenceProfileId": profile,
                "inferenceProfileName": "US Claude", "status": "ACTIVE"}], "nextToken": "a b"}),
        );
        assert_eq!(page.models, [model(profile, Some("US Claude"), None)]);
        assert_eq!(page.next.as_deref(), Some("maxResults=1000&nextToken=a+b"));
        let page = read(
            UpstreamApi::Vertex,
            &json!({"publisherModels": [{"name": "publishers/google/models/gemini-2.5-pro"},
                {"name": "publishers/google/models/imagen-4"},
                {"name": "publishers/anthropic/models/claude-sonnet-4-5"}], "nextPageToken": "t"}),
        );
        let names: Vec<&str> = page.models.iter().map(|one| one.id.as_str()).collect();
        assert_eq!(names, ["gemini-2.5-pro", "claude-sonnet-4-5"]);
        assert_eq!(page.next.as_deref(), Some("pageSize=1000&pageToken=t"));
        assert_eq!(read(UpstreamApi::Vertex, &json!({})), ListingPage::default());
    }

    #[test]
    fn the_last_part_has_none_after_it() {
        let last = json!({"data": [], "has_more": false, "last_id": "x"});
        assert_eq!(read(UpstreamApi::Anthropic, &last), ListingPage::default());
        let last = json!({"models": [], "nextPageToken": ""});
        assert_eq!(read(UpstreamApi::Gemini, &last), ListingPage::default());
        let other = json!({"data": [], "has_more": true, "last_id": "x", "nextPageToken": "t"});
        assert_eq!(read(UpstreamApi::OpenAi, &other), ListingPage::default());
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for body in ["<html>", "{}", r#"{"models":[]}"#, "5", r#"{"data":{}}"#] {
            assert_eq!(read_page(UpstreamApi::OpenAi, None, body.as_bytes()), None, "{body}");
        }
        assert_eq!(read_page(UpstreamApi::Gemini, None, br#"{"data":[]}"#), None);
    }
}
