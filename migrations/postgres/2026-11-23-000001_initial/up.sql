-- One row. Every write to the tables below updates it first, in its own transaction, so that
-- writes take turns and commit order is sequence order.
CREATE TABLE change_sequence (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    value BIGINT NOT NULL
);
INSERT INTO change_sequence (id, value) VALUES (1, 0);

-- What each step of the sequence touched; rows older than the directories can lag are deleted.
-- Without an organization the change concerns everybody.
CREATE TABLE changes (
    sequence BIGINT PRIMARY KEY,
    organization_id TEXT,
    changed_at TIMESTAMP NOT NULL
);

CREATE TABLE organizations (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('active', 'suspended')),
    created_at TIMESTAMP NOT NULL,
    updated_at TIMESTAMP NOT NULL,
    deleted_at TIMESTAMP
);
CREATE UNIQUE INDEX organizations_live_name ON organizations (name) WHERE deleted_at IS NULL;

CREATE TABLE workspaces (
    id TEXT PRIMARY KEY,
    organization_id TEXT NOT NULL REFERENCES organizations (id),
    name TEXT NOT NULL,
    handle TEXT NOT NULL,
    created_at TIMESTAMP NOT NULL,
    updated_at TIMESTAMP NOT NULL,
    deleted_at TIMESTAMP,
    UNIQUE (organization_id, id)
);
CREATE UNIQUE INDEX workspaces_live_handle ON workspaces (organization_id, handle) WHERE deleted_at IS NULL;

CREATE TABLE users (
    id TEXT PRIMARY KEY,
    organization_id TEXT NOT NULL REFERENCES organizations (id),
    email TEXT NOT NULL,
    name TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('active', 'deactivated')),
    created_at TIMESTAMP NOT NULL,
    updated_at TIMESTAMP NOT NULL,
    deleted_at TIMESTAMP,
    UNIQUE (organization_id, id)
);
CREATE UNIQUE INDEX users_live_email ON users (organization_id, email) WHERE deleted_at IS NULL;

-- A data key seals the secrets of one workspace and is itself wrapped by a master key.
CREATE TABLE data_keys (
    id TEXT PRIMARY KEY,
    organization_id TEXT NOT NULL REFERENCES organizations (id),
    workspace_id TEXT NOT NULL,
    master_key_id TEXT NOT NULL,
    wrapped BYTEA NOT NULL,
    created_at TIMESTAMP NOT NULL,
    updated_at TIMESTAMP NOT NULL,
    FOREIGN KEY (organization_id, workspace_id) REFERENCES workspaces (organization_id, id)
);
CREATE UNIQUE INDEX data_keys_workspace ON data_keys (organization_id, workspace_id);
CREATE INDEX data_keys_master_key ON data_keys (master_key_id);

CREATE TABLE secrets (
    id TEXT PRIMARY KEY,
    organization_id TEXT NOT NULL REFERENCES organizations (id),
    workspace_id TEXT NOT NULL,
    data_key_id TEXT NOT NULL REFERENCES data_keys (id),
    name TEXT NOT NULL,
    description TEXT,
    version BIGINT NOT NULL,
    sealed BYTEA NOT NULL,
    fingerprint TEXT NOT NULL,
    created_at TIMESTAMP NOT NULL,
    updated_at TIMESTAMP NOT NULL,
    UNIQUE (organization_id, workspace_id, name),
    FOREIGN KEY (organization_id, workspace_id) REFERENCES workspaces (organization_id, id)
);
CREATE INDEX secrets_data_key ON secrets (data_key_id);

