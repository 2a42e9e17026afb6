ALTER TABLE usage_rollups DROP COLUMN cache_write_1h_tokens;
