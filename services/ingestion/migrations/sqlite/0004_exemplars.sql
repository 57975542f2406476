-- Of each service and hour the slowest requests and the slowest failed ones, with the traces that show them.
CREATE TABLE exemplars (
    tenant_id TEXT NOT NULL,
    service_id TEXT NOT NULL,
    hour_ms BIGINT NOT NULL,
    -- 1 for a request that failed.
    failed BIGINT NOT NULL,
    -- 32 lower-case hexadecimal digits.
    trace_id TEXT NOT NULL,
    -- 16 of them; all 0 where nothing tells.
    span_id TEXT NOT NULL,
    time_ms BIGINT NOT NULL,
    latency_us BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, service_id, hour_ms, failed, trace_id)
) WITHOUT ROWID;
CREATE INDEX exemplars_by_hour ON exemplars (hour_ms);
