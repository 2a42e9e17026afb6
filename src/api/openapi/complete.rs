//! What every operation has in common is added to its description here: the parameters of its path,
//! who may call it, and the errors that it may answer. Handlers describe the rest.

use serde_json::{Map, Value, json};

use crate::api::routes::Operation;

/// The parameters of paths: name, schema, description.
const PATH_PARAMETERS: [(&str, &str, &str); 13] = [
    ("organization_id", "OrganizationId", "The organization"),
    ("workspace_id", "WorkspaceId", "The workspace"),
    ("user_id", "UserId", "The user"),
    ("api_key_id", "ApiKeyId", "The API key"),
    ("configuration_id", "ConfigurationId", "The model configuration"),
    ("model_price_id", "ModelPriceId", "The model price"),
    ("policy_id", "PolicyId", "The gateway policy"),
    ("request_id", "RequestId", "The request: the `x-request-id` of its answer"),
    ("name", "SecretName", "The secret's name"),
    ("provider", "Provider", "The built-in provider, as in the path of calls to it"),
    (
        "configName",
        "ConfigurationName",
        "A model configuration's name, percent-encoded as one segment",
    ),
    (
        "routeName",
        "ConfigurationName",
        "The name of a policy of the type `route_config`, percent-encoded as one segment",
    ),
    ("id", "UpstreamModelName", "The upstream's name of the model, as one segment"),
];

/// The errors of the management plane: status, name of the response, description.
const PROBLEMS: [(&str, &str, &str); 12] = [
    ("400", "Malformed", "The request can't be read"),
    ("401", "Unauthenticated", "No API key was sent, or not a valid one"),
    (
        "403",
        "Forbidden",
        "The key's role or scope does not allow this, or its organization is suspended",
    ),
    ("404", "NotFound", "It does not exist, or this key may not see it"),
    (
        "405",
        "MethodNotAllowed",
        "The path has no operation of this method; `Allow` lists those it has",
    ),
    ("409", "Conflict", "The present state does not allow it; `code` says why"),
    ("413", "BodyTooLarge", "The body is larger than 1 MiB"),
    (
        "415",
        "UnsupportedMediaType",
        "The body is not JSON by its `Content-Type`, or is compressed by its `Content-Encoding`",
    ),
    ("422", "InvalidFields", "Some fields are not valid; `errors` names each of them"),
    (
        "429",
        "TooManyAttempts",
        "Too many failed attempts with this key; `Retry-After` says when to try again",
    ),
    ("500", "InternalError", "The server failed; its log has the cause under the `request_id`"),
    ("503", "Unavailable", "The database can't be reached; `Retry-After` says when to try again"),
];

/// The errors that the gateway itself makes on the data plane.
const GATEWAY_ERRORS: [(&str, &str, &str); 14] = [
    ("400", "GatewayMalformed", "The request is malformed"),
    ("401", "GatewayUnauthenticated", "No API key was sent, or not a valid one"),
    ("402", "GatewaySpendCap", "A spend cap does not allow the request, or its price is not known"),
    ("403", "GatewayForbidden", "The key may not call models here, or not this model"),
    ("404", "GatewayNotFound", "There is no such model configuration, or it is disabled"),
    ("408", "GatewayBodyTimeout", "The body came too slowly"),
    (
        "413",
        "GatewayBodyTooLarge",
        "The body is too large, or becomes too large when it is decoded",
    ),
    (
        "415",
        "GatewayUnsupportedEncoding",
        "The body has a `Content-Encoding` that is not supported",
    ),
    (
        "429",
        "GatewayTooManyRequests",
        "A rate limit is reached, or too many requests are under way",
    ),
    ("500", "GatewayInternalError", "The gateway failed"),
    ("501", "GatewayNotImplemented", "Not one of the routes that are passed on"),
    ("502", "GatewayUpstreamFailed", "The upstream can't be reached, or broke off"),
    ("503", "GatewayUnavailable", "The gateway is overloaded, or a secret can't be decrypted"),
    ("504", "GatewayUpstreamTimeout", "The upstream takes too long"),
];

/// The form of a list's `cursor`: 16 bytes in Base64 for URLs, without padding.
const CURSOR: &str = "^[A-Za-z0-9_-]{21}[AQgw]$";

