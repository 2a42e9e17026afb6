ALTER TABLE ledger DROP COLUMN guard_findings;
