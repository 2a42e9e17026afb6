//! The data plane's operations, for the document alone: `proxy` serves them, from raw paths.
#![expect(dead_code, reason = "shapes and operations that only the document uses")]

use utoipa_actix_web::OpenApiFactory;

use crate::api::routes::Operation;
use crate::domain::permissions::Permission;

/// An error that the gateway makes, in the form of the API that was called. Errors of the upstream
/// pass through as they are.
#[derive(utoipa::ToSchema)]
pub(super) struct GatewayError {
    #[schema(inline)]
    error: GatewayErrorBody,
}

#[derive(utoipa::ToSchema)]
struct GatewayErrorBody {
    /// For people.
    message: String,
    /// The kind of error.
    r#type: String,
    /// The parameter that is wrong, if one is.
    param: Option<String>,
    /// Stable, for programs.
    code: Option<String>,
}

/// The operations of the data plane.
pub(super) fn operations() -> Vec<Operation> {
    let all: [&dyn OpenApiFactory; 18] = [
        &__path_create_chat_completion_of_any_model,
        &__path_create_response_of_any_model,
        &__path_create_message_of_any_model,
        &__path_count_message_tokens_of_any_model,
        &__path_create_chat_completion,
        &__path_create_response,
        &__path_compact_response,
        &__path_create_embedding,
        &__path_create_message,
        &__path_count_message_tokens,
        &__path_create_route_chat_completion,
        &__path_create_route_response,
        &__path_create_route_message,
        &__path_count_route_message_tokens,
        &__path_list_models,
        &__path_get_model,
        &__path_list_usable_models,
        &__path_get_usable_model,
    ];
    let described = |paths: &dyn OpenApiFactory| {
        let (path, item) = paths.paths().paths.into_iter().next()?;
        let permission = Permission::GatewayInvoke.to_string();
        Some(Operation::new(path, item, permission, "gateway", None))
    };
    all.into_iter().filter_map(described).collect()
}

