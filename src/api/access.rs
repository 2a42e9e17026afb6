//! Who may call an operation. Every handler takes one of these types as its first argument: a value of
//! it exists only if the caller was authenticated and holds the permission, and it carries the scope
//! that queries are bound to. The OpenAPI document takes the permission from the type, too.

use std::future::{Future, Ready, ready};
use std::marker::PhantomData;
use std::pin::Pin;
use std::rc::Rc;

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpMessage, HttpRequest, web};

use super::Management;
use super::error::ApiError;
use crate::audit::Actor;
use crate::auth::{Principal, Scope, authenticate};
use crate::domain::ids::OrganizationId;
use crate::domain::permissions::Permission;
use crate::domain::scope::{Owner, WorkspaceScope};
use crate::telemetry::request_ids::RequestIds;

/// A permission as a type, for the parameters of the types below.
pub(super) trait RequiredPermission: 'static {
    /// The permission.
    const PERMISSION: Permission;
}

macro_rules! permission_types {
    ($($name:ident),+ $(,)?) => {$(
        #[doc = concat!("`Permission::", stringify!($name), "` as a type.")]
        #[derive(Debug)]
        pub(super) struct $name;

        impl RequiredPermission for $name {
            const PERMISSION: Permission = Permission::$name;
        }
    )+};
}

permission_types!(
    OrganizationsWrite,
    OperationsRead,
    OrganizationRead,
    OrganizationManage,
    WorkspacesRead,
    WorkspacesWrite,
    UsersRead,
    UsersWrite,
    SecretsRead,
    SecretsWrite,
    ModelConfigurationsRead,
    ModelConfigurationsWrite,
    ModelConfigurationsConnect,
    ApiKeysRead,
    ApiKeysWrite,
    AuditLogRead,
    UsageRead,
);

/// A type that handlers take as their first argument, which decides who may call the operation.
pub(super) trait Caller {
    /// The value of `x-permission` in the OpenAPI document.
    fn permission() -> String;
}

/// The arguments of a handler whose first one is a [`Caller`].
pub(super) trait Arguments {
    /// The type of the first argument.
    type Caller: Caller;
}

macro_rules! arguments {
    ($($argument:ident)*) => {
        impl<C: Caller, $($argument),*> Arguments for (C, $($argument,)*) {
            type Caller = C;
        }
    };
}

arguments!();
arguments!(A1);
arguments!(A1 A2);
arguments!(A1 A2 A3);
arguments!(A1 A2 A3 A4);
arguments!(A1 A2 A3 A4 A5);

/// Any caller, with or without a key.
#[derive(Debug)]
pub(super) struct Anyone;

/// A caller with a valid key, whatever its role.
#[derive(Debug)]
pub(super) struct Authenticated {
    pub(super) principal: Principal,
    /// The principal as the audit log records it.
    pub(super) actor: Actor,
}

/// A caller with the permission `P`.
#[derive(Debug)]
pub(super) struct Permitted<P, S = Scope> {
    /// What the operation may read and write.
    pub(super) scope: S,
    pub(super) principal: Principal,
    pub(super) actor: Actor,
    permission: PhantomData<P>,
}

/// A caller whose key belongs to an organization as a whole and has the permission `P`.
pub(super) type InOrganization<P> = Permitted<P, OrganizationId>;

/// A caller with the permission `P` in the workspace that the path's `workspace_id` names. Queries
/// have to find out whether that workspace exists: the scope binds them to the caller's organization.
pub(super) type InWorkspace<P> = Permitted<P, WorkspaceScope>;

/// A caller with the permission `P` for what belongs to the workspace that the path names, or to their
/// organization as a whole if it names none.
pub(super) type ForOwner<P> = Permitted<P, Owner>;

impl Caller for Anyone {
    fn permission() -> String {
        "none".to_owned()
    }
}

impl Caller for Authenticated {
    fn permission() -> String {
        "authenticated".to_owned()
    }
}

impl<P: RequiredPermission, S> Caller for Permitted<P, S> {
    fn permission() -> String {
        P::PERMISSION.to_string()
    }
}

/// Tells the extractors of bodies and queries that the caller is authenticated. They wait for it, so
/// that a caller who may not use the operation learns nothing about a wrong body or query. actix polls
/// the arguments of a handler in order: the permission is checked in the same poll that sets the
/// signal, before a later argument sees it.
#[derive(Clone, Default)]
pub(super) struct AuthenticationSignal(Rc<tokio::sync::Notify>);

impl AuthenticationSignal {
    /// Waits for the signal; does not wait where the operation takes no [`Authenticated`] argument.
    pub(super) fn wait(request: &HttpRequest) -> impl Future<Output = ()> + 'static {
        let signal = request.extensions().get::<Self>().cloned();
        async move {
            if let Some(signal) = signal {
                signal.0.notified().await;
                // Wakes the next extractor that waits.
                signal.0.notify_one();
            }
        }
    }
}

