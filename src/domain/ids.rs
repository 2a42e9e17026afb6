//! Identifiers: UUIDs of version 7 (RFC 9562), so that ids sort by creation, one type for each kind
//! of thing so that one is never taken for another.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! id {
    ($($(#[$doc:meta])* $name:ident;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
        #[serde(transparent)]
        #[schema(value_type = String, format = Uuid)]
        pub struct $name(Uuid);

        impl $name {
            /// The id as a UUID.
            pub fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl From<Uuid> for $name {
            fn from(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.as_hyphenated().fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    )+};
}

id! {
    /// An organization: the tenant and the billing boundary.
    OrganizationId;
    /// A workspace: a team inside an organization.
    WorkspaceId;
    /// A person in an organization.
    UserId;
    /// An API key. Rotation keeps the id and changes the credential.
    ApiKeyId;
    /// A provider secret.
    SecretId;
    /// A model configuration.
    ConfigurationId;
    /// A data key, which seals the secrets of one workspace.
    DataKeyId;
    /// An entry of the audit log.
    AuditEventId;
    /// A gateway policy.
    PolicyId;
    /// A price that an organization set for a model.
    ModelPriceId;
    /// One request that was sent to an upstream, or one that a policy blocked: a row of the ledger.
    AttemptId;
    /// One request to the gateway, as `x-request-id` tells it.
    RequestId;
}
