-- Sampled requests of a service and hour with the calls that they waited for: one row for all of them
-- (sample_record::HourRecord). The hour that goes on is rewritten; an ordinary table, since rows may have kilobytes.
CREATE TABLE request_samples (
    tenant_id TEXT COLLATE "C" NOT NULL,
    service_id TEXT COLLATE "C" NOT NULL,
    hour_ms BIGINT NOT NULL,
    record BYTEA NOT NULL,
    PRIMARY KEY (tenant_id, service_id, hour_ms)
);
-- For retention.
CREATE INDEX request_samples_by_hour ON request_samples (hour_ms);
