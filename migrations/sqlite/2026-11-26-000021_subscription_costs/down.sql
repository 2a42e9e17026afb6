ALTER TABLE usage_rollups DROP COLUMN subscription_cost;
ALTER TABLE ledger DROP COLUMN list_cost;
