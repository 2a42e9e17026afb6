DROP TABLE own_responses;
