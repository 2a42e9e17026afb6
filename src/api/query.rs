//! Queries.

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest, web};
use futures_util::future::LocalBoxFuture;
use serde::de::DeserializeOwned;

use super::access::AuthenticationSignal;
use super::error::{ApiError, FieldError};
use super::field_errors::{Parsed, add};

/// A query. Whether its parameters are valid is known when it is taken out.
#[derive(Debug)]
pub(super) struct Query<T>(Parsed<T>);

impl<T> Query<T> {
    /// The query, or every wrong parameter of it.
    pub(super) fn valid(self) -> Result<T, ApiError> {
        self.0.valid()
    }

    /// What `check` makes of the query, or every wrong parameter of it.
    pub(super) fn check<U>(
        self,
        check: impl FnOnce(T) -> Result<U, ApiError>,
    ) -> Result<U, ApiError> {
        self.0.check(check)
    }
}

impl<T: DeserializeOwned + 'static> FromRequest for Query<T> {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let query = request.query_string().to_owned();
        let authenticated = AuthenticationSignal::wait(request);
        Box::pin(async move {
            authenticated.await;
            Ok(Self(parse(&query)))
        })
    }
}

fn parse<T: DeserializeOwned>(query: &str) -> Parsed<T> {
    let mut errors = Vec::new();
    // The decoder stops at the first wrong parameter and does not name it, so each is decoded alone.
    let is_valid = |pair: &&str| match decode::<T>(pair) {
        Err(message) if !message.starts_with("missing field ") => {
            let message = match message.starts_with("unknown field ") {
                true => "there is no such parameter".to_owned(),
                false => message,
            };
            add(&mut errors, FieldError { field: name_of(pair), message });
            false
        }
        Ok(_) | Err(_) => true,
    };
    let mut pairs: Vec<String> = query.split('&').filter(is_valid).map(str::to_owned).collect();
    loop {
        let message = match decode(&pairs.join("&")) {
            Ok(value) => return Parsed { value: Some(value), errors },
            Err(message) => message,
        };
        let field = message.split('`').nth(1).unwrap_or("query").to_owned();
        if errors.iter().any(|present| present.field == field) {
            return Parsed { value: None, errors };
        }
        let message = if message.starts_with("missing field ") {
            // An empty value, so that the others can be checked.
            pairs.push(format!("{field}="));
            "must be given".to_owned()
        } else if message.starts_with("duplicate field ") {
            pairs.retain(|pair| name_of(pair) != field);
            "must be given once".to_owned()
        } else {
            message
        };
        errors.push(FieldError { field, message });
    }
}

fn decode<T: DeserializeOwned>(query: &str) -> Result<T, String> {
    match web::Query::<T>::from_query(query) {
        Ok(found) => Ok(found.into_inner()),
        Err(actix_web::error::QueryPayloadError::Deserialize(cause)) => Err(cause.to_string()),
        Err(other) => Err(other.to_string()),
    }
}

fn name_of(pair: &str) -> String {
    let name = pair.split('=').next().unwrap_or_default();
    percent_encoding::percent_decode_str(name).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::api::page::PageQuery;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "its parameters are required")]
    struct Required {
        one: String,
        other: String,
        number: Option<u8>,
    }

    fn wrong<T: DeserializeOwned + std::fmt::Debug>(query: &str) -> Vec<String> {
        let Err(ApiError::Invalid(errors)) = parse::<T>(query).valid() else {
            panic!("{query} is valid");
        };
        errors.into_iter().map(|error| error.field).collect()
    }

    #[test]
    fn all_wrong_parameters_are_named() {
        for (query, fields) in [
            ("limit=10&colour=red", vec!["colour"]),
            ("cursor=x&limit=many", vec!["limit"]),
            ("limit=many&colour=red&co%20lour=1", vec!["limit", "colour", "co lour"]),
            ("limit=1&limit=2", vec!["limit"]),
        ] {
            assert_eq!(wrong::<PageQuery>(query), fields, "{query}");
        }
        assert_eq!(wrong::<Required>("number=x&one=1"), ["number", "other"]);
        assert_eq!(wrong::<Required>(""), ["one", "other"]);
        assert_eq!(parse::<PageQuery>("limit=7").valid().unwrap().limit, Some(7));
        assert!(parse::<PageQuery>("").valid().is_ok());
    }
}
