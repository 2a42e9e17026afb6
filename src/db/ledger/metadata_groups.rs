//! Which keys of the callers' metadata, and which of their values, have sums of their own.
//!
//! Callers choose both, so both are bounded: the first ones of an hour have their own sums until it
//! ends, the rest is summed together. `usage_metadata_keys` counts how many there are already.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use chrono::NaiveDateTime;
use diesel::QueryableByName;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use diesel::upsert::excluded;
use diesel_async::RunQueryDsl;

use super::super::schema::usage_metadata_keys;
use super::super::sql::Sql;
use super::super::{Conn, DbError};
use super::NewLedgerRow;
use crate::domain::ids::OrganizationId;

/// Keys with their own sums for each organization and hour; rows with further ones are summed under
/// [`OTHER_KEYS`](super::super::usage::OTHER_KEYS). Replicas that write at the same instant may each add
/// as many.
pub(super) const MAX_KEYS: usize = 64;

/// Values with their own sums for each of them; further ones are summed under the empty text, which is no
/// value.
pub(super) const MAX_VALUES: usize = 10_000;

/// Hours, or values, that one statement asks for. SQLite takes 32,766 bound values.
const MAX_QUERIED: usize = 2_000;

/// An hour of an organization.
type Hour = (OrganizationId, NaiveDateTime);

/// Where an entry of a row's metadata is summed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MetadataGroup {
    /// By its key and value.
    Value,
    /// By its key, with other values.
    OtherValues,
    /// With other keys.
    OtherKeys,
}

/// The groups that some rows' metadata belong to.
pub(super) struct MetadataGroups<'r> {
    /// The keys with their own sums, and how many values of each are new.
    keys: BTreeMap<(Hour, &'r str), usize>,
    /// Values beyond the bound.
    others: HashSet<(Hour, &'r str, &'r str)>,
}

/// Values of a key that have their own sums from now on.
#[derive(Clone, Debug, Insertable)]
#[diesel(table_name = usage_metadata_keys)]
struct NewKey {
    organization_id: OrganizationId,
    hour: NaiveDateTime,
    metadata_key: String,
    value_count: i64,
}

#[derive(QueryableByName)]
struct Key {
    /// Which of the hours asked for.
    #[diesel(sql_type = BigInt)]
    number: i64,
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = BigInt)]
    value_count: i64,
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    number: i64,
}

impl<'r> MetadataGroups<'r> {
    /// Reads what the hours have already, in a number of statements that does not depend on the keys.
    pub(super) async fn for_rows(
        conn: &mut Conn,
        rows: &'r [NewLedgerRow],
    ) -> Result<Self, DbError> {
        let mut asked: BTreeMap<Hour, BTreeMap<&str, BTreeSet<&str>>> = BTreeMap::new();
        for new in rows.iter().filter(|new| !new.metadata.is_empty()) {
            let keys = asked.entry((new.row.organization_id, new.row.hour())).or_default();
            for (key, value) in &new.metadata {
                keys.entry(key).or_default().insert(value);
            }
        }
        let known = list_keys(conn, asked.keys().copied().collect()).await?;
        let (mut keys, mut values) = (BTreeMap::new(), Vec::new());
        for (hour, wanted) in asked {
            let known = known.get(&hour);
            let mut room = MAX_KEYS.saturating_sub(known.map_or(0, BTreeMap::len));
            for (key, wanted) in wanted {
                let value_count = known.and_then(|known| known.get(key)).copied();
                if value_count.is_none() {
                    let Some(less) = room.checked_sub(1) else { continue };
                    room = less;
                }
                keys.insert((hour, key), 0);
                values.push((hour, key, wanted, value_count.unwrap_or(0)));
            }
        }
        let entries = values.iter().filter(|(.., value_count)| *value_count > 0);
        let entries = entries
            .flat_map(|(hour, key, values, _)| values.iter().map(|value| (*hour, *key, *value)));
        let there = find_values(conn, entries.collect()).await?;
        let mut groups = Self { keys, others: HashSet::new() };
        for (hour, key, values, value_count) in values {
            let new = values.into_iter().filter(|value| !there.contains(&(hour, key, *value)));
            let room = MAX_VALUES.saturating_sub(value_count);
            for (at, value) in new.enumerate() {
                if at >= room {
                    groups.others.insert((hour, key, value));
                } else if let Some(count) = groups.keys.get_mut(&(hour, key)) {
                    *count += 1;
                }
            }
        }
        Ok(groups)
    }

