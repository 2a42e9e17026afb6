-- A secret or a data key without a workspace belongs to the organization as a whole. SQLite can't drop
-- NOT NULL, so the two tables are copied; what refers to secrets is put aside meanwhile.
CREATE TABLE new_data_keys (
    id TEXT PRIMARY KEY,
    organization_id TEXT NOT NULL REFERENCES organizations (id),
    workspace_id TEXT,
    master_key_id TEXT NOT NULL,
    wrapped BLOB NOT NULL,
    created_at TIMESTAMP NOT NULL,
    updated_at TIMESTAMP NOT NULL,
    FOREIGN KEY (organization_id, workspace_id) REFERENCES workspaces (organization_id, id)
);
INSERT INTO new_data_keys
    SELECT id, organization_id, workspace_id, master_key_id, wrapped, created_at, updated_at FROM data_keys;
CREATE TABLE new_secrets (
    id TEXT PRIMARY KEY,
    organization_id TEXT NOT NULL REFERENCES organizations (id),
    workspace_id TEXT,
    data_key_id TEXT NOT NULL REFERENCES new_data_keys (id),
    name TEXT NOT NULL,
    description TEXT,
    version BIGINT NOT NULL,
    sealed BLOB NOT NULL,
    fingerprint TEXT NOT NULL,
    created_at TIMESTAMP NOT NULL,
    updated_at TIMESTAMP NOT NULL,
    UNIQUE (organization_id, workspace_id, name),
    FOREIGN KEY (organization_id, workspace_id) REFERENCES workspaces (organization_id, id)
);
INSERT INTO new_secrets
    SELECT id, organization_id, workspace_id, data_key_id, name, description, version, sealed, fingerprint,
        created_at, updated_at
    FROM secrets;
CREATE TABLE used_secrets AS SELECT * FROM model_configuration_secrets;
DELETE FROM model_configuration_secrets;
DROP TABLE secrets;
DROP TABLE data_keys;
-- References follow a table that is renamed.
ALTER TABLE new_data_keys RENAME TO data_keys;
ALTER TABLE new_secrets RENAME TO secrets;
INSERT INTO model_configuration_secrets (organization_id, workspace_id, configuration_id, secret_id)
    SELECT organization_id, workspace_id, configuration_id, secret_id FROM used_secrets;
DROP TABLE used_secrets;
CREATE UNIQUE INDEX data_keys_workspace ON data_keys (organization_id, workspace_id);
CREATE UNIQUE INDEX data_keys_organization ON data_keys (organization_id) WHERE workspace_id IS NULL;
CREATE INDEX data_keys_master_key ON data_keys (master_key_id);
CREATE INDEX secrets_data_key ON secrets (data_key_id);
CREATE UNIQUE INDEX secrets_organization ON secrets (organization_id, name) WHERE workspace_id IS NULL;
