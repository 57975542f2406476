-- The sweep of the service catalogue that was applied last, one a tenant.
CREATE TABLE catalogue_sweeps (
    tenant_id TEXT COLLATE "C" PRIMARY KEY,
    applied_ms BIGINT NOT NULL,
    -- How it was understood and what came of it (record in storage::catalogue).
    record BYTEA NOT NULL
);

-- What that sweep held.
CREATE TABLE catalogue_entries (
    tenant_id TEXT COLLATE "C" NOT NULL,
    -- The catalogue's name, for example component:default/checkout.
    reference TEXT COLLATE "C" NOT NULL,
    -- Changes with what the catalogue says; empty for what only a relation names.
    etag TEXT COLLATE "C" NOT NULL,
    -- The node of the graph; empty for what is none, such as a system.
    service_id TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant_id, reference)
);
