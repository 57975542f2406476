-- Versions of the model beside the compiled one: rows are added and never changed.
CREATE TABLE models (
    tenant_id TEXT NOT NULL,
    version TEXT NOT NULL,
    name TEXT NOT NULL,
    parent_version TEXT NOT NULL,
    -- Constants of the predictor, as JSON.
    constants TEXT NOT NULL,
    content_sha256 TEXT NOT NULL,
    create_ms BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    note TEXT NOT NULL,
    PRIMARY KEY (tenant_id, version)
);

-- Which version was live from when on: rows are added and never changed, the last one holds. None: the compiled one.
CREATE TABLE model_lives (
    tenant_id TEXT NOT NULL,
    -- Position of the change's record in the tenant's audit log.
    sequence BIGINT NOT NULL,
    version TEXT NOT NULL,
    create_ms BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, sequence)
);

-- What each model forecast, and what happened: one a service, window and week.
CREATE TABLE model_forecasts (
    tenant_id TEXT NOT NULL,
    version TEXT NOT NULL,
    service_id TEXT NOT NULL,
    window_days BIGINT NOT NULL,
    -- Number of the week since 1970 in which it was made.
    week BIGINT NOT NULL,
    start_ms BIGINT NOT NULL,
    close_ms BIGINT NOT NULL,
    -- Quantiles and probabilities, as JSON.
    content TEXT NOT NULL,
    -- 0 while the window lasts, 1 when it is over and was measured, 2 when it was not measured.
    closed BIGINT NOT NULL,
    -- Bad fraction of the window, where it was measured.
    bad_ratio DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (tenant_id, version, service_id, window_days, week)
);
CREATE INDEX model_forecasts_by_close ON model_forecasts (closed, close_ms);
