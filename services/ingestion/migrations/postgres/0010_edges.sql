-- What an observer does not know of calls is null, not nothing: failed ones where only calls are counted (Jaeger), rescued and
-- repeated ones everywhere but in traces (source 2).
ALTER TABLE dependencies ALTER COLUMN failure_count DROP NOT NULL;
ALTER TABLE dependencies ALTER COLUMN rescued_count DROP NOT NULL;
ALTER TABLE dependencies ALTER COLUMN retry_count DROP NOT NULL;
ALTER TABLE dependencies ALTER COLUMN retry_count DROP DEFAULT;
UPDATE dependencies SET
    failure_count = CASE WHEN first_seen_ms IS NULL AND call_count = 0 THEN NULL ELSE failure_count END,
    rescued_count = CASE WHEN source = 2 THEN rescued_count END,
    retry_count = CASE WHEN source = 2 THEN retry_count END;
-- Calls of the newest days (record::CallDaysRecord); null where traces showed none.
ALTER TABLE dependencies ADD COLUMN call_days BYTEA;

-- Requests of the newest days that traces showed (record::RequestDaysRecord): what call rates are measured against.
ALTER TABLE entities ADD COLUMN request_days BYTEA;

-- Names that pagers have for services which nobody knows yet: the names in lower case, and the ids that they may stand for.
CREATE TABLE incident_names (
    tenant_id TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    incident_id TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant_id, name, incident_id)
);
CREATE INDEX incident_names_by_incident ON incident_names (tenant_id, incident_id);
-- For names that the settings begin to translate, of all tenants.
CREATE INDEX incident_names_by_name ON incident_names (name);
