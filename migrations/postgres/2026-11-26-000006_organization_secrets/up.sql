-- A secret or a data key without a workspace belongs to the organization as a whole.
ALTER TABLE data_keys ALTER COLUMN workspace_id DROP NOT NULL;
ALTER TABLE secrets ALTER COLUMN workspace_id DROP NOT NULL;
CREATE UNIQUE INDEX data_keys_organization ON data_keys (organization_id) WHERE workspace_id IS NULL;
CREATE UNIQUE INDEX secrets_organization ON secrets (organization_id, name) WHERE workspace_id IS NULL;
