//! The entries of built-in providers.

use std::collections::BTreeMap;

use actix_web::http::header::HeaderName;
use quick_cache::sync::Cache;
use smallvec::SmallVec;

use super::{
    Address, ProviderLevel, REMEMBERED_MODELS, SealedSecrets, UpstreamEntry, credential,
    find_provider_level, price_list,
};
use crate::db::{Conn, DbError};
use crate::domain::connection::Connection;
use crate::domain::ids::SecretId;
use crate::domain::model_configuration::{HeaderTemplate, StreamUsage, Timeouts};
use crate::domain::names::SecretName;
use crate::domain::provider::UpstreamId;
use crate::domain::scope::{Owner, WorkspaceScope};
use crate::providers::built_in::{BuiltInProvider, ProviderAddress};
use crate::providers::cloud::{
    AZURE_CLIENT, AZURE_RESOURCE, AZURE_TENANT, CloudOrigins, CredentialSet, credential_sets,
};

/// How a workspace calls a cloud provider.
#[derive(Debug)]
pub struct CloudAccess {
    pub connection: Connection,
    pub origins: CloudOrigins,
    /// The first credential whose secrets are all there, or else the one of which most are.
    pub credential: &'static CredentialSet,
    /// The names of secrets that have another than the usual one, by the usual one.
    names: BTreeMap<String, SecretName>,
    missing: Option<&'static str>,
}

impl CloudAccess {
    /// The first secret that the credential needs and that is not there.
    pub(super) fn missing_secret(&self) -> Option<&str> {
        self.missing.map(|usual| self.stored_name(usual))
    }

    /// The name that the secret with this usual name is stored under.
    pub fn stored_name<'n>(&'n self, usual: &'n str) -> &'n str {
        self.names.get(usual).map_or(usual, SecretName::as_str)
    }

    /// The secret that the provider refuses if it refuses the credential.
    pub(super) fn secret_name(&self) -> Option<&str> {
        self.credential.required.first().map(|usual| self.stored_name(usual))
    }

    fn choose(
        sets: &'static [CredentialSet],
        (origins, connection): (&CloudOrigins, Connection),
        names: BTreeMap<String, SecretName>,
        is_there: impl Fn(&str) -> bool,
    ) -> Option<Self> {
        let has = |usual: &str| is_there(names.get(usual).map_or(usual, SecretName::as_str));
        let is_missing =
            |name: &&&'static str| !is_set_in_connection(&connection, name) && !has(name);
        let missing = |set: &CredentialSet| set.required.iter().find(is_missing).copied();
        let found = |set: &&CredentialSet| set.required.iter().filter(|name| has(name)).count();
        let complete = sets.iter().find(|set| missing(set).is_none());
        // The first of two with as many secrets.
        let credential = complete.or_else(|| sets.iter().rev().max_by_key(found))?;
        let missing = missing(credential);
        Some(Self { origins: origins.clone(), credential, names, missing, connection })
    }
}

/// Whether the connection has what the secret of this name would say.
fn is_set_in_connection(connection: &Connection, name: &str) -> bool {
    match name {
        AZURE_RESOURCE => connection.resource.is_some(),
        AZURE_TENANT => connection.tenant_id.is_some(),
        AZURE_CLIENT => connection.client_id.is_some(),
        _ => false,
    }
}

impl UpstreamEntry {
    /// The secrets of these names that are there, each with its version.
    pub fn secret_versions(&self, names: &[&str]) -> SmallVec<[(SecretId, i64); 1]> {
        let rows = self.secrets.rows.iter().filter(|row| names.contains(&row.name.as_str()));
        rows.map(|row| (row.id, row.version)).collect()
    }

    /// The ids and versions of all secrets that the upstream can be called with.
    pub fn all_secret_versions(&self) -> Vec<(SecretId, i64)> {
        self.secrets.rows.iter().map(|row| (row.id, row.version)).collect()
    }

    /// Whether the secret of this name is there.
    pub fn has_secret(&self, name: &str) -> bool {
        self.secrets.rows.iter().any(|row| row.name.as_str() == name)
    }
}