/// Rules of the types that schemas refer to by name, which a field that uses them can't state.
fn constraints() -> Value {
    json!({
        "DisplayName": {"minLength": 1, "maxLength": 128, "pattern": r"^[^\x00-\x1f\x7f-\x9f]*[^\x00-\x1f\x7f-\x9f\s][^\x00-\x1f\x7f-\x9f]*$"},
        "ConfigurationName": {"minLength": 1, "maxLength": 128, "pattern": r"^(?!\.{1,2}$)[^\x00-\x1f\x7f-\x9f]+$"},
        "SecretName": {"pattern": "^[A-Za-z_][A-Za-z0-9_]{0,127}$"},
        "Handle": {"pattern": "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"},
        "Email": {"maxLength": 254, "format": "email"},
    })
}

/// Adds the constraints, and the responses that operations refer to.
pub(super) fn components(document: &mut Value) {
    let Some(components) = document.get_mut("components").and_then(Value::as_object_mut) else {
        return;
    };
    let schemas = &mut components["schemas"];
    schemas["UpstreamModelName"] = json!({"type": "string", "minLength": 1});
    for (name, more) in constraints().as_object().into_iter().flatten() {
        if let (Some(Value::Object(schema)), Value::Object(more)) = (schemas.get_mut(name), more) {
            schema.extend(more.clone());
        }
    }
    // A derived page repeats the schema of its items.
    for (name, schema) in schemas.as_object_mut().into_iter().flatten() {
        if let Some(item) = name.strip_prefix("Paged_")
            && let Some(data) = schema.pointer_mut("/properties/data")
        {
            data["items"] = json!({"$ref": format!("#/components/schemas/{item}")});
        }
    }
    let problems = PROBLEMS.iter().map(|of| response(of, "application/problem+json", "Problem"));
    let errors = GATEWAY_ERRORS.iter().map(|of| response(of, "application/json", "GatewayError"));
    components.insert("responses".to_owned(), problems.chain(errors).collect());
}

fn response(
    (status, name, description): &(&str, &str, &str),
    media_type: &str,
    schema: &str,
) -> (String, Value) {
    let schema = json!({"$ref": format!("#/components/schemas/{schema}")});
    let mut response =
        json!({"description": description, "content": {media_type: {"schema": schema}}});
    let header = match *status {
        "401" => Some(("WWW-Authenticate", "string")),
        "405" => Some(("Allow", "string")),
        "429" | "503" => Some(("Retry-After", "integer")),
        _ => None,
    };
    if let Some((header, kind)) = header {
        response["headers"] = json!({header: {"schema": {"type": kind}}});
    }
    ((*name).to_owned(), response)
}

/// The description of an operation with everything that is common to operations.
pub(super) fn complete(operation: &Operation) -> Value {
    let mut description = operation.to_json();
    let Some(fields) = description.as_object_mut() else { return description };
    fields.insert("tags".to_owned(), json!([operation.tag]));
    fields.insert("x-permission".to_owned(), json!(operation.permission));
    if let (Some(rename), Some(Value::String(id))) =
        (operation.rename, fields.get_mut("operationId"))
    {
        *id = rename(id);
    }
    let is_public = operation.permission == "none";
    fields.entry("security").or_insert_with(|| match is_public {
        true => json!([{}]),
        false => json!([{"api_key": []}, {"x_api_key": []}]),
    });
    let in_path = path_parameters(&operation.path);
    let mut parameters = in_path.clone();
    if let Some(Value::Array(own)) = fields.remove("parameters") {
        parameters.extend(own.into_iter().filter(|one| one["in"] != "path"));
        for cursor in parameters.iter_mut().filter(|one| one["name"] == "cursor") {
            cursor["schema"]["pattern"] = json!(CURSOR);
            cursor["schema"]["minLength"] = json!(22);
            cursor["schema"]["maxLength"] = json!(22);
        }
    }
    let has_query = parameters.len() > in_path.len();
    if !parameters.is_empty() {
        fields.insert("parameters".to_owned(), Value::Array(parameters));
    }
    let has_body = body(fields, operation);
    let Some(Value::Object(responses)) = fields.get_mut("responses") else { return description };
    if let Some(Value::Object(created)) = responses.get_mut("201") {
        let location =
            json!({"description": "The path of what was created", "schema": {"type": "string"}});
        created.insert("headers".to_owned(), json!({"Location": location}));
    }
    if is_public {
        return description;
    }
    let (table, common): (&[_], &[&str]) = match is_data_plane(&operation.path) {
        true => (
            &GATEWAY_ERRORS,
            &["400", "401", "402", "403", "404", "429", "500", "501", "502", "503", "504"],
        ),
        false => (&PROBLEMS, &["401", "403", "429", "500", "503"]),
    };
    let with_body: &[&str] = match is_data_plane(&operation.path) {
        true => &["408", "413", "415"],
        false => &["400", "413", "415", "422"],
    };
    for (status, name, _) in table {
        let applies = common.contains(status)
            || (has_body && with_body.contains(status))
            || (has_query && *status == "422")
            || (!in_path.is_empty() && *status == "404");
        if applies {
            let reference = json!({"$ref": format!("#/components/responses/{name}")});
            responses.entry(*status).or_insert(reference);
        }
    }
    description
}

