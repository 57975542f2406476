-- What people said is wrong with recommendations: rows are added and never changed.
CREATE TABLE feedback (
    tenant_id TEXT NOT NULL,
    -- Position of the feedback's record in the tenant's audit log.
    sequence BIGINT NOT NULL,
    id TEXT NOT NULL,
    recommendation_id TEXT NOT NULL,
    service_id TEXT NOT NULL,
    feedback_kind TEXT NOT NULL,
    -- Empty where no SLI is meant.
    kind TEXT NOT NULL,
    -- Empty where no dependency is meant.
    dependency_id TEXT NOT NULL,
    text TEXT NOT NULL,
    submitted_by TEXT NOT NULL,
    create_ms BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, sequence)
);
CREATE INDEX feedback_by_service ON feedback (tenant_id, service_id, sequence);
