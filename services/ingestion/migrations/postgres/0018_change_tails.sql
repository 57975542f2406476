-- How far back the newest changes of a service's measurements reach (storage::tails): every change after the first number touched
-- nothing before the first time, and the same of an earlier number. Null where that is not known; of changes of other kinds they say nothing.
ALTER TABLE changes ADD COLUMN tail_after BIGINT;
ALTER TABLE changes ADD COLUMN tail_from_ms BIGINT;
ALTER TABLE changes ADD COLUMN longer_tail_after BIGINT;
ALTER TABLE changes ADD COLUMN longer_tail_from_ms BIGINT;