type Extraction<T> = Pin<Box<dyn Future<Output = Result<T, ApiError>>>>;

impl FromRequest for Anyone {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(_: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Ok(Self))
    }
}

impl FromRequest for Authenticated {
    type Error = ApiError;
    type Future = Extraction<Self>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        let signal = AuthenticationSignal::default();
        request.extensions_mut().insert(signal.clone());
        Box::pin(async move {
            let Some(plane) = request.app_data::<web::Data<Management>>() else {
                return Err(ApiError::Internal("the management plane has no state".to_owned()));
            };
            // The middleware of `/api/v1` has authenticated the caller already; metrics and
            // readiness are outside of it.
            let known = request.extensions().get::<Principal>().copied();
            let principal = match known {
                Some(principal) => principal,
                None => authenticate(request.headers(), &plane.directory, &plane.clock).await?,
            };
            let ids = request.extensions().get::<RequestIds>().cloned();
            let actor = Actor {
                principal: Some(principal),
                client_address: plane
                    .trusted_proxies
                    .client_address(&request)
                    .map(|address| address.to_string()),
                request_id: ids.as_ref().map(|ids| ids.request_id.to_string()),
                client_request_id: ids.and_then(|ids| ids.client_request_id),
                now: plane.clock.now(),
                clock: plane.clock.clone(),
            };
            signal.0.notify_one();
            Ok(Self { principal, actor })
        })
    }
}

/// How often something had changed when the caller of a request was authenticated.
#[derive(Clone, Copy)]
pub(super) struct AuthenticatedAt(pub(super) u64);

/// Authenticates the caller of a request again if something has changed since: a key may have been revoked
/// while a body came. What it permits does not change.
pub(super) async fn authenticate_again(request: &HttpRequest) -> Result<(), ApiError> {
    let before = request.extensions().get::<AuthenticatedAt>().copied();
    let plane = request.app_data::<web::Data<Management>>();
    let (Some(AuthenticatedAt(before)), Some(plane)) = (before, plane) else { return Ok(()) };
    if plane.directory.changes() != before {
        authenticate(request.headers(), &plane.directory, &plane.clock).await?;
    }
    Ok(())
}

impl<P: RequiredPermission, S: OperationScope> FromRequest for Permitted<P, S> {
    type Error = ApiError;
    type Future = Extraction<Self>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let caller = Authenticated::from_request(request, payload);
        let request = request.clone();
        Box::pin(async move {
            let Authenticated { principal, actor } = caller.await?;
            if !principal.may(P::PERMISSION) {
                return Err(ApiError::MissingPermission(P::PERMISSION));
            }
            let scope = S::of(principal.scope, &request, P::PERMISSION)?;
            Ok(Self { scope, principal, actor, permission: PhantomData })
        })
    }
}

/// What an operation may read and write.
pub(super) trait OperationScope: Sized + 'static {
    /// For a request of a caller who has the permission in the scope `own`.
    fn of(own: Scope, request: &HttpRequest, permission: Permission) -> Result<Self, ApiError>;
}

impl OperationScope for Scope {
    fn of(own: Scope, _: &HttpRequest, _: Permission) -> Result<Self, ApiError> {
        Ok(own)
    }
}

impl OperationScope for OrganizationId {
    fn of(own: Scope, _: &HttpRequest, permission: Permission) -> Result<Self, ApiError> {
        match own {
            Scope::Organization(organization_id) => Ok(organization_id),
            Scope::Platform | Scope::Workspace(_) => Err(ApiError::Forbidden {
                code: "organization_key_needed",
                detail: format!(
                    "This operation is for keys of an organization; use one with the permission {permission}."
                ),
            }),
        }
    }
}

impl OperationScope for WorkspaceScope {
    fn of(own: Scope, request: &HttpRequest, _: Permission) -> Result<Self, ApiError> {
        let workspace_id = request.match_info().get("workspace_id").and_then(|id| id.parse().ok());
        match (own, workspace_id) {
            (Scope::Organization(organization_id), Some(workspace_id)) => {
                Ok(Self { organization_id, workspace_id })
            }
            (Scope::Workspace(own), Some(id)) if own.workspace_id == id => Ok(own),
            _ => Err(ApiError::NotFound("workspace")),
        }
    }
}

impl OperationScope for Owner {
    fn of(own: Scope, request: &HttpRequest, permission: Permission) -> Result<Self, ApiError> {
        match request.match_info().get("workspace_id") {
            Some(_) => WorkspaceScope::of(own, request, permission).map(Self::Workspace),
            None => OrganizationId::of(own, request, permission).map(Self::Organization),
        }
    }
}
