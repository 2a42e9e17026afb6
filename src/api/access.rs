//! How a handler gets at anything: by one of these arguments, which exists only if the caller was
//! authenticated and holds the permission, and which carries the scope that queries are bound to.

use std::future::Future;
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
use crate::domain::scope::WorkspaceScope;
use crate::telemetry::requests::RequestIds;

/// Names a permission in a type.
pub trait Needs: 'static {
    /// The permission.
    const PERMISSION: Permission;
}

macro_rules! needs {
    ($($name:ident),+ $(,)?) => {$(
        #[doc = concat!("Needs `Permission::", stringify!($name), "`.")]
        #[derive(Debug)]
        pub struct $name;

        impl Needs for $name {
            const PERMISSION: Permission = Permission::$name;
        }
    )+};
}

needs!(
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

/// Anybody with a good key.
#[derive(Debug)]
pub struct Authenticated {
    /// Who it is.
    pub principal: Principal,
    /// The same, as changes are signed.
    pub actor: Actor,
}

/// Somebody with the permission, in whatever scope they have.
#[derive(Debug)]
pub struct Permitted<P> {
    /// Who it is.
    pub principal: Principal,
    /// The same, as changes are signed.
    pub actor: Actor,
    needs: PhantomData<P>,
}

/// Somebody with the permission for the whole of their organization.
#[derive(Debug)]
pub struct InOrganization<P> {
    /// The tenant.
    pub organization_id: OrganizationId,
    /// Who it is.
    pub principal: Principal,
    /// The same, as changes are signed.
    pub actor: Actor,
    needs: PhantomData<P>,
}

/// Somebody with the permission in the workspace that the path's `workspace_id` names. Whether it
/// exists is the query's to find out: the scope binds it to the caller's organization.
#[derive(Debug)]
pub struct InWorkspace<P> {
    /// The workspace, in the caller's organization.
    pub scope: WorkspaceScope,
    /// Who it is.
    pub principal: Principal,
    /// The same, as changes are signed.
    pub actor: Actor,
    needs: PhantomData<P>,
}

/// What else an operation reads of its request waits for this, so that who may not call it learns
/// nothing from a wrong body or query. It opens as soon as the caller is known; whether they have
/// the permission is decided without a further wait, hence still before what comes after.
#[derive(Clone, Default)]
pub(super) struct Gate(Rc<tokio::sync::Notify>);

impl Gate {
    /// The gate of a request whose operation has an argument of this module before the one that
    /// asks; open at once for other operations.
    pub(super) fn of(request: &HttpRequest) -> impl Future<Output = ()> + 'static {
        let gate = request.extensions().get::<Self>().cloned();
        async move {
            if let Some(gate) = gate {
                gate.0.notified().await;
                // For the next who waits.
                gate.0.notify_one();
            }
        }
    }
}

type Extraction<T> = Pin<Box<dyn Future<Output = Result<T, ApiError>>>>;

impl FromRequest for Authenticated {
    type Error = ApiError;
    type Future = Extraction<Self>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        let gate = Gate::default();
        request.extensions_mut().insert(gate.clone());
        Box::pin(async move {
            let Some(plane) = request.app_data::<web::Data<Management>>() else {
                return Err(ApiError::Internal("the management plane has no state".to_owned()));
            };
            // Under `/api/v1` the edge has authenticated the caller already; metrics and readiness
            // stand outside of it.
            let known = request.extensions().get::<Principal>().copied();
            let principal = match known {
                Some(principal) => principal,
                None => authenticate(request.headers(), &plane.directory, &plane.clock).await?,
            };
            let ids = request.extensions().get::<RequestIds>().cloned();
            let actor = Actor {
                principal: Some(principal),
                client_address: plane.trusted_proxies.client_address(&request),
                request_id: ids.as_ref().map(|ids| ids.request_id.to_string()),
                client_request_id: ids.and_then(|ids| ids.client_request_id),
                now: plane.clock.now(),
                clock: plane.clock.clone(),
            };
            gate.0.notify_one();
            Ok(Self { principal, actor })
        })
    }
}

impl<P: Needs> FromRequest for Permitted<P> {
    type Error = ApiError;
    type Future = Extraction<Self>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let caller = Authenticated::from_request(request, payload);
        Box::pin(async move {
            let Authenticated { principal, actor } = caller.await?;
            if !principal.may(P::PERMISSION) {
                return Err(ApiError::MissingPermission(P::PERMISSION));
            }
            Ok(Self { principal, actor, needs: PhantomData })
        })
    }
}

impl<P: Needs> FromRequest for InOrganization<P> {
    type Error = ApiError;
    type Future = Extraction<Self>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let caller = Permitted::<P>::from_request(request, payload);
        Box::pin(async move {
            let Permitted { principal, actor, needs } = caller.await?;
            match principal.scope {
                Scope::Organization(organization_id) => {
                    Ok(Self { organization_id, principal, actor, needs })
                }
                Scope::Platform | Scope::Workspace(_) => Err(ApiError::Forbidden {
                    code: "organization_key_needed",
                    detail: format!(
                        "This concerns a whole organization; use one of its own keys with {}.",
                        P::PERMISSION
                    ),
                }),
            }
        })
    }
}

impl<P: Needs> FromRequest for InWorkspace<P> {
    type Error = ApiError;
    type Future = Extraction<Self>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let workspace_id = request.match_info().get("workspace_id").and_then(|id| id.parse().ok());
        let caller = Permitted::<P>::from_request(request, payload);
        Box::pin(async move {
            let Permitted { principal, actor, needs } = caller.await?;
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
            Ok(Self { scope, principal, actor, needs })
        })
    }
}
