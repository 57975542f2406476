-- How a record is written for its hash: 1 as a JSON array, as all that are there; 2 with the length before each field.
ALTER TABLE audit ADD COLUMN encoding BIGINT NOT NULL DEFAULT 1;
