-- One row a tenant: whoever writes for the tenant locks it first, so writes of one tenant follow one another.
CREATE TABLE tenants (
    tenant_id TEXT COLLATE "C" PRIMARY KEY,
    -- Sequence of the newest topology change; 0 for none.
    topology_version BIGINT NOT NULL
);

-- Counters that hand out numbers in the order of commit: the row stays locked until the transaction ends.
CREATE TABLE counters (
    name TEXT COLLATE "C" PRIMARY KEY,
    last BIGINT NOT NULL
);
INSERT INTO counters (name, last) VALUES ('changes', 0), ('span_log', 0);

-- The log of changes, compacted: of each service and kind the newest change stays.
CREATE TABLE changes (
    tenant_id TEXT COLLATE "C" NOT NULL,
    service_id TEXT COLLATE "C" NOT NULL,
    kind BIGINT NOT NULL,
    sequence BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, service_id, kind)
);
CREATE INDEX changes_by_sequence ON changes (sequence);

CREATE TABLE entities (
    tenant_id TEXT COLLATE "C" NOT NULL,
    id TEXT COLLATE "C" NOT NULL,
    -- Id, display name and owner in lower case, a line each.
    search TEXT COLLATE "C" NOT NULL,
    -- What was declared and observed of it (record::EntityRecord).
    record BYTEA NOT NULL,
    -- Requests seen in traces.
    request_count BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, id)
);

-- One row for each source that knows the edge.
CREATE TABLE dependencies (
    tenant_id TEXT COLLATE "C" NOT NULL,
    caller_id TEXT COLLATE "C" NOT NULL,
    callee_id TEXT COLLATE "C" NOT NULL,
    source BIGINT NOT NULL,
    -- Mode, rates, retries, groups (record::TermsRecord).
    terms BYTEA NOT NULL,
    first_seen_ms BIGINT,
    last_seen_ms BIGINT,
    call_count BIGINT NOT NULL,
    calling_request_count BIGINT NOT NULL,
    failure_count BIGINT NOT NULL,
    rescued_count BIGINT NOT NULL,
    latency BYTEA,
    PRIMARY KEY (tenant_id, caller_id, callee_id, source)
);
CREATE INDEX dependencies_by_callee ON dependencies (tenant_id, callee_id);

-- One row for each source that measured the bucket.
CREATE TABLE sli_buckets (
    tenant_id TEXT COLLATE "C" NOT NULL,
    service_id TEXT COLLATE "C" NOT NULL,
    start_ms BIGINT NOT NULL,
    source BIGINT NOT NULL,
    valid_count BIGINT NOT NULL,
    bad_count BIGINT NOT NULL,
    -- Null where nothing tells own and inherited failures apart.
    inherited_bad_count BIGINT,
    -- Inherited failures by dependency (record::SharesRecord); null for none.
    shares BYTEA,
    -- Null where latency is not known.
    latency BYTEA,
    PRIMARY KEY (tenant_id, service_id, start_ms, source)
);

CREATE TABLE incidents (
    tenant_id TEXT COLLATE "C" NOT NULL,
    id TEXT COLLATE "C" NOT NULL,
    start_ms BIGINT NOT NULL,
    record BYTEA NOT NULL,
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX incidents_by_start ON incidents (tenant_id, start_ms, id);

-- Which incidents hurt a service or were caused by it.
CREATE TABLE incident_services (
    tenant_id TEXT COLLATE "C" NOT NULL,
    service_id TEXT COLLATE "C" NOT NULL,
    start_ms BIGINT NOT NULL,
    incident_id TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant_id, service_id, start_ms, incident_id)
);
CREATE INDEX incident_services_by_incident ON incident_services (tenant_id, incident_id);

-- State that observers keep between batches, such as the last value of a cumulative counter.
CREATE TABLE counter_states (
    tenant_id TEXT COLLATE "C" NOT NULL,
    key TEXT COLLATE "C" NOT NULL,
    state BYTEA NOT NULL,
    PRIMARY KEY (tenant_id, key)
);

-- Spans that were acknowledged and not settled yet.
CREATE TABLE span_log (
    tenant_id TEXT COLLATE "C" NOT NULL,
    sequence BIGINT NOT NULL,
    received_ms BIGINT NOT NULL,
    payload BYTEA NOT NULL,
    -- What is left of the payload after a partial settlement; null before.
    remaining BYTEA,
    -- Counts settlements, so that two observers cannot settle the same state of a row.
    revision BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, sequence)
);
CREATE INDEX span_log_by_sequence ON span_log (sequence);