/// Loads what a workspace has for a built-in provider, from one snapshot.
pub(in crate::directory) async fn load_provider(
    conn: &mut Conn,
    scope: WorkspaceScope,
    built_in: &BuiltInProvider,
) -> Result<UpstreamEntry, DbError> {
    let provider = built_in.provider;
    let internal = |error: &dyn std::fmt::Display| {
        DbError::Internal(format!("provider {}: {error}", provider.as_str()))
    };
    let level = find_provider_level(conn, scope, built_in).await?;
    let ProviderLevel { settings, secrets: rows, .. } = level;
    let (address, mut headers) = match &built_in.address {
        ProviderAddress::Fixed(base_url) => {
            let key = credential(&provider.default_placement(), level.secret_name.as_str());
            (Address::Fixed(base_url.clone()), vec![key.map_err(|error| internal(&error))?])
        }
        ProviderAddress::Cloud(origins) => {
            let has = |name: &str| rows.iter().any(|row| row.name.as_str() == name);
            let sets = credential_sets(provider);
            let (connection, names) = (settings.connection, settings.secret_names);
            let access = CloudAccess::choose(sets, (origins, connection), names, has)
                .ok_or_else(|| internal(&"it has no credential"))?;
            (Address::Cloud(Box::new(access)), Vec::new())
        }
    };
    for (name, value) in &settings.extra_headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| internal(&error))?;
        let value = HeaderTemplate::parse(value).map_err(|error| internal(&error))?;
        headers.push((name, value));
    }
    Ok(UpstreamEntry {
        id: UpstreamId::Provider(provider),
        name: provider.as_str().into(),
        scope,
        enabled: level.is_enabled,
        address,
        model: None,
        forward_headers: Vec::new(),
        default_parameters: Vec::new(),
        stream_usage: StreamUsage::Inject,
        strict_conversion: false,
        timeouts: Timeouts::default(),
        max_concurrent_requests: None,
        provider_name: built_in.provider_name.clone(),
        provider,
        organization_prices: price_list(conn, scope.organization_id, &built_in.provider_name)
            .await?,
        own_price: None,
        model_names: level.models,
        chosen_models: Cache::new(REMEMBERED_MODELS),
        headers,
        token_source: None,
        fallback_key: None,
        secrets: SealedSecrets::load(conn, scope.organization_id, rows).await?,
        is_inherited: matches!(level.owner, Owner::Organization(_)),
        unmetered_endpoints: level.unmetered_endpoints,
        subscription_pass_through: level.subscription_pass_through,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::provider::Provider;
    use crate::providers::cloud::CredentialKind;

    fn choose(
        provider: Provider,
        connection: Connection,
        there: &[&str],
    ) -> (CredentialKind, Option<&'static str>) {
        let sets = credential_sets(provider);
        let origins = CloudOrigins::default();
        let has = |name: &str| there.contains(&name);
        let access = CloudAccess::choose(sets, (&origins, connection), BTreeMap::new(), has);
        let access = access.unwrap();
        (access.credential.kind, access.missing)
    }

    #[test]
    fn the_first_complete_credential_counts() {
        use CredentialKind::{AwsKey, EntraClient, Key};
        let none = Connection::default;
        let (id, secret) = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY");
        let bearer = "AWS_BEARER_TOKEN_BEDROCK";
        let bedrock = |there: &[&str]| choose(Provider::Bedrock, none(), there);
        assert_eq!(bedrock(&[]), (Key, Some(bearer)));
        assert_eq!(bedrock(&[id, secret, bearer]), (Key, None));
        assert_eq!(bedrock(&[id, secret]), (AwsKey, None));
        assert_eq!(bedrock(&[id]), (AwsKey, Some(secret)));
        let azure = |there: &[&str]| choose(Provider::Azure, none(), there);
        let key = "AZURE_FOUNDRY_API_KEY";
        let entra = ["AZURE_CLIENT_SECRET", AZURE_TENANT, AZURE_CLIENT];
        assert_eq!(azure(&[key]), (Key, Some(AZURE_RESOURCE)));
        assert_eq!(azure(&[key, AZURE_RESOURCE]), (Key, None));
        assert_eq!(azure(&entra), (EntraClient, Some(AZURE_RESOURCE)));
        let settings = Connection {
            resource: Some("r".to_owned()),
            tenant_id: Some("t".to_owned()),
            client_id: Some("c".to_owned()),
            ..none()
        };
        let set = choose(Provider::Azure, settings, &["AZURE_CLIENT_SECRET"]);
        assert_eq!(set, (EntraClient, None));
    }
}
