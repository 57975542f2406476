-- What an observer does not know of calls is null, not nothing: failed ones where only calls are counted (Jaeger), rescued and
-- repeated ones everywhere but in traces (source 2). SQLite changes no column, so the table is made anew.
CREATE TABLE dependencies_of_0010 (
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
    failure_count BIGINT,
    rescued_count BIGINT,
    -- Calls that repeated an earlier one which had failed.
    retry_count BIGINT,
    latency BLOB,
    -- Calls of the newest days (record::CallDaysRecord); null where traces showed none.
    call_days BLOB,
    PRIMARY KEY (tenant_id, caller_id, callee_id, source)
) WITHOUT ROWID;
INSERT INTO dependencies_of_0010 (tenant_id, caller_id, callee_id, source, terms, first_seen_ms, last_seen_ms, call_count,
        calling_request_count, failure_count, rescued_count, retry_count, latency)
    SELECT tenant_id, caller_id, callee_id, source, terms, first_seen_ms, last_seen_ms, call_count, calling_request_count,
        CASE WHEN first_seen_ms IS NULL AND call_count = 0 THEN NULL ELSE failure_count END,
        CASE WHEN source = 2 THEN rescued_count END,
        CASE WHEN source = 2 THEN retry_count END,
        latency
    FROM dependencies;
DROP TABLE dependencies;
ALTER TABLE dependencies_of_0010 RENAME TO dependencies;
CREATE INDEX dependencies_by_callee ON dependencies (tenant_id, callee_id);

-- Requests of the newest days that traces showed (record::RequestDaysRecord): what call rates are measured against.
ALTER TABLE entities ADD COLUMN request_days BLOB;

-- Names that pagers have for services which nobody knows yet: the names in lower case, and the ids that they may stand for.
CREATE TABLE incident_names (
    tenant_id TEXT NOT NULL,
    name TEXT NOT NULL,
    incident_id TEXT NOT NULL,
    PRIMARY KEY (tenant_id, name, incident_id)
) WITHOUT ROWID;
CREATE INDEX incident_names_by_incident ON incident_names (tenant_id, incident_id);
-- For names that the settings begin to translate, of all tenants.
CREATE INDEX incident_names_by_name ON incident_names (name);
