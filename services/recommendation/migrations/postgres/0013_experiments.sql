-- Experiments: what each consists of is never changed; that it was stopped is noted once.
CREATE TABLE experiments (
    tenant_id TEXT NOT NULL,
    -- Position of its begin in the tenant's audit log.
    sequence BIGINT NOT NULL,
    id TEXT NOT NULL,
    -- The plan, as JSON.
    content TEXT NOT NULL,
    horizon_ms BIGINT NOT NULL,
    -- 0 where nobody stopped it.
    stop_ms BIGINT NOT NULL,
    stopped_by TEXT NOT NULL,
    stop_reason TEXT NOT NULL,
    PRIMARY KEY (tenant_id, sequence)
);
CREATE UNIQUE INDEX experiments_by_id ON experiments (tenant_id, id);

-- The component of each service as an experiment began; of experiments on teams there are none.
CREATE TABLE experiment_units (
    tenant_id TEXT NOT NULL,
    experiment_id TEXT NOT NULL,
    service_id TEXT NOT NULL,
    unit TEXT NOT NULL,
    PRIMARY KEY (tenant_id, experiment_id, service_id)
);

-- Recommendations that were made in an arm: rows are added and never changed.
CREATE TABLE experiment_exposures (
    tenant_id TEXT NOT NULL,
    experiment_id TEXT NOT NULL,
    recommendation_id TEXT NOT NULL,
    service_id TEXT NOT NULL,
    unit TEXT NOT NULL,
    arm TEXT NOT NULL,
    propensity DOUBLE PRECISION NOT NULL,
    -- The suggested availability offer; empty for a template.
    suggested TEXT NOT NULL,
    create_ms BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, experiment_id, recommendation_id)
);
