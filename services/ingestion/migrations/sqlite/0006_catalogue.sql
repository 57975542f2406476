-- The sweep of the service catalogue that was applied last, one a tenant.
CREATE TABLE catalogue_sweeps (
    tenant_id TEXT PRIMARY KEY,
    applied_ms BIGINT NOT NULL,
    -- How it was understood and what came of it (record in storage::catalogue).
    record BLOB NOT NULL
) WITHOUT ROWID;

-- What that sweep held.
CREATE TABLE catalogue_entries (
    tenant_id TEXT NOT NULL,
    -- The catalogue's name, for example component:default/checkout.
    reference TEXT NOT NULL,
    -- Changes with what the catalogue says; empty for what only a relation names.
    etag TEXT NOT NULL,
    -- The node of the graph; empty for what is none, such as a system.
    service_id TEXT NOT NULL,
    PRIMARY KEY (tenant_id, reference)
) WITHOUT ROWID;
