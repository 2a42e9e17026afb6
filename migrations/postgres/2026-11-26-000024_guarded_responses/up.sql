-- Of a response that was made under a guard: what its conversation's placeholders are derived from.
ALTER TABLE own_responses ADD COLUMN guarded_conversation TEXT;
