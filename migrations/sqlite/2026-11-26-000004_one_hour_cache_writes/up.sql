-- Tokens that were written to a provider's cache for one hour, which cost more than those for five
-- minutes. The ledger has them in its column of tokens.
ALTER TABLE usage_rollups ADD COLUMN cache_write_1h_tokens BIGINT NOT NULL DEFAULT 0;
