-- History by range of time: partitions of four weeks (28 * 86400000 ms), numbered from the epoch, the same for both
-- tables (storage::partitions). They are made ahead, and on demand for late data, and dropped when they are too old.
ALTER TABLE sli_buckets RENAME TO sli_buckets_before;
ALTER INDEX sli_buckets_pkey RENAME TO sli_buckets_before_pkey;

-- One row for each source that measured the bucket.
CREATE TABLE sli_buckets (
    tenant_id TEXT COLLATE "C" NOT NULL,
    service_id TEXT COLLATE "C" NOT NULL,
    start_ms BIGINT NOT NULL,
    source BIGINT NOT NULL,
    valid_count BIGINT NOT NULL,
    bad_count BIGINT NOT NULL,
    -- Null where nothing tells own and inherited failures apart.
    inherited_bad_count BIGINT,
    -- Inherited failures by dependency (record::SharesRecord); null for none.
    shares BYTEA,
    -- Null where latency is not known.
    latency BYTEA,
    PRIMARY KEY (tenant_id, service_id, start_ms, source)
) PARTITION BY RANGE (start_ms);

-- History of days that are over: one block a series and UTC day (storage::block says the format). What stands in
-- sli_buckets wins over the block of its day; the rows of before are packed by the upkeep of a running service.
CREATE TABLE sli_blocks (
    tenant_id TEXT COLLATE "C" NOT NULL,
    service_id TEXT COLLATE "C" NOT NULL,
    day_ms BIGINT NOT NULL,
    source BIGINT NOT NULL,
    -- Which buckets of the day there are: 288 bits.
    slots BYTEA NOT NULL,
    counts BYTEA NOT NULL,
    -- Null where no bucket has latency.
    latency BYTEA,
    PRIMARY KEY (tenant_id, service_id, day_ms, source)
) PARTITION BY RANGE (day_ms);
-- Compressed already.
ALTER TABLE sli_blocks ALTER COLUMN counts SET STORAGE EXTERNAL;
ALTER TABLE sli_blocks ALTER COLUMN latency SET STORAGE EXTERNAL;

DO $$
DECLARE
    width CONSTANT BIGINT := 28::BIGINT * 86400000;
    number BIGINT;
BEGIN
    FOR number IN SELECT DISTINCT floor(start_ms::NUMERIC / width)::BIGINT FROM sli_buckets_before LOOP
        EXECUTE format('CREATE TABLE %I PARTITION OF sli_buckets FOR VALUES FROM (%s) TO (%s)',
            'sli_buckets_p' || number, number * width, (number + 1) * width);
        EXECUTE format('CREATE TABLE %I PARTITION OF sli_blocks FOR VALUES FROM (%s) TO (%s)',
            'sli_blocks_p' || number, number * width, (number + 1) * width);
    END LOOP;
END $$;

INSERT INTO sli_buckets SELECT * FROM sli_buckets_before;
DROP TABLE sli_buckets_before;

-- End of the newest day of which the tenant has a block: a write of later time need not look for one.
ALTER TABLE tenants ADD COLUMN packed_until_ms BIGINT NOT NULL DEFAULT 0;
