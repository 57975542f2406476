-- One row a tenant: whoever writes for the tenant locks it first, so writes of one tenant follow one another.
CREATE TABLE tenants (
    tenant_id TEXT PRIMARY KEY,
    -- Sequence of the newest topology change; 0 for none.
    topology_version BIGINT NOT NULL
);

-- Counters that hand out numbers in the order of commit: the row stays locked until the transaction ends.
CREATE TABLE counters (
    name TEXT PRIMARY KEY,
    last BIGINT NOT NULL
);
INSERT INTO counters (name, last) VALUES ('changes', 0), ('span_log', 0);

-- The log of changes, compacted: of each service and kind the newest change stays.
CREATE TABLE changes (
    tenant_id TEXT NOT NULL,
    service_id TEXT NOT NULL,
    kind BIGINT NOT NULL,
    sequence BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, service_id, kind)
) WITHOUT ROWID;
CREATE INDEX changes_by_sequence ON changes (sequence);

CREATE TABLE entities (
    tenant_id TEXT NOT NULL,
    id TEXT NOT NULL,
    -- Id, display name and owner in lower case, a line each.
    search TEXT NOT NULL,
    -- What was declared and observed of it (record::EntityRecord).
    record BLOB NOT NULL,
    -- Requests seen in traces.
    request_count BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, id)
) WITHOUT ROWID;

-- One row for each source that knows the edge.
CREATE TABLE dependencies (
    tenant_id TEXT NOT NULL,
    caller_id TEXT NOT NULL,
    callee_id TEXT NOT NULL,
    source BIGINT NOT NULL,
    -- Mode, rates, retries, groups (record::TermsRecord).
    terms BLOB NOT NULL,
    first_seen_ms BIGINT,
    last_seen_ms BIGINT,
    call_count BIGINT NOT NULL,
    calling_request_count BIGINT NOT NULL,
    failure_count BIGINT NOT NULL,
    rescued_count BIGINT NOT NULL,
    latency BLOB,
    PRIMARY KEY (tenant_id, caller_id, callee_id, source)
) WITHOUT ROWID;
CREATE INDEX dependencies_by_callee ON dependencies (tenant_id, callee_id);

-- One row for each source that measured the bucket.
CREATE TABLE sli_buckets (
    tenant_id TEXT NOT NULL,
    service_id TEXT NOT NULL,
    start_ms BIGINT NOT NULL,
    source BIGINT NOT NULL,
    valid_count BIGINT NOT NULL,
    bad_count BIGINT NOT NULL,
    -- Null where nothing tells own and inherited failures apart.
    inherited_bad_count BIGINT,
    -- Inherited failures by dependency (record::SharesRecord); null for none.
    shares BLOB,
    -- Null where latency is not known.
    latency BLOB,
    PRIMARY KEY (tenant_id, service_id, start_ms, source)
) WITHOUT ROWID;

CREATE TABLE incidents (
    tenant_id TEXT NOT NULL,
    id TEXT NOT NULL,
    start_ms BIGINT NOT NULL,
    record BLOB NOT NULL,
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX incidents_by_start ON incidents (tenant_id, start_ms, id);

-- Which incidents hurt a service or were caused by it.
CREATE TABLE incident_services (
    tenant_id TEXT NOT NULL,
    service_id TEXT NOT NULL,
    start_ms BIGINT NOT NULL,
    incident_id TEXT NOT NULL,
    PRIMARY KEY (tenant_id, service_id, start_ms, incident_id)
) WITHOUT ROWID;
CREATE INDEX incident_services_by_incident ON incident_services (tenant_id, incident_id);

-- State that observers keep between batches, such as the last value of a cumulative counter.
CREATE TABLE counter_states (
    tenant_id TEXT NOT NULL,
    key TEXT NOT NULL,
    state BLOB NOT NULL,
    PRIMARY KEY (tenant_id, key)
) WITHOUT ROWID;

-- Spans that were acknowledged and not settled yet.
CREATE TABLE span_log (
    tenant_id TEXT NOT NULL,
    sequence BIGINT NOT NULL,
    received_ms BIGINT NOT NULL,
    payload BLOB NOT NULL,
    -- What is left of the payload after a partial settlement; null before.
    remaining BLOB,
    -- Counts settlements, so that two observers cannot settle the same state of a row.
    revision BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, sequence)
);
CREATE INDEX span_log_by_sequence ON span_log (sequence);
