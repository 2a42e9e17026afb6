ALTER TABLE usage_metadata_keys RENAME COLUMN value_count TO told_values;
ALTER TABLE usage_metadata_keys RENAME TO usage_hours_keys;

CREATE TABLE usage_hours (
    organization_id TEXT NOT NULL,
    hour TIMESTAMP NOT NULL,
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
    PRIMARY KEY (organization_id, hour, workspace_id, user_id, api_key_id, configuration_id, model)
);
INSERT INTO usage_hours SELECT
    organization_id, starts_at, workspace_id, user_id, api_key_id, configuration_id, model,
    requests, attempts, errors, blocks, input_tokens, cached_input_tokens, cache_write_tokens,
    output_tokens, reasoning_tokens, audio_input_tokens, audio_output_tokens, cost, unknown_costs
FROM usage_rollups WHERE period = 'hour' AND metadata_key = '';
CREATE INDEX usage_hours_key ON usage_hours (organization_id, api_key_id, hour);
CREATE INDEX usage_hours_user ON usage_hours (organization_id, user_id, hour);

CREATE TABLE usage_hours_by_metadata (
    organization_id TEXT NOT NULL,
    hour TIMESTAMP NOT NULL,
    metadata_key TEXT NOT NULL,
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
    PRIMARY KEY (organization_id, metadata_key, hour, metadata_value, workspace_id, user_id, api_key_id, configuration_id, model)
);
INSERT INTO usage_hours_by_metadata SELECT
    organization_id, starts_at, CASE metadata_key WHEN '*' THEN '' ELSE metadata_key END,
    metadata_value, workspace_id, user_id, api_key_id, configuration_id, model, requests, attempts,
    errors, blocks, input_tokens, cached_input_tokens, cache_write_tokens, output_tokens,
    reasoning_tokens, audio_input_tokens, audio_output_tokens, cost, unknown_costs
FROM usage_rollups WHERE period = 'hour' AND metadata_key <> '';
CREATE INDEX usage_hours_by_metadata_value
    ON usage_hours_by_metadata (organization_id, metadata_key, metadata_value, hour);

CREATE TABLE usage_days (
    organization_id TEXT NOT NULL,
    day TIMESTAMP NOT NULL,
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
    PRIMARY KEY (organization_id, day, workspace_id, user_id, api_key_id, configuration_id, model)
);
INSERT INTO usage_days SELECT
    organization_id, starts_at, workspace_id, user_id, api_key_id, configuration_id, model,
    requests, attempts, errors, blocks, input_tokens, cached_input_tokens, cache_write_tokens,
    output_tokens, reasoning_tokens, audio_input_tokens, audio_output_tokens, cost, unknown_costs
FROM usage_rollups WHERE period = 'day' AND metadata_key = '';
CREATE INDEX usage_days_key ON usage_days (organization_id, api_key_id, day);
CREATE INDEX usage_days_user ON usage_days (organization_id, user_id, day);

CREATE TABLE usage_days_by_metadata (
    organization_id TEXT NOT NULL,
    day TIMESTAMP NOT NULL,
    metadata_key TEXT NOT NULL,
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
    PRIMARY KEY (organization_id, metadata_key, day, metadata_value, workspace_id, user_id, api_key_id, configuration_id, model)
);
INSERT INTO usage_days_by_metadata SELECT
    organization_id, starts_at, CASE metadata_key WHEN '*' THEN '' ELSE metadata_key END,
    metadata_value, workspace_id, user_id, api_key_id, configuration_id, model, requests, attempts,
    errors, blocks, input_tokens, cached_input_tokens, cache_write_tokens, output_tokens,
    reasoning_tokens, audio_input_tokens, audio_output_tokens, cost, unknown_costs
FROM usage_rollups WHERE period = 'day' AND metadata_key <> '';
CREATE INDEX usage_days_by_metadata_value
    ON usage_days_by_metadata (organization_id, metadata_key, metadata_value, day);

DROP TABLE usage_rollups;

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
    input_tokens BIGINT,
    cached_input_tokens BIGINT,
    cache_write_tokens BIGINT,
    output_tokens BIGINT,
    reasoning_tokens BIGINT,
    audio_input_tokens BIGINT,
    audio_output_tokens BIGINT,
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
    (tokens::json ->> 'input')::bigint,
    (tokens::json ->> 'cached_input')::bigint,
    (tokens::json ->> 'cache_write')::bigint,
    (tokens::json ->> 'output')::bigint,
    (tokens::json ->> 'reasoning')::bigint,
    (tokens::json ->> 'audio_input')::bigint,
    (tokens::json ->> 'audio_output')::bigint,
    usage_source, cost, price_version, first_byte_ms, duration_ms, policies, metadata,
    client_request_id, admitted_at
FROM ledger;
DROP TABLE ledger;
ALTER TABLE new_ledger RENAME TO ledger;
ALTER INDEX new_ledger_pkey RENAME TO ledger_pkey;
CREATE INDEX ledger_workspace ON ledger (organization_id, workspace_id, id);
CREATE INDEX ledger_key ON ledger (organization_id, workspace_id, api_key_id, id);
CREATE INDEX ledger_errors ON ledger (organization_id, workspace_id, id) WHERE status >= 400;
CREATE INDEX ledger_request ON ledger (organization_id, workspace_id, request_id, id);
CREATE INDEX ledger_admitted ON ledger (admitted_at);
