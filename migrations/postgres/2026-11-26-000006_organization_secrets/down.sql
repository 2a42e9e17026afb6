-- What belongs to organizations is lost.
DELETE FROM model_configuration_secrets
    WHERE secret_id IN (SELECT id FROM secrets WHERE workspace_id IS NULL);
DELETE FROM secrets WHERE workspace_id IS NULL;
DELETE FROM data_keys WHERE workspace_id IS NULL;
DROP INDEX secrets_organization;
DROP INDEX data_keys_organization;
ALTER TABLE secrets ALTER COLUMN workspace_id SET NOT NULL;
ALTER TABLE data_keys ALTER COLUMN workspace_id SET NOT NULL;
