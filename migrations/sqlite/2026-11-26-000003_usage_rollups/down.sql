-- Data of the ledger and its sums can't be brought back to the earlier tables.
SELECT 1;