/// Gives a merge patch its media types; an optional body can be left out, but is not null. Says whether
/// there is a body.
fn body(fields: &mut Map<String, Value>, operation: &Operation) -> bool {
    let Some(body) = fields.get_mut("requestBody") else { return false };
    if let Some(schema) = body.pointer_mut("/content/application~1json/schema")
        && let Some(Value::Array(alternatives)) = schema.get("oneOf")
        && let [value, null] = alternatives.as_slice()
        && null["type"] == "null"
    {
        *schema = value.clone();
    }
    if operation.method == "PATCH"
        && let Some(Value::Object(content)) = body.get_mut("content")
        && let Some(schema) = content.get("application/json").cloned()
    {
        content.insert("application/merge-patch+json".to_owned(), schema);
    }
    true
}

fn path_parameters(path: &str) -> Vec<Value> {
    let names = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let described = |name: &str| {
        let found = PATH_PARAMETERS.iter().find(|(known, ..)| *known == name);
        let (schema, description) =
            found.map_or(("", ""), |(_, schema, description)| (*schema, *description));
        json!({
            "name": name,
            "in": "path",
            "required": true,
            "description": description,
            "schema": {"$ref": format!("#/components/schemas/{schema}")},
        })
    };
    names.map(described).collect()
}

/// Makes one object of each schema that is all of several, at any level. A flattened request
/// type refuses unknown fields, and as one part of a whole would refuse the other parts.
pub(super) fn merge_flattened(document: &mut Value) {
    let schemas = document["components"]["schemas"].clone();
    merge_in(document, &schemas);
}

fn merge_in(value: &mut Value, schemas: &Value) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::Array(parts)) = fields.get("allOf")
                && let Some(merged) = merged(parts, schemas)
            {
                fields.remove("allOf");
                fields.extend(merged);
            }
            fields.values_mut().for_each(|inner| merge_in(inner, schemas));
        }
        Value::Array(items) => items.iter_mut().for_each(|inner| merge_in(inner, schemas)),
        _ => {}
    }
}

/// An object with the properties of all parts. Of a part that is referred to, an answer shows every
/// property, also one that a request may leave out.
fn merged(parts: &[Value], schemas: &Value) -> Option<Map<String, Value>> {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for part in parts {
        let reference = part.get("$ref").and_then(Value::as_str);
        let part = match reference {
            Some(reference) => schemas.get(reference.rsplit('/').next()?)?,
            None => part,
        };
        let inner = match part.get("allOf") {
            Some(Value::Array(parts)) => merged(parts, schemas)?.remove("properties")?,
            _ => part.get("properties")?.clone(),
        };
        let own = inner.as_object()?;
        match (reference, part.get("required")) {
            (Some(_), _) => required.extend(own.keys().map(|name| json!(name))),
            (None, Some(Value::Array(names))) => required.extend(names.iter().cloned()),
            (None, _) => {}
        }
        properties.extend(own.clone());
    }
    let whole = json!({"type": "object", "properties": properties, "required": required});
    match whole {
        Value::Object(whole) => Some(whole),
        _ => None,
    }
}

/// Whether errors of the operation have the API's form, and are no problem documents.
fn is_data_plane(path: &str) -> bool {
    let is_management = path.starts_with("/v1/platform/");
    let places = ["/providers/", "/routes/", "/v1/"];
    places.iter().any(|place| path.starts_with(place)) && !is_management
}
