-- Who may spend what, how fast, and on which models. `family` and `matchers_key` (a digest of the
-- matchers in normal form) tell policies for the same subject apart. A child of a default policy
-- has a parent; edited by hand it is detached and keeps its own configuration. `epochs` is an object:
-- which counter each limit goes by.
CREATE TABLE gateway_policies (
    id TEXT PRIMARY KEY,
    organization_id TEXT NOT NULL REFERENCES organizations (id),
    name TEXT NOT NULL,
    description TEXT,
    policy_type TEXT NOT NULL,
    family TEXT NOT NULL,
    subject_matchers JSON NOT NULL,
    matchers_key TEXT NOT NULL,
    config JSON NOT NULL,
    action TEXT NOT NULL,
    enabled BOOLEAN NOT NULL,
    priority BIGINT NOT NULL,
    created_by TEXT,
    is_system_generated BOOLEAN NOT NULL,
    parent_policy_id TEXT,
    detached BOOLEAN NOT NULL,
    epochs JSON NOT NULL,
    created_at TIMESTAMP NOT NULL,
    updated_at TIMESTAMP NOT NULL,
    deleted_at TIMESTAMP
);
CREATE UNIQUE INDEX gateway_policies_live_subject
    ON gateway_policies (organization_id, family, matchers_key) WHERE deleted_at IS NULL;
CREATE INDEX gateway_policies_parent ON gateway_policies (organization_id, parent_policy_id);

-- Prices that an organization set over the catalogue. `price` is an object; `version` counts its
-- changes.
CREATE TABLE model_prices (
    id TEXT PRIMARY KEY,
    organization_id TEXT NOT NULL REFERENCES organizations (id),
    provider TEXT NOT NULL,
    model TEXT NOT NULL,
    price JSON NOT NULL,
    version BIGINT NOT NULL,
    created_at TIMESTAMP NOT NULL,
    updated_at TIMESTAMP NOT NULL,
    deleted_at TIMESTAMP
);
CREATE UNIQUE INDEX model_prices_live_model
    ON model_prices (organization_id, provider, model) WHERE deleted_at IS NULL;

ALTER TABLE model_configurations ADD COLUMN price JSON;
ALTER TABLE model_configurations ADD COLUMN context_window BIGINT;
ALTER TABLE model_configurations ADD COLUMN max_output_tokens BIGINT;

-- One row an attempt, one for each blocked request; written once, never changed. Ids without
-- foreign keys: the ledger outlives what it speaks of. Money is in nano-dollars (1e-9 USD).
CREATE TABLE ledger (
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
CREATE INDEX ledger_workspace ON ledger (organization_id, workspace_id, id);
CREATE INDEX ledger_key ON ledger (organization_id, workspace_id, api_key_id, id);
CREATE INDEX ledger_errors ON ledger (organization_id, workspace_id, id) WHERE status >= 400;
CREATE INDEX ledger_request ON ledger (organization_id, workspace_id, request_id, id);
CREATE INDEX ledger_admitted ON ledger (admitted_at);

-- Rows admitted before this instant may have been deleted. One row, once any was.
CREATE TABLE ledger_retention (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    deleted_before TIMESTAMP NOT NULL
);

-- The ledger summed up per hour of admission. No user is the empty text, since a key's columns
-- can't be null.
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
-- What a key or a user has spent since the beginning of a window.
CREATE INDEX usage_hours_key ON usage_hours (organization_id, api_key_id, hour);
CREATE INDEX usage_hours_user ON usage_hours (organization_id, user_id, hour);

-- The same once more for each key of the callers' X-Gateway metadata and its value. The empty value
-- stands for values beyond those that are told apart, the empty key for rows that have a key beyond
-- those that are.
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
CREATE INDEX usage_hours_by_metadata_value
    ON usage_hours_by_metadata (organization_id, metadata_key, metadata_value, hour);

-- Both once more by the day (UTC), with the keys and values that its hours tell apart: a day's row is
-- the sum of the rows that its hours have of the same. A day may so have up to 24 times the rows of
-- an hour.
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
CREATE INDEX usage_days_by_metadata_value
    ON usage_days_by_metadata (organization_id, metadata_key, metadata_value, day);

-- The keys that an hour tells apart, and about how many values of each.
CREATE TABLE usage_hours_keys (
    organization_id TEXT NOT NULL,
    hour TIMESTAMP NOT NULL,
    metadata_key TEXT NOT NULL,
    told_values BIGINT NOT NULL,
    PRIMARY KEY (organization_id, hour, metadata_key)
);
