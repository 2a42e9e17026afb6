-- The tokens of a ledger row become one JSON object by kind, without what was not reported, so that
-- a new kind needs no column. The table is copied once, instead of once for each column.
CREATE TABLE new_ledger (
    id TEXT PRIMARY KEY,
    organization_id TEXT NOT NULL,
    workspace_id TEXT NOT NULL,
    request_id TEXT NOT NULL,
    attempt BIGINT NOT NULL,
    api_key_id TEXT NOT NULL,
    user_id TEXT,
    configuration_id TEXT NOT NULL,
    configuration TEXT NOT NULL,
    route TEXT NOT NULL,
    model_asked TEXT,
    model TEXT NOT NULL,
    model_used TEXT,
    status INTEGER,
    outcome TEXT NOT NULL,
    code TEXT,
    tokens TEXT NOT NULL,
    usage_source TEXT NOT NULL,
    cost BIGINT,
    price_version TEXT,
    first_byte_ms BIGINT,
    duration_ms BIGINT,
    policies TEXT NOT NULL,
    metadata TEXT NOT NULL,
    client_request_id TEXT,
    admitted_at TIMESTAMP NOT NULL
);
INSERT INTO new_ledger SELECT
    id, organization_id, workspace_id, request_id, attempt, api_key_id, user_id, configuration_id,
    configuration, route, model_asked, model, model_used, status, outcome, code,
    '{' || substr(
        coalesce(',"input":' || input_tokens, '')
        || coalesce(',"cached_input":' || cached_input_tokens, '')
        || coalesce(',"cache_write":' || cache_write_tokens, '')
        || coalesce(',"output":' || output_tokens, '')
        || coalesce(',"reasoning":' || reasoning_tokens, '')
        || coalesce(',"audio_input":' || audio_input_tokens, '')
        || coalesce(',"audio_output":' || audio_output_tokens, ''),
    2) || '}',
    usage_source, cost, price_version, first_byte_ms, duration_ms, policies, metadata,
    client_request_id, admitted_at
FROM ledger;
DROP TABLE ledger;
ALTER TABLE new_ledger RENAME TO ledger;
-- Without the tenant, since each of these ids is one tenant's. Rows are found by time through their ids,
-- which begin with it.
CREATE INDEX ledger_workspace ON ledger (workspace_id, id);
CREATE INDEX ledger_key ON ledger (api_key_id, id);
CREATE INDEX ledger_errors ON ledger (workspace_id, id) WHERE status >= 400;
CREATE INDEX ledger_request ON ledger (request_id);

-- The ledger summed up by the hour and by the day of admission (UTC): all of it under the empty
-- metadata key, and once more for each key of the callers' X-Gateway metadata and its value. The empty
-- value stands for the values beyond those that have sums of their own, the key * for rows that have a
-- key beyond those. The empty user stands for none, since a key's columns can't be null. A day's
-- row is the sum of the rows that its hours have of the same, so a day may have up to 24 times the rows
-- of an hour. Kept in the order of the key, which makes it half as large and faster to read.
CREATE TABLE usage_rollups (
    organization_id TEXT NOT NULL,
    period TEXT NOT NULL,
    metadata_key TEXT NOT NULL,
    starts_at TIMESTAMP NOT NULL,
    metadata_value TEXT NOT NULL,
    workspace_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    api_key_id TEXT NOT NULL,
    configuration_id TEXT NOT NULL,
    model TEXT NOT NULL,
    requests BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    errors BIGINT NOT NULL,
    blocks BIGINT NOT NULL,
    input_tokens BIGINT NOT NULL,
    cached_input_tokens BIGINT NOT NULL,
    cache_write_tokens BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL,
    reasoning_tokens BIGINT NOT NULL,
    audio_input_tokens BIGINT NOT NULL,
    audio_output_tokens BIGINT NOT NULL,
    cost BIGINT NOT NULL,
    unknown_costs BIGINT NOT NULL,
    PRIMARY KEY (organization_id, period, metadata_key, starts_at, metadata_value, workspace_id, user_id, api_key_id, configuration_id, model)
) WITHOUT ROWID;
INSERT INTO usage_rollups SELECT
    organization_id, 'hour', '', hour, '', workspace_id, user_id, api_key_id, configuration_id,
    model, requests, attempts, errors, blocks, input_tokens, cached_input_tokens,
    cache_write_tokens, output_tokens, reasoning_tokens, audio_input_tokens, audio_output_tokens,
    cost, unknown_costs
FROM usage_hours;
DROP TABLE usage_hours;
INSERT INTO usage_rollups SELECT
    organization_id, 'hour', CASE metadata_key WHEN '' THEN '*' ELSE metadata_key END, hour,
    metadata_value, workspace_id, user_id, api_key_id, configuration_id, model, requests, attempts,
    errors, blocks, input_tokens, cached_input_tokens, cache_write_tokens, output_tokens,
    reasoning_tokens, audio_input_tokens, audio_output_tokens, cost, unknown_costs
FROM usage_hours_by_metadata;
DROP TABLE usage_hours_by_metadata;
INSERT INTO usage_rollups SELECT
    organization_id, 'day', '', day, '', workspace_id, user_id, api_key_id, configuration_id, model,
    requests, attempts, errors, blocks, input_tokens, cached_input_tokens, cache_write_tokens,
    output_tokens, reasoning_tokens, audio_input_tokens, audio_output_tokens, cost, unknown_costs
FROM usage_days;
DROP TABLE usage_days;
INSERT INTO usage_rollups SELECT
    organization_id, 'day', CASE metadata_key WHEN '' THEN '*' ELSE metadata_key END, day,
    metadata_value, workspace_id, user_id, api_key_id, configuration_id, model, requests, attempts,
    errors, blocks, input_tokens, cached_input_tokens, cache_write_tokens, output_tokens,
    reasoning_tokens, audio_input_tokens, audio_output_tokens, cost, unknown_costs
FROM usage_days_by_metadata;
DROP TABLE usage_days_by_metadata;
-- What a key or a user has spent since the beginning of a window, and what was spent with a value.
CREATE INDEX usage_rollups_key
    ON usage_rollups (organization_id, api_key_id, period, starts_at) WHERE metadata_key = '';
CREATE INDEX usage_rollups_user
    ON usage_rollups (organization_id, user_id, period, starts_at) WHERE metadata_key = '';
CREATE INDEX usage_rollups_value
    ON usage_rollups (organization_id, metadata_key, metadata_value, period, starts_at)
    WHERE metadata_key <> '';

-- The keys that have sums of their own in an hour, and about how many values of each.
ALTER TABLE usage_hours_keys RENAME TO usage_metadata_keys;
ALTER TABLE usage_metadata_keys RENAME COLUMN told_values TO value_count;
