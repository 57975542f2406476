-- When each tenant's model was fitted anew last, or first asked for, and what came of it.
CREATE TABLE retrainings (
    tenant_id TEXT NOT NULL PRIMARY KEY,
    fit_ms BIGINT NOT NULL,
    outcome TEXT NOT NULL
);
