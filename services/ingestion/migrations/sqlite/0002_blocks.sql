-- History of days that are over: one block a series and UTC day (storage::block says the format). What stands in
-- sli_buckets wins over the block of its day; the rows of before are packed by the upkeep of a running service.
CREATE TABLE sli_blocks (
    tenant_id TEXT NOT NULL,
    service_id TEXT NOT NULL,
    day_ms BIGINT NOT NULL,
    source BIGINT NOT NULL,
    -- Which buckets of the day there are: 288 bits.
    slots BLOB NOT NULL,
    counts BLOB NOT NULL,
    -- Null where no bucket has latency.
    latency BLOB,
    PRIMARY KEY (tenant_id, service_id, day_ms, source)
);
CREATE INDEX sli_blocks_by_day ON sli_blocks (day_ms);

-- End of the newest day of which the tenant has a block: a write of later time need not look for one.
ALTER TABLE tenants ADD COLUMN packed_until_ms BIGINT NOT NULL DEFAULT 0;