CREATE TABLE model_configurations (
    id TEXT PRIMARY KEY,
    organization_id TEXT NOT NULL REFERENCES organizations (id),
    workspace_id TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT,
    provider TEXT NOT NULL,
    base_url TEXT NOT NULL,
    model TEXT NOT NULL,
    api_key_name TEXT,
    auth TEXT NOT NULL,
    extra_headers JSON NOT NULL,
    forward_headers JSON NOT NULL,
    default_parameters JSON NOT NULL,
    stream_usage TEXT NOT NULL CHECK (stream_usage IN ('inject', 'leave')),
    timeouts JSON NOT NULL,
    max_concurrent_requests BIGINT,
    enabled BOOLEAN NOT NULL,
    created_at TIMESTAMP NOT NULL,
    updated_at TIMESTAMP NOT NULL,
    deleted_at TIMESTAMP,
    FOREIGN KEY (organization_id, workspace_id) REFERENCES workspaces (organization_id, id)
);
CREATE UNIQUE INDEX model_configurations_live_name
    ON model_configurations (organization_id, workspace_id, name) WHERE deleted_at IS NULL;

-- Which secrets a live configuration uses. The foreign key keeps a used secret from being deleted.
CREATE TABLE model_configuration_secrets (
    organization_id TEXT NOT NULL REFERENCES organizations (id),
    workspace_id TEXT NOT NULL,
    configuration_id TEXT NOT NULL REFERENCES model_configurations (id),
    secret_id TEXT NOT NULL REFERENCES secrets (id),
    PRIMARY KEY (configuration_id, secret_id)
);
CREATE INDEX model_configuration_secrets_owner ON model_configuration_secrets (organization_id, workspace_id);
CREATE INDEX model_configuration_secrets_secret ON model_configuration_secrets (secret_id);

-- Platform keys have no organization, organization keys no workspace.
CREATE TABLE api_keys (
    id TEXT PRIMARY KEY,
    organization_id TEXT REFERENCES organizations (id),
    workspace_id TEXT,
    user_id TEXT,
    name TEXT NOT NULL,
    role TEXT NOT NULL,
    short_key TEXT NOT NULL,
    disabled BOOLEAN NOT NULL,
    expires_at TIMESTAMP,
    created_by TEXT,
    last_used_at TIMESTAMP,
    created_at TIMESTAMP NOT NULL,
    updated_at TIMESTAMP NOT NULL,
    deleted_at TIMESTAMP,
    FOREIGN KEY (organization_id, workspace_id) REFERENCES workspaces (organization_id, id),
    FOREIGN KEY (organization_id, user_id) REFERENCES users (organization_id, id),
    CHECK (workspace_id IS NULL OR organization_id IS NOT NULL)
);
CREATE INDEX api_keys_owner ON api_keys (organization_id, workspace_id);
CREATE INDEX api_keys_user ON api_keys (organization_id, user_id);

-- What a key is presented as. Rotation adds a row and gives the older ones an end.
CREATE TABLE api_key_credentials (
    lookup_id TEXT PRIMARY KEY,
    api_key_id TEXT NOT NULL REFERENCES api_keys (id),
    organization_id TEXT REFERENCES organizations (id),
    secret_hash TEXT NOT NULL,
    expires_at TIMESTAMP,
    created_at TIMESTAMP NOT NULL
);
CREATE INDEX api_key_credentials_key ON api_key_credentials (api_key_id);
CREATE INDEX api_key_credentials_owner ON api_key_credentials (organization_id);

-- Ids without foreign keys: the log outlives what it speaks of.
CREATE TABLE audit_events (
    id TEXT PRIMARY KEY,
    organization_id TEXT,
    workspace_id TEXT,
    actor_key_id TEXT,
    actor_user_id TEXT,
    actor_scope TEXT NOT NULL,
    operation TEXT NOT NULL,
    resource_type TEXT NOT NULL,
    resource_id TEXT NOT NULL,
    client_address TEXT,
    request_id TEXT,
    client_request_id TEXT,
    before JSON,
    after JSON,
    created_at TIMESTAMP NOT NULL
);
CREATE INDEX audit_events_owner ON audit_events (organization_id, id);
CREATE INDEX audit_events_workspace ON audit_events (organization_id, workspace_id, id);
CREATE INDEX audit_events_resource ON audit_events (organization_id, resource_id, id);
CREATE INDEX audit_events_actor ON audit_events (organization_id, actor_key_id, id);
