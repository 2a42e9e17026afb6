//! The data plane's routes, for the document alone: `proxy` serves them, from raw paths.
#![expect(dead_code, reason = "shapes and operations that only the document uses")]

/// An error that the gateway makes, in the form of the API that was called. Errors of the upstream
/// pass through as they are.
#[derive(utoipa::ToSchema)]
pub(super) struct GatewayError {
    /// The error.
    error: GatewayErrorBody,
}

/// What went wrong.
#[derive(utoipa::ToSchema)]
pub(super) struct GatewayErrorBody {
    /// For people.
    message: String,
    /// The kind of error.
    r#type: String,
    /// The parameter that is wrong, if one is.
    param: Option<String>,
    /// Stable, for programs.
    code: Option<String>,
}

/// What can go wrong with every call.
#[derive(utoipa::IntoResponses)]
pub(super) enum CallErrors {
    /// The request is malformed.
    #[response(status = 400)]
    Malformed(#[to_schema] GatewayError),
    /// No valid API key.
    #[response(status = 401)]
    Unauthenticated(#[to_schema] GatewayError),
    /// The key may not call models here.
    #[response(status = 403)]
    Forbidden(#[to_schema] GatewayError),
    /// No such model configuration, or a disabled one.
    #[response(status = 404)]
    Unknown(#[to_schema] GatewayError),
    /// The body came too slowly.
    #[response(status = 408)]
    TooSlow(#[to_schema] GatewayError),
    /// The body is too large.
    #[response(status = 413)]
    TooLarge(#[to_schema] GatewayError),
    /// The body is compressed in a way that is not read.
    #[response(status = 415)]
    UnsupportedEncoding(#[to_schema] GatewayError),
    /// Too many requests at once for this model configuration.
    #[response(status = 429)]
    TooMany(#[to_schema] GatewayError),
    /// Not one of the routes that are passed on.
    #[response(status = 501)]
    NotPassedOn(#[to_schema] GatewayError),
    /// The upstream can't be reached, or broke off.
    #[response(status = 502)]
    UpstreamFailed(#[to_schema] GatewayError),
    /// Overloaded, or a secret does not open.
    #[response(status = 503)]
    Unavailable(#[to_schema] GatewayError),
    /// The upstream takes too long.
    #[response(status = 504)]
    UpstreamTooSlow(#[to_schema] GatewayError),
}

/// Create a chat completion
///
/// OpenAI's chat completions. `model` is replaced by the configuration's; fields that the gateway
/// does not know travel on untouched. With `stream: true` the answer is an event stream.
#[utoipa::path(
    post,
    path = "/providers/{configName}/v1/chat/completions",
    tag = "gateway",
    operation_id = "create_chat_completion",
    params(("configName" = String, Path,
        description = "A model configuration's name, percent-encoded as one segment")),
    request_body(content = Object, description = "As the upstream's API has it"),
    responses(
        (status = 200, description = "The upstream's answer", content(
            (Object = "application/json"),
            (String = "text/event-stream"),
        )),
        CallErrors,
    ),
    security(("api_key" = []), ("x_api_key" = [])),
    extensions(("x-permission" = json!("gateway:invoke"))),
)]
pub(super) fn create_chat_completion() {}

/// Create a response
///
/// OpenAI's responses. `model` is replaced by the configuration's. With `stream: true` the answer is
/// an event stream.
#[utoipa::path(
    post,
    path = "/providers/{configName}/v1/responses",
    tag = "gateway",
    operation_id = "create_response",
    params(("configName" = String, Path,
        description = "A model configuration's name, percent-encoded as one segment")),
    request_body(content = Object, description = "As the upstream's API has it"),
    responses(
        (status = 200, description = "The upstream's answer", content(
            (Object = "application/json"),
            (String = "text/event-stream"),
        )),
        CallErrors,
    ),
    security(("api_key" = []), ("x_api_key" = [])),
    extensions(("x-permission" = json!("gateway:invoke"))),
)]
pub(super) fn create_response() {}

/// List the upstream's models
///
/// Relayed as it is.
#[utoipa::path(
    get,
    path = "/providers/{configName}/v1/models",
    tag = "gateway",
    operation_id = "list_models",
    params(("configName" = String, Path,
        description = "A model configuration's name, percent-encoded as one segment")),
    responses(
        (status = 200, description = "The upstream's answer", body = Object),
        CallErrors,
    ),
    security(("api_key" = []), ("x_api_key" = [])),
    extensions(("x-permission" = json!("gateway:invoke"))),
)]
pub(super) fn list_models() {}

/// Read one of the upstream's models
///
/// Relayed as it is.
#[utoipa::path(
    get,
    path = "/providers/{configName}/v1/models/{id}",
    tag = "gateway",
    operation_id = "get_model",
    params(
        ("configName" = String, Path,
            description = "A model configuration's name, percent-encoded as one segment"),
        ("id" = String, Path, description = "The upstream's name of the model, as one segment"),
    ),
    responses(
        (status = 200, description = "The upstream's answer", body = Object),
        CallErrors,
    ),
    security(("api_key" = []), ("x_api_key" = [])),
    extensions(("x-permission" = json!("gateway:invoke"))),
)]
pub(super) fn get_model() {}
