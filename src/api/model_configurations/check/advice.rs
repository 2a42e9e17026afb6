//! The messages of a check: what the result means, and what to do.

use actix_web::http::StatusCode;

use crate::credentials::CredentialError;
use crate::credentials::mint::MintError;
use crate::directory::upstream_entry::SecretUnavailable;
use crate::upstream::UpstreamError;

/// The message for an answer of the upstream.
pub(super) fn advice(status: StatusCode, listed: Option<bool>, model: Option<&str>) -> String {
    let code = status.as_u16();
    match code {
        200..=299 => match listed {
            Some(true) => "The upstream accepts the key and lists the model.".to_owned(),
            Some(false) => format!(
                "The upstream accepts the key, but does not list the model '{}'. Compare model \
                 with the upstream's own names; some upstreams also serve models that they do not \
                 list.",
                model.unwrap_or_default()
            ),
            None => "The upstream accepts the key.".to_owned(),
        },
        300..=399 => format!(
            "The upstream answered {code}, a redirect, which is never followed. Set base_url to \
             where it leads."
        ),
        400 | 422 => format!(
            "The upstream answered {code} to a request for one token: it may not know the model. \
             Check model and base_url."
        ),
        401 => "The upstream answered 401: it does not accept the key. Store the right value in \
                the secret of api_key_name, and check that auth names the place where this \
                upstream expects the key."
            .to_owned(),
        403 => "The upstream answered 403: it knows the key and does not allow this. Check what \
                the key may do at the provider, and whether the provider is open to this network."
            .to_owned(),
        404 | 405 | 501 => format!(
            "The upstream answered {code}: it does not know this path. Check base_url, which usually \
             ends in the API's version such as /v1, and model."
        ),
        429 => "The upstream answered 429: the key has reached a limit at the provider. Check its \
                quota and billing there."
            .to_owned(),
        500..=599 => format!(
            "The upstream answered {code}: it has a problem of its own. Try again later, and look \
             at the provider's status page."
        ),
        _ => format!("The upstream answered {code}, which this check does not know."),
    }
}

/// The message for a request that got no answer.
pub(super) fn advice_for_failure(error: &UpstreamError) -> String {
    let what_to_do = match error {
        UpstreamError::Refused(_) => {
            "Use a base_url with a public address, or ask the operator of this installation to \
             allow the network with --egress-allow."
        }
        UpstreamError::Resolve(_) => "Check the host in base_url.",
        UpstreamError::Connect(_) => "Check host and port in base_url, and that the upstream runs.",
        UpstreamError::ConnectTimeout => {
            "Check host and port in base_url, and that no firewall is in between."
        }
        UpstreamError::Tls(_) => {
            "Check that base_url has the host that the certificate is for; a private certificate \
             authority is added with --upstream-ca-file."
        }
        UpstreamError::FirstByteTimeout | UpstreamError::IdleTimeout => {
            "It was reached, and did not send a complete answer within 10 seconds. Try again, and look \
             at the provider's status page."
        }
        UpstreamError::Closed | UpstreamError::Protocol(_) => {
            "Check that base_url has the right port and the right one of http and https."
        }
        UpstreamError::InvalidRequest(_) | UpstreamError::Body(_) => {
            "Check base_url, extra_headers and the secrets."
        }
    };
    let mut message = error.to_string();
    if let Some(first) = message.get(..1).map(str::to_uppercase) {
        message.replace_range(..1, &first);
    }
    format!("{message}. {what_to_do}")
}

/// The message if the upstream can't be called with its credentials.
pub(super) fn advice_for_credentials(error: &CredentialError) -> String {
    let failure = match error {
        CredentialError::Secret(SecretUnavailable { name, .. }) => {
            return format!(
                "The secret {name} can't be decrypted; store its value again. If that fails, the \
                 server lacks the master key."
            );
        }
        CredentialError::Token(failure) => failure,
    };
    let what_to_do = match &failure.cause {
        MintError::NoAnswer(error) if matches!(**error, UpstreamError::Refused(_)) => {
            "Use an oauth.token_url with a public address, or ask the operator of this installation \
             to allow the network with --egress-allow."
        }
        MintError::NoAnswer(_) => "Check oauth.token_url, and that the token endpoint runs.",
        MintError::Status(300..=399) => {
            "Redirects are never followed: set oauth.token_url to where it leads."
        }
        MintError::Status(400 | 401 | 403) => {
            "Check oauth.client_id, the secret of oauth.client_secret, oauth.auth_method, \
             oauth.scope and oauth.parameters."
        }
        MintError::Status(404 | 405) => "Check oauth.token_url.",
        MintError::TimedOut | MintError::Status(_) => {
            "Try again later, and look at the status page of who runs the token endpoint."
        }
        MintError::TooLarge | MintError::NotJson | MintError::NoToken | MintError::InvalidToken => {
            "Check that oauth.token_url is that of a token endpoint."
        }
    };
    format!("There is {failure}. {what_to_do}")
}

/// The message if the upstream does not accept the OAuth token from this host.
pub(super) fn advice_for_refused_token(host: &str) -> String {
    format!(
        "The upstream answered 401: it does not accept the token from {host}. Check oauth.scope and \
         oauth.parameters, that the client may use this upstream, and that auth names the place where \
         the upstream expects the token."
    )
}

/// The message if an answer with a success status holds an error, or no answer at all.
pub(super) fn advice_without_answer(status: StatusCode) -> String {
    format!(
        "The upstream answered {} to a request for one token, but with an error or nothing in place \
         of an answer. Check base_url and model, and the key's quota at the provider.",
        status.as_u16()
    )
}

/// The message if there is no list of models and no token was requested.
pub(super) fn advice_without_token(status: StatusCode, why: &str) -> String {
    format!(
        "The upstream has no list of models: it answered {}. Whether it accepts the key is not known, \
         because no token was requested: {why}.",
        status.as_u16()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_say_what_to_do() {
        let message = advice_for_failure(&UpstreamError::ConnectTimeout);
        assert!(
            message.starts_with("Connecting to the upstream took too long. Check"),
            "{message}"
        );
    }
}
