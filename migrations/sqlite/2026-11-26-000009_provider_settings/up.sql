-- What an organization, or one of its workspaces, sets for a built-in provider.
CREATE TABLE provider_settings (
    id TEXT PRIMARY KEY,
    organization_id TEXT NOT NULL REFERENCES organizations (id),
    workspace_id TEXT,
    provider TEXT NOT NULL,
    settings TEXT NOT NULL,
    created_at TIMESTAMP NOT NULL,
    updated_at TIMESTAMP NOT NULL,
    UNIQUE (organization_id, workspace_id, provider),
    FOREIGN KEY (organization_id, workspace_id) REFERENCES workspaces (organization_id, id)
);
CREATE UNIQUE INDEX provider_settings_organization ON provider_settings (organization_id, provider)
    WHERE workspace_id IS NULL;