    /// Where an entry of a row's metadata is summed.
    pub(super) fn group(&self, hour: Hour, key: &'r str, value: &'r str) -> MetadataGroup {
        if !self.keys.contains_key(&(hour, key)) {
            MetadataGroup::OtherKeys
        } else if self.others.contains(&(hour, key, value)) {
            MetadataGroup::OtherValues
        } else {
            MetadataGroup::Value
        }
    }

    /// Keeps what is new.
    pub(super) async fn write(self, conn: &mut Conn) -> Result<(), DbError> {
        macro_rules! added {
            ($keys:expr) => {
                diesel::insert_into(table::table)
                    .values($keys)
                    .on_conflict((table::organization_id, table::hour, table::metadata_key))
                    .do_update()
                    .set(table::value_count.eq(table::value_count + excluded(table::value_count)))
            };
        }
        use usage_metadata_keys as table;

        // A value that two replicas write at the same instant counts twice: the bound is met a
        // little earlier.
        let keys = self.keys.into_iter().filter(|(_, new)| *new > 0);
        let keys: Vec<NewKey> = keys
            .map(|(((organization_id, hour), key), new)| NewKey {
                organization_id,
                hour,
                metadata_key: key.to_owned(),
                value_count: i64::try_from(new).unwrap_or(i64::MAX),
            })
            .collect();
        match conn {
            Conn::Sqlite(object) => {
                object
                    .spawn_blocking(move |conn| {
                        for key in keys {
                            diesel::RunQueryDsl::execute(added!(key), conn)?;
                        }
                        Ok(())
                    })
                    .await?;
            }
            Conn::Postgres(object) => {
                for some in keys.chunks(MAX_QUERIED) {
                    added!(some.to_vec()).execute(&mut **object).await?;
                }
            }
        }
        Ok(())
    }
}

/// The keys that have their own sums in the hours, and how many values of each.
async fn list_keys(
    conn: &mut Conn,
    hours: Vec<Hour>,
) -> Result<BTreeMap<Hour, BTreeMap<String, usize>>, DbError> {
    let mut known: BTreeMap<Hour, BTreeMap<String, usize>> = BTreeMap::new();
    for some in hours.chunks(MAX_QUERIED) {
        let mut sql = Sql::of(conn);
        sql.push(
            "SELECT CAST(asked.column1 AS bigint) AS number, metadata_key AS name, value_count",
        );
        sql.push(" FROM (VALUES ");
        for (number, (organization_id, hour)) in some.iter().enumerate() {
            sql.push(if number == 0 { "(" } else { ", (" }).push(&number.to_string());
            sql.push(", ").text(organization_id.to_string()).push(", ").time(*hour).push(")");
        }
        // In this order: SQLite would go through the whole table otherwise.
        sql.push(") AS asked CROSS JOIN usage_metadata_keys WHERE organization_id = asked.column2");
        sql.push(" AND hour = asked.column3");
        for row in sql.load::<Key>(conn).await? {
            let hour = usize::try_from(row.number).ok().and_then(|number| some.get(number));
            if let Some(hour) = hour {
                let value_count = usize::try_from(row.value_count).unwrap_or(0);
                known.entry(*hour).or_default().insert(row.name, value_count);
            }
        }
    }
    Ok(known)
}

/// Those of the values that have their own sums already.
async fn find_values<'r>(
    conn: &mut Conn,
    entries: Vec<(Hour, &'r str, &'r str)>,
) -> Result<HashSet<(Hour, &'r str, &'r str)>, DbError> {
    let mut there = HashSet::new();
    for some in entries.chunks(MAX_QUERIED) {
        let mut sql = Sql::of(conn);
        sql.push("SELECT CAST(asked.column1 AS bigint) AS number FROM (VALUES ");
        for (number, ((organization_id, hour), key, value)) in some.iter().enumerate() {
            sql.push(if number == 0 { "(" } else { ", (" }).push(&number.to_string());
            sql.push(", ").text(organization_id.to_string()).push(", ").time(*hour);
            sql.push(", ").text(*key).push(", ").text(*value).push(")");
        }
        sql.push(") AS asked WHERE EXISTS (SELECT 1 FROM usage_rollups");
        sql.push(" WHERE organization_id = asked.column2 AND period = 'hour'");
        sql.push(" AND starts_at = asked.column3");
        sql.push(" AND metadata_key = asked.column4 AND metadata_value = asked.column5)");
        for row in sql.load::<Number>(conn).await? {
            let entry = usize::try_from(row.number).ok().and_then(|number| some.get(number));
            there.extend(entry);
        }
    }
    Ok(there)
}
