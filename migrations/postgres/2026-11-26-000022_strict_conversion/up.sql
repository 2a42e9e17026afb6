-- Whether requests that a conversion would leave fields out of are refused.
ALTER TABLE model_configurations ADD COLUMN strict_conversion BOOLEAN NOT NULL DEFAULT FALSE;
