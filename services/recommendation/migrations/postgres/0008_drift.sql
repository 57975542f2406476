-- How the own failures of each service stood when they were looked at last.
CREATE TABLE drift (
    tenant_id TEXT NOT NULL,
    service_id TEXT NOT NULL,
    check_ms BIGINT NOT NULL,
    state TEXT NOT NULL,
    -- When the newest change was first found; 0 where none was. It stays while the same change is found again.
    noted_ms BIGINT NOT NULL,
    -- The state with the change and its evidence, as JSON.
    content TEXT NOT NULL,
    PRIMARY KEY (tenant_id, service_id)
);
