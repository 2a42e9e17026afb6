ALTER TABLE model_configurations DROP COLUMN strict_conversion;
