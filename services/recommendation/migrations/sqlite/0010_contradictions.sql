-- What a decision contradicts, as JSON; empty where it contradicts nothing.
ALTER TABLE decisions ADD COLUMN contradiction TEXT NOT NULL DEFAULT '';

-- Which SLOs were decided after a position.
CREATE INDEX slo_versions_by_sequence ON slo_versions (tenant_id, sequence);

-- How far callers were computed anew after decisions below them.
CREATE TABLE decisions_followed (
    tenant_id TEXT NOT NULL PRIMARY KEY,
    -- Position of a decision in the tenant's audit log.
    sequence BIGINT NOT NULL
);

-- Calendar windows of versions were kept by their days: they get the code that is kept everywhere else. 91 days are a quarter;
-- 30 are a month where the SLO in force or the recommendation says so.
UPDATE slo_versions SET window_days = -3 WHERE window_days = 91;
UPDATE slo_versions SET window_days = -1 WHERE window_days = 30 AND (
    EXISTS (SELECT 1 FROM slos s WHERE s.tenant_id = slo_versions.tenant_id AND s.service_id = slo_versions.service_id
        AND s.kind = slo_versions.kind AND s.version = slo_versions.version AND s.window_days = -1)
    OR EXISTS (SELECT 1 FROM recommendations r WHERE r.tenant_id = slo_versions.tenant_id
        AND r.id = slo_versions.recommendation_id AND r.window_days = -1));
