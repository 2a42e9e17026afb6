DROP TABLE usage_hours_keys;
DROP TABLE usage_hours_by_metadata;
DROP TABLE usage_hours;
DROP TABLE ledger;
ALTER TABLE model_configurations DROP COLUMN max_output_tokens;
ALTER TABLE model_configurations DROP COLUMN context_window;
ALTER TABLE model_configurations DROP COLUMN price;
DROP TABLE model_prices;
DROP TABLE gateway_policies;
