-- How a configuration gets tokens by OAuth client credentials: an object, or null for a stored key.
ALTER TABLE model_configurations ADD COLUMN oauth JSON;
