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
    /// Seconds since 1970, if the provider tells when the model was made.
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
    Object(Box<Listing>),
    /// Together has no object around it.
    Array(Vec<Item>),
}

#[derive(Deserialize)]
struct Listing {
    data: Option<Vec<Item>>,
    models: Option<Vec<Item>>,
    #[serde(default)]
    has_more: bool,
    last_id: Option<String>,
    #[serde(rename = "nextPageToken")]
    next_page_token: Option<String>,
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
}

/// The query of the first part: as many models at once as the API gives (Anthropic, "List models":
/// 1,000; Google, "models.list": 1,000). OpenAI's lists have one part.
pub fn first_query(api: UpstreamApi) -> Option<&'static str> {
    match api {
        UpstreamApi::Anthropic => Some("limit=1000"),
        UpstreamApi::Gemini => Some("pageSize=1000"),
        _ => None,
    }
}

/// A part of a list; none if the body is no list of this API. What has no id that a request could name
/// is left out.
pub fn read_page(api: UpstreamApi, body: &[u8]) -> Option<ListingPage> {
    let (items, next) = match serde_json::from_slice(body).ok()? {
        Body::Array(items) => (items, None),
        Body::Object(listing) => {
            let next = next_query(api, &listing);
            let items = match api {
                UpstreamApi::Gemini => listing.models,
                _ => listing.data,
            };
            (items?, next)
        }
    };
    let models = items.into_iter().filter_map(|item| listed(api, item)).collect();
    Some(ListingPage { models, next })
}

fn next_query(api: UpstreamApi, listing: &Listing) -> Option<String> {
    let (name, value) = match api {
        UpstreamApi::Anthropic if listing.has_more => ("after_id", listing.last_id.as_ref()?),
        UpstreamApi::Gemini => {
            let token = listing.next_page_token.as_ref().filter(|token| !token.is_empty());
            ("pageToken", token?)
        }
        _ => return None,
    };
    let mut query = form_urlencoded::Serializer::new(first_query(api)?.to_owned());
    Some(query.append_pair(name, value).finish())
}

fn listed(api: UpstreamApi, item: Item) -> Option<ListedModel> {
    let text = |value: Value| if let Value::String(text) = value { Some(text) } else { None };
    let id = match api {
        UpstreamApi::Gemini => text(item.name)?.strip_prefix("models/")?.to_owned(),
        _ => text(item.id)?,
    };
    let is_id = (1..=MAX_ID).contains(&id.len()) && !id.chars().any(char::is_control);
    let made_at = || {
        let made_at = text(item.created_at)?;
        Some(DateTime::parse_from_rfc3339(&made_at).ok()?.timestamp())
    };
    is_id.then(|| ListedModel {
        id,
        display_name: text(item.display_name).or_else(|| text(item.camel_display_name)),
        created: item.created.as_i64().or_else(made_at),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(api: UpstreamApi, body: &Value) -> ListingPage {
        read_page(api, body.to_string().as_bytes()).unwrap()
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
            assert_eq!(read_page(UpstreamApi::OpenAi, body.as_bytes()), None, "{body}");
        }
        assert_eq!(read_page(UpstreamApi::Gemini, br#"{"data":[]}"#), None);
    }
}
