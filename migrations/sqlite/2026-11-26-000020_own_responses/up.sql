-- Which responses that a provider stores for an organization's account are a workspace's.
CREATE TABLE own_responses (
    organization_id TEXT NOT NULL REFERENCES organizations (id),
    workspace_id TEXT NOT NULL,
    upstream TEXT NOT NULL,
    response_id TEXT NOT NULL,
    created_at TIMESTAMP NOT NULL,
    PRIMARY KEY (organization_id, workspace_id, upstream, response_id),
    FOREIGN KEY (organization_id, workspace_id) REFERENCES workspaces (organization_id, id)
);
CREATE INDEX own_responses_created_at ON own_responses (created_at);
