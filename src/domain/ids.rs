//! Identifiers: UUIDs of version 7 (RFC 9562), which sort by creation. Each kind of resource has its own
//! type, so that one id cannot be passed for another.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
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

            /// The lowest id of the millisecond of this instant: a bound between earlier and later
            /// ids. Instants before 1970 count as 1970.
            pub fn first_at(at: DateTime<Utc>) -> Self {
                const MAX_MILLIS: u128 = (1 << 48) - 1;
                let millis = u128::try_from(at.timestamp_millis()).unwrap_or(0).min(MAX_MILLIS);
                Self(Uuid::from_u128(millis << 80 | 0x7 << 76 | 0b10 << 62))
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
    /// What an owner sets for a built-in provider.
    ProviderSettingsId;
    /// A data key, which seals the secrets of one owner.
    DataKeyId;
    /// An entry of the audit log.
    AuditEventId;
    /// A gateway policy.
    PolicyId;
    /// A price that an organization set for a model.
    ModelPriceId;
    /// A request that was sent to an upstream, or that a policy blocked: a row of the ledger.
    AttemptId;
    /// One request to the gateway, as in `x-request-id`.
    RequestId;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_id_of_a_millisecond_separates_earlier_from_later_ids() {
        let at: DateTime<Utc> = "2026-11-23T08:00:00.001Z".parse().unwrap();
        let first = AttemptId::first_at(at);
        assert_eq!(first.to_string(), "01a2076b-4401-7000-8000-000000000000");
        assert_eq!(first.uuid().get_version_num(), 7);
        assert!(AttemptId::first_at(at - chrono::TimeDelta::microseconds(1)) < first);
        assert_eq!(AttemptId::first_at(at + chrono::TimeDelta::microseconds(999)), first);

        let context = uuid::timestamp::context::NoContext;
        let seconds = u64::try_from(at.timestamp()).unwrap();
        for _ in 0..100 {
            let uuid = Uuid::new_v7(uuid::Timestamp::from_unix(context, seconds, 1_000_000));
            let id = AttemptId::from(uuid);
            assert!(first <= id && first.to_string() <= id.to_string());
            assert!(id < AttemptId::first_at(at + chrono::TimeDelta::milliseconds(1)));
        }
    }
}
