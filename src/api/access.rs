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

impl<C: Caller> Arguments for (C,) {
    type Caller = C;
}

impl<C: Caller, A1> Arguments for (C, A1) {
    type Caller = C;
}

impl<C: Caller, A1, A2> Arguments for (C, A1, A2) {
    type Caller = C;
}

impl<C: Caller, A1, A2, A3> Arguments for (C, A1, A2, A3) {
    type Caller = C;
}

impl<C: Caller, A1, A2, A3, A4> Arguments for (C, A1, A2, A3, A4) {
    type Caller = C;
}

impl<C: Caller, A1, A2, A3, A4, A5> Arguments for (C, A1, A2, A3, A4, A5) {
    type Caller = C;
}

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

/// A caller with the permission `P`, in the scope of their key.
#[derive(Debug)]
pub(super) struct Permitted<P> {
    pub(super) principal: Principal,
    pub(super) actor: Actor,
    permission: PhantomData<P>,
}

/// A caller whose key belongs to an organization as a whole and has the permission `P`.
#[derive(Debug)]
pub(super) struct InOrganization<P> {
    pub(super) organization_id: OrganizationId,
    pub(super) principal: Principal,
    pub(super) actor: Actor,
    permission: PhantomData<P>,
}

/// A caller with the permission `P` in the workspace that the path's `workspace_id` names. Queries
/// have to find out whether that workspace exists: the scope binds them to the caller's organization.
#[derive(Debug)]
pub(super) struct InWorkspace<P> {
    pub(super) scope: WorkspaceScope,
    pub(super) principal: Principal,
    pub(super) actor: Actor,
    permission: PhantomData<P>,
}

/// A caller with the permission `P` for what belongs to the workspace that the path names, or to their
/// organization as a whole if it names none.
#[derive(Debug)]
pub(super) struct ForOwner<P> {
    pub(super) owner: Owner,
    pub(super) principal: Principal,
    pub(super) actor: Actor,
    permission: PhantomData<P>,
}

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

impl<P: RequiredPermission> Caller for Permitted<P> {
    fn permission() -> String {
        P::PERMISSION.to_string()
    }
}

impl<P: RequiredPermission> Caller for InOrganization<P> {
    fn permission() -> String {
        P::PERMISSION.to_string()
    }
}

impl<P: RequiredPermission> Caller for InWorkspace<P> {
    fn permission() -> String {
        P::PERMISSION.to_string()
    }
}

impl<P: RequiredPermission> Caller for ForOwner<P> {
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

impl<P: RequiredPermission> FromRequest for Permitted<P> {
    type Error = ApiError;
    type Future = Extraction<Self>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let caller = Authenticated::from_request(request, payload);
        Box::pin(async move {
            let Authenticated { principal, actor } = caller.await?;
            if !principal.may(P::PERMISSION) {
                return Err(ApiError::MissingPermission(P::PERMISSION));
            }
            Ok(Self { principal, actor, permission: PhantomData })
        })
    }
}

impl<P: RequiredPermission> FromRequest for InOrganization<P> {
    type Error = ApiError;
    type Future = Extraction<Self>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let caller = Permitted::<P>::from_request(request, payload);
        Box::pin(async move {
            let Permitted { principal, actor, permission } = caller.await?;
            match principal.scope {
                Scope::Organization(organization_id) => {
                    Ok(Self { organization_id, principal, actor, permission })
                }
                Scope::Platform | Scope::Workspace(_) => Err(ApiError::Forbidden {
                    code: "organization_key_needed",
                    detail: format!(
                        "This operation is for keys of an organization; use one with the permission {}.",
                        P::PERMISSION
                    ),
                }),
            }
        })
    }
}

impl<P: RequiredPermission> FromRequest for InWorkspace<P> {
    type Error = ApiError;
    type Future = Extraction<Self>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let workspace_id = request.match_info().get("workspace_id").and_then(|id| id.parse().ok());
        let caller = Permitted::<P>::from_request(request, payload);
        Box::pin(async move {
            let Permitted { principal, actor, permission } = caller.await?;
            let workspace_id = workspace_id.ok_or(ApiError::NotFound("workspace"))?;
            let scope = match principal.scope {
                Scope::Organization(organization_id) => {
                    WorkspaceScope { organization_id, workspace_id }
                }
                Scope::Workspace(own) if own.workspace_id == workspace_id => own,
                Scope::Workspace(_) | Scope::Platform => {
                    return Err(ApiError::NotFound("workspace"));
                }
            };
            Ok(Self { scope, principal, actor, permission })
        })
    }
}

impl<P: RequiredPermission> FromRequest for ForOwner<P> {
    type Error = ApiError;
    type Future = Extraction<Self>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        if request.match_info().get("workspace_id").is_some() {
            let caller = InWorkspace::<P>::from_request(request, payload);
            return Box::pin(async move {
                let InWorkspace { scope, principal, actor, permission } = caller.await?;
                Ok(Self { owner: scope.into(), principal, actor, permission })
            });
        }
        let caller = InOrganization::<P>::from_request(request, payload);
        Box::pin(async move {
            let InOrganization { organization_id, principal, actor, permission } = caller.await?;
            Ok(Self { owner: Owner::Organization(organization_id), principal, actor, permission })
        })
    }
}
