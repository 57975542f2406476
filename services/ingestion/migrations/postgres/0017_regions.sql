-- Counts by region: one row a day and source (storage::regions), a section of a block without latency.
CREATE TABLE region_days (
    tenant_id TEXT COLLATE "C" NOT NULL,
    service_id TEXT COLLATE "C" NOT NULL,
    day_ms BIGINT NOT NULL,
    source BIGINT NOT NULL,
    region TEXT COLLATE "C" NOT NULL,
    counts BYTEA NOT NULL,
    PRIMARY KEY (tenant_id, service_id, day_ms, source, region)
);
-- For retention.
CREATE INDEX region_days_by_day ON region_days (day_ms);

-- The regions of each service, and the newest day of each: a region goes with its last day.
CREATE TABLE service_regions (
    tenant_id TEXT COLLATE "C" NOT NULL,
    service_id TEXT COLLATE "C" NOT NULL,
    region TEXT COLLATE "C" NOT NULL,
    day_ms BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, service_id, region)
);
CREATE INDEX service_regions_by_day ON service_regions (day_ms);
