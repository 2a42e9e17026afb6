ALTER TABLE own_responses DROP COLUMN guarded_conversation;
