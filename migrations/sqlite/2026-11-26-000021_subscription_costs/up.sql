-- The list price of what callers' own subscriptions paid, which spend caps may count. Its `cost` is zero.
ALTER TABLE ledger ADD COLUMN list_cost BIGINT;
ALTER TABLE usage_rollups ADD COLUMN subscription_cost BIGINT NOT NULL DEFAULT 0;