/// Describes a call of a model: its path, the words for its body and an example of it, whether the answer may
/// be a stream, and the words for the answer.
macro_rules! calls {
    ($(
        $(#[$doc:meta])+
        $name:ident $path:tt: $body:tt, $example:tt => $answer:ident, $words:tt;
    )+) => {
        $(calls!(@$answer $(#[$doc])+ $name $path $body $example $words);)+
    };
    (@streamed $(#[$doc:meta])+ $name:ident $path:tt $body:tt $example:tt $words:tt) => {
        $(#[$doc])+
        #[utoipa::path(
            post,
            path = $path,
            request_body(content = Object, description = $body, example = json!($example)),
            responses((status = 200, description = $words, content(
                (Object = "application/json"),
                (String = "text/event-stream"),
            ))),
        )]
        fn $name() {}
    };
    (@whole $(#[$doc:meta])+ $name:ident $path:tt $body:tt $example:tt $words:tt) => {
        $(#[$doc])+
        #[utoipa::path(
            post,
            path = $path,
            request_body(content = Object, description = $body, example = json!($example)),
            responses((status = 200, description = $words, body = Object)),
        )]
        fn $name() {}
    };
}

calls! {
    /// Create a chat completion with any model
    ///
    /// OpenAI's chat completions. `model` is `<provider>/<model>`, `custom/NAME`, an alias of a fallback chain, or
    /// a name that one provider lists. The request is converted where the model's provider has another format;
    /// `x-tollgate-dropped` names fields that it did not get. With `stream: true` the answer is an event stream.
    create_chat_completion_of_any_model "/v1/chat/completions":
        "As OpenAI's API defines it", {"model": "anthropic/claude-sonnet-5", "messages": [{"role": "user", "content": "Hello"}]}
        => streamed, "The answer, in OpenAI's format";

    /// Create a response with any model
    ///
    /// OpenAI's responses. `model` is `<provider>/<model>`, `custom/NAME`, an alias of a fallback chain, or a name
    /// that one provider lists. The request is converted where the model's provider has another format.
    create_response_of_any_model "/v1/responses":
        "As OpenAI's API defines it", {"model": "gemini/gemini-2.5-pro", "input": "Hello"}
        => streamed, "The answer, in OpenAI's format";

    /// Create a message with any model
    ///
    /// Anthropic's messages. `model` is `<provider>/<model>`, `custom/NAME`, an alias of a fallback chain, or a
    /// name that one provider lists. The request is converted where the model's provider has another format.
    create_message_of_any_model "/v1/messages":
        "As Anthropic's API defines it", {"model": "openai/gpt-5", "max_tokens": 1024, "messages": [{"role": "user", "content": "Hello"}]}
        => streamed, "The answer, in Anthropic's format";

    /// Count the tokens of a message for any model that counts them
    ///
    /// The provider's own count in Anthropic's format; 501 where the provider has none. It costs nothing.
    count_message_tokens_of_any_model "/v1/messages/count_tokens":
        "As Anthropic's API defines it", {"model": "anthropic/claude-sonnet-5", "messages": [{"role": "user", "content": "Hello"}]}
        => whole, "The upstream's answer";

    /// Create a chat completion
    ///
    /// OpenAI's chat completions. `model` is replaced by the configuration's; fields that the gateway
    /// does not know are passed on unchanged. With `stream: true` the answer is an event stream.
    create_chat_completion "/providers/{configName}/v1/chat/completions":
        "As the upstream's API defines it", {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]}
        => streamed, "The upstream's answer";

    /// Create a response
    ///
    /// OpenAI's responses. `model` is replaced by the configuration's. With `stream: true` the answer is
    /// an event stream.
    create_response "/providers/{configName}/v1/responses":
        "As the upstream's API defines it", {"model": "gpt-4o-mini", "input": "Hello"}
        => streamed, "The upstream's answer";

    /// Compact a response
    ///
    /// OpenAI's compaction of a conversation. `model` is replaced by the configuration's. It is charged as a
    /// response.
    compact_response "/providers/{configName}/v1/responses/compact":
        "As the upstream's API defines it", {"model": "gpt-4o-mini", "input": [{"role": "user", "content": "Hello"}]}
        => whole, "The upstream's answer";

    /// Create embeddings
    ///
    /// OpenAI's embeddings. `model` is replaced by the configuration's. All tokens of an answer are input.
    create_embedding "/providers/{configName}/v1/embeddings":
        "As the upstream's API defines it", {"model": "text-embedding-3-small", "input": ["Hello"]}
        => whole, "The upstream's answer";

    /// Create a message
    ///
    /// Anthropic's messages, on configurations whose provider is `anthropic` or `anthropic_compatible`.
    /// `model` is replaced by the configuration's. With `stream: true` the answer is an event stream.
    /// Errors of the gateway have Anthropic's form here: `error` with `type`, `message` and `code`, beside
    /// `type` and `request_id`.
    create_message "/providers/{configName}/v1/messages":
        "As the upstream's API defines it", {"model": "claude-sonnet-5", "max_tokens": 1024, "messages": [{"role": "user", "content": "Hello"}]}
        => streamed, "The upstream's answer";

    /// Count the tokens of a message
    ///
    /// The upstream's own count. It costs nothing; rate limits and model access apply.
    count_message_tokens "/providers/{configName}/v1/messages/count_tokens":
        "As the upstream's API defines it", {"model": "claude-sonnet-5", "messages": [{"role": "user", "content": "Hello"}]}
        => whole, "The upstream's answer";

    /// Create a chat completion on a route
    ///
    /// The same at the targets of a fallback chain, one after the other until one answers: that of the chain
    /// whose alias is the `model`, or else of the route's first chain.
    create_route_chat_completion "/routes/{routeName}/v1/chat/completions":
        "As the upstream's API defines it", {"model": "smart", "messages": [{"role": "user", "content": "Hello"}]}
        => streamed, "The upstream's answer";

    /// Create a response on a route
    ///
    /// OpenAI's responses, at the targets of a fallback chain.
    create_route_response "/routes/{routeName}/v1/responses":
        "As the upstream's API defines it", {"model": "smart", "input": "Hello"}
        => streamed, "The upstream's answer";

    /// Create a message on a route
    ///
    /// Anthropic's messages, at the targets of a fallback chain.
    create_route_message "/routes/{routeName}/v1/messages":
        "As the upstream's API defines it", {"model": "smart", "max_tokens": 100, "messages": [{"role": "user", "content": "Hello"}]}
        => streamed, "The upstream's answer";

    /// Count the tokens of a message on a route
    ///
    /// The count of the first target of a fallback chain that answers, in Anthropic's format. It costs nothing.
    count_route_message_tokens "/routes/{routeName}/v1/messages/count_tokens":
        "As the upstream's API defines it", {"model": "smart", "messages": [{"role": "user", "content": "Hello"}]}
        => whole, "The upstream's answer";
}

/// List the upstream's models
///
/// The upstream's answer is passed on unchanged.
#[utoipa::path(
    get,
    path = "/providers/{configName}/v1/models",
    responses((status = 200, description = "The upstream's answer", body = Object)),
)]
fn list_models() {}

/// Read one of the upstream's models
///
/// The upstream's answer is passed on unchanged.
#[utoipa::path(
    get,
    path = "/providers/{configName}/v1/models/{id}",
    responses((status = 200, description = "The upstream's answer", body = Object)),
)]
fn get_model() {}

/// List all models that the key may use
///
/// Model configurations as `custom/NAME`, aliases of fallback chains, and the models of built-in providers
/// as `<provider>/<model>`. In OpenAI's form; in Anthropic's if `anthropic-version` is sent, and in
/// Codex's if the query has `client_version`.
#[utoipa::path(
    get,
    path = "/v1/models",
    responses((status = 200, description = "The list", body = Object)),
)]
fn list_usable_models() {}

/// Read one of the models that the key may use
#[utoipa::path(
    get,
    path = "/v1/models/{id}",
    responses((status = 200, description = "The model", body = Object)),
)]
fn get_usable_model() {}
