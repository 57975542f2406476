-- Recommendations are immutable: rows are added and never changed.
CREATE TABLE recommendations (
    tenant_id TEXT NOT NULL,
    id TEXT NOT NULL,
    service_id TEXT NOT NULL,
    window_days BIGINT NOT NULL,
    version BIGINT NOT NULL,
    create_ms BIGINT NOT NULL,
    input_sha256 TEXT NOT NULL,
    -- SHA-256 of the message without id, version and time.
    result_sha256 TEXT NOT NULL,
    -- The encoded attain.recommendation.v1.Recommendation.
    message BLOB NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, service_id, window_days, version)
);

-- What recommendations were computed from, for replay: the newest of each service and window, and those decided upon.
CREATE TABLE inputs (
    tenant_id TEXT NOT NULL,
    recommendation_id TEXT NOT NULL,
    service_id TEXT NOT NULL,
    window_days BIGINT NOT NULL,
    version BIGINT NOT NULL,
    -- Canonical JSON, compressed by zstd.
    content BLOB NOT NULL,
    PRIMARY KEY (tenant_id, recommendation_id)
);
CREATE INDEX inputs_by_version ON inputs (tenant_id, service_id, window_days, version);

-- Until which changes the newest recommendation of a service and window holds.
CREATE TABLE freshness (
    tenant_id TEXT NOT NULL,
    service_id TEXT NOT NULL,
    window_days BIGINT NOT NULL,
    recommendation_id TEXT NOT NULL,
    checked_ms BIGINT NOT NULL,
    -- Newest changes that were read, as JSON.
    basis TEXT NOT NULL,
    PRIMARY KEY (tenant_id, service_id, window_days)
);

-- SLOs in force: one a service and SLI.
CREATE TABLE slos (
    tenant_id TEXT NOT NULL,
    service_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    target_ratio DOUBLE NOT NULL,
    latency_threshold_ms BIGINT NOT NULL,
    window_days BIGINT NOT NULL,
    version BIGINT NOT NULL,
    recommendation_id TEXT NOT NULL,
    as_recommended BIGINT NOT NULL,
    update_ms BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, service_id, kind)
);

-- Decisions: rows are added and never changed.
CREATE TABLE decisions (
    tenant_id TEXT NOT NULL,
    -- Position of the decision's record in the tenant's audit log.
    sequence BIGINT NOT NULL,
    id TEXT NOT NULL,
    service_id TEXT NOT NULL,
    action TEXT NOT NULL,
    recommendation_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    ambition TEXT NOT NULL,
    target_ratio DOUBLE NOT NULL,
    latency_threshold_ms BIGINT NOT NULL,
    reason TEXT NOT NULL,
    decided_by TEXT NOT NULL,
    create_ms BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, sequence)
);
CREATE INDEX decisions_by_service ON decisions (tenant_id, service_id, sequence);
CREATE INDEX decisions_by_recommendation ON decisions (tenant_id, recommendation_id);

-- The end of each tenant's audit chain; its row is the lock that puts the tenant's writes in order.
CREATE TABLE audit_heads (
    tenant_id TEXT NOT NULL PRIMARY KEY,
    sequence BIGINT NOT NULL,
    sha256 TEXT NOT NULL
);

-- The audit log: rows are added and never changed.
CREATE TABLE audit (
    tenant_id TEXT NOT NULL,
    sequence BIGINT NOT NULL,
    time_ms BIGINT NOT NULL,
    caller TEXT NOT NULL,
    action TEXT NOT NULL,
    service_id TEXT NOT NULL,
    detail_json TEXT NOT NULL,
    previous_sha256 TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    PRIMARY KEY (tenant_id, sequence)
);
CREATE INDEX audit_by_service ON audit (tenant_id, service_id, sequence);
