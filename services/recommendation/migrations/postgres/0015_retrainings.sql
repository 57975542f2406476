-- When each tenant's model was fitted anew last, or first asked for, and what came of it.
CREATE TABLE retrainings (
    tenant_id TEXT NOT NULL PRIMARY KEY,
    fit_ms BIGINT NOT NULL,
    outcome TEXT NOT NULL
);

-- Windows are closed one by one.
CREATE INDEX model_forecasts_by_window ON model_forecasts (tenant_id, service_id, window_days, start_ms);
