//! One registration an operation: it is served from it and described in the OpenAPI document from it.

use std::collections::BTreeMap;

use actix_web::http::Method;
use actix_web::{FromRequest, Handler, HttpRequest, Resource, Responder, Route, web};
use serde_json::Value;
use utoipa::openapi::schema::Schema;
use utoipa::openapi::{PathItem, RefOr};
use utoipa_actix_web::OpenApiFactory;

use super::access::{Arguments, Caller};
use super::error::ApiError;
use super::middleware;

/// The operations under one prefix.
#[derive(Default)]
pub(super) struct Routes {
    /// What the paths are relative to in actix: an empty text or the path of a scope.
    scope: &'static str,
    /// What is put before the paths of the operations that are added next.
    prefix: &'static str,
    /// Makes the id of an operation that is added next from the name of its handler.
    rename: Option<fn(&str) -> String>,
    tag: &'static str,
    /// By path, in the order of registration: the first one that matches a request serves it.
    resources: Vec<(String, Vec<(Method, Route)>)>,
    operations: Vec<Operation>,
    schemas: BTreeMap<String, RefOr<Schema>>,
}

/// An operation for the OpenAPI document.
pub(super) struct Operation {
    pub(super) path: String,
    pub(super) method: Method,
    pub(super) permission: String,
    /// As the handler's `utoipa::path` describes it.
    pub(super) item: PathItem,
    pub(super) tag: &'static str,
    pub(super) rename: Option<fn(&str) -> String>,
}

impl Routes {
    /// No operations yet, for a scope of this path.
    pub(super) fn of_scope(scope: &'static str) -> Self {
        Self { scope, ..Self::default() }
    }

    /// Sets the tag of the operations that are added next.
    pub(super) fn tag(&mut self, tag: &'static str) -> &mut Self {
        self.tag = tag;
        self
    }

    /// Adds operations again, under another prefix and with other ids.
    pub(super) fn repeat(
        &mut self,
        prefix: &'static str,
        rename: fn(&str) -> String,
        configure: fn(&mut Self),
    ) -> &mut Self {
        (self.prefix, self.rename) = (prefix, Some(rename));
        configure(self);
        (self.prefix, self.rename) = ("", None);
        self
    }

    /// Adds an operation. `description` is the type that `utoipa::path` generates for the handler:
    /// `__path_` and the handler's name.
    pub(super) fn add<D, H, A>(&mut self, description: D, handler: H) -> &mut Self
    where
        D: OpenApiFactory,
        H: Handler<A>,
        A: FromRequest + Arguments + 'static,
        H::Output: Responder + 'static,
    {
        let mut schemas = Vec::new();
        description.schemas(&mut schemas);
        self.schemas.extend(schemas);
        let Some((path, item)) = description.paths().paths.into_iter().next() else { return self };
        let path = format!("{}{path}", self.prefix);
        let permission = <A::Caller as Caller>::permission();
        let full_path = format!("{}{path}", self.scope);
        let operation = Operation::new(full_path, item, permission, self.tag, self.rename);
        let method = operation.method.clone();
        let route = web::method(method.clone()).to(handler);
        match self.resources.iter_mut().find(|(present, _)| *present == path) {
            Some((_, routes)) => routes.push((method, route)),
            None => self.resources.push((path, vec![(method, route)])),
        }
        self.operations.push(operation);
        self
    }

    /// Answers `HEAD` at the path of the last operation like `GET`, without the body, which actix leaves
    /// out. For what load balancers ask; the document describes only `GET`.
    pub(super) fn answer_head<H, A>(&mut self, handler: H) -> &mut Self
    where
        H: Handler<A>,
        A: FromRequest + Arguments + 'static,
        H::Output: Responder + 'static,
    {
        if let Some((_, routes)) = self.resources.last_mut() {
            routes.push((Method::HEAD, web::head().to(handler)));
        }
        self
    }

    /// What actix serves. A path answers 405 to the methods that it has no operation for.
    pub(super) fn into_resources(self) -> impl Iterator<Item = Resource> {
        self.resources.into_iter().map(|(path, routes)| {
            let mut allowed: Vec<String> =
                routes.iter().map(|(method, _)| method.to_string()).collect();
            allowed.sort_unstable();
            let resource = routes
                .into_iter()
                .fold(web::resource(path), |resource, (_, route)| resource.route(route));
            resource.default_service(web::to(move |request: HttpRequest| {
                let error = ApiError::MethodNotAllowed(allowed.clone());
                std::future::ready(middleware::error_response(&request, &error))
            }))
        })
    }

    /// What the document describes: the operations and the schemas that they refer to.
    pub(super) fn into_description(self) -> (Vec<Operation>, BTreeMap<String, RefOr<Schema>>) {
        (self.operations, self.schemas)
    }
}

impl Operation {
    pub(super) fn new(
        path: String,
        item: PathItem,
        permission: String,
        tag: &'static str,
        rename: Option<fn(&str) -> String>,
    ) -> Self {
        Self { path, method: method_of(&item), permission, item, tag, rename }
    }

    /// The method as a field of a path item.
    pub(super) fn method_field(&self) -> String {
        self.method.as_str().to_ascii_lowercase()
    }

    pub(super) fn to_json(&self) -> Value {
        let item = serde_json::to_value(&self.item).unwrap_or_default();
        item.get(self.method_field()).cloned().unwrap_or_default()
    }
}

fn method_of(item: &PathItem) -> Method {
    let methods = [
        (&item.put, Method::PUT),
        (&item.post, Method::POST),
        (&item.patch, Method::PATCH),
        (&item.delete, Method::DELETE),
    ];
    methods
        .into_iter()
        .find_map(|(operation, method)| operation.as_ref().map(|_| method))
        .unwrap_or(Method::GET)
}
