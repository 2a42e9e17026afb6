//! Queries, read so that every mistake is told by its parameter's name.

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest, web};
use futures_util::future::LocalBoxFuture;
use serde::de::DeserializeOwned;

use super::access::AuthenticationSignal;
use super::error::ApiError;

/// A query of exactly the parameters of `T`, read once the caller is let in.
#[derive(Debug)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned + 'static> FromRequest for Query<T> {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let query = request.query_string().to_owned();
        let authenticated = AuthenticationSignal::wait(request);
        Box::pin(async move {
            authenticated.await;
            parse(&query)
        })
    }
}

fn parse<T: DeserializeOwned>(query: &str) -> Result<Query<T>, ApiError> {
    match web::Query::<T>::from_query(query) {
        Ok(found) => Ok(Query(found.into_inner())),
        Err(error) => {
            let message = match error {
                actix_web::error::QueryPayloadError::Deserialize(cause) => cause.to_string(),
                other => other.to_string(),
            };
            Err(ApiError::field(culprit::<T>(query, &message), message))
        }
    }
}

/// The parameter that is wrong. The decoder does not say which, so each is tried alone.
fn culprit<T: DeserializeOwned>(query: &str, message: &str) -> String {
    let wrong = query.split('&').find(|one| {
        let alone = web::Query::<T>::from_query(one);
        alone.is_err_and(|error| error.to_string().contains(message))
    });
    let name = wrong.and_then(|one| one.split('=').next()).unwrap_or("query");
    percent_encoding::percent_decode_str(name).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::page::PageQuery;

    #[test]
    fn wrong_parameters_are_named() {
        for (query, field) in [
            ("limit=10&colour=red", "colour"),
            ("cursor=x&limit=many", "limit"),
            ("limit=1&limit=2", "query"),
        ] {
            let error = parse::<PageQuery>(query).unwrap_err();
            let ApiError::Invalid(errors) = error else { panic!("{query}: {error:?}") };
            assert_eq!(errors[0].field, field, "{query}: {errors:?}");
        }
        assert_eq!(parse::<PageQuery>("limit=7").unwrap().0.limit, Some(7));
        assert!(parse::<PageQuery>("").is_ok());
    }
}
