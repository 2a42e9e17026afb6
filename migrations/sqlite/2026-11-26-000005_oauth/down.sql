ALTER TABLE model_configurations DROP COLUMN oauth;
