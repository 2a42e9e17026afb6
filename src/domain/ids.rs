//! Identifiers: UUIDs of version 7 (RFC 9562), so that ids sort by creation, one type for each kind
//! of thing so that one is never taken for another.

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

            /// The lowest id that can have been made in the millisecond of this instant, and so a
            /// bound between earlier and later ids. Instants before 1970 count as its beginning.
            pub fn first_at(at: DateTime<Utc>) -> Self {
                const MOST_MILLIS: u128 = (1 << 48) - 1;
                let millis = u128::try_from(at.timestamp_millis()).unwrap_or(0).min(MOST_MILLIS);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    #[test]
    fn the_first_id_of_a_millisecond_parts_earlier_from_later_ones() {
        let at: DateTime<Utc> = "2026-11-23T08:00:00.001Z".parse().unwrap();
        let first = AttemptId::first_at(at);
        assert_eq!(first.to_string(), "019aaf9d-2801-7000-8000-000000000000");
        assert_eq!(first.uuid().get_version_num(), 7);
        assert!(AttemptId::first_at(at - chrono::TimeDelta::microseconds(1)) < first);
        assert_eq!(AttemptId::first_at(at + chrono::TimeDelta::microseconds(999)), first);

        let clock = Clock::default();
        let before = clock.now();
        let made: AttemptId = clock.new_id();
        let after = clock.now() + chrono::TimeDelta::milliseconds(1);
        assert!(AttemptId::first_at(before) <= made && made < AttemptId::first_at(after));
        assert!(AttemptId::first_at(before).to_string() <= made.to_string());
    }
}
