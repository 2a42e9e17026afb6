-- What guards found in a request and in its answer: a JSON array of numbers by category.
ALTER TABLE ledger ADD COLUMN guard_findings TEXT;
